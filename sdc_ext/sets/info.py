"""What is known of a distilled set: the contents of its meta.json."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sdc_ext.data.real import RealData
from sdc_ext.errors import InputError
from sdc_ext.training.recipe import TrainingRecipe

FORMAT = 1


# The method of a set that does not say it.
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Correction:
    """How a run was corrected: what sets of one family have in common.

    Attributes:
        lam: The weight of the correction; None if it is unknown, or a ramp.
        ramp: The weight's first and last value, and how many iterations lie between them.
        tau: The largest gradient norm of real images that were matched, if it was limited.
        tau_quantile: The quantile of these norms up to which they were, if it was limited.
    """

    lam: float | None = None
    ramp: tuple[float, float, int] | None = None
    tau: float | None = None
    tau_quantile: float | None = None

    def __str__(self) -> str:
        if self.ramp is not None:
            words = "lam {:g} to {:g} in {}".format(*self.ramp)
        else:
            words = "lam unknown" if self.lam is None else f"lam {self.lam:g}"
        for what, value in (("tau", self.tau), ("tau at quantile", self.tau_quantile)):
            words += "" if value is None else f", {what} {value:g}"
        return words


@dataclass(frozen=True)
class SetInfo:
    """Where a distilled set comes from and how to use it; the contents of ``meta.json``.

    Attributes:
        method: the distillation method.
        dataset: the real data set's name.
        classes: a name for each label.
        mean: channel means that were taken out of the images.
        std: channel standard deviations, likewise.
        ipc: images per class.
        network: the network it was distilled with.
        evaluation: how to train on it.
        settings: every setting of the run, as ``{"value": ..., "source": ...}``.
        accuracies: evaluations so far, each with iteration, network and accuracies.
        whitening: fingerprint of the real images whose ZCA whitening the images are under.
        versions: of the libraries that made it.
    """

    method: str
    dataset: str
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    ipc: int
    network: str
    evaluation: TrainingRecipe
    settings: dict[str, Any] = field(default_factory=dict)
    accuracies: tuple[dict[str, Any], ...] = ()
    whitening: str | None = None
    versions: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of_data(cls, data: RealData, labels: Tensor, recipe: TrainingRecipe) -> SetInfo:
        """What the real data say of a set that says nothing itself.

        Args:
            data: The real data, normalised as the set is.
            labels: The class of each image of the set (N,).
            recipe: How to train on the set.
        """
        return cls(
            method=UNKNOWN,
            dataset=data.name,
            classes=data.classes,
            mean=data.mean,
            std=data.std,
            ipc=int(labels.bincount().max()),
            network="convnet" if max(data.image_size) <= 32 else "convnet:depth=4",
            evaluation=recipe,
            whitening=data.whitened_by,
        )

    @property
    def correction(self) -> Correction:
        """How the run that made the set was corrected."""
        ramp = self.value("lam_ramp")
        return Correction(
            lam=self.value("lam") if ramp is None else None,
            ramp=None if ramp is None else tuple(ramp),
            tau=self.value("tau"),
            tau_quantile=self.value("tau_quantile"),
        )

    @property
    def eval_network(self) -> str:
        """The network that the run evaluated with."""
        return str(self.value("eval_network") or self.network)

    def value(self, name: str) -> Any:
        """A setting of the run; None if it had none of this name."""
        return self.settings.get(name, {}).get("value")

    def to_json(self) -> str:
        """The text of ``meta.json``."""
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=1)

    @classmethod
    def from_json(cls, text: str) -> SetInfo:
        """Reads what ``to_json`` wrote.

        Raises:
            ValueError, TypeError, KeyError: if it is something else.
        """
        meta = json.loads(text)
        if meta.pop("format") != FORMAT:
            raise ValueError("it was written by a newer sdc-ext; upgrade to read it")
        for name in ("classes", "mean", "std", "accuracies"):
            meta[name] = tuple(meta[name])
        return cls(**{**meta, "evaluation": TrainingRecipe(**meta["evaluation"])})


@dataclass(frozen=True)
class Evaluation:
    """Test accuracies of networks trained from scratch on one set.

    Attributes:
        network: the architecture.
        accuracies: one a network, in [0, 1].
    """

    network: str
    accuracies: tuple[float, ...]

    @property
    def mean(self) -> float:
        return float(torch.tensor(self.accuracies, dtype=torch.float64).mean())

    @property
    def std(self) -> float:
        """Population standard deviation over the networks, as the originals report it."""
        return float(torch.tensor(self.accuracies, dtype=torch.float64).std(correction=0))

    def row(self, iteration: int, what: str = "images") -> dict[str, Any]:
        """Its entry in ``meta.json``: of ``what`` after ``iteration`` outer iterations."""
        return {
            "iteration": iteration,
            "of": what,
            "network": self.network,
            "mean": self.mean,
            "std": self.std,
            "accuracies": list(self.accuracies),
        }

    def __str__(self) -> str:
        return f"{100 * self.mean:.2f} ± {100 * self.std:.2f} %"


def read_info(path: Path) -> SetInfo:
    """The ``meta.json`` that ``write_best`` left.

    Raises:
        InputError: if it is damaged.
    """
    try:
        return SetInfo.from_json(path.read_text())
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} is damaged, {error!r}: delete it to read the tensors") from None
