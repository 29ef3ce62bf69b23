"""Mixes the images of a batch with each other, and their labels alike: Mixup and CutMix."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Beta

from sdc_ext._kinds import Number
from sdc_ext.errors import InputError, check_choice

Mixed = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""Maps images (B, C, H, W) and labels (B, classes) to mixed ones of the same shapes."""

MIXES = ("none", "mixup", "cutmix")

_OPTIONS = {"p": Number(0, 1, "(]"), "beta": Number(1e-3, 1e3)}


@dataclass(frozen=True)
class Mix:
    """Mixes every image of a batch with another one of it, both in one share for the batch.

    Attributes:
        kind: ``"mixup"`` averages two images, ``"cutmix"`` pastes a rectangle of one into the
            other, and ``"none"`` leaves them as they are.
        p: The probability that a batch is mixed.
        beta: The share of the first image follows Beta(beta, beta); CutMix's is the part of the
            area that it keeps.

    Reference: Zhang et al., "mixup: Beyond Empirical Risk Minimization"; Yun et al., "CutMix"; the
        draws are those of ``train.py`` in IDC's repository.
    """

    kind: str = "none"
    p: float = 1.0
    beta: float = 1.0

    @property
    def changes(self) -> bool:
        """Whether it ever mixes anything."""
        return self.kind != "none"

    def draw(self, image_size: tuple[int, int], n: int) -> Mixed:
        """Draws from torch's global CPU generator, which ``"none"`` leaves alone.

        Args:
            image_size: (height, width) in pixels.
            n: The size B of the batch.
        """
        if not self.changes:
            return _unmixed
        happens = float(torch.rand(())) < self.p
        share = float(Beta(self.beta, self.beta).sample())
        partner = torch.randperm(n)
        if self.kind == "mixup":
            return _mixup(partner, share) if happens else _unmixed
        rows, columns = (_side(length, share) for length in image_size)
        return _cutmix(partner, rows, columns) if happens else _unmixed


NO_MIX = Mix()


def parse_mix(spec: str) -> Mix:
    """Returns the mix that a text names.

    Args:
        spec: ``"none"``, ``"mixup"`` or ``"cutmix"``, with options as in ``"cutmix:p=0.5"`` and
            ``"mixup:p=0.5:beta=0.8"``; see [`Mix`][sdc_ext.augment.Mix].

    Raises:
        InputError: If it names none, or an option is unknown or out of range.
    """
    kind, *parts = spec.split(":")
    check_choice("mix", kind, MIXES)
    options: dict[str, Any] = {}
    for part in parts:
        name, separator, value = part.partition("=")
        if not separator or name not in _OPTIONS or name in options or kind == "none":
            raise InputError(
                f"the mix {spec} has no option {part!r}: write, for example, cutmix:p=0.5:beta=1"
            )
        options[name] = _OPTIONS[name].read(f"{name} of the mix {spec}", value)
    return Mix(kind, **options)


def _unmixed(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    return images, labels


def _mixup(partner: Tensor, share: float) -> Mixed:
    def mix(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        other = partner.to(images.device)
        mixed = share * images + (1 - share) * images[other]
        return mixed, share * labels + (1 - share) * labels[other]

    return mix


def _cutmix(partner: Tensor, rows: slice, columns: slice) -> Mixed:
    def mix(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        other = partner.to(images.device)
        mixed = images.clone()
        mixed[:, :, rows, columns] = images[other, :, rows, columns]
        height, width = images.shape[2:]
        pasted = (rows.stop - rows.start) * (columns.stop - columns.start) / (height * width)
        return mixed, (1 - pasted) * labels + pasted * labels[other]

    return mix


def _side(length: int, share: float) -> slice:
    """Returns one side of CutMix's rectangle, which the border of the image may cut."""
    half = int(length * (1 - share) ** 0.5) // 2
    center = int(torch.randint(length, ()))
    return slice(max(center - half, 0), min(center + half, length))
