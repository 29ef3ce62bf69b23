"""Experts of MTT and TESLA under the flags of mtt-distillation's ``buffer.py``.

python examples/mtt_buffer.py --dataset CIFAR10 --zca --num_experts 100 --train_epochs 50
"""

from _originals import BUFFER, parse, train_experts

if __name__ == "__main__":
    train_experts(parse(__doc__, {**BUFFER, "res": 128}, corrected=False), "mtt")
