"""Writes files whole or not at all, several of them together, and computes fingerprints of data.

A file is written under a hidden name beside its place and then renamed. Files that belong together
are written into a hidden folder, which is renamed once it is complete, and then moved to their
places; if the program is killed meanwhile, whoever opens the folder next finishes the moving. What
is visible is therefore always complete and of one moment, and what killed programs leave is hidden.
"""

from __future__ import annotations

import csv
import errno
import hashlib
import io
import os
import re
import shutil
import socket
import tempfile
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeAlias

import torch
from filelock import FileLock, Timeout
from torch import Tensor

from sdc_ext.errors import InputError

# Fills the file, or the folder, at a path.
Writer: TypeAlias = Callable[[Path], object]

_PENDING = ".sdc-ext-pending"

_CLAIM = "-claim"

_LOCK = ".sdc-ext-lock"

# Processes of several machines may write to the same folder, so that names tell these apart.
_HOST = hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]

_TEMPORARY = re.compile(r"\.sdc-ext-(?P<host>[0-9a-f]{8})-(?P<process>\d+)(-.*)?")


def write_whole(path: Path, write: Writer) -> None:
    """Lets ``write`` fill a temporary file or folder beside ``path``, then renames it to ``path``.

    Args:
        path: The file to replace, or a folder that is free; missing parent folders are created.
        write: Writes the content to the path that it is given, which has the same suffix.

    Raises:
        OSError: If the file cannot be written; it names ``path``, unless ``write`` fails at
            another file.
    """
    temporary = path.with_name(f"{_own_name()}-{path.name}")
    with naming(path):
        _prepare(path.parent)
        try:
            write(temporary)
            if path.is_dir():
                _sweep(path)
            os.replace(temporary, path)
        finally:
            _remove(temporary)


def write_files(folder: Path, writers: Mapping[str, Writer]) -> None:
    """Writes several files of a folder together: all of them are replaced, or none is.

    Args:
        folder: The folder; it is created if it is missing.
        writers: What writes each file, by its name.

    Raises:
        OSError: If a file cannot be written; it names the folder.
    """
    staged = folder / _own_name()
    with naming(folder):
        _prepare(folder)
        try:
            staged.mkdir()
            for name, write in writers.items():
                write(staged / name)
            os.rename(staged, folder / _PENDING)
        finally:
            _remove(staged)
        settle(folder)
        _remove(folder / f"{_own_name()}{_CLAIM}")


def claim(folder: Path) -> None:
    """Makes a folder that is free, and keeps other processes from using it before it is written.

    Raises:
        FileExistsError: If it is not free.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        folder.mkdir()
    except FileExistsError:
        if not is_free(folder):
            raise
    (folder / f"{_own_name()}{_CLAIM}").touch()


@contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Keeps other programs from holding a folder meanwhile; this one may hold it several times.

    The lock is one of the system, which ends with the program, however that ends.

    Args:
        folder: The folder; it is made if it is missing, and removed at the end if it is empty then.

    Raises:
        InputError: If another program holds the folder.
    """
    lock = FileLock(os.path.realpath(folder / _LOCK), is_singleton=True)
    if lock.is_locked:
        yield
        return
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(blocking=False)
    except Timeout:
        raise InputError(
            f"another command is writing to {folder}: wait until it has ended, or choose another "
            "`out`"
        ) from None
    except OSError as error:
        raise InputError(
            f"cannot write to {folder} ({error.strerror or error}): choose another `out`"
        ) from None
    try:
        yield
    finally:
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()
        for path in made:
            with suppress(OSError):
                path.rmdir()


def clear_lock(folder: Path) -> None:
    """Removes the lock that a killed program has left on a folder, unless another holds it."""
    if (folder / _LOCK).exists():
        with suppress(InputError), hold(folder):
            pass


@contextmanager
def temporary_folder(parent: Path) -> Iterator[Path]:
    """Makes a hidden folder, which is removed at the end, or by the next program after a kill."""
    folder = parent / f"{_own_name()}-work"
    with naming(folder):
        _prepare(parent)
        folder.mkdir(exist_ok=True)
    try:
        yield folder
    finally:
        _remove(folder)


