"""The scores of DD-Ranking, which separate images from soft labels and from chance.

All scores are fractions. DD-Ranking's release 0.2.0 computes them in percent, which puts the
exponents of its label-robust and augmentation-robust scores out of range; here accuracies are in
[0, 1], as in its formulas. On fractions, its program and this one return the same.

Reference: DD-Ranking (Li et al., 2025).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from accelerate import Accelerator
from torch import Tensor

from sdc_ext._values import Count, checked
from sdc_ext.data.real import RealData
from sdc_ext.errors import InputError
from sdc_ext.evaluation.configurations import rate_of_real
from sdc_ext.evaluation.evaluator import evaluate
from sdc_ext.evaluation.selection import label_softly, random_like
from sdc_ext.networks.create import check_network
from sdc_ext.sets.decoding import Decoder
from sdc_ext.sets.info import Evaluation
from sdc_ext.sets.synthetic_set import SyntheticSet
from sdc_ext.training.protocols import dsa_strategy
from sdc_ext.training.recipe import TrainingRecipe
from sdc_ext.workers.pool import SERIAL, Workers


@dataclass(frozen=True)
class Scores:
    """The scores of one set.

    Attributes:
        hlr: Hard-label recovery in [-1, 1]; lower is better.
        ior: Improvement over random in [-1, 1]; higher is better.
        lrs: Label-robust score in [0, 1]; higher is better.
        ars: Augmentation-robust score in [0, 1]; higher is better.
    """

    hlr: float
    ior: float
    lrs: float
    ars: float

    @classmethod
    def of(
        cls,
        *,
        own: float,
        hard: float,
        random: float,
        full: float,
        own_augmented: float,
        random_augmented: float,
        own_plain: float,
        random_plain: float,
    ) -> Scores:
        """Computes the scores from test accuracies in [0, 1].

        ``HLR = full - hard`` says how far hard labels fall short of training on all real images,
        and ``IOR = own - random`` is the gain over random images. ``LRS = f((IOR - HLR) / 2)``
        combines them into a number that soft labels alone cannot raise, and
        ``ARS = f((IOR with augmentation + IOR without) / 2)``, where
        ``f(x) = (exp(x) - exp(-1)) / (exp(1) - exp(-1))``.

        Args:
            own: The accuracy after training on the distilled set with its own labels.
            hard: The accuracy after training on the distilled images with hard labels.
            random: The accuracy after training on as many random real images as the set stores,
                with soft labels if the set has them and hard ones otherwise.
            full: The accuracy after training on all real images.
            own_augmented: As ``own``, with augmentation.
            random_augmented: As ``random``, with augmentation.
            own_plain: As ``own``, without augmentation.
            random_plain: As ``random``, without augmentation.

        Raises:
            InputError: If an accuracy is not in [0, 1].
        """
        _check(own=own, hard=hard, random=random, full=full)
        _check(own_augmented=own_augmented, random_augmented=random_augmented)
        _check(own_plain=own_plain, random_plain=random_plain)
        hlr, ior = full - hard, own - random
        ars = _robust(own_augmented - random_augmented, own_plain - random_plain)
        return cls(hlr, ior, _robust(ior, -hlr), ars)

    def __str__(self) -> str:
        return f"HLR {self.hlr:.4f}, IOR {self.ior:.4f}, LRS {self.lrs:.4f}, ARS {self.ars:.4f}"


@dataclass(frozen=True)
class Scored:
    """The scores of one set, and the accuracies that they are computed from.

    Attributes:
        scores: HLR, IOR, LRS and ARS.
        accuracies: Test accuracies by training set: the distilled set (``"own"``), its images with
            hard labels (``"hard"``), as many random real images as it stores (``"random"``), and
            all real images (``"full"``). The set and random images are also trained on with
            augmentation (``"own_augmented"``, ``"random_augmented"``) and without it
            (``"own_plain"``, ``"random_plain"``), one of which is the recipe's way.
        recipe: The recipe by which networks were trained on the set.
    """

    scores: Scores
    accuracies: Mapping[str, Evaluation]
    recipe: TrainingRecipe

    def __str__(self) -> str:
        return str(self.scores)


@checked
def measure_scores(
    synthetic: SyntheticSet,
    data: RealData,
    *,
    network: str | None = None,
    num_eval: Count = 5,
    full_epochs: Count = 20,
    seed: int = 0,
    accelerator: Accelerator,
    workers: Workers = SERIAL,
    on_training: Callable[[str], object] = lambda what: None,
    say: Callable[[str], object] = lambda line: None,
) -> Scored:
    """Scores a set by networks trained on it, on random real images and on all real images.

    Training on real images, and on hard labels in place of soft ones, uses the usual learning rate
    of the recipe's optimiser, which for SGD is that of the original scripts, since the set's own
    rate may have been learnt for its images and labels. Augmentation is the recipe's, mixing
    included; recipes that have neither are compared with DSA's augmentation.

    Args:
        synthetic: The set.
        data: The real data, normalised as the set is.
        network: The architecture; by default the one that the set was evaluated with.
        num_eval: The number of networks to train on each training set.
        full_epochs: The number of epochs on all real images.
        seed: Seeds the networks, the choice of random images and the teacher of soft labels.
        accelerator: The device, processes and precision to run with.
        workers: The workers that train networks side by side.
        on_training: Called before each training with its key in ``Scored.accuracies``.
        say: Called with a line about workers that were lost.

    Raises:
        InputError: If ``num_eval`` or ``full_epochs`` is not above 0, or the network is unknown
            or does not fit the images.

    Reference: DD-Ranking (Li et al., 2025).
    """
    network = network or synthetic.info.eval_network
    check_network(network, *data.network_shape)
    trainings = _trainings(synthetic, data, network, full_epochs, seed, accelerator)
    tested: dict[str, Evaluation] = {}
    for what, training in trainings.items():
        known = next((name for name in tested if trainings[name].is_same(training)), None)
        if known is not None:
            tested[what] = tested[known]
            continue
        on_training(what)
        tested[what] = evaluate(
            training.images,
            training.labels,
            data,
            training.recipe,
            network=network,
            num_eval=num_eval,
            seed=seed,
            accelerator=accelerator,
            workers=workers,
            say=say,
        )
    scores = Scores.of(**{name: evaluation.mean for name, evaluation in tested.items()})
    return Scored(scores, tested, synthetic.info.evaluation)


@dataclass(frozen=True)
class _Training:
    """What networks are trained on, and by which recipe."""

    images: Tensor
    labels: Tensor
    recipe: TrainingRecipe

    def is_same(self, other: _Training) -> bool:
        """Returns whether networks would be the same."""
        same = self.images is other.images and self.labels is other.labels
        return same and self.recipe == other.recipe


def _trainings(
    synthetic: SyntheticSet,
    data: RealData,
    network: str,
    full_epochs: int,
    seed: int,
    accelerator: Accelerator,
) -> dict[str, _Training]:
    """Returns the trainings by their keys in ``Scored.accuracies``."""
    recipe, hard = synthetic.info.evaluation, synthetic.hard_labels
    usual = replace(recipe, lr=rate_of_real(synthetic.info, recipe.optimizer))
    full = replace(usual, epochs=full_epochs)
    own = _Training(synthetic.images, synthetic.labels, recipe)
    # As many as the set stores, since storage is what distilled sets are compared at.
    chosen = random_like(hard[:: Decoder(synthetic.info.factor).parts], data, seed)
    images, labels = data.normalize(data.train.images[chosen]), data.train.labels[chosen]
    on_hard = own
    if synthetic.labels.ndim == 2:
        on_hard = _Training(synthetic.images, hard, usual)
        labels = label_softly(images, data, network, full, seed=seed, accelerator=accelerator)
    random = _Training(images, labels, usual)
    everything = _Training(data.normalize(data.train.images), data.train.labels, full)
    found = {"own": own, "hard": on_hard, "random": random, "full": everything}
    for suffix, change in _augmentations(recipe, data.name).items():
        for name, one in (("own", own), ("random", random)):
            found[f"{name}_{suffix}"] = replace(one, recipe=replace(one.recipe, **change))
    return found


def _augmentations(recipe: TrainingRecipe, dataset: str) -> dict[str, dict[str, Any]]:
    """Returns what training with augmentation, and without it, changes of a recipe."""
    plain = {"augmentation": "none", "mix": "none"}
    own = {name: getattr(recipe, name) for name in plain}
    return {
        "augmented": own if own != plain else {"augmentation": dsa_strategy(dataset)},
        "plain": plain,
    }


def _robust(one: float, other: float) -> float:
    """Maps the mean of two gains in [-1, 1] to [0, 1]."""
    return (math.exp((one + other) / 2) - math.exp(-1)) / (math.exp(1) - math.exp(-1))


def _check(**accuracies: float) -> None:
    for name, value in accuracies.items():
        if not 0 <= value <= 1:
            raise InputError(f"the accuracy {name} must be a fraction in [0, 1], got {value}")
