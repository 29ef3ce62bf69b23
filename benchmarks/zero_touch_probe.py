"""Runs one script of a published repository, once, as ``zero_touch.py`` asks it to.

    python benchmarks/zero_touch_probe.py JOB.json

The script runs in this process with the repairs of ``sdc-ext run``, on small random images in the
place of torchvision's data sets. The probe finds the image steps by the steps of optimisers,
keeps the first image gradients and what has been learnt, and ends the script after some steps.
"""

from __future__ import annotations

import gc
import json
import pickle
import random
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import MethodType
from typing import Any

import numpy as np
import torch
from torch.optim import Optimizer
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)
from torch.utils._pytree import tree_map_only
from torchvision import datasets

from sdc_ext.injection.hooks import inject
from sdc_ext.injection.learnt import images_of
from sdc_ext.injection.obstacles import inspect
from sdc_ext.injection.profiles import PROFILES
from sdc_ext.injection.runner import Script
from sdc_ext.strength import Strength

TRUST = "--trust-pickles"


@dataclass(frozen=True)
class Job:
    """One run of a script.

    Attributes:
        script: The script, or the dotted name of a module.
        folder: The folder that it runs in.
        arguments: The script's command line.
        profile: The profile that is chosen; "auto" for the one that is recognised.
        lam: The weight of the injected correction; None for repairs only.
        strict: Whether a loop that does not fit its profile is an error.
        scale: A factor of the term.
        steps: Ends the script after this number of image steps; 0 lets it end by itself, and -1
            only reads it.
        turns: The number of pairs of timed steps after the first image step.
        first: The number of the optimiser step that is the first image step; None if unknown.
        images: The number of real images per class.
        double: Whether the script computes in float64.
        out: The file for the results.
    """

    script: str
    folder: str
    arguments: list[str]
    profile: str
    lam: float | None
    strict: bool
    scale: float
    steps: int
    turns: int
    first: int | None
    images: int
    double: bool
    out: str


class Probe:
    """Watches the optimisers of a script inside a ``with`` block, and corrects it if that is asked.

    Attributes:
        found: The results, by name.
    """

    def __init__(self, job: Job, profile: str) -> None:
        self.found: dict[str, Any] = {"first": None, "seconds": []}
        self._job = job
        self._profile: Any = profile
        self._optimizer_steps = 0
        self._image_steps = 0
        self._learnt: list[torch.Tensor] = []
        self._active = ExitStack()
        self._record: Any = None
        self._order: list[bool] = []
        self._timed: bool | None = None
        self._since = 0.0

    def __enter__(self) -> Probe:
        register_optimizer_step_pre_hook(self._before)
        register_optimizer_step_post_hook(self._after)
        if self._job.lam is not None and self._profile in PROFILES:
            self._switch_on(self._job.lam, self._job.strict)
        return self

    def __exit__(self, *error: Any) -> None:
        self._active.__exit__(*error)

    def _switch_on(self, lam: float, strict: bool) -> None:
        injection = inject(lam, profile=self._profile, strict=strict, scale=self._job.scale)
        self._record = self._active.enter_context(injection)

    def _is_image_step(self, optimizer: Optimizer) -> bool:
        held = [tensor for group in optimizer.param_groups for tensor in group["params"]]
        if self._learnt:
            return any(tensor is own for tensor in held for own in self._learnt)
        if self._job.first is not None:
            return self._optimizer_steps == self._job.first
        if self._record is not None:
            return bool(self._record.steps) and _is_worth_comparing(optimizer)
        return bool(images_of(optimizer))

    def _before(self, optimizer: Optimizer, *_: Any) -> None:
        if self._learnt or not self._is_image_step(optimizer):
            return
        self._learnt = [tensor for group in optimizer.param_groups for tensor in group["params"]]
        self.found["first"] = self._optimizer_steps
        self.found["shapes"] = [tuple(tensor.shape) for tensor in self._learnt]
        self.found["gradients"] = [
            torch.zeros_like(t) if t.grad is None else t.grad.detach().clone() for t in self._learnt
        ]

    def _after(self, optimizer: Optimizer, *_: Any) -> None:
        is_image_step = bool(self._learnt) and self._is_image_step(optimizer)
        self._optimizer_steps += 1
        if not is_image_step:
            return
        self._image_steps += 1
        if self._record is not None and self._record.steps:
            self.found["share"] = self.found.get("share", self._record.steps[0].share)
        if self._image_steps == self._job.steps:
            self.found["learnt"] = [tensor.detach().clone() for tensor in self._learnt]
            if not self._job.turns:
                raise SystemExit(0)
            self._take_turns_after(optimizer)

    def _take_turns_after(self, optimizer: Optimizer) -> None:
        """Lets turns begin after the optimiser's steps; hooks cannot change hooks."""
        original = optimizer.step

        def step(_: Optimizer, *args: Any, **kwargs: Any) -> Any:
            result = original(*args, **kwargs)
            self._take_turns()
            return result

        # Of the instance, since learning rate schedules replace that one, too.
        optimizer.step = MethodType(step, optimizer)  # type: ignore[method-assign]

    def _take_turns(self) -> None:
        """Switches the correction on or off between image steps, in shuffled order."""
        now = time.process_time()
        seconds = self.found["seconds"]
        if self._timed is not None:
            seconds[-1][self._timed] = now - self._since
        if not self._order and len(seconds) == self._job.turns:
            raise SystemExit(0)
        self._active.close()
        if not self._order:
            self._order = random.Random(len(seconds)).sample([False, True], 2)
            seconds.append({})
        self._timed = self._order.pop()
        Strength.measures = property(lambda _: False)  # type: ignore # as in 150 of 151 steps
        if self._timed:
            # Optimisers of labels or rates may still have to make the step that was corrected.
            self._switch_on(self._job.lam or 0.0, strict=False)
        self._since = time.process_time()


