"""Identifies and evaluates sets in other projects' formats, and declares wrong things about them.

    python benchmarks/identify.py [--dataset mnist --data-dir DATA] [--ipc 10] [FILE ...]

Without files, sets of real images are saved exactly as the scripts of other projects save theirs
(``tests/originals.py``), so that the right reading is known: it teaches as well as the same images
in any other format. With files, these are identified instead. It takes two minutes on one core.
"""

from __future__ import annotations

import logging
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from originals import ORIGINALS, pixels_of, save_datm, save_idc, save_mtt

from sdc_ext.data import RealData, load_data
from sdc_ext.evaluation import evaluate_sets, evaluation_jobs
from sdc_ext.sets import FORMATS, Opening, open_with_data
from sdc_ext.sets.identification import identify
from sdc_ext.sets.info import SetInfo
from sdc_ext.sets.synthetic_set import SyntheticSet
from sdc_ext.training import TrainingRecipe
from sdc_ext.verbs.session import make_accelerator

# MTT's, TESLA's and FTD's scripts save no learning rate, so that one has to be said.
NEED_A_RATE = ("MTT", "TESLA")
RATE = 0.02


@dataclass(frozen=True)
class Case:
    """How sets are made and evaluated here."""

    data: RealData
    ipc: int
    network: str
    epochs: int
    num_eval: int

    def load(self, name: str, size: tuple[int, int] | None) -> RealData:
        """Returns the real data if they have this name."""
        del size
        return self.data if name == self.data.name else load_data(name)

    def accuracy(self, path: Path, opening: Opening, say: Callable[[str], object]) -> str:
        """Trains networks on a set and returns their accuracy."""
        opened = open_with_data(path, self.load, opening)
        jobs = evaluation_jobs(
            [("set", *opened)], networks=[self.network], epoch_eval_train=self.epochs
        )
        (result,) = evaluate_sets(
            jobs, num_eval=self.num_eval, accelerator=make_accelerator(), say=say
        )
        return str(result.evaluation)


def ours(case: Case, root: Path, fmt: str) -> Path:
    """Saves the set in a format of the library."""
    pixels, labels = pixels_of(case.data, case.ipc)
    info = SetInfo.of_data(case.data, labels, TrainingRecipe(300))
    synthetic = SyntheticSet.of(case.data.normalize(pixels), labels, info, case.data)
    path = root / fmt
    if fmt == "folder":
        synthetic.save(path)
    else:
        FORMATS[fmt](synthetic, path)
        for name in ("meta.json", "synthetic.safetensors"):
            (path / name).unlink(missing_ok=True)
    return path


def formats(case: Case, root: Path) -> Iterator[tuple[str, Path, list[str], Opening]]:
    """Yields each format with the flags that it needs."""
    yield "sdc-ext's folder", ours(case, root, "folder"), [], Opening()
    named = case.data.name
    pictures = ours(case, root, "pictures")
    yield "pictures", pictures, [f"--dataset {named}"], Opening(dataset=named)
    for project, save in ORIGINALS.items():
        if project == "DC" and named == "digits":
            continue  # DC's script knows no digits, and its file's name would not say them
        needs = project in NEED_A_RATE
        flags = [f"--lr-eval {RATE}"] if needs else []
        yield (
            project,
            save(case.data, root / project.replace(", ", "-"), case.ipc),
            flags,
            Opening(lr=RATE if needs else None),
        )


def wrong(case: Case, root: Path) -> Iterator[tuple[str, str, Path, Opening]]:
    """Yields wrong declarations: what the set is, what is said of it, its path, the declaration."""
    plain, white, grids = (root / "wrong" / kind for kind in ("plain", "white", "grids"))
    mtt = save_mtt(case.data, plain, case.ipc)
    yield "normalised", "--zca", mtt, Opening(zca=True, lr=RATE)
    datm = save_datm(case.data, white, case.ipc)
    yield "ZCA-whitened", "--no-zca", datm, Opening(zca=False)
    yield "factor 2", "--factor 1", save_idc(case.data, grids, case.ipc), Opening(factor=1)
    yield "made for rate 0.02", "--lr-eval 20", datm, Opening(lr=20.0)
    yield "made for rate 0.02", "--lr-eval 0.001", datm, Opening(lr=0.001)
    yield f"of {case.data.name}", "--dataset upside-down", mtt, Opening("upside-down", lr=RATE)


def upside_down(data: RealData) -> RealData:
    """Returns other data of the same shape: images upside down, with the next class's labels."""
    train = replace(data.train, images=data.train.images.flip(2))
    labels = (train.labels + 1) % len(data.classes)
    test = replace(data.test, images=data.test.images.flip(2))
    moved = replace(test, labels=(test.labels + 1) % len(data.classes))
    return replace(data, name="upside-down", train=replace(train, labels=labels), test=moved)


@contextmanager
def warnings() -> Iterator[list[str]]:
    """Collects what the library warns of."""
    lines: list[str] = []

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage().partition(": ")[2])

    handler, logger = Collect(), logging.getLogger("sdc_ext.sets")
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield lines
    finally:
        logger.removeHandler(handler)
        logger.propagate = True


def table(*rows: tuple[str, ...]) -> None:
    """Prints rows as Markdown, the first as the heading."""
    for k, row in enumerate(rows):
        print("| " + " | ".join(row) + " |", flush=True)
        if k == 0:
            print("| " + " | ".join("---" for _ in row) + " |")
    print()


def show_formats(case: Case, root: Path) -> None:
    """Prints what each format is recognised as, and the accuracy of its networks."""
    rows = [("format", "recognised as", "accuracy %", "flags needed")]
    for name, path, flags, opening in formats(case, root):
        with warnings() as lines:
            known = {
                one.about: one for one in identify(path, case.load, opening).recognition.conclusions
            }
            accuracy = case.accuracy(path, opening, lines.append)
        parts = [
            f"{known[about].conclusion} ({known[about].certainty})"
            for about in ("format", "pixels", "labels", "factor", "data set")
            if about in known
        ]
        said = "; ".join(parts) + (f"; warned: {lines[0]}" if lines else "")
        rows.append((name, said, accuracy, ", ".join(flags) or "none"))
    table(*rows)


def show_wrong(case: Case, root: Path) -> None:
    """Prints the warnings about wrong declarations."""
    rows = [("the set is", "declared", "warning", "accuracy %, as declared")]
    other = upside_down(case.data)
    for truth, declared, path, opening in wrong(case, root):
        with warnings() as lines:
            used = replace(case, data=other) if opening.dataset else case
            accuracy = used.accuracy(path, opening, lines.append)
        rows.append((truth, declared, "; ".join(lines) or "none", accuracy))
    table(*rows)


def main() -> None:
    """Reads the options, and prints the tables."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--dataset", default="digits")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--ipc", type=int, default=10)
    parser.add_argument("--network", default="convnet:width=16:depth=2")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--num-eval", type=int, default=3)
    options: Namespace = parser.parse_args()
    data = load_data(options.dataset, options.data_dir)
    case = Case(data, options.ipc, options.network, options.epochs, options.num_eval)
    if options.files:
        for path in options.files:
            found = identify(path, case.load, Opening(lr=RATE)).recognition.conclusions
            rows = [(one.about, one.conclusion, one.certainty, one.evidence) for one in found]
            table((str(path), "conclusion", "certainty", "evidence"), *rows)
        return
    with TemporaryDirectory() as temporary:
        show_formats(case, Path(temporary))
        show_wrong(case, Path(temporary))


if __name__ == "__main__":
    main()
