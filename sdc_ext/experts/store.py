"""Expert trajectories on disk: one file each, read a row at a time; and the originals' buffers."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_safetensors
from torch import Tensor, nn

from sdc_ext._files import write_whole
from sdc_ext.data.real import RealData
from sdc_ext.errors import InputError
from sdc_ext.experts.base import Experts
from sdc_ext.experts.replay_buffers import (
    BUFFER_LENGTH,
    ReplayBuffers,
    check_export,
    holds_buffers,
    split_parameters,
)

INFO = "experts.json"

_TRAJECTORY = "trajectory"

_EXPERT = re.compile(r"expert-(\d+)\.safetensors")


_WORDS = {"whitening": "ZCA whitening", "fingerprint": "training images with the fingerprint"}


@dataclass(frozen=True)
class ExpertInfo:
    """What a store's experts were trained on; the contents of ``experts.json``.

    Attributes:
        dataset: name.
        images: shape of the training images.
        fingerprint: of the training images and their labels.
        classes: a name for each label.
        whitening: fingerprint of the ZCA fit, or None.
        mean: channel means that were taken out.
        std: channel standard deviations, likewise.
        network: which network.
        num_parameters: P.
        recipe: how they were trained, by name.
        seed: of their training.
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
        """What experts for these data and this network would be."""
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
        """Raises InputError, which names the difference, unless a run may use these experts."""
        ours = _plain(self)
        for name, value in _plain(wanted).items():
            if name in ("recipe", "seed") and not same_recipe:
                continue  # any recipe's trajectories can be matched
            if ours[name] != value:
                what = _WORDS.get(name, name)
                theirs, wanted_value = _difference(ours[name], value)
                raise InputError(
                    f"the experts in {folder} were made for {what} {theirs}, not {wanted_value}: "
                    "name another folder with --experts (or --out), or take the settings they "
                    "were made for"
                )


