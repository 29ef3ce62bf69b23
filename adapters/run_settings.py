"""What a run is set to beside its loop's hyper-parameters."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sdc_ext._options import option
from sdc_ext.regularizer import LogRamp, Norm


@dataclass(frozen=True)
class Setting:
    """A value and its source."""

    value: Any
    source: str


_ORIGINALS = "the originals"

_OURS = "sdc-ext default"


@dataclass(frozen=True)
class RunSettings:
    """What a run needs beside its loop's hyper-parameters."""

    iterations: int = option(1000, "outer iterations", _ORIGINALS)
    lam: float = option(0.002, "weight of the correction; 0 is without", "SDC paper, Section 4.3")
    lam_ramp: tuple[float, float, int] | None = option(
        None, "adaptive correction instead of lam: start, end, iterations between", _OURS
    )
    norm: Norm = option("l2", "the norm that is penalised", "SDC paper, Eq. 11 and 12")
    network: str = option("convnet", "network to distil with, e.g. convnet:depth=4", _ORIGINALS)
    eval_network: str = option("convnet", "network to evaluate with", _OURS)
    eval_every: int = option(500, "iterations between evaluations", _ORIGINALS)
    num_eval: int = option(20, "networks an evaluation", _ORIGINALS)
    epoch_eval_train: int = option(300, "epochs an evaluation network", _ORIGINALS)
    lr_eval: float = option(0.01, "learning rate of evaluation networks", _ORIGINALS)
    batch_eval: int = option(256, "batch size of evaluation networks", _ORIGINALS)
    eval_augmentation: str = option("none", "augmentation of evaluation networks", _ORIGINALS)
    zca: bool = option(False, "ZCA-whiten the images", _ORIGINALS)
    on_divergence: Literal["stop", "skip"] = option(
        "stop", "at a loss that is not finite: stop, or skip the update", _OURS
    )
    statistics: str = option("own", "data set whose channel statistics normalise", _OURS)

    @property
    def schedule(self) -> float | LogRamp:
        """lam, or the ramp that takes its place."""
        return self.lam if self.lam_ramp is None else LogRamp(*self.lam_ramp)


def evaluation_as_distillation(
    origin: Mapping[str, Setting], chosen: Container[str]
) -> dict[str, Setting]:
    """Evaluation settings that follow from the distillation's, as they do in the originals."""
    derived = {}
    network = origin["network"].value
    augmentation = origin["dsa_strategy"].value if "dsa_strategy" in origin else "none"
    if augmentation != "none" and "eval_augmentation" not in chosen:
        derived["eval_augmentation"] = Setting(augmentation, "as in distillation")
    derived["eval_network"] = Setting(network, "as in distillation")
    if ":norm=batch" in network:
        # A synthetic set is too small for batch norm's statistics.
        without = network.replace(":norm=batch", "")
        derived["eval_network"] = Setting(without, "originals, batch norm replaced")
    return derived
