"""Times the correction, its measures and the choice of easy real images, in one run.

    python benchmarks/correction_cost.py [--rounds 5] [--methods DC DM MTT]

The steps are those of gradient matching (DC) and distribution matching (DM) at MNIST's shape: the
original ConvNet of 3 blocks of 128, 10 classes x 256 real images, no augmentation; and that of
trajectory matching (MTT) with the same network, 10 inner steps on batches of 10 images. The cases
take turns, so that a disturbance hits all of them.

An update that measures the share takes a second backward pass. The last columns spread it over the
updates between two measures: with lam given, and with lam that follows from a share. Times are CPU
seconds of one process, which other programs disturb less than the wall's.
"""

from __future__ import annotations

import platform
import statistics
import time
from argparse import ArgumentParser
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn.utils import parameters_to_vector

from sdc_ext import SDCLoss, with_sdc
from sdc_ext._memory import keep_freed_memory
from sdc_ext.adapters.loops.distribution import match_distributions, mean_real_features
from sdc_ext.adapters.loops.easy_samples import EasySamples
from sdc_ext.adapters.loops.gradient import match_by_class
from sdc_ext.adapters.loops.steps import ClassBatch
from sdc_ext.adapters.loops.trajectory import Inner, match_trajectory
from sdc_ext.matching.adjoints import Recompute
from sdc_ext.matching.distances import (
    layerwise_cosine,
    mean_feature_distance,
    parameter_distance,
)
from sdc_ext.matching.minibatches import Minibatch
from sdc_ext.networks.create import create_network
from sdc_ext.networks.features import noted_features
from sdc_ext.networks.functional import FunctionalNetwork
from sdc_ext.sdc_loss import ImageGradients
from sdc_ext.sets.synthetic_set import class_labels
from sdc_ext.strength import RECORDED_EVERY, REFRESHED_EVERY
from sdc_ext.training.gradients import BatchLoss

CLASSES, BATCH_REAL = 10, 256
MEASURE = "correction, measured"

Step = Callable[[], object]


def identity(images: Tensor) -> Tensor:
    return images


def gradient_steps(ipc: int) -> dict[str, Step]:
    """DC's step: plain, corrected, and matching the easier half of real samples alone."""
    network, images, batches = _inputs(ipc)

    def step(loss_fn: SDCLoss, easy: EasySamples | None = None) -> None:
        match_by_class(network, images, batches, loss_fn, batch_loss=BatchLoss(), easy=easy)

    plain, corrected = (with_sdc(layerwise_cosine, lam) for lam in (0.0, 0.001))
    return {
        "lam 0": lambda: step(plain),
        "correction": lambda: step(not_due(corrected)),
        MEASURE: lambda: step(with_sdc(layerwise_cosine, 0.001)),
        "easy half, one by one": lambda: step(plain, EasySamples(quantile=0.5, chunk_size=1)),
        "easy half, by vmap": lambda: step(plain, EasySamples(quantile=0.5)),
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

    def step(loss_fn: SDCLoss) -> None:
        real = partial(mean_real_features, network, batches)
        match_distributions(network, images, labels, batches, real, loss_fn)

    plain, corrected = (with_sdc(mean_feature_distance, lam) for lam in (0.0, 0.02))
    return {
        "the original's": original,
        "lam 0": lambda: step(plain),
        "correction": lambda: step(not_due(corrected)),
        MEASURE: lambda: step(with_sdc(mean_feature_distance, 0.02)),
    }


def trajectory_steps(ipc: int) -> dict[str, Step]:
    """MTT's step: plain, and corrected."""
    network, images, _ = _inputs(ipc)
    student = FunctionalNetwork(network)
    start = parameters_to_vector(network.parameters()).detach()
    target = start + 0.01 * torch.randn_like(start)
    learnt = [images.requires_grad_(), torch.tensor(0.01, requires_grad=True)]
    inner = Inner(student, learnt[0], class_labels(CLASSES, ipc), learnt[1])
    batches = [Minibatch(torch.arange(CLASSES), identity)] * 10

    def step(loss_fn: SDCLoss) -> None:
        corrected = match_trajectory(inner, start, target, batches, loss_fn, adjoint=Recompute())
        loss_fn.differentiate(corrected, learnt)

    plain, corrected = (with_sdc(parameter_distance, lam) for lam in (0.0, 0.002))
    return {
        "lam 0": lambda: step(plain),
        "correction": lambda: step(not_due(corrected)),
        MEASURE: lambda: step(with_sdc(parameter_distance, 0.002)),
    }


def not_due(loss_fn: SDCLoss) -> SDCLoss:
    """Returns a loss that does not measure its share in this update."""
    if loss_fn.measures:
        loss_fn.settle(ImageGradients([]))
    return loss_fn


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
    """Median CPU seconds of each case. The cases take turns; the first turn does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for turn in range(rounds + 1):
        for name, step in cases.items():
            start = time.process_time()
            step()
            if turn > 0:
                seconds[name].append(time.process_time() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def main() -> None:
    parser = ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--methods", nargs="+", default=["DC", "DM", "MTT"])
    options = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(1)  # CPU seconds of several threads count their waiting
    print(f"torch {torch.__version__}, 1 thread, {platform.machine()}")
    cases: dict[str, tuple[Callable[[int], dict[str, Step]], tuple[int, ...]]] = {
        "DC": (gradient_steps, (1, 10)),
        "DM": (distribution_steps, (1, 50)),
        "MTT": (trajectory_steps, (1,)),
    }
    for method in options.methods:
        steps, sizes = cases[method]
        for ipc in sizes:
            times = time_cases(steps(ipc), options.rounds)
            base = times["lam 0"]
            for name, seconds in times.items():
                print(f"{method} ipc {ipc:2d}  {name:22s} {seconds:7.3f} s  {seconds / base:6.2f}x")
            added = 100 * (times[MEASURE] - times["correction"]) / times["correction"]
            given, share = added / RECORDED_EVERY, added / REFRESHED_EVERY
            print(f"{method} ipc {ipc:2d}  measures add {given:.2f} % (lam), {share:.2f} % (share)")


if __name__ == "__main__":
    main()
