"""Checks the GPU at hand in under ten minutes and writes the tables of ``docs/gpu.md``.

    python benchmarks/gpu.py [--dc DIR] [--mtt DIR]

It runs the tests that depend on the device, times steps of gradient and trajectory matching beside
the originals' own code (DIR is a checkout of VICO-UoE/DatasetCondensation and of
mtt-distillation), and trains the networks of an evaluation one by one and as a stack. Every part
has a limit of time, after which it is given up. Without a GPU it runs on the CPU with small sizes,
as a proof that it works, and writes ``build/gpu.md`` instead. The exit status is 1 if a test or a
case failed or was given up.
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent))
import gm_step  # type: ignore[import-not-found]
import gpu_page  # type: ignore[import-not-found]
import tm_step  # type: ignore[import-not-found]
from gpu_parts import DEVICE, TESTS, Case, Part, Step, run_part, run_tests  # type: ignore

DSA = "color_crop_cutout_scale_rotate"


@dataclass(frozen=True)
class Sizes:
    """How large everything is.

    Attributes:
        batch_real: Real images per class of a step of gradient matching.
        steps: Inner steps of trajectory matching.
        batch_syn: Synthetic images per inner step.
        networks: Networks of an evaluation.
        epochs: Their epochs.
        side: The height and width of their images in pixels.
        network: Their architecture.
        ipcs: Synthetic images per class of a step of gradient matching.
        rounds: Timed rounds of steps of gradient matching; trajectories have a third as many.
        warm_up: Rounds before those that are timed.
    """

    batch_real: int = 256
    steps: int = 30
    batch_syn: int = 100
    networks: int = 20
    epochs: int = 200
    side: int = 28
    network: str = "convnet"
    ipcs: tuple[int, int] = (1, 10)
    rounds: int = 12
    warm_up: int = 3


SMALL = Sizes(2, 2, 2, 3, 5, 8, "convnet:depth=1:width=8", (1, 2), 2, 1)


def gradient_step(sizes: Sizes, case: Any, ipc: int) -> Step:
    gm_step.BATCH_REAL = sizes.batch_real
    step: Step = gm_step.make_step(case, ipc)
    return step


def trajectory_step(sizes: Sizes, case: Any) -> Step:
    make = {
        "plain": lambda: tm_step.make_plain(sizes.batch_syn),
        "original": lambda: tm_step.make_original(case, sizes.batch_syn),
        "ours": lambda: tm_step.make_ours(case, sizes.batch_syn),
    }[case.kind]
    step = make()
    return lambda: step(sizes.steps)[0]


def evaluation(sizes: Sizes, options: Mapping[str, Any]) -> Step:
    """Returns what trains networks on one digit per class and returns their accuracies."""
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    from sdc_ext.data.load import load_data
    from sdc_ext.data.real import Split
    from sdc_ext.evaluation import evaluate
    from sdc_ext.training.recipe import TrainingRecipe

    torch.set_default_device(None)  # as in a run, where the library chooses what is on the GPU
    AcceleratorState._reset_state(reset_partial_state=True)  # or its precision is the first case's

    def enlarged(split: Split) -> Split:
        size = (sizes.side, sizes.side)
        images = F.interpolate(split.images.float(), size).to(split.images.dtype)
        return Split(images, split.labels)

    digits = load_data("digits")
    data = replace(digits, train=enlarged(digits.train), test=enlarged(digits.test))
    first = torch.stack([of_class[0] for of_class in data.indices_by_class()])
    images, labels = data.normalize(data.train.images[first]), data.train.labels[first]
    chosen = dict(options)
    accelerator = Accelerator(mixed_precision=chosen.pop("precision", "no"))

    def step(epochs: int = sizes.epochs, num_eval: int = sizes.networks) -> Tensor:
        recipe = TrainingRecipe(epochs, augmentation=DSA)
        found = evaluate(
            *(images, labels, data, recipe),
            network=sizes.network,
            num_eval=num_eval,
            seed=0,
            accelerator=accelerator,
            **chosen,
        )
        return torch.tensor(found.accuracies)

    step(epochs=1, num_eval=2)
    return step


def gradient_cases(sizes: Sizes, upstream: Path | None, ipc: int) -> list[Case]:
    of = gm_step.Case
    cases = [
        (of("plain, all classes in one graph", "plain"), False),
        (of("ours", "ours"), False),
        (of("ours, corrected", "ours", lam=gm_step.LAM), False),
        (of("ours, tf32", "ours"), True),
        (of("ours, bf16", "ours", bf16=True), False),
        (of("ours, compiled", "ours", compile=True), False),
        (of("ours, bf16, compiled", "ours", bf16=True, compile=True), False),
    ]
    if upstream is not None:
        cases.insert(0, (of("original, tf32", "original", upstream=upstream), True))
        cases.insert(0, (of("original", "original", upstream=upstream), False))
    return [Case(c.name, gradient_step, (sizes, c, ipc), tf32) for c, tf32 in cases]


def trajectory_cases(sizes: Sizes, upstream: Path | None) -> list[Case]:
    of = tm_step.Case
    cases = [
        (of("plain graph", "plain"), False),
        (of("ours", "ours"), False),
        (of("ours, corrected", "ours", lam=tm_step.LAM), False),
        *((of(f"ours, {gb} GB", "ours", budget=gb), False) for gb in (4, 16)),
        (of("ours, direct", "ours", adjoint="direct"), False),
        (of("ours, tesla", "ours", adjoint="tesla"), False),
        (of("ours, tf32", "ours"), True),
        (of("ours, direct, tf32", "ours", adjoint="direct"), True),
        (of("ours, compiled", "ours", compile=True), False),
    ]
    if upstream is not None:
        cases.insert(0, (of("original, tf32", "original", upstream=upstream), True))
        cases.insert(0, (of("original", "original", upstream=upstream), False))
    return [Case(c.name, trajectory_step, (sizes, c), tf32) for c, tf32 in cases]


def evaluation_cases(sizes: Sizes) -> list[Case]:
    stacked: dict[str, Any] = {"stack": sizes.networks}
    cases: list[tuple[str, dict[str, Any], bool]] = [
        ("one by one", {}, False),
        ("stacked", stacked, False),
        ("stacked, tf32", stacked, True),
        ("stacked, bf16", {**stacked, "precision": "bf16"}, False),
        ("one by one, again", {}, False),
        ("stacked, compiled", {**stacked, "compile": True}, False),
    ]
    return [Case(name, evaluation, (sizes, options), tf32) for name, options, tf32 in cases]


def relative(value: np.ndarray, first: np.ndarray) -> str:
    """The distance of two image gradients, relative to the first."""
    return f"{np.linalg.norm(value - first) / np.linalg.norm(first):.0e}"


def largest(value: np.ndarray, first: np.ndarray) -> str:
    """The largest difference of two networks' accuracies, in points."""
    return f"{100 * np.abs(value - first).max():.2f} (mean {100 * value.mean():.2f} %)"


