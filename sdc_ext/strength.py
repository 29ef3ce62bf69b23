"""How strongly a loss is corrected: lam, its schedules, and lam from a share.

At the same lam, the correction changes the images of one method by a hundredth of a percent of what
the matching loss does, and those of another by a third. The share says what a lam amounts to: the
norm of the term's image gradient over that of the matching loss's. This file needs only torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from sdc_ext._graphs import leaves_of

Schedule: TypeAlias = Callable[[int], float]

# The SDC paper, Section 4.3.
DEFAULT_LAM = 0.002

# The settings that give the strength of a correction, which exclude each other.
STRENGTHS = ("lam", "lam_ramp", "share", "share_ramp")

# A measure costs a second backward pass. Both numbers are primes, since an outer loop takes 10 or
# 50 updates per network, and measures should fall on all of them.
RECORDED_EVERY = 151
REFRESHED_EVERY = 17

# The weight of the newest measure in the moving averages that lam follows from.
_NEWEST = 0.5


@dataclass(frozen=True)
class LogRamp:
    """Adaptive SDC: lam grows geometrically from ``start`` to ``end``, then stays there.

    ``lam(t) = start * (end / start) ** min(t / steps, 1)``

    Args:
        start: The value of lam at iteration 0, above 0.
        end: The value of lam from iteration ``steps`` on, above 0.
        steps: The length of the ramp in outer iterations, at least 1.

    Raises:
        ValueError: If a bound is not finite and above 0, or ``steps`` is below 1.

    Reference: the SDC paper, Section 4.3 ("logarithmically increased"), e.g. from 0.02 to 0.08
    over 10,000 iterations for DATM.

    Examples:
        >>> [round(LogRamp(0.02, 0.08, steps=10)(t), 3) for t in (0, 5, 10, 99)]
        [0.02, 0.04, 0.08, 0.08]
    """

    start: float
    end: float
    steps: int

    def __post_init__(self) -> None:
        for name in ("start", "end"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(
                    f"LogRamp {name} must be finite and above 0, got {value}: a geometric ramp "
                    "cannot reach 0, so use a small value such as 1e-4"
                )
        if self.steps < 1:
            raise ValueError(f"LogRamp steps must be at least 1, got {self.steps}")

    def __str__(self) -> str:
        return f"{self.start:g} to {self.end:g} in {self.steps}"

    def __call__(self, iteration: int) -> float:
        """Returns lam at an outer iteration, counted from 0."""
        progress = min(iteration / self.steps, 1.0)
        return float(self.start * (self.end / self.start) ** progress)


def check_lam(lam: object) -> float:
    """Returns lam as a float; raises if it is not a number, negative or not finite."""
    return _check_weight(lam, "lam", f"the paper's default is {DEFAULT_LAM}")


def check_share(share: object) -> float:
    """Returns a share as a float; raises if it is not a number, negative or not finite."""
    return _check_weight(share, "share", "0.1 is a tenth")


def _check_weight(value: object, name: str, example: str) -> float:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number or a schedule, got {type(value).__name__}")
    number = float(value)
    if not (math.isfinite(number) and number >= 0):
        raise ValueError(
            f"{name} must be finite and at least 0, got {value}: {example}, and 0 switches the "
            "correction off"
        )
    return number


def as_argument(name: str, value: Any) -> dict[str, Any]:
    """Returns a setting of ``STRENGTHS`` as an argument of ``with_sdc`` and ``inject``.

    Args:
        name: The name of the setting.
        value: Its value; for a ramp the start, the end and the number of iterations.

    Raises:
        ValueError: If [`LogRamp`][sdc_ext.LogRamp] refuses the ramp.
    """
    of, is_ramp = name.removesuffix("_ramp"), name.endswith("_ramp")
    return {of: LogRamp(*value) if is_ramp else value}


def lam_or_share(names: Container[str]) -> Literal["lam", "share"]:
    """Returns which of the two a search drew, given the names of the values of a trial."""
    return "share" if "share" in names else "lam"


@dataclass(frozen=True)
class Pull:
    """How strongly the two parts of a corrected loss pull at the images.

    Attributes:
        matching: The norm of the matching loss's gradient by the images.
        term: The norm of the gradient of the term at lam 1.
        cosine: The cosine between the two; NaN if one of them is zero.
    """

    matching: float
    term: float
    cosine: float

    @classmethod
    def of(cls, by_matching: Sequence[Tensor], by_term: Sequence[Tensor]) -> Pull:
        """Measures two gradients, each by the same tensors."""
        sums = torch.zeros(3, dtype=torch.float64)
        for m, t in zip(by_matching, by_term, strict=True):
            m, t = (g.detach().cpu().double() for g in (m, t))  # not every device has doubles
            sums += torch.stack([(m * m).sum(), (t * t).sum(), (m * t).sum()])
        matching, term, product = sums.tolist()
        norms = math.sqrt(matching) * math.sqrt(term)
        return cls(math.sqrt(matching), math.sqrt(term), product / norms if norms else math.nan)

    @property
    def acts(self) -> bool:
        """Whether both gradients are finite and above 0, so that a share is defined."""
        return all(math.isfinite(norm) and norm > 0 for norm in (self.matching, self.term))

    def share(self, lam: float) -> float:
        """Returns the share of a lam; NaN if it is not defined.

        It is the norm of lam times the term's gradient over that of the matching loss's gradient.
        """
        return lam * self.term / self.matching if self.acts else math.nan


class Strength:
    """The strength of a run's correction: its lam, given or following from a share, and measures.

    A share sets ``lam = share * m / t``, where m and t are moving averages of the two norms that
    were measured. The first lam is that of the first measure, whose share is therefore exact;
    later ones are smoothed, since the norms of single updates vary with the network and the batch.

    Args:
        lam: The weight, at least 0, or a schedule that maps the iteration to it.
        share: The share, at least 0, or a schedule; None if lam is given.
        refreshed_every: The number of updates between two measures that lam follows from.

    Attributes:
        lam: The present lam; 0 before the first measure if it follows from a share.
        updates: The number of updates so far.
        cosine: The last cosine measured; NaN before a measure.
    """

    def __init__(
        self,
        lam: float | Schedule,
        share: float | Schedule | None = None,
        *,
        refreshed_every: int = REFRESHED_EVERY,
    ) -> None:
        self._lam, self._share = lam, share
        self._refreshed_every = refreshed_every
        self.updates = 0
        self._matching = self._term = 0.0
        self._share_of_one = self.cosine = math.nan
        self.set_lam(0)

    @classmethod
    def chosen(
        cls,
        lam: float | Schedule | None,
        share: float | Schedule | None,
        *,
        refreshed_every: int = REFRESHED_EVERY,
    ) -> Strength:
        """Returns the strength that a user chose by one of the two, or the default lam.

        Raises:
            TypeError: If the one that is given is not a number.
            ValueError: If both are given, or one of them is negative or not finite.
        """
        if lam is not None and share is not None:
            raise ValueError("lam and share exclude each other: pass one of them")
        weight = DEFAULT_LAM if lam is None else lam
        return cls(weight, share, refreshed_every=refreshed_every)

    @property
    def active(self) -> bool:
        """Whether lam is or may become larger than 0."""
        given = self._lam if self._share is None else self._share
        return callable(given) or given > 0

    @property
    def is_scheduled(self) -> bool:
        """Whether lam or the share depends on the iteration."""
        return callable(self._lam if self._share is None else self._share)

    @property
    def follows_share(self) -> bool:
        """Whether lam follows from a share."""
        return self._share is not None

    @property
    def share(self) -> float:
        """The share of the present lam, by the last measure: NaN before it, and 0 for lam 0."""
        return self.share_of(self.lam)

    def share_of(self, lam: float) -> float:
        """Returns the share of any lam, by the last measure: NaN before it, and 0 for lam 0."""
        return lam * self._share_of_one if lam > 0 else 0.0

    @property
    def measures(self) -> bool:
        """Whether the share has to be measured in the present update."""
        every = self._refreshed_every if self.follows_share else RECORDED_EVERY
        # Until a measure has two gradients above 0, lam cannot follow from the share.
        unknown = self.follows_share and self._term == 0
        return self.active and (unknown or self.updates % every == 0)

    def set_lam(self, iteration: int) -> None:
        """Sets the lam of an outer iteration, counted from 0."""
        if self._share is None:
            self.lam = check_lam(_at(self._lam, iteration))
        else:
            share = check_share(_at(self._share, iteration))
            self.lam = share * self._matching / self._term if self._term > 0 else 0.0

    def note(self, pull: Pull, iteration: int) -> None:
        """Takes a measure into account, unless one of its gradients is zero or not finite."""
        self._share_of_one, self.cosine = pull.share(1.0), pull.cosine
        if pull.acts:
            newest = _NEWEST if self._term > 0 else 1.0
            self._matching += newest * (pull.matching - self._matching)
            self._term += newest * (pull.term - self._term)
        self.set_lam(iteration)

    def count(self) -> None:
        """Counts an update."""
        self.updates += 1

    def state_dict(self) -> dict[str, float]:
        """Returns what a checkpoint needs to go on to the same bits."""
        return {name: getattr(self, name) for name in _STATE}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Restores what ``state_dict`` returned."""
        for name in _STATE:
            setattr(self, name, state[name])


