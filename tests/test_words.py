"""Counts agree with their nouns."""

from __future__ import annotations

import pytest

from sdc_ext._words import number_of


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (number_of(1, "hidden file", "were"), "1 hidden file was"),
        (number_of(2, "hidden file", "were"), "2 hidden files were"),
        (number_of(0, "network"), "0 networks"),
        (number_of(1, "class"), "1 class"),
        (number_of(3, "class"), "3 classes"),
    ],
)
def test_counts_agree_with_their_nouns(said: str, expected: str) -> None:
    assert said == expected
