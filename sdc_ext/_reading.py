"""Opens files that others wrote: each once, only what is a file, and nothing larger than it is."""

from __future__ import annotations

import errno
import logging
import os
import stat
import warnings
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, TypeVar

import torch
from torch import Tensor

from sdc_ext._files import naming
from sdc_ext._text import visible
from sdc_ext.errors import InputError

_LOG = logging.getLogger(__name__)

_T = TypeVar("_T")

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}

# The types of values that the library computes with; many functions of torch refuse others.
_TYPES = {torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.bool}
_TYPES |= {torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8}

# What the files of torch.save since torch 1.6 begin with.
_ZIP = b"PK\x03\x04"


def each_once(given: Iterable[_T], file_of: Callable[[Path], Path] = Path) -> list[_T]:
    """Returns what was given, without the paths that lead where an earlier one does.

    A line is logged about each path that is left out.

    Args:
        given: Paths, among other things.
        file_of: Returns what a path stands for, which may be a file in the folder that it names.
    """
    kept: list[_T] = []
    places: dict[str, object] = {}
    for one in given:
        if isinstance(one, str | Path):
            place = os.path.realpath(file_of(Path(one)))
            if place in places:
                first = places[place]
                also = "" if str(first) == str(one) else f" as {first}"
                _LOG.warning("%s", visible(f"{one} is left out, since it was named before{also}"))
                continue
            places[place] = one
        kept.append(one)
    return kept


def regular_file(path: Path) -> Path:
    """Returns a path once it is certain that opening and reading it ends.

    Raises:
        InputError: If there is something else than a file, e.g. a folder or a named pipe.
        OSError: If there is nothing, or it may not be accessed.
    """
    try:
        kind = stat.S_IFMT(os.stat(path).st_mode)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        found = "a symbolic link that leads back to itself"
    else:
        if kind == stat.S_IFREG:
            return path
        found = _KINDS.get(kind, "something else")
    raise InputError(f"{path} is {found}: put a file there, or name another one")


@contextmanager
def opened(path: Path, **how: Any) -> Iterator[IO[str]]:
    """Opens a text to read it as ``Path.open`` does; all errors of the system name it.

    Raises:
        InputError: If it is not a file.
        OSError: If there is nothing, or it cannot be read.
    """
    with naming(path), regular_file(path).open(**how) as file:
        yield file


def content_of(path: Path) -> bytes:
    """Returns the bytes of a file; it raises what ``opened`` does."""
    with naming(path):
        return regular_file(path).read_bytes()


def load_plain(
    path: Path, allowed: Sequence[Any] = (), *, mapped: bool = False, whole: bool = True
) -> Any:
    """Loads a ``.pt`` file of tensors and plain containers of them without executing anything.

    Neither the file nor any tensor in it takes more memory than the file's size, which compressed
    files, and tensors that repeat their values, would otherwise exceed by any factor.

    Args:
        path: The file.
        allowed: Further types that it may hold, as ``torch.serialization.safe_globals`` takes
            them.
        mapped: Map the tensors rather than read them.
        whole: Read the file once more to compare its checksums.

    Raises:
        InputError: If it is not a file.
        ValueError: If its content is damaged, or larger than the file.
        Exception: Of nearly any other type, from torch, if it is damaged or holds anything else.
        OSError: If there is nothing, or it cannot be read.
    """
    size = regular_file(path).stat().st_size
    with naming(path):
        with path.open("rb") as file:
            is_zip = file.read(len(_ZIP)) == _ZIP
        if is_zip:
            _check_archive(path, size, whole)
        with torch.serialization.safe_globals(list(allowed)), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns about files that it then refuses
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    for tensor in _tensors(content):
        if not is_plain(tensor):
            raise ValueError(
                "it holds a tensor that is sparse, nested or without values, or of other types "
                "than usual numbers"
            )
        if tensor.numel() * tensor.element_size() > size:
            raise ValueError(
                f"it holds a tensor of shape {tuple(tensor.shape)}, which is larger than the file"
            )
    return content


def is_plain(tensor: Tensor) -> bool:
    """Returns whether a tensor holds its values in memory, as numbers of the usual types."""
    laid_out = tensor.layout is torch.strided and not tensor.is_nested
    return laid_out and tensor.device.type == "cpu" and tensor.dtype in _TYPES


def _check_archive(path: Path, size: int, whole: bool) -> None:
    try:
        _check_members(path, size, whole)
    except OSError as error:  # a damaged table of contents leads to places that are not there
        raise ValueError(f"it is no intact archive: {error}") from None


def _check_members(path: Path, size: int, whole: bool) -> None:
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if any(member.compress_type != zipfile.ZIP_STORED for member in members):
            raise ValueError("it is compressed, as torch.save never writes it")
        if sum(member.file_size for member in members) > size:
            raise ValueError("its parts are larger than the file")
        flipped = archive.testzip() if whole else None
        if flipped is not None:
            raise ValueError(f"{flipped} in it has a wrong checksum")


def _tensors(content: Any) -> Iterator[Tensor]:
    """Yields the tensors in a content, which may refer to itself."""
    waiting, seen = [content], set()
    while waiting:
        one = waiting.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, Tensor):
            yield one
        elif isinstance(one, dict):
            waiting += [*one, *one.values()]
        elif isinstance(one, (list, tuple, set)):
            waiting += one
