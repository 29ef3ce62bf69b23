"""MTT under the flags of mtt-distillation's ``distill.py``, with SDC.

python examples/mtt_distill.py --dataset CIFAR10 --ipc 1 --zca --syn_steps 50 \\
        --expert_epochs 2 --max_start_epoch 2 --lr_img 100 --lr_lr 1e-7 --sdc_lambda 0.0005
"""

from _originals import TRAJECTORY, distill_logged, parse, run


def main() -> None:
    distill_logged(parse(__doc__, {**TRAJECTORY, "res": 128}), "mtt")


if __name__ == "__main__":
    run(main)
