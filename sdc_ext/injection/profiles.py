"""Describes the kinds of matching loops: how and where each is corrected."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from sdc_ext.regularizer import Reduction

Profile: TypeAlias = Literal["gm", "tm", "tesla"]


@dataclass(frozen=True)
class ProfileNotes:
    """The description of a kind of loop.

    Attributes:
        what: The kind of loop and its correction, for users.
        reduction: The default reduction of an image step's norms.
        where: The place at which the correction is added, for users.
    """

    what: str
    reduction: Reduction
    where: str


PROFILES: dict[Profile, ProfileNotes] = {
    "gm": ProfileNotes(
        "gradient matching: the norms of an image step, one per class, are summed",
        "sum",
        "at the next backward pass",
    ),
    "tm": ProfileNotes(
        "trajectory matching: the norms of an image step's inner steps are averaged",
        "mean",
        "at the next backward pass",
    ),
    "tesla": ProfileNotes(
        "trajectory matching with image gradients by hand: each inner step adds its own term",
        "mean",
        "where the script asks for image gradients",
    ),
}
"""The kinds of loops that the injection knows, each with what it does there."""
