"""Shortened runs fit into the time, and are no shorter than that."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdc_ext.adapters import Settings, get_method, resolve
from sdc_ext.reproduction.fitting import Pace, fit, fit_experts, shortest

SECONDS = st.floats(1e-3, 100)


def settings(method: str, dataset: str, ipc: int, **chosen: Any) -> Settings:
    return resolve(get_method(method), dataset, ipc, chosen)


@given(
    st.sampled_from([("dc", "mnist"), ("dsac", "svhn"), ("datm", "cifar10"), ("dm", "cifar10")]),
    st.sampled_from([1, 10, 50]),
    st.builds(Pace, SECONDS, SECONDS, st.floats(1e-4, 1), st.just(0.0), st.just(0.0))
    | st.builds(Pace, SECONDS, SECONDS, st.floats(1e-4, 1), SECONDS, st.floats(1e-4, 1)),
    st.floats(0.01, 1e6),
    st.integers(1, 5),
)
def test_what_fits_is_valid_and_in_time(
    which: tuple[str, str], ipc: int, pace: Pace, seconds: float, fewest: int
) -> None:
    whole = settings(*which, ipc, num_eval=2)
    fitted = fit(whole, pace, seconds, fewest)
    if seconds < shortest(whole, pace, fewest):
        assert fitted is None
        return
    assert fitted is not None
    changed = {**fitted.settings, "iterations": fitted.iterations}
    short = settings(*which, ipc, num_eval=2, **changed)
    assert fewest <= short.run.iterations <= whole.run.iterations
    assert 20 <= short.run.epoch_eval_train <= whole.run.epoch_eval_train
    assert short.run.eval_every == short.run.iterations
    assert (fitted.other_epochs > 0) == (pace.other_epoch > 0)
    # The fewest epochs may leave less than a step of the time.
    assert fitted.seconds <= seconds + pace.step + 1e-6


def test_enough_time_leaves_the_run_as_it_is() -> None:
    whole = settings("dc", "mnist", 10)
    fitted = fit(whole, Pace(0.1, 1.0, 0.01), 1e6)
    assert fitted is not None
    assert fitted.iterations == 1000
    assert fitted.settings == {"eval_every": 1000, "epoch_eval_train": 1000}
    assert fitted.seconds == pytest.approx(20 * (1 + 1000 * 0.01) + 1000 * 10 * 0.1)


def test_an_iteration_that_is_too_long_makes_fewer_outer_steps() -> None:
    whole = settings("dc", "mnist", 50, num_eval=1)
    fitted = fit(whole, Pace(1.0, 1.0, 0.1), 15)
    assert fitted is not None
    # A third is for the evaluation: (5 - 1) / 0.1 epochs, which leaves 10 steps of 50.
    assert fitted.settings["epoch_eval_train"] == 40
    assert (fitted.iterations, fitted.settings["outer_loop"]) == (1, 10)
    several = fit(whole, Pace(1.0, 1.0, 0.1), 15, fewest=4)
    assert several is not None
    assert (several.iterations, several.settings["outer_loop"]) == (4, 2)


def test_start_epochs_grow_over_the_same_part_of_a_run() -> None:
    whole = settings("datm", "cifar10", 10, num_eval=1)
    assert (whole.run.iterations, whole.loop.expansion_end_epoch) == (10_000, 1000)  # type: ignore[attr-defined]
    fitted = fit(whole, Pace(1.0, 0.5, 0.01), 300)
    assert fitted is not None
    iterations = fitted.iterations
    assert 100 < iterations < 10_000
    assert fitted.settings["expansion_end_epoch"] == round(iterations / 10)


@pytest.mark.parametrize("method", ["mtt", "ftd", "tesla", "datm"])
@pytest.mark.parametrize("ipc", [1, 10, 50])
@pytest.mark.parametrize("dataset", ["cifar10", "cifar100", "tinyimagenet"])
@pytest.mark.parametrize("more", [0, 3, 100])
def test_short_experts_are_enough(method: str, dataset: str, ipc: int, more: int) -> None:
    whole: Any = settings(method, dataset, ipc)
    epochs = whole.loop.expert_epochs + more
    shortened = fit_experts(whole, epochs)
    short = settings(method, dataset, ipc, **shortened)
    assert short.loop.epochs_needed <= max(epochs, 1)
    if epochs >= whole.loop.epochs_needed:
        assert shortened == {}
