"""Records the corrected steps and the last good images of an injection."""

from __future__ import annotations

import csv
from dataclasses import dataclass, fields
from pathlib import Path

from torch import Tensor

from sdc_ext.injection.profiles import Profile


@dataclass(frozen=True)
class Step:
    """One differentiated matching loss, i.e. one image step of the original scripts.

    Attributes:
        iteration: The outer iteration, counted from 0 since the synthetic images were made: the
            network for gradient matching, the image step for trajectory matching.
        lam: The weight of the correction, without the scale.
        captured: The number of gradients of synthetic batches that the loss depends on.
        difficulty: The mean L2 norm of these gradients (GraDN).
        matching: The script's own loss; NaN for TESLA, whose loss is not differentiated.
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
        images: A copy of the last images (N, C, H, W) whose gradient was finite; None before the
            first image step, and with lam 0.
    """

    def __init__(self) -> None:
        self.profile: Profile | None = None
        self.steps: list[Step] = []
        self.images: Tensor | None = None

    def columns(self) -> dict[str, list[float]]:
        """Returns one list of numbers for each attribute of [`Step`][sdc_ext.injection.Step]."""
        names = [f.name for f in fields(Step)]
        return {name: [float(getattr(step, name)) for step in self.steps] for name in names}

    def keep(self, images: Tensor) -> None:
        """Copies good images (N, C, H, W), reusing the memory of the earlier copy."""
        if self.images is None or self.images.shape != images.shape:
            self.images = images.detach().clone()
        else:
            self.images.copy_(images.detach())

    def write_csv(self, path: Path) -> None:
        """Writes the steps as CSV, with the names of the columns in the first row."""
        columns = self.columns()
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(columns)
            writer.writerows(zip(*columns.values(), strict=True))