class ExpertStore:
    """A folder with ``experts.json`` and one file ``expert-NNN.safetensors`` a trajectory.

    Each file is written whole or not at all, and only the rows that are asked for are read.
    """

    def __init__(self, folder: Path, info: ExpertInfo) -> None:
        self.folder = folder
        self.info = info
        self._paths: list[Path] | None = None
        self.epochs = int(info.recipe["train_epochs"])

    @property
    def description(self) -> str:
        recipe = self.info.recipe
        return (
            f"{len(self)} experts of {self.epochs} epochs ({recipe['optimizer']}, rate "
            f"{recipe['lr_teacher']:g}) in {self.folder}"
        )

    @property
    def identity(self) -> dict[str, Any]:
        """See [`Experts`][sdc_ext.experts.Experts]."""
        return {"count": len(self), "seed": self.info.seed, **self.info.recipe}

    @classmethod
    def create(cls, folder: Path, info: ExpertInfo) -> ExpertStore:
        """A new store, or the one that is there, if it was made for the same.

        Raises:
            InputError: if it was made for something else; names the difference.
        """
        if (folder / INFO).is_file():
            store = cls.open(folder)
            store.info.check_fits(info, folder, same_recipe=True)
            return store
        text = json.dumps(asdict(info), indent=1)
        write_whole(folder / INFO, lambda path: path.write_text(text))
        return cls(folder, info)

    @classmethod
    def open(cls, folder: Path) -> ExpertStore:
        """The store in a folder.

        Raises:
            InputError: if there is none, or it is damaged.
        """
        try:
            content = json.loads((folder / INFO).read_text())
            for name in ("images", "classes", "mean", "std"):
                content[name] = tuple(content[name])
            return cls(folder, ExpertInfo(**content))
        except FileNotFoundError:
            raise InputError(
                f"{folder} holds no experts: train them with sdc-ext experts, or name a folder "
                "with replay_buffer_*.pt"
            ) from None
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{folder / INFO} is damaged: {error}") from None

    def __len__(self) -> int:
        return len(self._files())

    def has(self, expert: int) -> bool:
        """Whether that expert has been trained."""
        return self._path(expert).is_file()

    def add(self, expert: int, trajectory: Tensor, accuracy: float) -> None:
        """Writes a trajectory (epochs + 1, P), with the test accuracy of its end."""
        tensors = {_TRAJECTORY: trajectory.cpu().contiguous()}
        content = to_safetensors(tensors, {"accuracy": str(accuracy)})
        write_whole(self._path(expert), lambda path: path.write_bytes(content))
        self._paths = None

    def parameters(self, expert: int, epoch: int) -> Tensor:
        """See [`Experts`][sdc_ext.experts.Experts]."""
        with _reading(self._files()[expert]) as file:
            row: Tensor = file.get_slice(_TRAJECTORY)[epoch % (self.epochs + 1)]
            return row

    def accuracies(self) -> list[float]:
        """Test accuracy of each expert's last parameters, in [0, 1]."""
        found = []
        for path in self._files():
            with _reading(path) as file:
                found.append(float(file.metadata()["accuracy"]))
        return found

    def export(self, folder: Path, shapes: Sequence[torch.Size]) -> list[Path]:
        """Writes the originals' ``replay_buffer_*.pt``, ten trajectories a file.

        Args:
            folder: where to.
            shapes: of the network's parameters, in order.

        Raises:
            InputError: if there are some already.
        """
        check_export(folder)
        sizes = [shape.numel() for shape in shapes]
        written = []
        for first in range(0, len(self), BUFFER_LENGTH):
            trajectories = []
            for expert in range(first, min(first + BUFFER_LENGTH, len(self))):
                rows = [self.parameters(expert, epoch) for epoch in range(self.epochs + 1)]
                trajectories.append([split_parameters(row, sizes, shapes) for row in rows])
            path = folder / f"replay_buffer_{first // BUFFER_LENGTH}.pt"
            write_whole(path, partial(torch.save, trajectories))
            written.append(path)
        return written

    def _path(self, expert: int) -> Path:
        return self.folder / f"expert-{expert:03}.safetensors"

    def _files(self) -> list[Path]:
        # Listed once: experts that another program adds during a run would change its draws.
        if self._paths is None:
            found = [p for p in self.folder.iterdir() if _EXPERT.fullmatch(p.name)]
            self._paths = sorted(found, key=lambda p: int(p.stem.partition("-")[2]))
        return self._paths


def open_experts(folder: Path, wanted: ExpertInfo, model: nn.Module) -> Experts:
    """Our store or the originals' files in a folder, checked against what a run wants.

    Raises:
        InputError: if there are no experts, or they were made for something else.
    """
    if holds_buffers(folder):
        return ReplayBuffers(folder, [p.shape for p in model.parameters()])
    store = ExpertStore.open(folder)
    store.info.check_fits(wanted, folder, same_recipe=False)
    if len(store) == 0:
        raise InputError(f"{folder} has no trained expert yet: run sdc-ext experts again")
    return store


@contextmanager
def _reading(path: Path) -> Iterator[Any]:
    """An expert's file, mapped; raises InputError if what is read is not there."""
    try:
        with safe_open(path, "pt") as file:
            yield file
    except (SafetensorError, IndexError, KeyError, TypeError) as error:
        raise InputError(f"{path} is damaged ({error}): delete it and train it again") from None


def _plain(info: ExpertInfo) -> dict[str, Any]:
    return dict(json.loads(json.dumps(asdict(info))))


def _difference(ours: object, wanted: object) -> tuple[str, str]:
    """Two unequal values as text, or of two mappings or lists the first entries that differ."""
    if isinstance(ours, dict) and isinstance(wanted, dict):
        for key in wanted:
            if ours.get(key) != wanted[key]:
                return f"{key} {ours.get(key)}", f"{key} {wanted[key]}"
    if isinstance(ours, list) and isinstance(wanted, list) and len(ours) == len(wanted) > 4:
        return next((str(a), str(b)) for a, b in zip(ours, wanted, strict=True) if a != b)
    return str("none" if ours is None else ours), str("none" if wanted is None else wanted)
