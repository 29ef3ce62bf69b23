"""The verb that says what a set is, by which evidence, and how to evaluate it."""

from __future__ import annotations

import functools
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from rich.console import RenderableType

from sdc_ext._console import PlainTable
from sdc_ext._files import write_whole
from sdc_ext._values import Factor, Rate, checked
from sdc_ext.data.real import RealData
from sdc_ext.errors import InputError
from sdc_ext.report.shown import Shown
from sdc_ext.sets.identification import Examination, identify
from sdc_ext.sets.loading import Load, Opening
from sdc_ext.verbs.session import make_accelerator, open_data


@dataclass(frozen=True, repr=False)
class Identified(Shown):
    """What a set is; it prints as a table of conclusions with their evidence.

    Attributes:
        examination: The conclusions, and the set as it would be evaluated.
        opening: What the caller said about the set.
        data: The options by which a command line names the real data, if the caller did; None if
            Python alone has them.
    """

    examination: Examination
    opening: Opening
    data: Sequence[str] | None = ()

    def tables(self) -> Sequence[RenderableType]:
        """Returns the conclusions, the recipe of the training, and how to evaluate the set."""
        found = PlainTable(
            str(self.examination.path), "property", "conclusion", "certainty", "evidence"
        )
        for row in self.rows():
            found.add_row(*row.values())
        synthetic = self.examination.synthetic
        if synthetic is None:
            return (found,)
        recipe = PlainTable(f"training on it, {synthetic.info.network}", "setting", "value")
        for field in fields(synthetic.info.evaluation):
            recipe.add_row(field.name, str(getattr(synthetic.info.evaluation, field.name)))
        return found, recipe, f"evaluate it: {self.command()}"

    def rows(self) -> list[dict[str, str]]:
        """Returns one row per conclusion: property, conclusion, certainty, evidence."""
        return [
            {
                "property": one.about,
                "conclusion": one.conclusion,
                "certainty": one.certainty,
                "evidence": one.evidence,
            }
            for one in self.examination.recognition.conclusions
        ]

    def command(self) -> str:
        """Returns the command, or the call in Python, that evaluates the set as it was opened."""
        synthetic, said = self.examination.synthetic, self.opening
        path = str(self.examination.path)
        if self.data is None:
            given = {"zca": said.zca, "lr": said.lr, "factor": said.factor}
            more = "".join(f", {k}={v}" for k, v in given.items() if v is not None)
            return f"evaluate_set(load_set({path!r}, load_data(data){more}), data)"
        words = ["sdc-ext", "evaluate", path, *self.data]
        if synthetic is not None and not self.examination.named and said.dataset is None:
            words += ["--dataset", synthetic.info.dataset]
        if said.zca is not None:
            words.append("--zca" if said.zca else "--no-zca")
        for option, value in (("--lr-eval", said.lr), ("--factor", said.factor)):
            words += [] if value is None else [option, str(value)]
        if said.image_size is not None:
            words += ["--image-size", "x".join(map(str, said.image_size))]
        return shlex.join(words)

    def draw(self, path: str | Path) -> None:
        """Draws the images of the set into a file.

        Raises:
            InputError: If something is open, so that it is not known what the images look like.
        """
        if self.examination.synthetic is None:
            raise InputError(self.examination.question)
        write_whole(Path(path), self.examination.synthetic.draw)


@checked
def identify_set(
    path: str | Path,
    data: Any = None,
    *,
    zca: bool | None = None,
    lr: Rate | None = None,
    factor: Factor | None = None,
    accelerator: Accelerator | None = None,
) -> Identified:
    """Says what a set is: its format, pixels, whitening, labels, factor and data set.

    Nothing is trained, except for a few steps where a declared learning rate is far off.

    Args:
        path: The path of a set in any known format.
        data: The real data, as [`distill`][sdc_ext.distill] takes them; by default the data set
            that the files or their path name, or the bundled digits if the set is one of them.
        zca: Whether the images are ZCA-whitened, as for [`load_set`][sdc_ext.load_set].
        lr: The learning rate for training on the set.
        factor: The number of parts per side of a stored image.
        accelerator: The Accelerator to run with; by default one that uses the machine's devices.

    Returns:
        The conclusions with certainty and evidence, which print as a table.

    Raises:
        InputError: If the path holds no set, or a file is damaged.
    """
    accelerator = accelerator or make_accelerator()
    real = None if data is None else open_data(data, accelerator)

    def load(name: str, size: tuple[int, int] | None) -> RealData:
        return open_data(name, accelerator, image_size=size) if real is None else real

    opening = Opening(zca, lr, factor, dataset=None if real is None else real.name)
    named: Sequence[str] | None = () if data is None else None
    if isinstance(data, str | Path):
        named = ("--dataset", str(data))
    return identify_with(path, load, opening, named)


def identify_with(
    path: str | Path, load: Load, opening: Opening, data: Sequence[str] | None
) -> Identified:
    """Carries out [`identify_set`][sdc_ext.identify_set] once it is known how to load data.

    Args:
        path: The path of the set.
        load: Loads real data; it is called once for each name and size.
        opening: What the caller said about the set.
        data: See [`Identified`][sdc_ext.verbs.Identified].

    Raises:
        InputError: If the path holds no set, or a file is damaged.
    """
    return Identified(identify(path, functools.cache(load), opening), opening, data)