_STATE = ("updates", "_matching", "_term", "_share_of_one", "cosine", "lam")


def _at(value: float | Schedule, iteration: int) -> float:
    return value(iteration) if callable(value) else value


def reweighted(value: Tensor, term: Tensor, held: float, lam: float) -> Tensor:
    """Returns what was computed with one lam as it is with another, e.g. a loss or a gradient.

    Args:
        value: What was computed; it is returned unchanged if the two lam are equal.
        term: The same of the term at lam 1.
        held: The lam with which it was computed.
        lam: The lam to use instead.
    """
    return value if lam == held else value + (lam - held) * term


def find_images(loss: Tensor, shapes: Iterable[torch.Size] = ()) -> list[Tensor]:
    """Returns the images that a loss is to change, as far as its graph shows them.

    They are the leaf tensors of at least three dimensions that are no parameters of a module; if
    there are none, those of two dimensions, such as latent codes.

    Args:
        loss: A scalar with its graph.
        shapes: Shapes of a network's weights. They count where no parameter of a module has them,
            so that the weights are plain tensors, too.
    """
    found = list(leaves_of([loss]))
    parameters = [leaf for leaf in found if isinstance(leaf, torch.nn.Parameter)]
    of_plain_weights = set(shapes) - {parameter.shape for parameter in parameters}
    leaves = [
        leaf
        for leaf in found
        if not isinstance(leaf, torch.nn.Parameter) and leaf.shape not in of_plain_weights
    ]
    images = [leaf for leaf in leaves if leaf.ndim > 2]
    return images or [leaf for leaf in leaves if leaf.ndim == 2]
