r"""Trains the flat experts of FTD and DATM with the flags of their ``buffer_FTD.py``.

    python examples/ftd_buffer.py --dataset CIFAR10 --zca --num_experts 100 --train_epochs 50 \
        --rho_max 0.01 --rho_min 0.01 --alpha 0.3

It writes ``replay_buffer_*.pt`` files, as the original does.
"""

from _originals import BUFFER, parse, run, train_experts

from sdc_ext import InputError

FLAGS = {**BUFFER, "rho_max": 2.0, "rho_min": 2.0, "alpha": 0.4, "adaptive": "True"}


def main() -> None:
    args = parse(__doc__, FLAGS, corrected=False)
    if args.rho_max != args.rho_min or args.adaptive != "True":
        raise InputError(
            "rho is constant and adaptive here: give --rho_max and --rho_min one value"
        )
    train_experts(args, "ftd", rho=args.rho_max, alpha=args.alpha)


if __name__ == "__main__":
    run(main)
