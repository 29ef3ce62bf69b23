r"""Runs TESLA with the flags of tesla's ``distill.py``, and with SDC.

    python examples/tesla_distill.py --dataset CIFAR10 --ipc 1 --zca --lr_img 100 --batch_syn 100 \
        --teacher_label --sdc_lambda 0.001

The original computes half of its image gradient, since it multiplies a tuple by 2. Here the
gradient is whole, and ``--lr_img`` is halved instead.
"""

from _originals import TRAJECTORY, distill_logged, parse, run

FLAGS = {
    **TRAJECTORY,
    "num_eval": 3,
    "Iteration": 10_000,
    "random_trajectory": False,
    "teacher_label": False,
}


def main() -> None:
    args = parse(__doc__, FLAGS)
    labels = "teacher" if args.teacher_label else "hard"
    distill_logged(args, "tesla", labels=labels, lr_img=args.lr_img / 2)


if __name__ == "__main__":
    run(main)
