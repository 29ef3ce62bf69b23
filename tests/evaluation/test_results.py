"""Which evaluation of a run counts, and results as tables."""

from __future__ import annotations

import pytest

from sdc_ext.adapters import METHODS, selects_of
from sdc_ext.errors import InputError
from sdc_ext.evaluation.results import counted, select_evaluation

ROWS = [{"mean": 0.2}, {"mean": 0.7, "of": "first"}, {"mean": 0.7}, {"mean": 0.4}]


def test_of_equally_good_evaluations_the_first_counts() -> None:
    assert select_evaluation(ROWS, "best") is ROWS[1]
    assert select_evaluation(ROWS, "last") is ROWS[-1]
    with pytest.warns(FutureWarning, match="call `select_evaluation`"):
        assert counted(ROWS, "best") is ROWS[1]


def test_anything_else_is_refused() -> None:
    with pytest.raises(InputError, match="'bets': did you mean 'best'"):
        select_evaluation(ROWS, "bets")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", METHODS.names())
def test_trajectories_keep_the_best_and_gradients_the_last(name: str) -> None:
    best = METHODS.get(name).experts is not None
    assert METHODS.get(name).pick(ROWS) is (ROWS[1] if best else ROWS[-1])
    assert selects_of(name) == ("best" if best else "last")


def test_the_last_counts_for_sets_that_no_method_made() -> None:
    assert selects_of("herding") == "last"
