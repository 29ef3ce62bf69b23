"""Stores expert trajectories on disk, one file each, and opens whatever experts a folder has."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypedDict

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_safetensors
from torch import Tensor, nn

from sdc_ext._files import Writer, as_tensors, as_text, write_files, write_whole
from sdc_ext._reading import regular_file
from sdc_ext._schemas import as_kind, read_json
from sdc_ext._values import Count, Rate, kind_of
from sdc_ext._words import number_of
from sdc_ext.data.real import RealData
from sdc_ext.errors import InputError
from sdc_ext.experts.base import Experts, check_parameters
from sdc_ext.experts.replay_buffers import (
    BUFFER_LENGTH,
    ReplayBuffers,
    check_no_buffers,
    holds_buffers,
    split_parameters,
)

INFO = "experts.json"

_TRAJECTORY = "trajectory"

_EXPERT = re.compile(r"expert-(\d+)\.safetensors")


_WORDS = {"whitening": "ZCA whitening", "fingerprint": "training images with the fingerprint"}


@dataclass(frozen=True)
class ExpertInfo:
    """The data, network and training of a store's experts, as in ``experts.json``.

    Attributes:
        dataset: The name of the data set.
        images: The shape (N, C, H, W) of the training images.
        fingerprint: The fingerprint of the training images and their labels.
        classes: A name for each label.
        whitening: The fingerprint of the images that the ZCA whitening was fitted to; None
            without whitening.
        mean: The mean of each channel, which normalisation subtracts.
        std: The standard deviation of each channel, by which normalisation divides.
        network: The name of the network.
        num_parameters: The number of parameters P.
        recipe: The settings of the training, by name.
        seed: The seed of the training.
    """

    dataset: str
    images: tuple[int, ...]
    fingerprint: str
    classes: tuple[str, ...]
    whitening: str | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    network: str
    num_parameters: int
    recipe: dict[str, Any]
    seed: int

    @classmethod
    def of(
        cls, data: RealData, network: str, model: nn.Module, recipe: dict[str, Any], seed: int
    ) -> ExpertInfo:
        """Describes the experts that would be trained with these data and this network.

        Args:
            data: The real data.
            network: The name of the network.
            model: The network, whose parameters are counted.
            recipe: The settings of the training, by name.
            seed: The seed of the training.
        """
        return cls(
            dataset=data.name,
            images=tuple(data.train.images.shape),
            fingerprint=data.train.fingerprint,
            classes=data.classes,
            whitening=data.whitened_by,
            mean=data.mean,
            std=data.std,
            network=network,
            num_parameters=sum(p.numel() for p in model.parameters()),
            recipe=recipe,
            seed=seed,
        )

    def check_fits(self, wanted: ExpertInfo, folder: Path, *, same_recipe: bool) -> None:
        """Checks that a run may use these experts.

        Args:
            wanted: The experts that the run needs.
            folder: The folder of these experts, for the message.
            same_recipe: Whether recipe and seed have to be the same, too.

        Raises:
            InputError: If something differs, which the message names.
        """
        ours = _plain(self)
        for name, value in _plain(wanted).items():
            if name in ("recipe", "seed") and not same_recipe:
                continue  # trajectories can be matched whatever their recipe
            if ours[name] != value:
                what = _WORDS.get(name, name)
                theirs, wanted_value = _difference(ours[name], value)
                raise InputError(
                    f"the experts in {folder} were made for {what} {theirs}, not {wanted_value}: "
                    "choose another folder with `experts` (or `out`), or use the settings that "
                    "they were made for"
                )


class _Recipe(TypedDict):
    """What every recipe has; see [`ExpertRecipe`][sdc_ext.experts.ExpertRecipe]."""

    train_epochs: int
    lr_teacher: float
    optimizer: str


class ExpertStore:
    """A folder with ``experts.json`` and one file ``expert-NNN.safetensors`` per trajectory.

    Each file is written whole or not at all. Only the requested entries of a trajectory are read.

    Args:
        folder: The folder.
        info: The description of the experts.
    """

    def __init__(self, folder: Path, info: ExpertInfo) -> None:
        self.folder = folder
        self.info = info
        self._paths: list[Path] | None = None
        self.epochs = int(info.recipe["train_epochs"])

    @property
    def description(self) -> str:
        """See [`Experts`][sdc_ext.experts.Experts]."""
        recipe = self.info.recipe
        return (
            f"{number_of(len(self), 'expert')} of {number_of(self.epochs, 'epoch')} "
            f"({recipe['optimizer']}, rate {recipe['lr_teacher']:g}) in {self.folder}"
        )

    @property
    def identity(self) -> dict[str, Any]:
        """See [`Experts`][sdc_ext.experts.Experts]."""
        return {"count": len(self), "seed": self.info.seed, **self.info.recipe}

    @classmethod
    def create(cls, folder: str | Path, info: ExpertInfo) -> ExpertStore:
        """Creates a store in a folder, or opens the one that is there.

        Args:
            folder: The folder.
            info: The description of the experts.

        Raises:
            InputError: If the folder has a store with another description; the message names the
                difference.
        """
        folder = Path(folder)
        if (folder / INFO).is_file():
            store = cls.open(folder)
            store.info.check_fits(info, folder, same_recipe=True)
            return store
        write_whole(folder / INFO, as_text(json.dumps(asdict(info), indent=1)))
        return cls(folder, info)

    @classmethod
    def open(cls, folder: str | Path) -> ExpertStore:
        """Opens the store in a folder.

        Raises:
            InputError: If there is none, or it is damaged.
        """
        folder = Path(folder)
        path, advice = folder / INFO, "train the experts in another folder"
        if not os.path.lexists(path):
            raise InputError(
                f"{folder} holds no experts: train them with sdc-ext experts, or choose a folder "
                "with replay_buffer_*.pt"
            )
        info = read_json(path, ExpertInfo, advice)
        recipe = as_kind(info.recipe, _Recipe, f"{path}, recipe,", advice)
        try:
            kind_of(Count).check("recipe.train_epochs", recipe["train_epochs"])
            kind_of(Rate).check("recipe.lr_teacher", recipe["lr_teacher"])
        except InputError as error:
            raise InputError(f"{path} is damaged ({error}): {advice}") from None
        return cls(folder, info)

    def __len__(self) -> int:
        return len(self._files())

    def has(self, expert: int) -> bool:
        """Returns whether an expert has been trained, by its number from 0."""
        return self._path(expert).is_file()

    def add(self, expert: int, trajectory: Tensor, accuracy: float) -> None:
        """Writes an expert.

        Args:
            expert: Its number, from 0.
            trajectory: Its parameters after every epoch (epochs + 1, P), the initial ones first.
            accuracy: The test accuracy of its last parameters, in [0, 1].
        """
        tensors = {_TRAJECTORY: trajectory.cpu().contiguous()}
        content = to_safetensors(tensors, {"accuracy": str(accuracy)})
        write_whole(self._path(expert), lambda path: path.write_bytes(content))
        self._paths = None

    def parameters(self, expert: int, epoch: int) -> Tensor:
        """See [`Experts`][sdc_ext.experts.Experts]."""
        path = self._files()[expert]
        with _reading(path) as file:
            row: Tensor = file.get_slice(_TRAJECTORY)[epoch % (self.epochs + 1)]
        return check_parameters(row, self.info.num_parameters, str(path))

    def accuracies(self) -> list[float]:
        """Returns the test accuracy of each expert's last parameters, in [0, 1]."""
        found = []
        for path in self._files():
            with _reading(path) as file:
                accuracy = float(file.metadata()["accuracy"])
                if not 0 <= accuracy <= 1:
                    raise ValueError(f"its accuracy is {accuracy}, not from 0 to 1")
                found.append(accuracy)
        return found

    def export(self, folder: Path, shapes: Sequence[torch.Size]) -> list[Path]:
        """Writes ``replay_buffer_*.pt`` as MTT's script does, with ten trajectories per file.

        Args:
            folder: The folder to write to.
            shapes: The shapes of the network's parameters, in order.

        Returns:
            The files written.

        Raises:
            InputError: If the folder already holds such files.
        """
        check_no_buffers(folder)
        sizes = [shape.numel() for shape in shapes]

        def write(first: int, path: Path) -> None:
            trajectories = []
            for expert in range(first, min(first + BUFFER_LENGTH, len(self))):
                rows = [self.parameters(expert, epoch) for epoch in range(self.epochs + 1)]
                trajectories.append([split_parameters(row, sizes, shapes) for row in rows])
            as_tensors(trajectories)(path)

        files: dict[str, Writer] = {
            f"replay_buffer_{first // BUFFER_LENGTH}.pt": partial(write, first)
            for first in range(0, len(self), BUFFER_LENGTH)
        }
        write_files(folder, files)
        return [folder / name for name in files]

    def _path(self, expert: int) -> Path:
        return self.folder / f"expert-{expert:03}.safetensors"

    def _files(self) -> list[Path]:
        # Listed once, since experts that another program adds during a run would change its draws.
        if self._paths is None:
            found = [p for p in self.folder.iterdir() if _EXPERT.fullmatch(p.name)]
            self._paths = sorted(found, key=lambda p: int(p.stem.partition("-")[2]))
        return self._paths


