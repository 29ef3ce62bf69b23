"""Runs that are stopped, wherever they are, go on to the same bits."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import launch, same, same_texts

from sdc_ext.adapters.loops import GradientMatching
from sdc_ext.cli import main
from sdc_ext.engine import engine
from sdc_ext.engine.checkpoint import Checkpoint
from sdc_ext.engine.record import Record
from sdc_ext.errors import DivergenceError
from sdc_ext.sets import SyntheticSet

COMMAND = "distill dsa --iterations 4 --eval-every 2 --num-eval 1 --epoch-eval-train 1"
ARGUMENTS = [*COMMAND.split(), "--network", "convnet:width=4:depth=1", "--out"]


def stop_at(call: int, function: Callable[..., Any], *, after: bool = False) -> Callable[..., Any]:
    """The function, whose n-th call is interrupted before it begins, or once it has ended."""
    calls = 0

    def interrupted(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call and not after:
            os.kill(os.getpid(), signal.SIGTERM)
        result = function(*args, **kwargs)
        if calls == call:
            os.kill(os.getpid(), signal.SIGTERM)
        return result

    return interrupted


@pytest.mark.parametrize(
    ("owner", "name", "call", "after"),
    [
        (Record, "note", 3, False),  # between the update and the counter
        (Record, "note", 3, True),
        (engine, "evaluate", 2, False),
        (engine, "evaluate", 2, True),
        (Record, "add", 2, True),
        (Checkpoint, "save", 2, False),
        (Checkpoint, "save", 2, True),
    ],
)
def test_terminated_anywhere_it_goes_on(
    owner: Any,
    name: str,
    call: int,
    after: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main([*ARGUMENTS, str(tmp_path / "whole")]) == 0
    out = tmp_path / "stopped"
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, stop_at(call, getattr(owner, name), after=after))
        assert main([*ARGUMENTS, str(out)]) == 143
    assert "terminated; continue with --resume" in capsys.readouterr().err
    assert (out / "checkpoint.pt").exists()
    assert main([*ARGUMENTS, str(out), "--resume"]) == 0
    whole, resumed = SyntheticSet.load(tmp_path / "whole"), SyntheticSet.load(out)
    same(resumed.images, whole.images)
    same_texts(resumed.info.accuracies, whole.info.accuracies)
    same_texts(*((folder / "history.csv").read_text() for folder in (out, tmp_path / "whole")))


def spoil(monkeypatch: pytest.MonkeyPatch, *, interrupt: bool) -> None:
    """The first step spoils the images, as the second one notices, unless it is interrupted."""
    step = GradientMatching.step

    def spoiling(self: Any, state: Any, *args: Any) -> dict[str, float]:
        if args[-1] == 1:
            raise KeyboardInterrupt if interrupt else DivergenceError("the loss is nan")
        log = step(self, state, *args)
        state.images.detach().mul_(1e20)
        return log

    monkeypatch.setattr(GradientMatching, "step", spoiling)


@pytest.mark.parametrize("every", ["1", "2"])
def test_a_resumed_run_that_diverges_saves_the_last_good_set(
    every: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, out = ([*ARGUMENTS, str(tmp_path / name), "--eval-every", every] for name in "ab")
    with monkeypatch.context() as patch:
        spoil(patch, interrupt=False)
        assert main(whole) == 3
    with monkeypatch.context() as patch:
        spoil(patch, interrupt=True)
        assert main(out) == 130
    spoil(monkeypatch, interrupt=False)
    expected = SyntheticSet.load(tmp_path / "a").images
    assert expected.abs().max() < 100
    for arguments in (out, out, whole):  # resumed after an interruption, and after a divergence
        assert main([*arguments, "--resume"]) == 3
        same(SyntheticSet.load(Path(arguments[arguments.index("--out") + 1])).images, expected)


def test_updates_skipped_in_a_row_are_counted_across_an_interruption(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = GradientMatching.step

    def failing(self: Any, *args: Any) -> dict[str, float]:
        if args[-1] < 2:
            raise DivergenceError("the loss is nan")
        return step(self, *args)

    monkeypatch.setattr(GradientMatching, "step", failing)
    monkeypatch.setattr(engine, "_MOST_SKIPPED", 1)
    arguments = [*ARGUMENTS, str(tmp_path / "run"), "--on-divergence", "skip"]
    with monkeypatch.context() as patch:
        patch.setattr(Record, "return_to", stop_at(2, Record.return_to))
        patch.setattr(engine, "_MOST_SKIPPED", 2)
        assert main(arguments) == 143
    assert main([*arguments, "--resume"]) == 3


def test_a_checkpoint_of_an_earlier_version_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(engine, "evaluate", stop_at(2, engine.evaluate))
        assert main([*ARGUMENTS, str(tmp_path / "run")]) == 143
    path = tmp_path / "run" / "checkpoint.pt"
    saved = torch.load(path, weights_only=True)
    del saved["proved"], saved["skipped"]
    torch.save(saved, path)
    assert main([*ARGUMENTS, str(tmp_path / "run"), "--resume"]) == 0


# Succeeds if the program is interrupted in its third iteration.
INTERRUPTED = """
import os, signal, sys
from sdc_ext.adapters.loops import GradientMatching
from sdc_ext.cli import main
step = GradientMatching.step

