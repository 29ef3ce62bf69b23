"""Files of distilled sets as the scripts of other projects make them, from pixels and labels.

Each function repeats the statement that saves: what is in the list, which names files have, and in
which folders they lie.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from sdc_ext.data.real import RealData
from sdc_ext.sets.decoding import Decoder


def pixels_of(data: RealData, ipc: int, first: int = 0) -> tuple[Tensor, Tensor]:
    """Real images as pixels, ``ipc`` per class, and their labels."""
    index = torch.cat([own[first : first + ipc] for own in data.indices_by_class()])
    images = data.train.images[index]
    return (images / 255 if images.dtype == torch.uint8 else images).float(), data.train.labels[
        index
    ]


def save_res(data: RealData, root: Path, ipc: int = 4) -> Path:
    """DC's ``main.py``: the images of all runs, normalised, with accuracies."""
    pixels, labels = pixels_of(data, ipc)
    root.mkdir(parents=True, exist_ok=True)
    path = root / f"res_DC_{data.name.upper()}_ConvNet_{ipc}ipc.pt"
    images = data.normalize(pixels)
    torch.save({"data": [[images, labels]], "accs_all_exps": {"ConvNet": [0.5]}}, path)
    return path


def save_mtt(data: RealData, root: Path, ipc: int = 4, *, zca: bool = False) -> Path:
    """MTT's ``distill.py``: images and labels, and neither rate nor picture of the best."""
    pixels, labels = pixels_of(data, ipc)
    folder = root / "logged_files" / data.name.upper() / "run"
    return _save(folder, "best", (data.whitened() if zca else data).normalize(pixels), labels)


def save_tesla(data: RealData, root: Path, ipc: int = 4) -> Path:
    """TESLA's ``distill.py`` with soft labels: their rows are probabilities."""
    pixels, labels = pixels_of(data, ipc)
    soft = 0.8 * torch.nn.functional.one_hot(labels, len(data.classes)) + 0.2 / len(data.classes)
    folder = root / "logged_files" / data.name.upper() / "tesla"
    return _save(folder, "best", data.whitened().normalize(pixels), soft)


def save_datm(data: RealData, root: Path, ipc: int = 4, *, project: str = "DATM") -> Path:
    """DATM's, PAD's and EDF's scripts: logits, the learnt rate, and the folder ``Normal``.

    The picture of whitened images is saved for numbered iterations alone.
    """
    pixels, labels = pixels_of(data, ipc)
    logits = 6 * torch.nn.functional.one_hot(labels, len(data.classes)) - 3.0
    names = (data.name.upper(), str(ipc), "ConvNet", project)
    folder = root.joinpath("logged_files", *names)
    images = data.whitened().normalize(pixels).requires_grad_()
    _save(folder / "Normal", "best", images, logits.requires_grad_())
    torch.save(torch.tensor(0.02), folder / "Normal" / "lr_best.pt")
    return folder


def save_idc(data: RealData, root: Path, ipc: int = 4, factor: int = 2) -> Path:
    """IDC's ``condense.py``: ``[data, targets]``, pixels of which a few leave [0, 1]."""
    init = "mix" if factor > 1 else "random"
    tag = f"conv3in_grad_mse_nd2000_cut_niter2000_factor{factor}_lr0.005_{init}_ipc{ipc}"
    folder = root / "results" / data.name / tag
    folder.mkdir(parents=True)
    torch.save(list(_stored(data, ipc, factor)), folder / "data.pt")
    return folder


def save_dream(data: RealData, root: Path, ipc: int = 4, factor: int = 2) -> Path:
    """DREAM's ``condense.py``: as IDC's, once before the first and after some iterations."""
    tag = f"conv3in_bi_match_mse_nd2000_cut_niter2000_factor{factor}_lr0.005_b_real128_mix"
    folder = root / "results" / data.name / f"{tag}_ipc{ipc}"
    folder.mkdir(parents=True)
    images, labels = _stored(data, ipc, factor)
    torch.save([torch.rand_like(images), labels], folder / "data0.pt")
    torch.save([torch.rand_like(images), labels], folder / "data900.pt")
    torch.save([images, labels], folder / "data2000.pt")
    return folder


def save_ncfm(data: RealData, root: Path, ipc: int = 4, factor: int = 2) -> Path:
    """NCFM's ``utils/ddp.py``: the images that all processes hold, below the folder of the run."""
    run = f"adamw_lr_img_0.0010_numr_reqs4096_factor{factor}_20250301-1200"
    folder = root / "condense" / data.name / f"ipc{ipc}" / run
    (folder / "distilled_data").mkdir(parents=True)
    images, labels = _stored(data, ipc, factor)
    torch.save([torch.rand_like(images), labels], folder / "distilled_data" / "data_init.pt")
    torch.save([images, labels], folder / "distilled_data" / "data_20000.pt")
    return folder


def save_released(data: RealData, root: Path, ipc: int = 4) -> Path:
    """DD-Ranking's baselines with soft labels, as ``demo_soft.py`` loads them."""
    pixels, labels = pixels_of(data, ipc)
    folder = root / "baselines" / "DATM" / data.name.upper() / f"IPC{ipc}"
    folder.mkdir(parents=True)
    torch.save(data.whitened().normalize(pixels), folder / "images.pt")
    logits = 6 * torch.nn.functional.one_hot(labels, len(data.classes)) - 3.0
    torch.save(logits, folder / "labels.pt")
    torch.save(torch.tensor(0.02), folder / "lr.pt")
    return folder


def save_released_hard(data: RealData, root: Path, ipc: int = 4) -> Path:
    """DD-Ranking's baselines with hard labels, as ``demo_hard.py`` loads them: images alone."""
    folder = root / "baselines" / "DM" / data.name.upper() / f"IPC{ipc}"
    folder.mkdir(parents=True)
    torch.save(data.normalize(pixels_of(data, ipc)[0]), folder / "images.pt")
    return folder


ORIGINALS: dict[str, Callable[..., Path]] = {
    "DC": save_res,
    "MTT": save_mtt,
    "TESLA": save_tesla,
    "DATM": save_datm,
    "PAD": partial(save_datm, project="PAD"),
    "EDF": partial(save_datm, project="EDF"),
    "IDC": save_idc,
    "DREAM": save_dream,
    "NCFM": save_ncfm,
    "DD-Ranking, soft": save_released,
    "DD-Ranking, hard": save_released_hard,
}
"""What makes a project's files from the real data, in a folder; it returns the path to give."""


def _save(folder: Path, which: str, images: Tensor, labels: Tensor) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(images, folder / f"images_{which}.pt")
    torch.save(labels, folder / f"labels_{which}.pt")
    return folder


def _stored(data: RealData, ipc: int, factor: int) -> tuple[Tensor, Tensor]:
    """Grids of pixels as IDC starts from, in places beyond [0, 1] as it learns them."""
    pixels, labels = pixels_of(data, ipc * factor**2)
    images = Decoder(factor).encode(pixels)
    torch.manual_seed(0)
    return images + 0.02 * torch.randn_like(images) * (images > 0.3), labels[:: factor**2]
