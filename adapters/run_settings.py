"""The settings of a run that do not belong to its loop: lam, networks, evaluation."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from sdc_ext._options import COMPUTING, CORRECTION, DATA, EVALUATION, IMAGES, OURS, option
from sdc_ext._values import Count, Ramp, Rate, Weight, check_fields
from sdc_ext.augment.parse import parse_augmentation
from sdc_ext.networks.pool import pool_of
from sdc_ext.regularizer import Norm
from sdc_ext.sdc_loss import SDCLoss, with_sdc
from sdc_ext.strength import DEFAULT_LAM, STRENGTHS, as_argument


@dataclass(frozen=True)
class Setting:
    """The value of a setting and where it came from.

    Attributes:
        value: The value in effect.
        source: The origin of the value, e.g. ``"SDC paper, Table 4"``.
    """

    value: Any
    source: str


_ORIGINALS = "the original scripts"


@dataclass(frozen=True)
class RunSettings:
    """The settings that every method has, in addition to its loop's hyper-parameters.

    Raises:
        InputError: If a value is out of range.
    """

    iterations: Count = option(1000, "number of outer iterations", _ORIGINALS, IMAGES)
    lam: Weight = option(
        DEFAULT_LAM,
        "weight of the correction; 0 switches it off",
        "SDC paper, Section 4.3",
        CORRECTION,
    )
    lam_ramp: Ramp | None = option(
        None,
        "adaptive SDC instead of lam: lam grows from START to END over ITERATIONS",
        OURS,
        CORRECTION,
    )
    share: Weight | None = option(
        None,
        "strength of the correction instead of lam: the norm of its image gradient over that of "
        "the matching loss's, e.g. 0.1",
        OURS,
        CORRECTION,
    )
    share_ramp: Ramp | None = option(
        None,
        "adaptive SDC as a share: it grows from START to END over ITERATIONS",
        OURS,
        CORRECTION,
    )
    norm: Norm = option(
        "l2", "norm of the gradient that is penalised", "SDC paper, Eq. 11 and 12", CORRECTION
    )
    network: str = option(
        "convnet",
        "network to distil with, e.g. convnet:depth=4; with commas, a pool of networks, of which "
        "every iteration draws one",
        _ORIGINALS,
        DATA,
    )
    eval_network: str = option(
        "convnet", "network that is trained on the distilled set", OURS, EVALUATION
    )
    eval_every: Count = option(
        500, "number of iterations between evaluations", _ORIGINALS, EVALUATION
    )
    num_eval: Count = option(
        20, "number of networks that an evaluation trains", _ORIGINALS, EVALUATION
    )
    epoch_eval_train: Count = option(
        300, "number of epochs that each of them is trained", _ORIGINALS, EVALUATION
    )
    lr_eval: Rate = option(0.01, "their learning rate", _ORIGINALS, EVALUATION)
    batch_eval: Count = option(256, "their batch size", _ORIGINALS, EVALUATION)
    eval_augmentation: str = option(
        "none", "their augmentation, written as --dsa-strategy", _ORIGINALS, EVALUATION
    )
    zca: bool = option(False, "whiten the images by ZCA", _ORIGINALS, DATA)
    on_divergence: Literal["stop", "skip"] = option(
        "stop",
        "at a loss that is not finite: stop the run, or skip that update",
        OURS,
        COMPUTING,
    )
    statistics: str = option(
        "own", "data set whose channel means and deviations normalise the images", OURS, DATA
    )

    def __post_init__(self) -> None:
        check_fields(self)
        pool_of(self.network)
        parse_augmentation(self.eval_augmentation)

    @property
    def strength(self) -> str:
        """The name of the setting that gives the strength: lam, share, or the ramp of one."""
        return next(name for name in reversed(STRENGTHS) if getattr(self, name) is not None)

    def correct(self, loss_fn: Callable[..., Tensor]) -> SDCLoss:
        """Returns a matching loss with the correction that the settings describe."""
        strength = as_argument(self.strength, getattr(self, self.strength))
        return with_sdc(loss_fn, **strength, norm=self.norm)


def evaluation_as_distillation(
    origin: Mapping[str, Setting], chosen: Container[str]
) -> dict[str, Setting]:
    """Derives evaluation settings from those of the distillation, as the original scripts do.

    Args:
        origin: Every setting by name, with its source.
        chosen: The names of the settings that the user has chosen.

    Returns:
        The evaluation network and, if the distillation augments, the augmentation.
    """
    derived = {}
    network, *others = pool_of(str(origin["network"].value))
    augmentation = origin["dsa_strategy"].value if "dsa_strategy" in origin else "none"
    if augmentation != "none" and "eval_augmentation" not in chosen:
        derived["eval_augmentation"] = Setting(augmentation, "as in distillation")
    source = "the first network of the pool" if others else "as in distillation"
    derived["eval_network"] = Setting(network, source)
    if ":norm=batch" in network:
        # A synthetic set is too small to estimate the statistics of batch norm.
        without = network.replace(":norm=batch", "")
        derived["eval_network"] = Setting(without, "originals, batch norm replaced")
    return derived
