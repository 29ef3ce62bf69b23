"""A file is written whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from sdc_ext._files import write_whole


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
