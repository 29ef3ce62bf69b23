"""Says what a set is, and by which evidence, without training anything."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from sdc_ext.data.preprocessing import Preprocessing
from sdc_ext.data.real import RealData
from sdc_ext.errors import InputError
from sdc_ext.sets.loading import Load, Opening, open_with_data
from sdc_ext.sets.recognition.conclusions import Certainty, Conclusion, Recognition
from sdc_ext.sets.recognition.labels import recognise_labels, recognise_order
from sdc_ext.sets.recognition.mosaics import FACTOR
from sdc_ext.sets.recognition.origins import DATASET
from sdc_ext.sets.recognition.pixels import PIXELS, study_pixels
from sdc_ext.sets.sources import Source
from sdc_ext.sets.strangers import Declared, Found, study
from sdc_ext.sets.synthetic_set import META, SyntheticSet
from sdc_ext.sets.unnamed import names_by_shape, recognised_data

FORMAT = "format"


@dataclass(frozen=True)
class Examination:
    """What is known of a set at a path.

    Attributes:
        path: The path.
        recognition: The conclusions, with their evidence.
        synthetic: The set; None if something is open.
        question: What is open, in a sentence that says what to pass; "" if nothing is.
        named: Whether the files or their path name the data set.
    """

    path: Path
    recognition: Recognition
    synthetic: SyntheticSet | None = None
    question: str = ""
    named: bool = True


def identify(path: str | Path, load: Load, opening: Opening) -> Examination:
    """Examines a set in any known format.

    Args:
        path: The path of the set.
        load: Loads real data, with which the set is compared.
        opening: What the caller knows about the set.

    Raises:
        InputError: If the path holds no set, or a file is damaged.
    """
    source = Source.of(Path(path))
    kind = Conclusion(FORMAT, source.layout, "sure", f"the names and the content of {path}")
    if source.found is None:
        return _of_described(source, kind, load, opening)
    try:
        source.found.check()
    except InputError as error:
        return Examination(source.path, Recognition((kind,)), question=str(error))
    dataset = opening.dataset or source.dataset
    try:
        if dataset is None:
            data = recognised_data(source.found, load, opening)
        else:
            data = load(dataset, opening.image_size)
        known = study(source.found, data, opening)
    except InputError as error:
        whose = "declared" if opening.dataset is not None else "named by the path"
        seen = (kind, *_without_data(source.found, dataset, whose))
        return Examination(source.path, Recognition.of(seen), question=str(error))
    recognition = Recognition((kind, *known.recognition.conclusions))
    named = source.dataset is not None
    try:
        synthetic = source.read(data, opening)
    except InputError as error:
        return Examination(source.path, recognition, question=str(error), named=named)
    return Examination(source.path, recognition, synthetic, named=named)


def _of_described(source: Source, kind: Conclusion, load: Load, opening: Opening) -> Examination:
    """Examines a set that describes itself, or whose layout says all."""
    kept: list[RealData] = []

    def load_once(name: str, size: tuple[int, int] | None) -> RealData:
        kept.append(load(name, size))
        return kept[-1]

    try:
        synthetic, _ = open_with_data(source.path, load_once, opening)
    except InputError as error:
        if source.kind == "set" and not (source.path / META).is_file():
            raise  # it holds no set, of which nothing could be concluded
        return Examination(source.path, Recognition((kind,)), question=str(error))
    info = synthetic.info
    images = synthetic.images if synthetic.stored is None else synthetic.stored
    labels = synthetic.labels[:: info.factor**2]
    own = Preprocessing(info.mean, info.std)
    data = kept[-1] if info.whitening is not None else replace(kept[-1], preprocessing=own)
    found = Found(
        source.path,
        layout=source.layout,
        images=images,
        labels=labels,
        recipe=lambda subject: info.evaluation,
        rate=info.evaluation.lr,
        has_factor=True,
    )
    known = study(found, data, Declared(info.whitening is not None, None, info.factor))
    stated = {
        PIXELS: "ZCA-whitened" if info.whitening is not None else "normalised",
        FACTOR: str(info.factor),
        DATASET: info.dataset,
    }
    conclusions = (_as_stated(one, stated) for one in known.recognition.conclusions)
    return Examination(
        source.path, Recognition((kind, *conclusions)), synthetic, named=source.kind != "pictures"
    )


def _as_stated(seen: Conclusion, stated: Mapping[str, str]) -> Conclusion:
    """Returns what a set's description states where statistics are not sure."""
    if seen.certainty == "sure" or seen.about not in stated:
        return seen
    evidence = f"its description says so; {seen.evidence}"
    return replace(seen, conclusion=stated[seen.about], certainty="sure", evidence=evidence)


def _without_data(found: Found, dataset: str | None, whose: str) -> list[Conclusion]:
    """Returns what can be concluded without real data.

    Args:
        found: The tensors.
        dataset: The name of the data set, if it is known.
        whose: The evidence for it.
    """
    own = Preprocessing((0.0,) * found.images.shape[1], (1.0,) * found.images.shape[1])
    conclusions = [study_pixels(found.images, None, own).conclusion]
    if found.labels is not None:
        conclusions += [recognise_labels(found.labels), recognise_order(found.labels)]
    names = [dataset] if dataset is not None else names_by_shape(found)
    shape = "x".join(map(str, found.images.shape[1:]))
    certainty: Certainty = "likely" if len(names) == 1 else "unknown"
    evidence = whose if dataset is not None else f"images have the shape {shape}"
    listed = " or ".join(names) or "none of those known here"
    return [*conclusions, Conclusion(DATASET, listed, certainty, evidence)]
