r"""Runs FTD with the flags of FTD-distillation's ``distill_FTD.py``, and with SDC.

    python examples/ftd_distill.py --dataset CIFAR10 --ipc 1 --zca --lr_img 100 \
        --ema_decay 0.9999 --sdc_lambda 0.002

Every flag but ``--sdc_lambda``, the weight of the correction, is the original's.
"""

from _originals import TRAJECTORY, distill_logged, parse, run


def main() -> None:
    args = parse(__doc__, {**TRAJECTORY, "ema_decay": 0.999})
    distill_logged(args, "ftd", ema_decay=args.ema_decay)


if __name__ == "__main__":
    run(main)
