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

from sdc_ext.data.real import RealData
from sdc_ext.errors import InputError, check_positive_values
from sdc_ext.evaluation.configurations import usual_rate
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
        hlr, ior = hard_label_recovery(full, hard), improvement_over_random(own, random)
        ars = augmentation_robust_score(
            improvement_over_random(own_augmented, random_augmented),
            improvement_over_random(own_plain, random_plain),
        )
        return cls(hlr, ior, label_robust_score(hlr, ior), ars)

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


def measure_scores(
    synthetic: SyntheticSet,
    data: RealData,
    *,
    network: str | None = None,
    num_eval: int = 5,
    full_epochs: int = 20,
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
    check_positive_values(num_eval=num_eval, full_epochs=full_epochs)
    network = network or synthetic.info.eval_network
    check_network(network, *data.network_shape)
    own = synthetic.info.evaluation
    usual = replace(own, lr=usual_rate(own.optimizer))
    full = replace(usual, epochs=full_epochs)
    hard = synthetic.hard_labels

    def test(what: str, images: Tensor, labels: Tensor, recipe: TrainingRecipe) -> Evaluation:
        on_training(what)
        return evaluate(
            images,
            labels,
            data,
            recipe,
            network=network,
            num_eval=num_eval,
            seed=seed,
            accelerator=accelerator,
            workers=workers,
            say=say,
        )

    tested = {"own": test("own", synthetic.images, synthetic.labels, own)}
    # As many as the set stores, since storage is what distilled sets are compared at.
    chosen = random_like(hard[:: Decoder(synthetic.info.factor).parts], data, seed)
    random, labels = data.normalize(data.train.images[chosen]), data.train.labels[chosen]
    if synthetic.labels.ndim == 1:
        tested["hard"] = tested["own"]
    else:
        tested["hard"] = test("hard", synthetic.images, hard, usual)
        device = accelerator.device
        labels = label_softly(random, data, network, full, seed=seed, device=device)
    tested["random"] = test("random", random, labels, usual)
    everything = data.normalize(data.train.images)
    tested["full"] = test("full", everything, data.train.labels, full)
    kinds = {
        "own": (synthetic.images, synthetic.labels, own),
        "random": (random, labels, usual),
    }
    for suffix, change in _augmentations(own, data.name).items():
        for what, (images, its_labels, recipe) in kinds.items():
            name, changed = f"{what}_{suffix}", replace(recipe, **change)
            known = changed == recipe
            tested[name] = tested[what] if known else test(name, images, its_labels, changed)
    scores = Scores.of(**{name: evaluation.mean for name, evaluation in tested.items()})
    return Scored(scores, tested, own)


def _augmentations(recipe: TrainingRecipe, dataset: str) -> dict[str, dict[str, Any]]:
    """Returns what training with augmentation, and without it, changes of a recipe."""
    plain = {"augmentation": "none", "mix": "none"}
    own = {name: getattr(recipe, name) for name in plain}
    return {
        "augmented": own if own != plain else {"augmentation": dsa_strategy(dataset)},
        "plain": plain,
    }


def hard_label_recovery(full: float, synthetic: float) -> float:
    """Returns HLR: how far hard labels fall short of training on all real images.

    ``HLR = acc(full, hard) - acc(synthetic, hard)``; lower is better.

    Args:
        full: The test accuracy after training on all real images.
        synthetic: The test accuracy after training on the distilled images with hard labels.

    Raises:
        InputError: If an accuracy is not in [0, 1].
    """
    _check(full=full, synthetic=synthetic)
    return full - synthetic


def improvement_over_random(synthetic: float, random: float) -> float:
    """Returns IOR: the gain over as many random real images under the same training.

    ``IOR = acc(synthetic) - acc(random)``; higher is better.

    Args:
        synthetic: The test accuracy after training on the distilled set with its own labels.
        random: The test accuracy after training on as many random real images as the set stores.

    Raises:
        InputError: If an accuracy is not in [0, 1].
    """
    _check(synthetic=synthetic, random=random)
    return synthetic - random


def label_robust_score(recovery: float, improvement: float, weight: float = 0.5) -> float:
    """Returns LRS: HLR and IOR combined into one number that soft labels alone cannot raise.

    ``alpha = w * IOR - (1 - w) * HLR``, ``LRS = (exp(alpha) - exp(-1)) / (exp(1) - exp(-1))``

    Args:
        recovery: HLR, in [-1, 1].
        improvement: IOR, in [-1, 1].
        weight: The weight w of IOR, in [0, 1].

    Returns:
        A score in [0, 1]; higher is better.

    Raises:
        InputError: If a number is out of range.
    """
    for name, value, low in (("HLR", recovery, -1), ("IOR", improvement, -1), ("w", weight, 0)):
        if not low <= value <= 1:
            raise InputError(f"{name} must be a fraction in [{low}, 1], got {value}")
    return _as_fraction(weight * improvement - (1 - weight) * recovery)


def augmentation_robust_score(augmented: float, plain: float, weight: float = 0.5) -> float:
    """Returns ARS: the gain over random images, with and without augmentation, in one number.

    ``beta = w * IOR with augmentation + (1 - w) * IOR without``, then as LRS from alpha

    Args:
        augmented: The gain over random images where both are augmented, in [-1, 1].
        plain: The gain where neither is, in [-1, 1].
        weight: The weight w of the gain with augmentation, in [0, 1].

    Returns:
        A score in [0, 1]; higher is better.

    Raises:
        InputError: If a number is out of range.
    """
    for name, value, low in (
        ("the gain with augmentation", augmented, -1),
        ("the gain without augmentation", plain, -1),
        ("w", weight, 0),
    ):
        if not low <= value <= 1:
            raise InputError(f"{name} must be a fraction in [{low}, 1], got {value}")
    return _as_fraction(weight * augmented + (1 - weight) * plain)


def _as_fraction(gain: float) -> float:
    """Maps a gain in [-1, 1] to [0, 1]."""
    return (math.exp(gain) - math.exp(-1)) / (math.exp(1) - math.exp(-1))


def _check(**accuracies: float) -> None:
    for name, value in accuracies.items():
        if not 0 <= value <= 1:
            raise InputError(f"the accuracy {name} must be a fraction in [0, 1], got {value}")