def settle(folder: Path) -> None:
    """Moves files that a killed program wrote together, and had not moved yet, to their places."""
    pending = folder / _PENDING
    if not pending.is_dir():
        return
    # Another process may do the same at the same time.
    with suppress(FileNotFoundError):
        for path in pending.iterdir():
            os.replace(path, folder / path.name)
        pending.rmdir()


def is_free(path: Path, besides: Container[str] = ()) -> bool:
    """Returns whether a path can be taken for results.

    It can if there is nothing, or a folder without visible files to which no process writes.

    Args:
        path: A file or folder.
        besides: The names of files that may be in the folder.
    """
    if not os.path.lexists(path):  # first, since another process may make the folder meanwhile
        return True
    if not path.is_dir():
        return False
    settle(path)
    return all(
        not _is_alive(inner) if inner.name.startswith(".") else inner.name in besides
        for inner in path.iterdir()
    )


def check_place(path: Path) -> None:
    """Checks that a file or folder can be written, before the work begins whose result it is for.

    Raises:
        InputError: If it cannot.
    """
    whole = path.absolute()
    around = (whole, *whole.parents) if path.is_dir() else whole.parents
    nearest = next(parent for parent in around if os.path.lexists(parent))
    try:
        with tempfile.TemporaryFile(dir=nearest):
            pass
    except OSError as error:
        raise InputError(
            f"cannot write to {path} ({error.strerror or error}): choose another place"
        ) from None


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Names the path in errors of the system that name nothing, or what is hidden beside it.

    Errors that name another file keep its name.
    """
    try:
        yield
    except OSError as error:
        if not _is_of(path, error.filename):
            raise
        number = error.errno if isinstance(error.errno, int) else errno.EIO
        raise OSError(number, error.strerror or str(error), str(path)) from error


def as_text(content: str) -> Writer:
    """Returns what writes a text."""
    return lambda path: path.write_text(content, encoding="utf-8")


def as_table(rows: Sequence[Mapping[str, Any]]) -> Writer:
    """Returns what writes rows as CSV; those that lack a column of others get ``nan`` there."""

    def write(path: Path) -> None:
        columns = dict.fromkeys(name for row in rows for name in row)
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(columns), restval="nan")
            writer.writeheader()
            writer.writerows(rows)

    return write


def as_tensors(content: Any) -> Writer:
    """Returns what writes tensors, and plain values that hold them, as ``torch.save`` does."""

    def write(path: Path) -> None:
        # torch reports a full disk without a reason if it writes to the file itself.
        buffer = io.BytesIO()
        torch.save(content, buffer)
        path.write_bytes(buffer.getbuffer())

    return write


def fingerprint(*tensors: Tensor) -> str:
    """Returns 16 hexadecimal digits that almost certainly differ for different tensors."""
    digest = hashlib.sha256()
    for tensor in tensors:
        content = tensor.detach().cpu().contiguous().numpy()
        digest.update(f"{content.shape} {content.dtype}".encode())
        digest.update(content.data)
    return digest.hexdigest()[:16]


def _own_name() -> str:
    return f".sdc-ext-{_HOST}-{os.getpid()}"


def _is_of(path: Path, named: Any) -> bool:
    """Returns whether what an error names, if anything, is the path, above it, or hidden by us."""
    if named is None:
        return True
    found = Path(str(named))
    hidden = any(part.startswith(_own_name()) for part in found.parts)
    return hidden or found in (path, *path.parents)


def _prepare(folder: Path) -> None:
    """Makes a folder to write to, or puts in order what killed programs have left in it."""
    folder.mkdir(parents=True, exist_ok=True)
    settle(folder)
    _sweep(folder)


def _sweep(folder: Path) -> None:
    """Removes what killed programs of this machine have left in a folder."""
    for path in folder.iterdir():
        found = _TEMPORARY.fullmatch(path.name)
        if found and found["host"] == _HOST and not _is_alive(path):
            _remove(path)


def _is_alive(path: Path) -> bool:
    """Returns whether another process of this machine is writing a temporary file."""
    found = _TEMPORARY.fullmatch(path.name)
    if found is None or found["host"] != _HOST or int(found["process"]) == os.getpid():
        return False
    try:
        os.kill(int(found["process"]), 0)
    except PermissionError:  # it runs as another user
        return True
    except OSError:
        return False
    return True


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
