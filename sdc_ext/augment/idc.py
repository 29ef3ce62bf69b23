"""Augments images as IDC does, which combines several of DSA's operations in every batch."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sdc_ext.augment.base import Replay
from sdc_ext.augment.siamese import DSA_OPERATIONS, SiameseAugmentation, draw_parameters
from sdc_ext.errors import check_choice

_BEFORE = ("flip", "color")

_AFTER = ("cutout",)


@dataclass(frozen=True)
class IDCAugmentation:
    """Flips and changes colours, then applies one other operation, and cuts out a rectangle last.

    The operations are DSA's. Flip, colour and cutout take place in every batch if ``strategy``
    names them, and one operation is drawn from the others.

    Args:
        strategy: Names of operations joined by ``_``, e.g. ``"color_crop_flip_scale_rotate"``.

    Raises:
        InputError: If there is no such operation.

    Reference: ``misc/augment.py``, ``DiffAug``, of IDC's repository (Kim et al., "Dataset
        Condensation via Efficient Synthetic-Data Parameterization").
    """

    strategy: str

    def __post_init__(self) -> None:
        for name in self.strategy.split("_"):
            check_choice("IDC augmentation", name, DSA_OPERATIONS)

    def draw(self, image_size: tuple[int, int], n: int = 1) -> Replay:
        """Draws as [`Augmentation.draw`][sdc_ext.augment.Augmentation.draw] says."""
        operations = SiameseAugmentation("_".join(DSA_OPERATIONS))
        replays = [
            operations.replay(name, draw_parameters(name, image_size, n)) for name in self._drawn()
        ]

        def replay(images: Tensor) -> Tensor:
            for operation in replays:
                images = operation(images)
            return images

        return replay

    def _drawn(self) -> list[str]:
        """Returns the operations of one batch in their order."""
        named = self.strategy.split("_")
        others = [name for name in named if name not in (*_BEFORE, *_AFTER)]
        one = [others[int(torch.randint(len(others), ()))]] if others else []
        before = [name for name in _BEFORE if name in named]
        return [*before, *one, *(name for name in _AFTER if name in named)]
