"""Makes sets of tensors that say little of themselves: files, users and statistics say the rest.

What the user declares is obeyed, also where statistics contradict, with a warning. What files say
comes next, then what statistics are sure of. Where all of them leave something open, the user is
asked for it in one sentence.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from sdc_ext._words import number_of
from sdc_ext.data.preprocessing import Preprocessing
from sdc_ext.data.real import RealData
from sdc_ext.errors import InputError
from sdc_ext.sets.checks import check_tensors, warn
from sdc_ext.sets.decoding import Decoder
from sdc_ext.sets.info import SetInfo
from sdc_ext.sets.rates import warning_about
from sdc_ext.sets.recognition.conclusions import Conclusion, Recognition
from sdc_ext.sets.recognition.labels import (
    as_labels,
    classes_in,
    recognise_labels,
    recognise_order,
)
from sdc_ext.sets.recognition.mosaics import recognise_factor
from sdc_ext.sets.recognition.origins import recognise_origin
from sdc_ext.sets.recognition.pixels import (
    BYTES,
    NORMALISED,
    OWN,
    UNIT,
    WHITENED,
    PixelStudy,
    recognise_statistics,
    recognise_whitening,
    study_pixels,
)
from sdc_ext.sets.recognition.spectra import Reference
from sdc_ext.sets.synthetic_set import SyntheticSet
from sdc_ext.training.protocols import Subject
from sdc_ext.training.recipe import TrainingRecipe

# From this share of noise on, nothing need be seen in images.
_LIKE_NOISE = 0.9


@dataclass(frozen=True)
class Found:
    """The tensors of a stranger's set, with what its files and their names say.

    Attributes:
        path: The file with the images.
        layout: Whose layout it is, for people.
        images: Images (N, C, H, W), pixels or not.
        labels: Labels (N,) or (N, classes) of any kind; None if images are sorted by class.
        recipe: Returns how the project trains on a set.
        rate: The learning rate that the project uses where none was learnt; None if it has none.
        method: The distillation method.
        lr: The learning rate in the files.
        zca: Whether the files say that the images are whitened.
        pixels: Whether the layout holds pixels.
        has_factor: Whether the layout has a factor.
        factor: The factor that the path names.
        statistics: The channel statistics that the project uses instead of the data's own, by the
            name of the data set.
    """

    path: Path
    layout: str
    images: Tensor
    labels: Tensor | None
    recipe: Callable[[Subject], TrainingRecipe]
    rate: float | None
    method: str = "unknown"
    lr: float | None = None
    zca: bool | None = None
    pixels: bool = False
    has_factor: bool = False
    factor: int | None = None
    statistics: Mapping[str, Preprocessing] = field(default_factory=dict)

    def check(self) -> None:
        """Checks what needs no knowledge of the data.

        Raises:
            InputError: If there are no images, images or labels are not finite, there are not as
                many labels as images, or classes are not whole numbers from 0.
        """
        images, labels = self.images, self.labels
        if images.ndim != 4 or not images.numel():
            raise InputError(
                f"{self.path} holds no images of the shape (N, C, H, W), but "
                f"{tuple(images.shape)}: pass another copy of it"
            )
        if not bool(images.float().square().sum().isfinite()):
            raise InputError(
                f"{self.path} is damaged (images are not finite, or too large to compute with): "
                "pass another copy of it"
            )
        if labels is None:
            return
        if labels.ndim not in (1, 2) or len(labels) != len(images) or not labels.numel():
            raise InputError(
                f"the labels of {self.path} have the shape {tuple(labels.shape)}, and there "
                f"are {number_of(len(images), 'image')}: pass the labels that belong to them"
            )
        are_classes = labels.ndim == 2 or bool(((labels >= 0) & (labels == labels.round())).all())
        if not bool(labels.isfinite().all()) or not are_classes:
            raise InputError(
                f"the labels of {self.path} are not finite, or no classes from 0: pass the "
                "labels that belong to the images"
            )

    def labels_of(self, classes: int) -> Tensor:
        """Returns the labels; those of images without any are sorted by class."""
        if self.labels is not None:
            return self.labels
        if len(self.images) % classes:
            raise InputError(
                f"{self.path} has no labels beside it, and {number_of(len(self.images), 'image')} "
                f"are not equally many for each of {classes} classes: add labels.pt"
            )
        return torch.arange(classes).repeat_interleave(len(self.images) // classes)


@dataclass(frozen=True)
class Declared:
    """What the user says of sets; None leaves it to files and statistics.

    Attributes:
        zca: Whether images of a format that does not say so are ZCA-whitened.
        lr: The learning rate for training on sets that name none, or another one.
        factor: The number of parts per side of a stored image, of formats that do not say it.
        trained_on: Whether networks are trained on the sets, which needs a learning rate.
    """

    zca: bool | None = None
    lr: float | None = None
    factor: int | None = None
    trained_on: bool = True


@dataclass(frozen=True)
class Study:
    """What statistics find in a stranger's set, given its real data.

    Attributes:
        found: The tensors.
        data: The real data, normalised by their channel statistics.
        declared: What the user says.
        recognition: All conclusions.
        stored: How the images are stored.
        preprocessing: How networks are to see real images.
        factor: The number of parts per side of a stored image.
        question: What is open and has to be said by the user; "" if nothing is.
        warnings: What the user should know.
    """

    found: Found
    data: RealData
    declared: Declared
    recognition: Recognition
    stored: str
    preprocessing: Preprocessing
    factor: int
    question: str = ""
    warnings: tuple[str, ...] = ()

    def build(self) -> SyntheticSet:
        """Returns the set, after warnings about what was declared.

        Raises:
            InputError: If something is open that the user has to say.
        """
        if self.question:
            raise InputError(self.question)
        synthetic = self._make()
        lines = [*self.warnings]
        if self.declared.lr is not None:
            own = self.found.lr or self.found.rate
            lines += warning_about(self.declared.lr, own)
        warn(self.found.path, lines)
        return synthetic

    def _make(self) -> SyntheticSet:
        found, data = self.found, self.data
        classes = len(data.classes)
        raw = found.labels_of(classes)
        labels = as_labels(raw, recognise_labels(raw))
        data = replace(data, preprocessing=self.preprocessing)
        images = found.images.float()
        if self.stored in (UNIT, BYTES):
            pixels = images / 255 if self.stored == BYTES else images
            images = data.normalize(pixels)
        hard = classes_in(labels)
        subject = Subject(
            data.name,
            found.method,
            ipc=int(hard.bincount().max()),
            factor=self.factor,
            lr=self.declared.lr or found.lr or self._usual_rate(),
        )
        recipe = replace(found.recipe(subject), lr=subject.lr)
        info = replace(SetInfo.of_data(data, hard, recipe), method=found.method, factor=self.factor)
        check_tensors(images, labels, info, str(found.path))
        return SyntheticSet.of(images, labels, info, data)

    def _usual_rate(self) -> float:
        if not self.declared.trained_on:
            return TrainingRecipe.lr
        if self.found.rate is None:
            name = self.found.path.name.removeprefix("ema_").replace("images", "lr")
            raise InputError(
                f"there is no {name} with the learning rate beside the images: pass the learnt "
                "syn_lr as `lr`, or 0.01 if none was learnt"
            )
        return self.found.rate


def study(found: Found, data: RealData, declared: Declared) -> Study:
    """Examines a stranger's set beside its real data.

    Args:
        found: What the files hold.
        data: The real data, normalised by their channel statistics.
        declared: What the user says.

    Raises:
        InputError: If [`Found.check`][sdc_ext.sets.strangers.Found.check] raises it, or images or
            labels do not fit the data.
    """
    found.check()
    labels = _labels_for(found, data)
    own = found.statistics.get(data.name, data.preprocessing)
    reference = Reference.of(data)
    images = found.images.float()
    pixels = study_pixels(images, reference, own)
    stored, question, warnings = _stored_as(found, declared, pixels)
    conclusions: list[Conclusion | None] = [pixels.conclusion]
    if stored == NORMALISED and pixels.conclusion.conclusion == NORMALISED:
        by, statistics = recognise_statistics(images, reference, own)
        conclusions.append(by)
        if by.conclusion != OWN and by.certainty == "sure":
            own = statistics
        elif by.conclusion != OWN:
            warnings.append(
                f"read as normalised by the statistics of {data.name}, although those of "
                f"{by.conclusion} fit better ({by.evidence})"
            )
    preprocessing = own
    if stored == WHITENED:
        whitened = data.whitened()
        preprocessing = whitened.preprocessing
        conclusions.append(recognise_whitening(images, whitened))
    shown = _pixels(images, stored, preprocessing)
    factor, asked, by_factor, told = _factor(found, declared, shown, reference, pixels)
    conclusions += [by_factor, recognise_labels(labels), recognise_order(labels)]
    decoder = Decoder(factor)
    origin = recognise_origin(
        decoder.decode(shown),
        decoder.repeat(classes_in(labels)),
        data,
        like_noise=(pixels.noise or 0.0) > _LIKE_NOISE,
    )
    # Grids that are read as whole images, or the reverse, look like nothing.
    if origin.conclusion != data.name and not told:
        warnings.append(f"the images do not look like those of {data.name}: {origin.evidence}")
    return Study(
        found,
        data,
        declared,
        Recognition.of([*conclusions, origin]),
        stored,
        preprocessing,
        factor,
        question or asked,
        (*warnings, *told),
    )


def _labels_for(found: Found, data: RealData) -> Tensor:
    """Returns the labels, once images and labels are known to fit the data."""
    shape = (data.channels, *data.image_size)
    if found.images.shape[1:] != shape:
        raise InputError(
            f"{found.path} has the shape {tuple(found.images.shape)}: {data.name} needs images "
            f"(N, {', '.join(map(str, shape))}), so pass the data set that they were made from"
        )
    classes = len(data.classes)
    labels = found.labels_of(classes)
    fit = labels.shape[1] == classes if labels.ndim == 2 else bool((labels < classes).all())
    if not fit:
        raise InputError(
            f"{found.path} has labels that are neither classes from 0 to {classes - 1} nor rows of "
            f"{classes}: pass the data set that they belong to"
        )
    return labels


def _stored_as(found: Found, declared: Declared, study: PixelStudy) -> tuple[str, str, list[str]]:
    """Returns how images are stored, a question if that is open, and warnings."""
    seen = study.conclusion
    told = seen.conclusion if seen.certainty != "unknown" else None
    said = declared.zca if declared.zca is not None else (True if found.zca else None)
    if said is not None:
        kind = WHITENED if said else (told if told in (UNIT, BYTES) else NORMALISED)
        if told in (None, kind):
            return str(kind), "", []
        who = "as you say" if declared.zca is not None else "as a file beside them says"
        name = "ZCA-whitened" if said else "not whitened"
        return str(kind), "", [f"read as {name}, {who}, although they look {told}: {seen.evidence}"]
    if found.pixels and (told is None or seen.certainty != "sure"):
        return UNIT, "", []
    if told is None:
        return (
            NORMALISED,
            f"{found.path} does not show whether its images are ZCA-whitened ({seen.evidence}): "
            "pass `zca=True` or `zca=False`",
            [],
        )
    warnings = []
    if found.pixels and told not in (UNIT, BYTES):
        warnings.append(
            f"read as {told}, although {found.layout}'s files hold pixels: {seen.evidence}"
        )
    elif seen.certainty == "likely":
        warnings.append(f"read as {told}, which is likely but not sure: {seen.evidence}")
    return told, "", warnings


def _pixels(images: Tensor, stored: str, preprocessing: Preprocessing) -> Tensor:
    if stored == BYTES:
        return images / 255
    return images if stored == UNIT else preprocessing.pixels(images)


def _factor(
    found: Found, declared: Declared, shown: Tensor, reference: Reference, study: PixelStudy
) -> tuple[int, str, Conclusion, list[str]]:
    """Returns the factor, a question if it is open, the conclusion, and warnings."""
    seen = recognise_factor(shown, reference, study.noise or 0.0)
    said = declared.factor if declared.factor is not None else found.factor
    if said is None and not found.has_factor:
        said = 1
    if said is None:
        question = ""
        if seen.certainty == "unknown":
            question = (
                f"{found.path} does not show how many pictures a stored image holds "
                f"({seen.evidence}): pass `factor`"
            )
        likely = f"read with factor {seen.conclusion}, which is likely but not sure"
        warnings = [f"{likely}: {seen.evidence}"] if seen.certainty == "likely" else []
        return int(seen.conclusion), question, seen, warnings
    if seen.certainty == "sure" and int(seen.conclusion) != said:
        line = f"read with factor {said}, although it looks like {seen.conclusion}"
        return said, "", seen, [f"{line}: {seen.evidence}"]
    return said, "", seen, []