def _is_worth_comparing(optimizer: Optimizer) -> bool:
    """Returns whether an optimiser updates images or, if none does, more than rates."""
    if images_of(optimizer):
        return True
    others = (o for o in gc.get_objects() if issubclass(type(o), Optimizer))
    held = [tensor for group in optimizer.param_groups for tensor in group["params"]]
    return any(tensor.ndim for tensor in held) and not any(images_of(o) for o in others)


def main() -> None:
    """Runs the job and writes what was found, however the script ends."""
    job = Job(**json.loads(Path(sys.argv[1]).read_text()))
    torch.set_num_threads(1)
    provide_images(job.images)
    if job.double:
        compute_in_double()
    folder = Path(job.folder)
    is_file = job.script.endswith(".py")
    script = Script.read(job.script, folder) if is_file else Script.read_module(job.script, folder)
    recognised = script.profile or "not recognised"
    profile = recognised if job.profile == "auto" else job.profile
    probe = Probe(job, profile)
    report = inspect(script, job.profile, {TRUST})
    probe.found["check"] = [line for line in report.lines if line.startswith("stands in")]
    probe.found["repairs"] = [needed.repair.name for needed in script.repairs]
    probe.found["profile"] = recognised
    probe.found["corrects"] = profile in PROFILES
    probe.found["status"] = 1 if job.steps >= 0 else 0
    try:
        if job.steps < 0:
            return
        probe.found["status"] = script.run(job.arguments, probe, seed=0, consents={TRUST})
    finally:
        found = tree_map_only(torch.Tensor, lambda tensor: tensor.numpy(), probe.found)
        Path(job.out).write_bytes(pickle.dumps(found))


def provide_images(count: int) -> None:
    """Makes torchvision's data sets consist of random images, so that none is downloaded.

    Args:
        count: The number of images per class.
    """

    def init(kind: type, shape: tuple[int, ...], classes: int) -> None:
        def replaced(
            self: Any,
            root: Any = None,
            train: bool = True,
            transform: Any = None,
            target_transform: Any = None,
            download: bool = False,
            split: str = "train",
            **_: Any,
        ) -> None:
            datasets.VisionDataset.__init__(self, root, None, transform, target_transform)
            number = 100 if issubclass(type(self), datasets.CIFAR100) else classes
            targets = np.arange(number * count) % number
            draw = np.random.default_rng(int(train and split == "train"))
            pixels = draw.integers(0, 256, (len(targets), *shape), dtype=np.uint8)
            self.train, self.split = train, split
            self.data, self.targets = pixels, targets.tolist()
            if isinstance(self, datasets.MNIST):
                self.data, self.targets = torch.from_numpy(pixels), torch.from_numpy(targets)
            elif isinstance(self, datasets.SVHN):
                self.labels = targets
            if not hasattr(self, "classes"):
                self.classes = [f"class {n}" for n in range(number)]
                self.class_to_idx = {name: n for n, name in enumerate(self.classes)}

        kind.__init__ = replaced  # type: ignore[misc]

    init(datasets.CIFAR10, (32, 32, 3), 10)
    init(datasets.CIFAR100, (32, 32, 3), 100)
    init(datasets.SVHN, (3, 32, 32), 10)
    init(datasets.MNIST, (28, 28), 10)


def compute_in_double() -> None:
    """Makes float64 of every way to ask for float32 that scripts commonly use."""
    torch.set_default_dtype(torch.float64)
    single, load, save = torch.float32, torch.load, torch.save

    def name(kind: torch.dtype) -> None:
        torch.float = torch.float32 = kind

    def load_double(*args: Any, **how: Any) -> Any:
        name(single)
        loaded = load(*args, **how)
        name(torch.float64)
        return tree_map_only(torch.Tensor, _doubled, loaded)

    def save_double(*args: Any, **how: Any) -> None:
        name(single)
        save(*args, **how)
        name(torch.float64)

    name(torch.float64)
    torch.load, torch.save = load_double, save_double
    torch.FloatTensor = torch.DoubleTensor  # type: ignore[assignment, misc]
    torch.Tensor.float = torch.Tensor.double  # type: ignore[method-assign]


def _doubled(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().double() if tensor.is_floating_point() else tensor


if __name__ == "__main__":
    main()