def make_parts(sizes: Sizes, dc: Path | None, mtt: Path | None) -> list[Part]:
    real = f"{gm_step.CLASSES} x {sizes.batch_real} real images of 28x28"
    compared = "image gradient off by"
    parts = [
        Part(
            f"A step of gradient matching, ipc {ipc} ({real})",
            gradient_cases(sizes, dc, ipc),
            limit=limit,
            rounds=sizes.rounds,
            warm_up=sizes.warm_up,
            compared=compared,
            compare=relative,
        )
        for ipc, limit in zip(sizes.ipcs, (85, 70), strict=True)
    ]
    trajectory = Part(
        f"A step of trajectory matching (N = {sizes.steps}, {sizes.batch_syn} of 3x32x32)",
        trajectory_cases(sizes, mtt),
        limit=110,
        rounds=max(sizes.rounds // 3, 1),
        warm_up=1,
        compared=compared,
        compare=relative,
    )
    evaluations = Part(
        f"An evaluation of {sizes.networks} networks ({sizes.network}, 10 images of "
        f"{sizes.side}x{sizes.side}, DSA, {sizes.epochs} epochs)",
        evaluation_cases(sizes),
        limit=120,
        rounds=1,
        warm_up=0,
        compared="largest difference of accuracies, points",
        compare=largest,
    )
    return [*parts, trajectory, evaluations]


def main() -> int:
    parser = ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--dc", type=Path, help="a checkout of DatasetCondensation")
    parser.add_argument("--mtt", type=Path, help="a checkout of mtt-distillation")
    options = parser.parse_args()
    on_gpu = DEVICE.type == "cuda"
    if not on_gpu:
        print("no GPU here: small sizes on the CPU, as a proof that this works", flush=True)
    dc, mtt = (path and path.resolve() for path in (options.dc, options.mtt))
    page = gpu_page.Page()
    page.add(gpu_page.machine_lines())
    page.add(gpu_page.tests_lines(run_tests(TESTS if on_gpu else TESTS[:1], 160)))
    for part in make_parts(Sizes() if on_gpu else SMALL, dc, mtt):
        page.add(gpu_page.part_lines(part, run_part(part)))
    print(f"wrote {page.write(on_gpu)}")
    return 1 if page.has_failures else 0


if __name__ == "__main__":
    sys.exit(main())
