"""Describes the kinds of matching loops: how and where each is corrected."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from sdc_ext.regularizer import Reduction

Profile: TypeAlias = Literal["gm", "tm", "tesla", "dm"]


IF_FEATURES = (
    "use the profile 'dm' if the loop matches features; otherwise wrap its matching loss in "
    "with_sdc"
)


@dataclass(frozen=True)
class ProfileNotes:
    """The description of a kind of loop.

    Attributes:
        what: The kind of loop and its correction, for users.
        reduction: The default reduction of an image step's norms.
        where: The place at which the correction is added, for users.
        watched: What is observed for it, for users.
        missing: What the loop lacks if nothing is corrected, and what to do then, for users.
    """

    what: str
    reduction: Reduction
    where: str
    watched: str = "torch.autograd.grad(create_graph=True) is captured"
    missing: str = (
        "no loss that was differentiated depended on gradients computed with create_graph=True: "
        f"{IF_FEATURES}"
    )


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
    "dm": ProfileNotes(
        "feature matching: one more forward and backward pass through the synthetic images of an "
        "image step gives the norm, one per network, and the norms are summed",
        "sum",
        "at the next backward pass",
        "networks that are called on synthetic images are noted",
        "no loss that was differentiated depended on a network's output for synthetic images: wrap "
        "the matching loss in with_sdc",
    ),
}
"""The kinds of loops that the injection knows, each with what it does there."""
