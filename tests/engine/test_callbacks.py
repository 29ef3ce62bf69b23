"""What a run calls, and what a callback can do to it."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from sdc_ext import InputError, distill
from sdc_ext.adapters import Method, State
from sdc_ext.engine import Callback, StopRun
from sdc_ext.engine.progress import ShowProgress
from sdc_ext.sets import Evaluation, SyntheticSet

TINY: dict[str, Any] = {
    **{"network": "convnet:width=8:depth=1", "batch_real": 8},
    **{"num_eval": 1, "epoch_eval_train": 2, "progress": False},
}


class Diary(Callback):
    """Notes every call."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def on_start(self, iteration: int, iterations: int) -> None:
        self.notes.append(f"start {iteration}/{iterations}")

    def on_step(self, iteration: int, log: Mapping[str, float], state: State) -> None:
        assert {"loss", "matching", "difficulty", "lam"} <= set(log)
        assert state.images.shape == (10, 1, 8, 8)
        self.notes.append(f"step {iteration}")

    def on_evaluation(self, iteration: int, evaluations: Mapping[str, Evaluation]) -> None:
        assert list(evaluations) == ["images"]
        self.notes.append(f"evaluation {iteration}")

    def on_save(self, iteration: int, synthetic: SyntheticSet, folder: Path) -> None:
        assert (folder / "meta.json").is_file() and len(synthetic.images) == 10
        self.notes.append(f"save {iteration}")

    def on_end(self, history: Sequence[Mapping[str, float]], completed: bool) -> None:
        self.notes.append(f"end {len(history)}" if completed else "broken off")


def test_calls_come_in_order(tmp_path: Path) -> None:
    diary = Diary()
    distill("dc", out=tmp_path / "set", iterations=3, eval_every=2, callbacks=[diary], **TINY)
    assert diary.notes == [
        *("start 0/3", "step 1", "step 2", "evaluation 2", "save 2"),
        *("step 3", "evaluation 3", "save 3", "end 3"),
    ]


class StopAt(Callback):
    """Ends the run after a step or an evaluation."""

    def __init__(self, iteration: int, at: str) -> None:
        self.iteration = iteration
        self.at = at

    def on_step(self, iteration: int, log: Mapping[str, float], state: State) -> None:
        if self.at == "step" and iteration == self.iteration:
            raise StopRun

    def on_evaluation(self, iteration: int, evaluations: Mapping[str, Evaluation]) -> None:
        if self.at == "evaluation" and iteration == self.iteration:
            raise StopRun


@pytest.mark.parametrize("at", ["step", "evaluation"])
def test_a_stopped_run_is_evaluated_and_goes_on_to_the_same_set(at: str, tmp_path: Path) -> None:
    settings = {"iterations": 4, "eval_every": 2, **TINY}
    whole = distill("dc", out=tmp_path / "whole", **settings)
    diary = Diary()
    calls = [StopAt(2, at), diary]
    stopped = distill("dc", out=tmp_path / "set", callbacks=calls, **settings)
    assert diary.notes[-4:] == ["step 2", "evaluation 2", "save 2", "end 2"]
    assert [row["iteration"] for row in stopped.info.accuracies] == [2]
    resumed = distill("dc", out=tmp_path / "set", resume=True, **settings)
    assert torch.equal(resumed.images, whole.images)
    assert resumed.info.accuracies == whole.info.accuracies


def test_the_evaluation_at_a_stop_is_forgotten_by_the_run_that_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Method, "pick", lambda method, evaluations: evaluations[0])
    settings = {"iterations": 4, "eval_every": 2, **TINY}
    whole = distill("dc", out=tmp_path / "whole", **settings)
    diary = Diary()
    stopped = distill("dc", out=tmp_path / "set", callbacks=[StopAt(1, "step"), diary], **settings)
    assert diary.notes[-4:] == ["step 1", "evaluation 1", "save 1", "end 1"]
    assert [row["iteration"] for row in stopped.info.accuracies] == [1]
    resumed = distill("dc", out=tmp_path / "set", resume=True, **settings)
    assert not torch.equal(resumed.images, stopped.images)
    assert torch.equal(resumed.images, whole.images)
    assert resumed.info.accuracies == whole.info.accuracies


def test_callbacks_leave_the_bits_alone(tmp_path: Path) -> None:
    plain = distill("dc", out=tmp_path / "plain", iterations=2, **TINY)
    called = distill("dc", out=tmp_path / "called", iterations=2, callbacks=[Diary()], **TINY)
    assert torch.equal(plain.images, called.images)


class Failing(Callback):
    def on_step(self, iteration: int, log: Mapping[str, float], state: State) -> None:
        raise InputError("enough")


def test_what_a_callback_raises_ends_the_run_and_the_others_hear_of_it(tmp_path: Path) -> None:
    diary = Diary()
    calls = [diary, Failing()]
    with pytest.raises(InputError, match="enough"):
        distill("dc", out=tmp_path / "set", iterations=2, callbacks=calls, **TINY)
    assert diary.notes == ["start 0/2", "step 1", "broken off"]


@pytest.mark.parametrize(("seconds", "said"), [(1, ""), (90, "996 iterations of 90 s will take")])
def test_a_run_of_days_says_so_at_its_start(
    seconds: int, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(0, 10**6, 3 * seconds))
    monkeypatch.setattr("sdc_ext.engine.progress.time.monotonic", lambda: next(clock))
    console = Console(file=io.StringIO(), soft_wrap=True)
    shown = ShowProgress(console)
    shown.on_start(4, 1000)
    for iteration in range(5, 9):
        shown.on_step(iteration, {"matching": 1.0, "difficulty": 1.0}, None)  # type: ignore[arg-type]
    shown.on_end([], completed=False)
    printed = console.file.getvalue()  # type: ignore[attr-defined]
    assert printed.count("will take") == bool(said) and said in printed


def test_a_run_too_short_for_an_estimate_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 10**8, 10**6))
    monkeypatch.setattr("sdc_ext.engine.progress.time.monotonic", lambda: next(clock))
    console = Console(file=io.StringIO(), soft_wrap=True)
    shown = ShowProgress(console)
    shown.on_start(0, 2)
    for iteration in (1, 2):
        shown.on_step(iteration, {"matching": 1.0, "difficulty": 1.0}, None)  # type: ignore[arg-type]
    shown.on_end([], completed=False)
    assert "will take" not in console.file.getvalue()  # type: ignore[attr-defined]
