"""Files are written whole or not at all, and together if they belong together."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from sdc_ext._files import (
    _HOST,
    Writer,
    as_table,
    as_tensors,
    as_text,
    check_place,
    claim,
    is_free,
    settle,
    write_files,
    write_whole,
)
from sdc_ext.errors import InputError
from sdc_ext.matching.trail import Trail


def listed(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("old", [None, "old"])
def test_file_holds_what_was_written_and_nothing_is_left_beside_it(
    tmp_path: Path, old: str | None
) -> None:
    path = tmp_path / "meta.json"
    if old:
        path.write_text(old)
    write_whole(path, lambda temporary: temporary.write_text("new"))
    assert path.read_text() == "new"
    assert listed(tmp_path) == ["meta.json"]


def test_missing_folders_are_made(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "grid.png"
    write_whole(path, lambda temporary: temporary.write_bytes(b"png"))
    assert path.read_bytes() == b"png"


def test_old_file_stands_until_the_new_one_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "set.safetensors"
    path.write_text("old")

    def write(temporary: Path) -> None:
        temporary.write_text("new")
        assert path.read_text() == "old"
        # A rename is atomic only within a folder; some writers go by the suffix.
        assert (temporary.parent, temporary.suffix) == (path.parent, path.suffix)

    write_whole(path, write)
    assert path.read_text() == "new"


@pytest.mark.parametrize("begun", [True, False])
@pytest.mark.parametrize("old", [None, "old"])
@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_failed_write_leaves_the_old_file_and_no_temporary(
    tmp_path: Path, begun: bool, old: str | None, error: type[BaseException]
) -> None:
    path = tmp_path / "meta.json"
    if old:
        path.write_text(old)

    def write(temporary: Path) -> None:
        if begun:
            temporary.write_text("half of the n")
        raise error("disk full")

    with pytest.raises(error, match="disk full"):
        write_whole(path, write)
    assert listed(tmp_path) == (["meta.json"] if old else [])
    if old:
        assert path.read_text() == old


def test_failed_rename_leaves_no_temporary(tmp_path: Path) -> None:
    path = tmp_path / "meta.json"
    path.mkdir()
    with pytest.raises(OSError):
        write_whole(path, lambda temporary: temporary.write_text("new"))
    assert listed(tmp_path) == ["meta.json"]


TOGETHER = {"a.txt": as_text("a"), "b.txt": as_text("b"), "c.txt": as_text("c")}


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir() if path.is_file()}


def test_files_are_written_together(tmp_path: Path) -> None:
    write_files(tmp_path / "out", TOGETHER)
    assert contents(tmp_path / "out") == {"a.txt": "a", "b.txt": "b", "c.txt": "c"}
    assert listed(tmp_path / "out") == sorted(TOGETHER)


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_if_one_file_fails_none_is_replaced(tmp_path: Path, error: type[BaseException]) -> None:
    write_files(tmp_path, TOGETHER)

    def fail(path: Path) -> None:
        raise error(28, "full")

    with pytest.raises(error):
        write_files(tmp_path, {"a.txt": as_text("new"), "b.txt": fail})
    assert contents(tmp_path) == {"a.txt": "a", "b.txt": "b", "c.txt": "c"}


def test_an_interrupted_move_is_finished_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_files(tmp_path, TOGETHER)
    new = {name: as_text("new") for name in TOGETHER}

    class Killed(BaseException):
        pass

    moved = []

    def replace(source: Path, target: Path) -> None:
        if len(moved) == 1:
            raise Killed
        moved.append(source)
        source.rename(target)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr("os.replace", replace)
        write_files(tmp_path, new)
    assert sorted(contents(tmp_path).values()) != ["new"] * 3
    settle(tmp_path)
    assert contents(tmp_path) == dict.fromkeys(TOGETHER, "new")
    assert listed(tmp_path) == sorted(TOGETHER)


def ended_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def temporary(process: int) -> str:
    """How the names begin of what a process of this machine has not finished."""
    return f".sdc-ext-{_HOST}-{process}"


def test_what_killed_programs_left_is_removed_and_no_more(tmp_path: Path) -> None:
    dead, alive = ended_process(), os.getppid()
    elsewhere = f".sdc-ext-01234567-{dead}-a.txt"  # where a process of this number may run
    kept = sorted((f"{temporary(alive)}-a.txt", elsewhere, ".notes.2024", f".{dead}"))
    for name in (f"{temporary(dead)}-a.txt", *kept):
        (tmp_path / name).write_text("half")
    (tmp_path / temporary(dead)).mkdir()
    write_whole(tmp_path / "a.txt", as_text("a"))
    assert listed(tmp_path) == [*kept, "a.txt"]


def test_a_number_that_begins_with_ones_own_is_another_processs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alive = os.getppid()
    (tmp_path / f"{temporary(alive)}-a.txt").write_text("half")
    monkeypatch.setattr("os.getpid", lambda: alive // 10)
    write_whole(tmp_path / "b.txt", as_text("b"))
    assert listed(tmp_path) == [f"{temporary(alive)}-a.txt", "b.txt"]


def test_a_folder_that_is_made_meanwhile_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.path.lexists

    def make_and_look(path: Path) -> bool:
        (tmp_path / "out").mkdir()
        return real(path)

    monkeypatch.setattr(os.path, "lexists", make_and_look)
    assert is_free(tmp_path / "out")


def test_a_place_below_a_file_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert not is_free(tmp_path / "file")
    assert is_free(tmp_path / "file" / "out")  # check_place says why it cannot be written


def test_a_folder_without_anything_finished_is_free(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert is_free(out)
    out.mkdir()
    (out / f"{temporary(ended_process())}-a.txt").write_text("half")
    assert is_free(out)
    (out / temporary(os.getppid())).mkdir()  # another process writes to it
    assert not is_free(out)
    write_whole(tmp_path / "file", as_text("a"))
    assert not is_free(tmp_path / "file") and not is_free(tmp_path)


def test_a_claimed_folder_is_another_processs(tmp_path: Path) -> None:
    claim(tmp_path / "out")
    assert is_free(tmp_path / "out")  # for the process that claimed it
    write_files(tmp_path / "out", TOGETHER)
    assert listed(tmp_path / "out") == sorted(TOGETHER)
    with pytest.raises(FileExistsError):
        claim(tmp_path / "out")


@pytest.mark.parametrize("place", ["/proc/nope/out", "file/out", "file/deep/out.csv"])
def test_places_that_cannot_be_written_to_are_named(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("a")
    with pytest.raises(InputError, match=rf"cannot write to {place} \(.*\): choose another place"):
        check_place(Path(place))
    check_place(Path("new/folder/out.csv"))
    assert listed(tmp_path) == ["file"]


@pytest.mark.parametrize(
    "write", [as_text("a" * 9000), as_tensors(torch.zeros(9000)), as_table([{"a": 1}] * 9000)]
)
def test_a_full_disk_names_the_path(tmp_path: Path, write: Writer) -> None:
    with limited_file_size(4096), pytest.raises(OSError) as caught:
        write_whole(tmp_path / "run" / "file.pt", write)
    assert caught.value.filename == str(tmp_path / "run" / "file.pt")
    assert listed(tmp_path / "run") == []


def test_errors_name_the_file_that_failed(tmp_path: Path) -> None:
    """That which is written, also where the system names nothing or what is hidden beside it."""
    out, other = tmp_path / "out.txt", tmp_path / "other.txt"

    def fail(path: Path) -> None:
        raise OSError("encoder error -2")

    writers: dict[Writer, Path] = {
        lambda path: other.read_text(): other,
        lambda path: (path / "inner").read_text(): out,
        fail: out,
    }
    for write, named in writers.items():
        with pytest.raises(OSError) as caught:
            write_whole(out, write)
        assert caught.value.filename == str(named)
    assert caught.value.strerror == "encoder error -2" and listed(tmp_path) == []


def test_a_full_disk_names_the_folder_of_temporary_files() -> None:
    trail = Trail(torch.zeros(9000))
    with limited_file_size(4096), pytest.raises(OSError) as caught:
        trail.append(torch.zeros(9000), torch.zeros(9000))
    assert caught.value.filename == tempfile.gettempdir()


@contextmanager
def limited_file_size(size: int) -> Iterator[None]:
    """Lets files grow to a size, as if the disk were full then."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
