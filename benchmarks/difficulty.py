"""Times the gradient norms of single samples: chunks under vmap against one sample at a time.

    python benchmarks/difficulty.py [--rounds 3]

It compares the norms, too. The cases take turns. Run it on an idle machine.
"""

from __future__ import annotations

import platform
import statistics
import time
from argparse import ArgumentParser

import torch

from sdc_ext.evaluation.difficulty import score_samples
from sdc_ext.networks.create import create_network

# Network, channels, side of the images, samples.
CASES = [
    ("convnet:width=16:depth=2", 1, 8, 256),
    ("convnet:width=32:depth=2", 1, 8, 256),
    ("convnet:width=32", 1, 28, 128),
    ("convnet:width=64", 1, 28, 128),
    ("convnet", 1, 28, 128),
    ("mlp", 1, 28, 256),
    ("timm:resnet10t", 3, 32, 64),
]
CHUNKS = (1, 8, 32, 128)


def main() -> None:
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {platform.machine()}")
    for spec, channels, side, samples in CASES:
        torch.manual_seed(0)
        network = create_network(spec, channels, 10, (side, side)).eval()
        images = torch.randn(samples, channels, side, side)
        labels = torch.randint(10, (samples,))
        seconds: dict[int, list[float]] = {chunk: [] for chunk in CHUNKS}
        norms = {}
        for turn in range(rounds + 1):
            for chunk in CHUNKS:
                start = time.perf_counter()
                norms[chunk] = score_samples(network, images, labels, chunk_size=chunk).gradn
                if turn > 0:
                    seconds[chunk].append(time.perf_counter() - start)
        times = {chunk: statistics.median(values) for chunk, values in seconds.items()}
        parameters = sum(p.numel() for p in network.parameters())
        print(f"{spec}, {channels}x{side}x{side}, {parameters} parameters, {samples} samples")
        for chunk, value in times.items():
            off = float(((norms[chunk] - norms[1]) / norms[1]).abs().max())
            name = "one by one" if chunk == 1 else f"chunks of {chunk}"
            print(f"  {name:14s} {value:7.3f} s  {times[1] / value:5.2f}x  off by {off:.0e}")


if __name__ == "__main__":
    main()
