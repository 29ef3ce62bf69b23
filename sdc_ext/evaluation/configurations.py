"""How evaluations train networks: what the user chooses, a protocol, or each set's own recipe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from itertools import product
from typing import Annotated, Any, TypeAlias

from sdc_ext._kinds import Many, OneOf, Text
from sdc_ext._options import option
from sdc_ext._values import Temperature, check_fields
from sdc_ext.augment.mix import parse_mix
from sdc_ext.errors import InputError
from sdc_ext.sets.info import SetInfo
from sdc_ext.sets.synthetic_set import SyntheticSet
from sdc_ext.training.label_loss import LabelLossName
from sdc_ext.training.protocols import ProtocolName, Subject, protocol
from sdc_ext.training.recipe import OptimizerName, ScheduleName, TrainingRecipe

Optimizers: TypeAlias = Annotated[Sequence[OptimizerName], Many(OneOf(("sgd", "adamw")), once=True)]
"""One optimiser or several; on the command line with commas between them."""

Augmentations: TypeAlias = Annotated[Sequence[str], Many(Text(), once=True)]
"""One augmentation or several; on the command line with commas between them."""

# Learning rates do not carry over from one optimiser to the other. Those of AdamW are torch's.
_USUAL: dict[OptimizerName, dict[str, float]] = {
    "sgd": {"lr": TrainingRecipe.lr, "weight_decay": TrainingRecipe.weight_decay},
    "adamw": {"lr": 0.001, "weight_decay": 0.01},
}

# What a teacher of labels is trained for, unless the user says how long to train on real images.
TEACHER_EPOCHS = 20


@dataclass(frozen=True)
class Training:
    """What the user chooses of the training in an evaluation; None leaves it to the recipe.

    A choice precedes the protocol, which precedes the set's own recipe. All combinations of
    networks, optimisers and augmentations are evaluated.

    Attributes:
        protocol: The protocol in place of the set's own recipe; see
            [`protocol`][sdc_ext.training.protocol].
        optimizers: The optimisers. Those that the recipe does not have begin with their usual
            learning rate and weight decay, which are 0.01 and 0.0005 for SGD, and 0.001 and 0.01
            for AdamW.
        schedule: The schedule of the learning rate; see
            [`TrainingRecipe`][sdc_ext.training.TrainingRecipe].
        augmentations: See [`parse_augmentation`][sdc_ext.augment.parse_augmentation].
        mix: See [`parse_mix`][sdc_ext.augment.parse_mix].
        label_loss: The loss of labels that are probabilities.
        temperature: Softens labels that are probabilities, and what they are compared with.
        teacher: The network that is trained on all real images and labels the images of the set
            with its probabilities.

    Raises:
        InputError: If a value is not allowed.
    """

    protocol: ProtocolName | None = option(
        None,
        "train as the evaluator of another repository does, instead of by the set's own recipe",
    )
    optimizers: Optimizers | None = option(
        None, "comma-separated optimisers, of sgd and adamw (default: the recipe's)"
    )
    schedule: ScheduleName | None = option(
        None, "schedule of the learning rate (default: the recipe's)"
    )
    augmentations: Augmentations | None = option(
        None, "comma-separated augmentations, written as --dsa-strategy (default: the recipe's)"
    )
    mix: str | None = option(
        None,
        "mixing of images with each other: none, mixup or cutmix, with options as in "
        "cutmix:p=0.5:beta=1 (default: the recipe's)",
    )
    label_loss: LabelLossName | None = option(
        None, "loss of labels that are probabilities (default: the recipe's)"
    )
    temperature: Temperature | None = option(
        None, "temperature that softens labels that are probabilities (default: the recipe's)"
    )
    teacher: str | None = option(
        None,
        "network that labels the set's images with its probabilities, once it is trained on all "
        f"real images for --real-epochs or {TEACHER_EPOCHS} epochs",
    )

    def __post_init__(self) -> None:
        check_fields(self)
        if self.mix is not None:
            parse_mix(self.mix)

    def recipes(
        self, synthetic: SyntheticSet, network: str, epochs: int | None, lr: float | None
    ) -> list[TrainingRecipe]:
        """Returns the recipes of a set on a network, one per optimiser and augmentation.

        Args:
            synthetic: The set.
            network: The architecture.
            epochs: The number of epochs, if the user chooses it.
            lr: The learning rate, if the user chooses it.
        """
        base = self._base(synthetic, network)
        chosen: dict[str, Any] = {
            name: value
            for name in ("schedule", "mix", "label_loss", "temperature")
            if (value := getattr(self, name)) is not None
        }
        if epochs is not None:
            chosen["epochs"] = epochs
        found = []
        for optimizer, augmentation in product(
            self.optimizers or [base.optimizer], self.augmentations or [base.augmentation]
        ):
            own: dict[str, Any] = {}
            if optimizer != base.optimizer:
                own |= _USUAL[optimizer]
            if lr is not None:
                own["lr"] = lr
            own |= {"optimizer": optimizer, "augmentation": augmentation}
            found.append(replace(base, **own, **chosen))
        return found

    def check_labels(self, sets: Sequence[SyntheticSet]) -> None:
        """Refuses choices for probabilities where all labels are hard.

        Raises:
            InputError: If a loss or a temperature is chosen, and there is nothing that it concerns.
        """
        if self.teacher is not None or any(one.labels.ndim == 2 for one in sets):
            return
        for name in ("label_loss", "temperature"):
            if getattr(self, name) is not None:
                raise InputError(
                    f"`{name}` concerns labels that are probabilities, and those of the sets are "
                    "hard: leave it out, or let a `teacher` label the images"
                )

    def _base(self, synthetic: SyntheticSet, network: str) -> TrainingRecipe:
        info = synthetic.info
        if self.protocol is None:
            return info.evaluation
        lr = info.evaluation.lr
        subject = Subject(info.dataset, info.method, info.ipc, info.factor, lr, network)
        return protocol(self.protocol, subject)

    def __str__(self) -> str:
        words = []
        for name in (field.name for field in fields(self) if field.name != "protocol"):
            value = getattr(self, name)
            if value is not None:
                several = isinstance(value, tuple)
                text = ", ".join(value) if several else f"{value}"
                words.append(f"{name.replace('_', ' ')} {text}")
        base = "each set's own recipe" if self.protocol is None else f"protocol {self.protocol}"
        return "; ".join([base, *words])


def configuration_of(network: str, recipe: TrainingRecipe) -> tuple[str, str, str]:
    """Returns what tells configurations apart: the network, the optimiser and the augmentation."""
    return network, recipe.optimizer, recipe.augmentation


def rate_of_real(info: SetInfo, optimizer: OptimizerName) -> float:
    """Returns the learning rate for real images where a set is evaluated with an optimiser.

    A set's own rate may have been learnt for its images and labels. The rate that its run was asked
    to be evaluated with counts for real images, too, and elsewhere that of the original scripts.
    """
    chosen = info.value("lr_eval") if optimizer == info.evaluation.optimizer else None
    return float(chosen or _USUAL[optimizer]["lr"])
