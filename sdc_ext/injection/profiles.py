"""What is known of each kind of matching loop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from sdc_ext.regularizer import Reduction

Profile: TypeAlias = Literal["gm", "tm", "tesla"]


@dataclass(frozen=True)
class ProfileNotes:
    """What is known of a kind of loop.

    Attributes:
        what: in words.
        reduction: of the norms of an image step, where the user does not say.
        where: the correction goes in.
    """

    what: str
    reduction: Reduction
    where: str


PROFILES: dict[Profile, ProfileNotes] = {
    "gm": ProfileNotes(
        "gradient matching: the norms of an image step are summed, one a class",
        "sum",
        "at the next backward pass",
    ),
    "tm": ProfileNotes(
        "trajectory matching: the mean norm of an image step's inner steps",
        "mean",
        "at the next backward pass",
    ),
    "tesla": ProfileNotes(
        "trajectory matching with image gradients by hand: a share at every inner step",
        "mean",
        "where image gradients are asked for",
    ),
}
