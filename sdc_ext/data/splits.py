"""Splits off a part of the images of each class for testing."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from sdc_ext.errors import InputError

_TEST_SHARE = 0.25


def stratified_split(labels: Tensor, classes: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Splits off a quarter of each class, and at least one image, for testing.

    The split is always the same.

    Args:
        labels: Labels (N,), all of which occur.
        classes: A name for each label.

    Returns:
        The positions of the training part and of the test part, int64 and ascending.

    Raises:
        InputError: If a class has fewer than two images.
    """
    from sklearn.model_selection import train_test_split

    counts = torch.bincount(labels)
    if bool((counts < 2).any()):
        few = classes[int((counts < 2).nonzero()[0])]
        raise InputError(
            f"class {few!r} has fewer than 2 images, so none can be held out for testing: add "
            "images or a test folder"
        )
    held_out = max(len(counts), math.ceil(_TEST_SHARE * len(labels)))
    _, test = train_test_split(
        np.arange(len(labels)), test_size=held_out, stratify=labels.numpy(), random_state=0
    )
    tested = torch.zeros(len(labels), dtype=torch.bool)
    tested[test] = True
    for label in range(len(counts)):
        of_class = (labels == label).nonzero()[:, 0]
        if not bool(tested[of_class].any()):  # a small class beside large ones
            tested[of_class[-1]] = True
    return (~tested).nonzero()[:, 0], tested.nonzero()[:, 0]
