"""Measures one DATM iteration at the paper's worst case: its time, its memory and its exactness.

    python benchmarks/datm_tiny_imagenet.py [--compile]

The case is Tiny ImageNet at ipc 1 (the paper's Table 8): ConvNet of depth 4, 64x64 images, 200
classes, 60 inner steps on all 200 images, learned soft labels, augmentation. The paper needs
150 GB for it. Pixels are random, which costs the same.
"""

from __future__ import annotations

import resource
import time
from argparse import ArgumentParser

import torch
from rich.console import Console
from torch import Tensor

from sdc_ext import with_sdc
from sdc_ext._memory import keep_freed_memory
from sdc_ext.adapters.loops.trajectory import Inner, match_trajectory
from sdc_ext.augment.parse import parse_augmentation
from sdc_ext.matching.adjoints import Adjoint, Direct, Recompute
from sdc_ext.matching.distances import parameter_distance
from sdc_ext.matching.minibatches import draw_minibatches
from sdc_ext.networks.create import create_network
from sdc_ext.networks.functional import FunctionalNetwork

CLASSES, SIZE, STEPS, LAM = 200, (64, 64), 60, 0.002
STRATEGY = "color_crop_cutout_flip_scale_rotate"


def gradients(
    student: FunctionalNetwork, steps: int, batch_syn: int, adjoint: Adjoint
) -> tuple[Tensor, ...]:
    """Gradients of images, label logits and step size in one iteration on random pixels."""
    torch.manual_seed(0)
    start = student.initial_parameters()
    target = start + 0.01 * torch.randn_like(start)
    images = torch.randn(CLASSES, 3, *SIZE).requires_grad_()
    logits = (5 * torch.eye(CLASSES)).requires_grad_()
    lr = torch.tensor(0.01, requires_grad=True)
    augmentation = parse_augmentation(STRATEGY, align_corners=True)
    batches = draw_minibatches(CLASSES, batch_syn, steps, augmentation, SIZE)
    inner = Inner(student, images, logits.softmax(-1), lr)
    loss_fn = with_sdc(parameter_distance, LAM)
    corrected = match_trajectory(inner, start, target, batches, loss_fn, adjoint=adjoint)
    return torch.autograd.grad(corrected.loss, [images, logits, lr])


def main() -> None:
    parser = ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--compile", action="store_true")
    options = parser.parse_args()
    keep_freed_memory()
    console = Console(highlight=False)
    network = create_network("convnet:depth=4", 3, CLASSES, SIZE).train()
    student = FunctionalNetwork(network, compile=options.compile)

    started = time.perf_counter()
    found = gradients(student, STEPS, CLASSES, Recompute())
    minutes = (time.perf_counter() - started) / 60
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    finite = all(bool(t.isfinite().all()) for t in found)
    console.print(
        f"{STEPS} steps of {CLASSES} images: {minutes:.1f} minutes, peak memory of the process "
        f"{peak:.2f} GiB, all gradients finite: {finite}"
    )
    # What the graph of all steps still has room for: fewer steps, smaller minibatches.
    ours, graph = (gradients(student, 3, 20, a) for a in (Recompute(), Direct()))
    for name, a, b in zip(("images", "labels", "step size"), ours, graph, strict=True):
        console.print(f"3 steps of 20 images, {name}: {float((a - b).norm() / b.norm()):.0e} off")


if __name__ == "__main__":
    main()
