"""Times the correction, its measures and the choice of easy real images, in one run.

    python benchmarks/correction_cost.py [--rounds 5] [--methods DC DSA DCC DSAC DM MTT TESLA DATM]

All steps are at MNIST's shape with the original ConvNet of 3 blocks of 128. Those of gradient and
distribution matching have 10 classes x 256 real images; DCC and DSAC match all classes at once, as
after their warm-up. Those of trajectory matching have 10 inner steps on batches of 10 images; a
step of FTD is one of MTT, and DATM learns soft labels. DSA, DSAC and trajectories use the siamese
augmentation. The cases take turns, so that a disturbance hits all of them.

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
from torch.nn.functional import one_hot
from torch.nn.utils import parameters_to_vector

from sdc_ext import SDCLoss, with_sdc
from sdc_ext._memory import keep_freed_memory
from sdc_ext.adapters.loops.distribution import match_distributions, mean_real_features
from sdc_ext.adapters.loops.easy_samples import EasySamples
from sdc_ext.adapters.loops.gradient import match_all_classes, match_by_class, real_gradient
from sdc_ext.adapters.loops.steps import ClassBatch
from sdc_ext.adapters.loops.trajectory import Inner, match_trajectory
from sdc_ext.augment.parse import parse_augmentation
from sdc_ext.matching.adjoints import Recompute, Tesla
from sdc_ext.matching.distances import (
    layerwise_cosine,
    mean_feature_distance,
    parameter_distance,
)
from sdc_ext.matching.minibatches import draw_minibatches
from sdc_ext.networks.create import create_network
from sdc_ext.networks.features import noted_features
from sdc_ext.networks.functional import FunctionalNetwork
from sdc_ext.sdc_loss import ImageGradients
from sdc_ext.sets.synthetic_set import class_labels
from sdc_ext.strength import RECORDED_EVERY, REFRESHED_EVERY
from sdc_ext.training.gradients import BatchLoss

CLASSES, BATCH_REAL = 10, 256
SIAMESE = "color_crop_cutout_scale_rotate"
MEASURE = "correction, measured"

Step = Callable[[], object]


def gradient_steps(ipc: int, strategy: str = "none") -> dict[str, Step]:
    """DC's or DSA's step: plain, corrected, and matching the easier half of real samples alone."""
    network, images, batches = _inputs(ipc, strategy)

    def step(loss_fn: SDCLoss, easy: EasySamples | None = None) -> None:
        match_by_class(network, images, batches, loss_fn, batch_loss=BatchLoss(), easy=easy)

    cases = _plain_and_corrected(step, layerwise_cosine, 0.001)
    if strategy != "none":
        return cases
    plain = with_sdc(layerwise_cosine, 0.0)
    return cases | {
        "easy half, one by one": lambda: step(plain, EasySamples(quantile=0.5, chunk_size=1)),
        "easy half, by vmap": lambda: step(plain, EasySamples(quantile=0.5)),
    }


def contrastive_steps(ipc: int, strategy: str = "none") -> dict[str, Step]:
    """DCC's or DSAC's step: plain and corrected."""
    network, images, batches = _inputs(ipc, strategy)
    labels = class_labels(CLASSES, ipc)

    def step(loss_fn: SDCLoss) -> None:
        real = real_gradient(network, batches, CLASSES, batch_loss=BatchLoss())
        match_all_classes(network, images, labels, batches, real, loss_fn)

    return _plain_and_corrected(step, layerwise_cosine, 0.001)


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

    return {"the original's": original} | _plain_and_corrected(step, mean_feature_distance, 0.02)


def trajectory_steps(
    ipc: int, adjoint: type[Recompute | Tesla] = Recompute, soft_labels: bool = False
) -> dict[str, Step]:
    """MTT's, TESLA's or DATM's step: plain and corrected."""
    network, images, _ = _inputs(ipc)
    student = FunctionalNetwork(network)
    start = parameters_to_vector(network.parameters()).detach()
    target = start + 0.01 * torch.randn_like(start)
    logits = one_hot(class_labels(CLASSES, ipc), CLASSES).float()
    learnt = [images, torch.tensor(0.01)] + [logits] * soft_labels
    for tensor in learnt:
        tensor.requires_grad_()
    batches = draw_minibatches(len(images), 10, 10, parse_augmentation(SIAMESE), (28, 28))

    def step(loss_fn: SDCLoss) -> None:
        labels = logits.softmax(-1) if soft_labels else class_labels(CLASSES, ipc)
        inner = Inner(student, learnt[0], labels, learnt[1])
        corrected = match_trajectory(inner, start, target, batches, loss_fn, adjoint=adjoint())
        loss_fn.differentiate(corrected, learnt)

    return _plain_and_corrected(step, parameter_distance, 0.002)


def _plain_and_corrected(
    step: Callable[[SDCLoss], None], distance: Callable[..., Tensor], lam: float
) -> dict[str, Step]:
    plain, corrected = (with_sdc(distance, strength) for strength in (0.0, lam))
    return {
        "lam 0": lambda: step(plain),
        "correction": lambda: step(not_due(corrected)),
        MEASURE: lambda: step(with_sdc(distance, lam)),
    }


CASES: dict[str, tuple[Callable[[int], dict[str, Step]], tuple[int, ...]]] = {
    "DC": (gradient_steps, (1, 10)),
    "DSA": (partial(gradient_steps, strategy=SIAMESE), (1, 10)),
    "DCC": (contrastive_steps, (1, 10)),
    "DSAC": (partial(contrastive_steps, strategy=SIAMESE), (1, 10)),
    "DM": (distribution_steps, (1, 50)),
    "MTT": (trajectory_steps, (1,)),
    "TESLA": (partial(trajectory_steps, adjoint=Tesla), (1,)),
    "DATM": (partial(trajectory_steps, soft_labels=True), (1,)),
}


def not_due(loss_fn: SDCLoss) -> SDCLoss:
    """Returns a loss that does not measure its share in this update."""
    if loss_fn.measures:
        loss_fn.settle(ImageGradients([]))
    return loss_fn


def _inputs(ipc: int, strategy: str = "none") -> tuple[torch.nn.Module, Tensor, list[ClassBatch]]:
    torch.manual_seed(0)
    network = create_network("convnet", 1, CLASSES, (28, 28)).train()
    real = torch.randn(CLASSES, BATCH_REAL, 1, 28, 28)
    augmentation = parse_augmentation(strategy)
    batches = [
        ClassBatch(
            c, lambda c=c: real[c], slice(c * ipc, (c + 1) * ipc), augmentation.draw((28, 28))
        )
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
    parser.add_argument("--methods", nargs="+", choices=CASES, default=list(CASES))
    options = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(1)  # CPU seconds of several threads count their waiting
    print(f"torch {torch.__version__}, 1 thread, {platform.machine()}")
    for method in options.methods:
        steps, sizes = CASES[method]
        for ipc in sizes:
            report(f"{method:5s} ipc {ipc:2d}", time_cases(steps(ipc), options.rounds))


def report(title: str, times: dict[str, float]) -> None:
    for name, seconds in times.items():
        print(f"{title}  {name:22s} {seconds:7.3f} s  {seconds / times['lam 0']:6.2f}x")
    added = 100 * (times[MEASURE] - times["correction"]) / times["correction"]
    given, share = added / RECORDED_EVERY, added / REFRESHED_EVERY
    print(f"{title}  measures add {given:.2f} % (lam), {share:.2f} % (share)", flush=True)


if __name__ == "__main__":
    main()
