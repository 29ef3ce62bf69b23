"""Times the correction against choosing easy real images, in one run.

    python benchmarks/correction_cost.py [--rounds 5]

The steps are those of gradient matching (DC) and distribution matching (DM) at MNIST's shape: the
original ConvNet of 3 blocks of 128, 10 classes x 256 real images, no augmentation. The cases take
turns, so that a disturbance hits all of them. Run it on an idle machine.
"""

from __future__ import annotations

import platform
import statistics
import time
from argparse import ArgumentParser
from collections.abc import Callable

import torch
from torch import Tensor

from sdc_ext import with_sdc
from sdc_ext._memory import keep_freed_memory
from sdc_ext.adapters.loops.distribution import match_distributions, mean_real_features
from sdc_ext.adapters.loops.easy_samples import EasySamples
from sdc_ext.adapters.loops.gradient import match_by_class
from sdc_ext.adapters.loops.steps import ClassBatch
from sdc_ext.matching.distances import layerwise_cosine, mean_feature_distance
from sdc_ext.networks.create import create_network
from sdc_ext.networks.features import noted_features
from sdc_ext.sets.synthetic_set import class_labels
from sdc_ext.training.gradients import BatchLoss

CLASSES, BATCH_REAL = 10, 256

Step = Callable[[], object]


def identity(images: Tensor) -> Tensor:
    return images


def gradient_steps(ipc: int) -> dict[str, Step]:
    """DC's step: plain, corrected, and matching the easier half of real samples alone."""
    network, images, batches = _inputs(ipc)

    def step(lam: float, easy: EasySamples | None = None) -> None:
        match_by_class(
            network,
            images,
            batches,
            with_sdc(layerwise_cosine, lam),
            batch_loss=BatchLoss(),
            easy=easy,
        )

    return {
        "lam 0": lambda: step(0.0),
        "correction": lambda: step(0.001),
        "easy half, one by one": lambda: step(0.0, EasySamples(quantile=0.5, chunk_size=1)),
        "easy half, by vmap": lambda: step(0.0, EasySamples(quantile=0.5)),
    }


def distribution_steps(ipc: int) -> dict[str, Step]:
    """DM's step: as the original has it, with GraDN recorded, and corrected."""
    network, images, batches = _inputs(ipc)
    labels = class_labels(CLASSES, ipc)

    def original() -> None:
        leaf = images.clone().requires_grad_()
        loss = torch.zeros(())
        for batch in batches:
            with noted_features(network) as noted:
                with torch.no_grad():
                    network(batch.real())
                network(leaf[batch.rows])
            real, syn = (features.mean(0) for features in noted)
            loss = loss + (real - syn).square().sum()
        loss.backward()

    def step(lam: float) -> None:
        match_distributions(
            network,
            images,
            labels,
            batches,
            lambda: mean_real_features(network, batches),
            with_sdc(mean_feature_distance, lam),
        )

    return {
        "the original's": original,
        "lam 0": lambda: step(0.0),
        "correction": lambda: step(0.02),
    }


def _inputs(ipc: int) -> tuple[torch.nn.Module, Tensor, list[ClassBatch]]:
    torch.manual_seed(0)
    network = create_network("convnet", 1, CLASSES, (28, 28)).train()
    real = torch.randn(CLASSES, BATCH_REAL, 1, 28, 28)
    batches = [
        ClassBatch(c, lambda c=c: real[c], slice(c * ipc, (c + 1) * ipc), identity)
        for c in range(CLASSES)
    ]
    return network, torch.randn(CLASSES * ipc, 1, 28, 28), batches


def time_cases(cases: dict[str, Step], rounds: int) -> dict[str, float]:
    """Median seconds of each case. The cases take turns, and the first turn does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for turn in range(rounds + 1):
        for name, step in cases.items():
            start = time.perf_counter()
            step()
            if turn > 0:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def main() -> None:
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    keep_freed_memory()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {platform.machine()}")
    cases = (("DC", gradient_steps, (1, 10)), ("DM", distribution_steps, (1, 50)))
    for method, steps, sizes in cases:
        for ipc in sizes:
            times = time_cases(steps(ipc), rounds)
            base = times["lam 0"]
            for name, seconds in times.items():
                print(f"{method} ipc {ipc:2d}  {name:22s} {seconds:7.3f} s  {seconds / base:6.2f}x")


if __name__ == "__main__":
    main()
