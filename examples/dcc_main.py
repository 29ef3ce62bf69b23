r"""Runs DCC and DSAC with the flags of DCC's ``main.py``, and with SDC.

    python examples/dcc_main.py --contrast --method DSA --dataset CIFAR10 --ipc 1 \
        --sdc_lambda 0.002

Without ``--contrast`` it runs DC and DSA.
"""

from _originals import GRADIENT, STRATEGY, distill_runs, gradient_settings, parse, run

FLAGS = {
    **GRADIENT,
    "contrast": False,
    "outer_warmup": 250,
    "inner_warmup": 10,
    "eval_freq": 500,
    "outer_loop": 1000,
    "dsa_strategy": STRATEGY,
}


def main() -> None:
    args = parse(__doc__, FLAGS)
    distill_runs(
        args,
        {"DC": "dcc", "DSA": "dsac"},
        contrast=args.contrast,
        iterations=args.outer_loop,
        eval_every=args.eval_freq,
        outer_warmup=args.outer_warmup if args.contrast else None,
        inner_warmup=args.inner_warmup if args.contrast else None,
        dsa_strategy=args.dsa_strategy if args.method == "DSA" else None,
        **gradient_settings(args),
    )


if __name__ == "__main__":
    run(main)
