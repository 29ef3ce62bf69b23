"""Trains the experts of MTT and TESLA with the flags of mtt-distillation's ``buffer.py``.

    python examples/mtt_buffer.py --dataset CIFAR10 --zca --num_experts 100 --train_epochs 50

It writes ``replay_buffer_*.pt`` files, as the original does.
"""

from _originals import BUFFER, parse, run, train_experts


def main() -> None:
    train_experts(parse(__doc__, {**BUFFER, "res": 128}, corrected=False), "mtt")


if __name__ == "__main__":
    run(main)
