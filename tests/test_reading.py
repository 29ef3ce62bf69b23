"""Files of others: only what is a file is opened, and nothing in it exceeds the file's size."""

from __future__ import annotations

import os
import socket
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from sdc_ext._reading import load_plain, regular_file
from sdc_ext.data.image_folder import _annotated
from sdc_ext.data.pictures import Decoding
from sdc_ext.errors import InputError
from sdc_ext.experts.replay_buffers import ReplayBuffers
from sdc_ext.experts.store import ExpertStore
from sdc_ext.sets.formats.tensors import load_tensors
from sdc_ext.sets.history import read_history
from sdc_ext.sets.info import read_info
from sdc_ext.sets.loading import load_set
from sdc_ext.sets.synthetic_set import SyntheticSet
from sdc_ext.theory.accuracies import read_accuracies

Make = Callable[[Path], Any]

NO_FILES: dict[str, Make] = {
    "a folder": Path.mkdir,
    "a named pipe": os.mkfifo,
    "a symbolic link that leads back to itself": lambda path: path.symlink_to(path.name),
    "a device": lambda path: path.symlink_to("/dev/zero"),
}

READERS: dict[str, Callable[[Path], object]] = {
    "res_DC_MNIST_ConvNet_1ipc.pt": load_set,
    "images_best.pt": load_tensors,
    "meta.json": lambda path: SyntheticSet.load(path.parent),
    "info.json": read_info,
    "history.csv": lambda path: read_history(path.parent),
    "replay_buffer_0.pt": lambda path: ReplayBuffers(path.parent, []),
    "experts.json": lambda path: ExpertStore.open(path.parent),
    "accuracies.csv": lambda path: read_accuracies([path]),
    "val_annotations.txt": lambda path: list(_annotated(path, [])),
    "picture.png": lambda path: Decoding().read(path),
}


@pytest.mark.parametrize("kind", NO_FILES)
@pytest.mark.parametrize("name", READERS)
def test_every_reader_opens_files_only(name: str, kind: str, tmp_path: Path) -> None:
    NO_FILES[kind](tmp_path / name)
    with pytest.raises(InputError, match=f"{name} is {kind}"):
        READERS[name](tmp_path / name)


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="only Linux has such a file")
@pytest.mark.parametrize("name", sorted({*READERS} - {"picture.png"}))  # which Pillow leaves open
def test_every_reader_names_a_file_that_cannot_be_read(name: str, tmp_path: Path) -> None:
    (tmp_path / name).symlink_to("/proc/self/mem")  # a file whose first byte is an error
    with pytest.raises((InputError, OSError), match=str(tmp_path / name)):
        READERS[name](tmp_path / name)


def test_sockets_are_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # paths of sockets are short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("s.pt")
        with pytest.raises(InputError, match=r"^s\.pt is a socket: put a file there"):
            regular_file(Path("s.pt"))


def test_links_to_files_are_files(tmp_path: Path) -> None:
    torch.save(torch.ones(3), tmp_path / "tensor.pt")
    (tmp_path / "link.pt").symlink_to("tensor.pt")
    assert torch.equal(load_plain(tmp_path / "link.pt"), torch.ones(3))


def repeated(path: Path) -> None:
    torch.save(torch.zeros(1).expand(100_000, 3, 64, 64), path)


def repeated_in_an_old_file(path: Path) -> None:
    huge = [torch.zeros(1).expand(100_000, 3, 64, 64)]
    torch.save({"data": huge}, path, _use_new_zipfile_serialization=False)


def overlapping(path: Path) -> None:
    torch.save(torch.zeros(2000).as_strided((1000, 1000), (1, 1)), path)


def compressed(path: Path) -> None:
    torch.save(torch.zeros(100_000), path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def counted_twice(path: Path) -> None:
    torch.save(torch.zeros(1000), path)
    with zipfile.ZipFile(path, "a") as archive:
        largest = max(archive.infolist(), key=lambda member: member.file_size)
        archive.filelist.append(largest)
        archive._didModify = True  # type: ignore[attr-defined]


def flipped(path: Path) -> None:
    torch.save(torch.zeros(10_000), path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def without_values(path: Path) -> None:
    torch.save(torch.empty(10**9, device="meta"), path)


def sparse(path: Path) -> None:
    torch.save(torch.eye(3).to_sparse(), path)


HUGE: dict[str, tuple[Make, str]] = {
    "stride 0": (repeated, r"shape \(100000, 3, 64, 64\), which is larger than the file"),
    "stride 0, old": (repeated_in_an_old_file, "which is larger than the file"),
    "stride 1": (overlapping, r"shape \(1000, 1000\), which is larger than the file"),
    "compressed": (compressed, "it is compressed"),
    "twice": (counted_twice, "its parts are larger than the file"),
    "flipped bit": (flipped, "has a wrong checksum"),
    "meta": (without_values, "without values"),
    "sparse": (sparse, "sparse"),
}


@pytest.mark.parametrize("kind", HUGE)
def test_nothing_is_larger_than_its_file(kind: str, tmp_path: Path) -> None:
    make, said = HUGE[kind]
    path = tmp_path / "images_best.pt"
    make(path)
    assert path.stat().st_size < 500_000
    with pytest.raises(InputError, match=f"{path} holds no plain tensors .*{said}"):
        load_tensors(path)
    make(tmp_path / "replay_buffer_0.pt")
    if kind != "flipped bit":  # mapped files are not read whole
        with pytest.raises(InputError, match="is damaged, or is not a replay buffer"):
            ReplayBuffers(tmp_path, [])


def test_tensors_may_share_values(tmp_path: Path) -> None:
    shared = torch.arange(1000.0)
    torch.save([shared, shared[10:], shared.view(10, 100).T], tmp_path / "views.pt")
    assert len(load_plain(tmp_path / "views.pt")) == 3


def test_contents_may_refer_to_themselves(tmp_path: Path) -> None:
    loop: list[Any] = [torch.ones(1)]
    loop.append(loop)
    torch.save(loop, tmp_path / "loop.pt")
    assert len(load_plain(tmp_path / "loop.pt")) == 2
