"""DCC and DSAC under the flags of DCC's ``main.py``, with SDC; without ``--contrast``, DC and DSA.

python examples/dcc_main.py --contrast --method DSA --dataset CIFAR10 --ipc 1 --sdc_lambda 0.002
"""

from _originals import STRATEGY, distill_runs, parse, stop

FLAGS = {
    "method": "DC",
    "contrast": False,
    "outer_warmup": 250,
    "inner_warmup": 10,
    "dataset": "CIFAR10",
    "model": "ConvNet",
    "ipc": 1,
    "eval_mode": "S",
    "eval_freq": 500,
    "num_exp": 5,
    "num_eval": 20,
    "epoch_eval_train": 300,
    "outer_loop": 1000,
    "lr_img": 0.1,
    "lr_net": 0.01,
    "batch_real": 256,
    "batch_train": 256,
    "dsa_strategy": STRATEGY,
    "data_path": "data",
    "save_path": "result",
    "dis_metric": "ours",
}


def main() -> None:
    args = parse(__doc__, FLAGS)
    if args.method not in ("DC", "DSA"):
        stop(f"--method {args.method} is neither DC nor DSA")
    settings = {
        "contrast": args.contrast,
        "iterations": args.outer_loop,
        "eval_every": args.eval_freq,
    }
    if args.contrast:
        settings |= {"outer_warmup": args.outer_warmup, "inner_warmup": args.inner_warmup}
    if args.method == "DSA":
        settings["dsa_strategy"] = args.dsa_strategy
    distill_runs(args, {"DC": "dcc", "DSA": "dsac"}[args.method], **settings)


if __name__ == "__main__":
    main()