def interrupted(self, *args):
    if args[-1] == 2:
        raise KeyboardInterrupt
    return step(self, *args)

GradientMatching.step = interrupted
sys.exit(main(sys.argv[1:]) != 130)
"""


@pytest.mark.parametrize("numbers", [(1, 2), (2, 1), (2, 2)])
def test_another_number_of_processes_goes_on(numbers: tuple[int, int], tmp_path: Path) -> None:
    launch(1, tmp_path, *ARGUMENTS, "whole")
    first, second = numbers
    launch(first, tmp_path, *ARGUMENTS, "parts", code=INTERRUPTED)
    launch(second, tmp_path, *ARGUMENTS, "parts", "--resume")
    whole, parts = (SyntheticSet.load(tmp_path / name) for name in ("whole", "parts"))
    torch.testing.assert_close(parts.images, whole.images, rtol=1e-4, atol=1e-5)


def test_a_checkpoint_with_a_flipped_bit_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*ARGUMENTS, str(tmp_path / "run")]) == 0
    checkpoint = tmp_path / "run" / "checkpoint.pt"
    content = bytearray(checkpoint.read_bytes())
    images = SyntheticSet.load(tmp_path / "run").images
    place = content.index(images[0, 0, 0].numpy().tobytes())
    content[place] ^= 1
    checkpoint.write_bytes(content)
    (tmp_path / "run" / "meta.json").unlink()  # a finished set needs no checkpoint
    assert main([*ARGUMENTS, str(tmp_path / "run"), "--resume"]) == 2
    assert "checkpoint.pt is damaged (wrong checksum of" in capsys.readouterr().err


def test_a_checkpoint_that_holds_something_else_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*ARGUMENTS, str(tmp_path / "run")]) == 0
    torch.save({}, tmp_path / "run" / "checkpoint.pt")
    (tmp_path / "run" / "meta.json").unlink()  # a finished set needs no checkpoint
    assert main([*ARGUMENTS, str(tmp_path / "run"), "--resume"]) == 2
    assert "checkpoint.pt is damaged ('state'), so the run" in capsys.readouterr().err


def test_a_set_of_two_moments_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b"):
        seed = ["--seed", "1" if name == "b" else "0"]
        assert main([*ARGUMENTS, str(tmp_path / name), *seed]) == 0
    tensors = "synthetic.safetensors"
    (tmp_path / "a" / tensors).write_bytes((tmp_path / "b" / tensors).read_bytes())
    assert main(["show", str(tmp_path / "a")]) == 2
    assert "is not the one that meta.json was written with" in capsys.readouterr().err


def test_a_run_that_ended_before_anything_was_kept_is_not_in_the_way(tmp_path: Path) -> None:
    out = tmp_path / "run"
    out.mkdir()
    (out / "run.json").write_text("{}")
    (out / "logs").mkdir()
    assert main([*ARGUMENTS, str(out)]) == 0


def test_a_folder_that_was_deleted_comes_back_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"

    def delete(*args: Any, **kwargs: Any) -> Any:
        for path in out.iterdir():
            path.unlink()
        out.rmdir()
        monkeypatch.undo()
        return engine.evaluate(*args, **kwargs)

    monkeypatch.setattr(engine, "evaluate", delete)
    assert main([*ARGUMENTS, str(out)]) == 0
    assert main([*ARGUMENTS, str(out), "--resume"]) == 0
