"""Describes distilled sets: where they come from and how to use them, as in ``meta.json``."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, TypeAlias, TypedDict

import torch
from torch import Tensor

from sdc_ext._kinds import Number
from sdc_ext._reading import content_of
from sdc_ext._schemas import as_kind, from_json
from sdc_ext._values import Count, CountOrZero, Factor, Rate, kind_of
from sdc_ext.data.real import RealData
from sdc_ext.errors import InputError
from sdc_ext.networks.pool import pool_of
from sdc_ext.training.recipe import TrainingRecipe

FORMAT = 1

# That of sets with a factor: earlier versions, which would train on their stored images, refuse it.
FORMAT_WITH_FACTOR = 2


# The method of a set that does not name one.
UNKNOWN = "unknown"


_Fraction: TypeAlias = Annotated[float, Number(0, 1)]


class _Of(TypedDict, total=False):
    of: str  # which sets of other projects do not say


class EvaluationRow(_Of):
    """An entry of ``SetInfo.accuracies``; see ``Evaluation.row``."""

    iteration: int
    network: str
    mean: float
    std: float
    accuracies: list[float]


class SettingRow(TypedDict):
    """An entry of ``SetInfo.settings``: the plain value of a setting, and where it came from."""

    value: object
    source: str


# The types of the settings that the library itself reads again. Those of the correction are checked
# by ``Correction``.
_READ_AGAIN: dict[str, Any] = {
    "contrast": bool | None,
    "outer_warmup": int | None,
    "lr_eval": float | None,
    "eval_network": str | None,
}


@dataclass(frozen=True)
class Correction:
    """The correction of a run, which all sets of one family share.

    Attributes:
        lam: The weight of the correction; None if it is unknown, follows a ramp, or follows from
            a share.
        ramp: The weight's first value, its last value, and the number of iterations between them.
        share: The share of the image gradient from which the weight followed; None if there was
            none, or it follows a ramp.
        share_ramp: The share's first value, its last value, and the number of iterations between.
        tau: The largest gradient norm of the real images that were matched; None if there was no
            such limit.
        tau_quantile: The quantile of these norms up to which real images were matched; None if
            there was no such limit.
    """

    lam: float | None = None
    ramp: tuple[float, float, int] | None = None
    share: float | None = None
    share_ramp: tuple[float, float, int] | None = None
    tau: float | None = None
    tau_quantile: float | None = None

    def __str__(self) -> str:
        if self.share is not None:
            words = f"share {self.share:g}"
        elif self.share_ramp is not None:
            words = "share {:g} to {:g} in {}".format(*self.share_ramp)
        elif self.ramp is not None:
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
        method: The distillation method.
        dataset: The name of the real data set.
        classes: A name for each label.
        mean: The mean of each channel, which normalisation subtracted from the images.
        std: The standard deviation of each channel, by which normalisation divided the images.
        ipc: The number of stored images per class.
        network: The network with which the set was distilled, or the networks of a pool, with
            commas between them.
        evaluation: The hyper-parameters for training on the set.
        settings: Every setting of the run by name, as ``{"value": ..., "source": ...}``.
        accuracies: The evaluations so far, each with iteration, network and accuracies.
        whitening: The fingerprint of the real images to which the images' ZCA whitening was
            fitted; None if they are not whitened.
        versions: The versions of the libraries that made the set, by name.
        tensors: The fingerprint of the tensors beside ``meta.json``; None if it is not known.
        factor: The number of parts per side of a stored image, each of which networks see as an
            image of its own; see [`Decoder`][sdc_ext.sets.Decoder].
    """

    method: str
    dataset: str
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    ipc: int
    network: str
    evaluation: TrainingRecipe
    settings: dict[str, SettingRow] = field(default_factory=dict)
    accuracies: tuple[EvaluationRow, ...] = ()
    whitening: str | None = None
    versions: dict[str, str] = field(default_factory=dict)
    tensors: str | None = field(default=None, compare=False)
    factor: int = 1

    @classmethod
    def of_data(cls, data: RealData, labels: Tensor, recipe: TrainingRecipe) -> SetInfo:
        """Describes a set without a description of its own, as far as the real data allow.

        Args:
            data: The real data, normalised as the set is.
            labels: The class of each image of the set (N,).
            recipe: The hyper-parameters for training on the set.
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
        """The correction of the run that made the set."""
        others = {name: self.value(name) for name in ("lam_ramp", "share", "share_ramp")}
        found = {
            "lam": self.value("lam") if all(v is None for v in others.values()) else None,
            "ramp": others["lam_ramp"],
            "share": others["share"],
            "share_ramp": others["share_ramp"],
            "tau": self.value("tau"),
            "tau_quantile": self.value("tau_quantile"),
        }
        return as_kind(found, Correction, "the set's correction", "pass another copy of the set")

    @property
    def eval_network(self) -> str:
        """The network with which the run evaluated the set."""
        return str(self.value("eval_network") or pool_of(self.network)[0])

    def value(self, name: str) -> Any:
        """Returns the value of a setting of the run; None if it has no such setting."""
        row = self.settings.get(name)
        return None if row is None else row["value"]

    def to_json(self) -> str:
        """Returns the text of ``meta.json``."""
        version = FORMAT if self.factor == 1 else FORMAT_WITH_FACTOR
        return json.dumps({"format": version, **asdict(self)}, indent=1)

    @classmethod
    def from_json(
        cls, text: str | bytes, name: str = "meta.json", advice: str = "pass another copy of it"
    ) -> SetInfo:
        """Reads the text that ``to_json`` wrote.

        Args:
            text: The text.
            name: What messages call it, e.g. the path of a file.
            advice: What the user can do if it is wrong.

        Raises:
            InputError: If it is another text, was written by a newer version, or a value is of
                another type or out of range; the message names the field.
        """
        content = from_json(text, dict[str, Any], name, advice)
        if content.get("format") not in (None, FORMAT, FORMAT_WITH_FACTOR):
            raise InputError(f"{name} was written by a newer sdc-ext: upgrade to read it")
        info = as_kind(content, cls, name, advice)
        check_info(info, name, advice)
        return info


@dataclass(frozen=True)
class Evaluation:
    """Test accuracies of networks trained from scratch on one set.

    Attributes:
        network: The name of the architecture.
        accuracies: The accuracy of each network, in [0, 1].
    """

    network: str
    accuracies: tuple[float, ...]

    @property
    def mean(self) -> float:
        """The mean accuracy over the networks, in [0, 1]."""
        return float(torch.tensor(self.accuracies, dtype=torch.float64).mean())

    @property
    def std(self) -> float:
        """The population standard deviation over the networks, as DC's script reports it."""
        return float(torch.tensor(self.accuracies, dtype=torch.float64).std(correction=0))

    def row(self, iteration: int, what: str = "images") -> EvaluationRow:
        """Returns the evaluation's entry in ``meta.json``.

        Args:
            iteration: The number of outer iterations after which the set was evaluated.
            what: The evaluated candidate, e.g. ``"images"``.
        """
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


