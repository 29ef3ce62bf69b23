"""Named protocols: how the evaluators of other repositories train networks on distilled sets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from sdc_ext.errors import check_choice
from sdc_ext.training.recipe import TrainingRecipe

ProtocolName: TypeAlias = Literal["dc", "mtt", "ddranking", "idc"]

# DSA's augmentation.
DSA = "color_crop_cutout_flip_scale_rotate"

_UNMIRRORED = DSA.replace("flip_", "")


@dataclass(frozen=True)
class Subject:
    """What protocols need to know of the set that is evaluated.

    Attributes:
        dataset: The name of the real data set, e.g. ``"cifar10"``.
        method: The distillation method, e.g. ``"dm"``.
        ipc: The number of stored images per class.
        factor: The number of parts per side of a stored image.
        lr: The set's own learning rate, which may have been learnt with it.
        network: The architecture that is trained.
    """

    dataset: str
    method: str = "dc"
    ipc: int = 10
    factor: int = 1
    lr: float = 0.01
    network: str = "convnet"


def protocol(name: ProtocolName, subject: Subject) -> TrainingRecipe:
    """Returns the recipe of a protocol for a set.

    Args:
        name: ``"dc"``, ``"mtt"``, ``"ddranking"`` or ``"idc"``.
        subject: What is evaluated.

    Raises:
        InputError: If there is no such protocol.
    """
    check_choice("protocol", name, tuple(PROTOCOLS))
    return PROTOCOLS[name](subject)


def dc(subject: Subject) -> TrainingRecipe:
    """Returns how DC's repository evaluates sets of DC, DSA and DM.

    Sets of methods that distil with augmentation are evaluated with DSA's for 1000 epochs. All
    others are evaluated like those of plain DC: without augmentation for 300 epochs, or with DC's
    own one for 1000 where the script has one. The rate is 0.01 for all.

    Source: ``utils.py``, lines 337 to 360 (``evaluate_synset``) and 428 to 445 (``get_daparam``);
    ``main.py``, lines 22 to 38 and 111 to 123; ``main_DM.py``, lines 21 to 35.
    """
    if subject.method in ("dsa", "dsac", "dm"):
        return TrainingRecipe(1000, augmentation=dsa_strategy(subject.dataset))
    if subject.network == "convnet:norm=batch":
        return TrainingRecipe(1000, augmentation="dc:crop_noise")
    if subject.dataset == "mnist":
        return TrainingRecipe(1000, augmentation="dc:crop_scale_rotate")
    return TrainingRecipe(300)


def mtt(subject: Subject) -> TrainingRecipe:
    """Returns how MTT's repository evaluates sets, and those that build on it.

    The rate is the set's own, which was learnt with it. The augmentation mirrors images of all
    data sets.

    Source: ``utils.py``, lines 352 to 394 (``evaluate_synset``); ``distill.py``, lines 202 to 211
    and 430 to 450.
    """
    return TrainingRecipe(1000, lr=subject.lr, augmentation=DSA, align_corners=True)


def ddranking(subject: Subject) -> TrainingRecipe:
    """Returns how DD-Ranking evaluates sets of methods that match, by SGD and with their labels.

    The rate is the set's own. DD-Ranking tries five rates for sets that have none. It also
    reports the best accuracy on the test images of all those after every tenth epoch, while
    evaluations here test the network that training ends with.

    Source: release 0.2.0, ``metrics/hard_label.py`` and ``metrics/soft_label.py``,
    ``utils/train_and_eval.py``, ``get_lr_scheduler``, ``aug/dsa.py``; the settings are those of the
    repository's branch ``eval``, e.g. ``DATM/CIFAR10/IPC10.yaml`` and ``DC/CIFAR10/IPC10.yaml``,
    which switches augmentation off for DC.
    """
    augmentation = "none" if subject.method == "dc" else DSA
    return TrainingRecipe(
        1000, lr=subject.lr, augmentation=augmentation, align_corners=True, schedule="halfway"
    )


def idc(subject: Subject) -> TrainingRecipe:
    """Returns how IDC's repository evaluates sets of small images, and DREAM's, which shares it.

    Images are augmented by the operations of DSA without cutout, and half of all batches are
    mixed by CutMix. There are two exceptions: sets of MNIST with a factor are not mixed, and
    neither are those of SVHN with one image per class and no factor, which cutout augments. For
    ImageNet the script has other augmentations, which this protocol does not have.

    Source: ``argument.py``, lines 120 to 123, 138 to 139, 266 to 295 and 436 to 452; ``train.py``,
    lines 102 to 110 (``train``) and 195 to 215 (``train_epoch``); ``test.py``, lines 44 to 56.
    """
    operations, mix = dsa_strategy(subject.dataset).replace("cutout_", ""), "cutmix:p=0.5"
    if subject.dataset == "mnist" and subject.factor > 1:
        mix = "none"
    if subject.dataset == "svhn" and subject.factor == subject.ipc == 1:
        operations, mix = _UNMIRRORED, "none"
    return TrainingRecipe(
        1000, batch_size=64, augmentation=f"idc:{operations}", schedule="multistep", mix=mix
    )


PROTOCOLS: Mapping[ProtocolName, Callable[[Subject], TrainingRecipe]] = {
    "dc": dc,
    "mtt": mtt,
    "ddranking": ddranking,
    "idc": idc,
}
"""What makes the recipe of each protocol; see [`protocol`][sdc_ext.training.protocol]."""


def dsa_strategy(dataset: str) -> str:
    """Returns DSA's augmentation for a data set; digits are not mirrored."""
    return _UNMIRRORED if dataset in ("digits", "mnist", "svhn") else DSA
