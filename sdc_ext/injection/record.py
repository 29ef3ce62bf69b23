"""Records the corrected steps and the last good images of an injection."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from torch import Tensor
from torch.utils.weak import TensorWeakRef

from sdc_ext.injection.profiles import Profile


@dataclass(frozen=True)
class Step:
    """One image step, however many backward passes it takes.

    Attributes:
        iteration: The outer iteration, counted from 0 since the synthetic images were made: the
            network for gradient matching, the image step for others.
        lam: The weight of the correction, without the scale.
        captured: The number of gradients of synthetic batches that the losses depend on.
        difficulty: The mean L2 norm of these gradients (GraDN).
        matching: The script's own loss, summed over the passes; NaN for TESLA, whose loss is not
            differentiated.
        share: How strong the correction is: the norm of its image gradient over that of the
            script's own loss. It is that of this step's lam with the two gradients last measured
            (NaN before a measure, and 0 if lam is 0).
        cosine: The cosine between the two, as last measured (NaN before a measure).
    """

    iteration: int
    lam: float
    captured: int
    difficulty: float
    matching: float
    share: float
    cosine: float

    def __str__(self) -> str:
        return (
            f"iteration {self.iteration} (matching loss {self.matching:.4g}, GraDN "
            f"{self.difficulty:.4g}, lam {self.lam:g})"
        )


class InjectionRecord:
    """The record of an injection.

    Attributes:
        profile: The kind of loop; None until it is recognised.
        steps: The corrected image steps, in order.
    """

    def __init__(self) -> None:
        self.profile: Profile | None = None
        self.steps: list[Step] = []
        self._kept: list[tuple[TensorWeakRef, Tensor]] = []  # what is learnt, and its copy

    @property
    def learnt(self) -> list[Tensor]:
        """Copies of whatever is learnt, of when its gradients were last finite.

        There are none before the first image step, and with lam 0.
        """
        return [copy for _, copy in self._kept]

    @property
    def images(self) -> Tensor | None:
        """The images (N, C, H, W) among ``learnt``, or else its first tensor; None before."""
        images = [copy for copy in self.learnt if copy.ndim > 2]
        return next(iter(images or self.learnt), None)

    def columns(self) -> dict[str, list[float]]:
        """Returns one list of numbers for each attribute of [`Step`][sdc_ext.injection.Step]."""
        names = [f.name for f in fields(Step)]
        return {name: [float(getattr(step, name)) for step in self.steps] for name in names}

    def keep(self, learnt: Sequence[Tensor]) -> None:
        """Copies learnt tensors, reusing the memory of their earlier copies."""
        for tensor in learnt:
            copy = next((copy for kept, copy in self._kept if kept() is tensor), None)
            if copy is not None:
                copy.copy_(tensor.detach())
                continue
            self._kept = [pair for pair in self._kept if pair[0]() is not None]
            self._kept.append((TensorWeakRef(tensor), tensor.detach().clone()))

    def write_csv(self, path: Path) -> None:
        """Writes the steps as CSV, with the names of the columns in the first row."""
        columns = self.columns()
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(columns)
            writer.writerows(zip(*columns.values(), strict=True))
