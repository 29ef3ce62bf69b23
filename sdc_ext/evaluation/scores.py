"""The scores of DD-Ranking, which separate images from soft labels and from chance.

All scores are fractions. DD-Ranking's release 0.2.0 computes them in percent, which puts the
exponent of its label-robust score out of range; here accuracies are in [0, 1], as in its formulas.

Reference: DD-Ranking (Li et al., 2025).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

from accelerate import Accelerator

from sdc_ext.data.real import RealData
from sdc_ext.errors import InputError, check_positive_values
from sdc_ext.evaluation.evaluator import evaluate
from sdc_ext.evaluation.selection import label_softly, random_like
from sdc_ext.networks.create import check_network
from sdc_ext.sets.decoding import Decoder
from sdc_ext.sets.info import Evaluation
from sdc_ext.sets.synthetic_set import SyntheticSet
from sdc_ext.training.recipe import TrainingRecipe


@dataclass(frozen=True)
class Scores:
    """The three scores of one set.

    Attributes:
        hlr: Hard-label recovery in [-1, 1]; lower is better.
        ior: Improvement over random in [-1, 1]; higher is better.
        lrs: Label-robust score in [0, 1]; higher is better.
    """

    hlr: float
    ior: float
    lrs: float

    @classmethod
    def of(cls, *, own: float, hard: float, random: float, full: float) -> Scores:
        """Computes the scores from test accuracies in [0, 1].

        Args:
            own: The accuracy after training on the distilled set with its own labels.
            hard: The accuracy after training on the distilled images with hard labels.
            random: The accuracy after training on as many random real images as the set stores,
                with soft labels if the set has them and hard ones otherwise.
            full: The accuracy after training on all real images.

        Raises:
            InputError: If an accuracy is not in [0, 1].
        """
        hlr, ior = hard_label_recovery(full, hard), improvement_over_random(own, random)
        return cls(hlr, ior, label_robust_score(hlr, ior))

    def __str__(self) -> str:
        return f"HLR {self.hlr:.4f}, IOR {self.ior:.4f}, LRS {self.lrs:.4f}"


@dataclass(frozen=True)
class Scored:
    """The scores of one set, and the accuracies that they are computed from.

    Attributes:
        scores: HLR, IOR and LRS.
        accuracies: Test accuracies by training set: the distilled set (``"own"``), its images with
            hard labels (``"hard"``), as many random real images as it stores (``"random"``), and
            all real images (``"full"``).
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
    on_training: Callable[[str], object] = lambda what: None,
) -> Scored:
    """Scores a set by networks trained on it, on random real images and on all real images.

    Training on real images, and on hard labels in place of soft ones, uses the default learning
    rate of the original scripts, since the set's own rate may have been learnt for its images and
    labels.

    Args:
        synthetic: The set.
        data: The real data, normalised as the set is.
        network: The architecture; by default the one that the set was evaluated with.
        num_eval: The number of networks to train on each training set.
        full_epochs: The number of epochs on all real images.
        seed: Seeds the networks, the choice of random images and the teacher of soft labels.
        accelerator: The device, processes and precision to run with.
        on_training: Called before each training with its key in ``Scored.accuracies``.

    Raises:
        InputError: If ``num_eval`` or ``full_epochs`` is not above 0, or the network is unknown
            or does not fit the images.

    Reference: DD-Ranking (Li et al., 2025).
    """
    check_positive_values(num_eval=num_eval, full_epochs=full_epochs)
    network = network or synthetic.info.eval_network
    check_network(network, *data.network_shape)
    test = partial(evaluate, network=network, num_eval=num_eval, seed=seed, accelerator=accelerator)
    own = synthetic.info.evaluation
    usual = replace(own, lr=TrainingRecipe(own.epochs).lr)
    full = replace(usual, epochs=full_epochs)
    hard = synthetic.hard_labels
    # As many as the set stores, since storage is what distilled sets are compared at.
    chosen = random_like(hard[:: Decoder(synthetic.info.factor).parts], data, seed)
    random, labels = data.normalize(data.train.images[chosen]), data.train.labels[chosen]

    on_training("own")
    tested = {"own": test(synthetic.images, synthetic.labels, data, own)}
    if synthetic.labels.ndim == 1:
        tested["hard"] = tested["own"]
    else:
        on_training("hard")
        tested["hard"] = test(synthetic.images, hard, data, usual)
        device = accelerator.device
        labels = label_softly(random, data, network, full, seed=seed, device=device)
    on_training("random")
    tested["random"] = test(random, labels, data, usual)
    on_training("full")
    everything = data.normalize(data.train.images)
    tested["full"] = test(everything, data.train.labels, data, full)
    scores = Scores.of(**{name: evaluation.mean for name, evaluation in tested.items()})
    return Scored(scores, tested, own)


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
    alpha = weight * improvement - (1 - weight) * recovery
    return (math.exp(alpha) - math.exp(-1)) / (math.exp(1) - math.exp(-1))


def _check(**accuracies: float) -> None:
    for name, value in accuracies.items():
        if not 0 <= value <= 1:
            raise InputError(f"the accuracy {name} must be a fraction in [0, 1], got {value}")