def open_experts(folder: str | Path, wanted: ExpertInfo, model: nn.Module) -> Experts:
    """Opens the experts in a folder, a store or ``replay_buffer_*.pt``, and checks that they fit.

    Args:
        folder: The folder.
        wanted: The experts that the run needs; any recipe and seed are accepted.
        model: The network, with whose parameters those of ``replay_buffer_*.pt`` are compared.

    Raises:
        InputError: If there are no experts, or they were made for something else.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}: name one with experts as `experts`")
    if holds_buffers(folder) and not (folder / INFO).is_file():  # a store says what it fits
        return ReplayBuffers(folder, [p.shape for p in model.parameters()])
    store = ExpertStore.open(folder)
    store.info.check_fits(wanted, folder, same_recipe=False)
    if len(store) == 0:
        raise InputError(f"{folder} has no trained expert yet: run sdc-ext experts again")
    return store


@contextmanager
def _reading(path: Path) -> Iterator[Any]:
    """Opens an expert's file, mapped; raises InputError if what is read from it is missing."""
    try:
        with safe_open(regular_file(path), "pt") as file:
            yield file
    except (SafetensorError, IndexError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} is damaged ({error}): delete it and train it again") from None


def _plain(info: ExpertInfo) -> dict[str, Any]:
    return dict(json.loads(json.dumps(asdict(info))))


def _difference(ours: object, wanted: object) -> tuple[str, str]:
    """Returns two unequal values as text; of mappings and long lists, the first that differ."""
    if isinstance(ours, dict) and isinstance(wanted, dict):
        for key in wanted:
            if ours.get(key) != wanted[key]:
                return f"{key} {ours.get(key)}", f"{key} {wanted[key]}"
    if isinstance(ours, list) and isinstance(wanted, list) and len(ours) == len(wanted) > 4:
        return next((str(a), str(b)) for a, b in zip(ours, wanted, strict=True) if a != b)
    return str("none" if ours is None else ours), str("none" if wanted is None else wanted)
