"""DC and DSA under the flags of DatasetCondensation's ``main.py``, with SDC.

    python examples/dc_main.py --method DSA --init real --dataset MNIST --ipc 1 \\
        --dsa_strategy color_crop_cutout_scale_rotate --sdc_lambda 0.001
"""

from _originals import distill_runs, parse, stop

FLAGS = {
    "method": "DC",
    "dataset": "CIFAR10",
    "model": "ConvNet",
    "ipc": 1,
    "eval_mode": "S",
    "num_exp": 5,
    "num_eval": 20,
    "epoch_eval_train": 300,
    "Iteration": 1000,
    "lr_img": 0.1,
    "lr_net": 0.01,
    "batch_real": 256,
    "batch_train": 256,
    "init": "noise",
    "dsa_strategy": "None",
    "data_path": "data",
    "save_path": "result",
    "dis_metric": "ours",
}


def main() -> None:
    args = parse(__doc__, FLAGS)
    if args.method not in ("DC", "DSA"):
        stop(f"--method {args.method} is neither DC nor DSA")
    strategy = "none" if args.dsa_strategy == "None" else args.dsa_strategy
    distill_runs(
        args,
        args.method.lower(),
        iterations=args.Iteration,
        eval_every=500,
        init=args.init,
        dsa_strategy=strategy if args.method == "DSA" else None,
    )


if __name__ == "__main__":
    main()
