r"""Runs DC and DSA with the flags of DatasetCondensation's ``main.py``, and with SDC.

    python examples/dc_main.py --method DSA --init real --dataset MNIST --ipc 1 \
        --dsa_strategy color_crop_cutout_scale_rotate --sdc_lambda 0.001

Every flag but ``--sdc_lambda``, the weight of the correction, is the original's.
"""

from _originals import GRADIENT, distill_runs, gradient_settings, parse, run

FLAGS = {**GRADIENT, "Iteration": 1000, "init": "noise", "dsa_strategy": "None"}


def main() -> None:
    args = parse(__doc__, FLAGS)
    strategy = "none" if args.dsa_strategy == "None" else args.dsa_strategy
    distill_runs(
        args,
        {"DC": "dc", "DSA": "dsa"},
        iterations=args.Iteration,
        eval_every=500,
        init=args.init,
        dsa_strategy=strategy if args.method == "DSA" else None,
        **gradient_settings(args),
    )


if __name__ == "__main__":
    run(main)
