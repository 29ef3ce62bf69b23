"""The course of GraDN by arm."""

from __future__ import annotations

from pathlib import Path

import pytest
from matplotlib.figure import Figure

from sdc_ext.report import difficulty_figures


def test_the_warm_up_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Figure] = []
    monkeypatch.setattr(
        difficulty_figures, "save_figure", lambda figure, path: drawn.append(figure)
    )
    # Norms of classes one by one, and then that of all together, which is no fall of difficulty.
    history = {"iteration": [1.0, 2.0, 3.0, 4.0], "difficulty": [9.0, 9.0, 2.0, 1.0]}
    runs = {"lam 0": [history, history]}
    difficulty_figures.draw_tracking(runs, {"lam 0": 2}, Path("tracking.png"))
    (axis,) = drawn[0].axes
    for line in axis.lines:
        assert (line.get_xdata().tolist(), line.get_ydata().tolist()) == ([3, 4], [2, 1])
    difficulty_figures.draw_tracking(runs, {}, Path("tracking.png"))
    assert drawn[1].axes[0].lines[0].get_ydata().max() == 9
