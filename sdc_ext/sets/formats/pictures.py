"""Writes and reads distilled sets as folders of pictures, one folder per class, with a card.

``datasets.load_dataset("imagefolder", data_dir=FOLDER)`` reads such folders, as most libraries do.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torchvision.transforms.functional import to_pil_image

from sdc_ext._files import as_text, write_whole
from sdc_ext._words import number_of
from sdc_ext.data.image_folder import read_class_folders
from sdc_ext.data.pictures import Decoding
from sdc_ext.data.real import RealData
from sdc_ext.errors import InputError
from sdc_ext.sets.checks import check_tensors
from sdc_ext.sets.info import SetInfo
from sdc_ext.sets.synthetic_set import SyntheticSet
from sdc_ext.training.protocols import Subject, protocol

_CARD = """\
---
pretty_name: {title}
tags:
- dataset-distillation
task_categories:
- image-classification
size_categories:
- {size}
---

# {title}

{count} images of {shape}, {ipc} per class, distilled from `{dataset}` by
`{method}` ({correction}) with `{network}`.

The PNG files under `train` are to be looked at, and can be loaded by
`datasets.load_dataset("imagefolder", data_dir=...)`. They have 8 bits per channel and are clipped
to the range of a picture. Train networks on `synthetic.safetensors` instead: it holds the images
as they were distilled, normalised with mean {mean} and standard deviation {std}{whitening}, and
their labels. `meta.json` describes them{factor}. This command reads both files:

```sh
sdc-ext evaluate FOLDER{data}
```
{accuracies}"""


# What the card adds for sets with a factor.
_FACTOR = ": {} stored images, which are decoded to those here"

# A label, optionally followed by a name.
_NUMBERED = re.compile(r"(\d+)(?:_.*)?$")


_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"))


def write_picture_folder(synthetic: SyntheticSet, folder: Path) -> None:
    """Writes ``train/CLASS/N.png``, a data-set card, and the set itself.

    The pictures are clipped and have 8 bits per channel. The tensors beside them are exact, so
    the folder is still a distilled set. The pictures are decoded, the tensors are not.
    """
    pixels = (synthetic.pixels() * 255).round().to(torch.uint8)
    for label, name in enumerate(_file_names(synthetic.info.classes)):
        for k, image in enumerate(pixels[synthetic.hard_labels == label]):
            write_whole(folder / "train" / name / f"{k:04d}.png", to_pil_image(image).save)
    write_whole(folder / "README.md", as_text(_card(synthetic)))
    synthetic.save(folder)


def read_picture_folder(folder: Path, data: RealData) -> SyntheticSet:
    """Reads one folder of pictures per class as a distilled set.

    Folders have the names of the data's classes, or the numbers of their labels (``7``,
    ``07_cat``). The set is evaluated with the hyper-parameters of plain DC.

    Args:
        folder: The folder with the class folders, or with a ``train`` folder of them.
        data: The real data, whose normalisation is applied to the pictures.

    Raises:
        InputError: If an image is corrupt, or sizes or the folders' names do not fit the data.
    """
    inner = folder / "train"
    found = read_class_folders(inner if inner.is_dir() else folder, Decoding())
    images, labels, names = found.images, found.labels, found.classes
    labels = _labels_of(names, data, folder)[labels]
    if data.channels == 3:
        images = images.expand(-1, 3, -1, -1)
    elif bool((images == images[:, :1]).all()):  # grey, but saved as colour
        images = images[:, :1]
    order = labels.argsort(stable=True)
    info = SetInfo.of_data(data, labels, protocol("dc", Subject(data.name)))
    images = images[order]
    if (images.shape[1], *images.shape[2:]) != (data.channels, *data.image_size):
        raise InputError(
            f"{folder} has images of {tuple(images.shape[1:])} and {data.name} of "
            f"{(data.channels, *data.image_size)}: pass the data set that they were made from"
        )
    images, labels = data.normalize(images), labels[order]
    check_tensors(images, labels, info, str(folder))
    return SyntheticSet(images, labels, info)


def _labels_of(names: Sequence[str], data: RealData, folder: Path) -> Tensor:
    """Returns the label of each class folder (len(names),)."""
    classes = [_safe(name) for name in data.classes]
    if {_safe(name) for name in names} <= set(classes):
        found = [classes.index(_safe(name)) for name in names]
    else:
        numbers = [_NUMBERED.match(name) for name in names]
        found = [int(number[1]) for number in numbers if number is not None]
    if len(found) < len(names) or len(set(found)) < len(found) or max(found) >= len(classes):
        odd = next((name for name in names if _safe(name) not in classes), names[0])
        raise InputError(
            f"class folder {odd!r} in {folder} is not a class of {data.name}: name the folders "
            f"after its classes ({', '.join(data.classes[:3])}, ...) or number them from 0 to "
            f"{len(classes) - 1}"
        )
    return torch.tensor(found)


def _safe(name: str) -> str:
    return re.sub(r"[^\w.-]+", "_", name)


def _file_names(classes: Sequence[str]) -> list[str]:
    """Returns names of folders that sort like the labels: class names, numbered if necessary."""
    safe = [_safe(name) for name in classes]
    plain = all(re.fullmatch(r"[A-Za-z0-9][\w.-]*", name) for name in safe)
    if plain and sorted(safe) == safe and len({name.casefold() for name in safe}) == len(safe):
        return safe
    digits = len(str(len(classes) - 1))
    return [f"{label:0{digits}d}_{name}" for label, name in enumerate(safe)]


def _card(synthetic: SyntheticSet) -> str:
    info, count = synthetic.decoded().info, len(synthetic.images)
    lines = [
        f"* {e['network']}, iteration {e['iteration']}: {100 * e['mean']:.2f} ± "
        f"{100 * e['std']:.2f} % ({number_of(len(e['accuracies']), 'network')})"
        for e in info.accuracies
    ]
    return _CARD.format(
        title=f"{info.dataset} distilled by {info.method}, ipc {info.ipc}",
        size=next((name for most, name in _SIZES if count < most), "100K<n<1M"),
        count=count,
        shape="x".join(map(str, synthetic.images.shape[1:])),
        ipc=info.ipc,
        dataset=info.dataset,
        method=info.method,
        correction=info.correction,
        network=info.network,
        mean=_listed(info.mean),
        std=_listed(info.std),
        factor="" if synthetic.stored is None else _FACTOR.format(len(synthetic.stored)),
        whitening="" if info.whitening is None else ", under ZCA whitening",
        data="" if info.dataset == "digits" else " --data-dir DATA",
        accuracies="\n".join(["\nTest accuracy:", "", *lines, ""]) if lines else "",
    )


def _listed(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.4g}" for value in values)
