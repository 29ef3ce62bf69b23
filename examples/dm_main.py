r"""Runs DM with the flags of DatasetCondensation's ``main_DM.py``, and with SDC.

    python examples/dm_main.py --dataset MNIST --ipc 10 --init real \
        --dsa_strategy color_crop_cutout_scale_rotate --sdc_lambda 0.02

Every flag but ``--sdc_lambda``, the weight of the correction, is the original's.
"""

from _originals import GRADIENT, STRATEGY, distill_runs, parse, run

FLAGS = {
    **GRADIENT,
    "method": "DM",
    "ipc": 50,
    "eval_mode": "SS",
    "epoch_eval_train": 1000,
    "Iteration": 20_000,
    "lr_img": 1.0,
    "init": "real",
    "dsa_strategy": STRATEGY,
}


def main() -> None:
    args = parse(__doc__, FLAGS)
    distill_runs(
        args,
        {"DM": "dm"},
        iterations=args.Iteration,
        eval_every=2000,
        epoch_eval_train=args.epoch_eval_train,
        init=args.init,
        dsa_strategy="none" if args.dsa_strategy == "None" else args.dsa_strategy,
    )


if __name__ == "__main__":
    run(main)