def read_info(path: Path, advice: str = "pass another copy of it") -> SetInfo:
    """Reads a ``meta.json``.

    Args:
        path: The file.
        advice: What the user can do if it is wrong.

    Raises:
        InputError: If it is damaged.
    """
    return SetInfo.from_json(content_of(path), str(path), advice)


def check_info(info: SetInfo, name: str, advice: str) -> None:
    """Checks the values of a description that was read from a file.

    Args:
        info: The description.
        name: What messages call the file.
        advice: What the user can do if a value is wrong.

    Raises:
        InputError: If a value is of another type or out of range; the message names it.
    """
    for setting, kind in _READ_AGAIN.items():
        as_kind(info.value(setting), kind, f"{name}, setting {setting},", advice)
    try:
        str(info.correction)  # reads settings
        _check_ranges(info)
    except InputError as error:
        raise InputError(f"{name} is damaged ({error}): {advice}") from None


def _check_ranges(info: SetInfo) -> None:
    channels = {len(info.mean), len(info.std)}
    if len(channels) > 1 or not channels <= {1, 3}:
        raise InputError("mean and std are not of 1 or 3 channels")
    if not info.classes:
        raise InputError("there are no classes")
    ranges: list[tuple[str, Any, Any]] = [
        ("ipc", info.ipc, Count),
        ("factor", info.factor, Factor),
        *(("mean", value, float) for value in info.mean),
        *(("std", value, Rate) for value in info.std),
    ]
    for row in info.accuracies:
        if not row["accuracies"]:
            raise InputError("an evaluation has no accuracies")
        ranges += [("accuracies.iteration", row["iteration"], CountOrZero)]
        fractions = [row["mean"], row["std"], *row["accuracies"]]
        ranges += [("accuracies", value, _Fraction) for value in fractions]
    for what, value, kind in ranges:
        kind_of(kind).check(what, value)
