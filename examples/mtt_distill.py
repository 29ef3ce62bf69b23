r"""Runs MTT with the flags of mtt-distillation's ``distill.py``, and with SDC.

    python examples/mtt_distill.py --dataset CIFAR10 --ipc 1 --zca --syn_steps 50 \
        --expert_epochs 2 --max_start_epoch 2 --lr_img 100 --lr_lr 1e-7 --sdc_lambda 0.0005

Every flag but ``--sdc_lambda``, the weight of the correction, is the original's.
"""

from _originals import TRAJECTORY, distill_logged, parse, run


def main() -> None:
    distill_logged(parse(__doc__, {**TRAJECTORY, "res": 128}), "mtt")


if __name__ == "__main__":
    run(main)
