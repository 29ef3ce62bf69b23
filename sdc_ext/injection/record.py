"""What an injection has seen."""

from __future__ import annotations

import csv
from dataclasses import dataclass, fields
from pathlib import Path

from torch import Tensor

from sdc_ext.injection.profiles import Profile


@dataclass(frozen=True)
class Step:
    """One matching loss that was differentiated: in the originals, one update of the images.

    Attributes:
        iteration: outer iteration: for gradient matching the networks seen before this one, for
            trajectories the steps before this one, since the synthetic images were made.
        lam: the correction's weight, without the scale.
        captured: how many gradients of synthetic batches it was made of.
        difficulty: their mean L2 norm (GraDN).
        matching: the script's own loss; NaN for TESLA, whose loss is not differentiated.
    """

    iteration: int
    lam: float
    captured: int
    difficulty: float
    matching: float

    def __str__(self) -> str:
        return (
            f"iteration {self.iteration} (matching loss {self.matching:.4g}, GraDN "
            f"{self.difficulty:.4g}, lam {self.lam:g})"
        )


class InjectionRecord:
    """What an injection has seen.

    Attributes:
        profile: how the loop is corrected, None as long as that is not known.
        steps: the corrected image steps, in order.
        images: a copy of the last images (N, C, H, W) whose gradient was finite; None before
            that, and if lam is 0.
    """

    def __init__(self) -> None:
        self.profile: Profile | None = None
        self.steps: list[Step] = []
        self.images: Tensor | None = None

    def columns(self) -> dict[str, list[float]]:
        """The steps as columns of numbers, named as ``Step``'s attributes."""
        names = [f.name for f in fields(Step)]
        return {name: [float(getattr(step, name)) for step in self.steps] for name in names}

    def keep(self, images: Tensor) -> None:
        """Copies images that have proved good; into the earlier copy, to save memory."""
        if self.images is None or self.images.shape != images.shape:
            self.images = images.detach().clone()
        else:
            self.images.copy_(images.detach())

    def write_csv(self, path: Path) -> None:
        """Writes the steps as a table with a header."""
        columns = self.columns()
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(columns)
            writer.writerows(zip(*columns.values(), strict=True))
