"""The perceptron's theory against reference values, its limits and simulations."""

from __future__ import annotations

import csv
import json
import math
import re
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.stats import norm
from sklearn.svm import LinearSVC

from sdc_ext.cli import main, perceptron
from sdc_ext.errors import InputError
from sdc_ext.theory.perceptron import LEAST_SHARE, Selection, Student, crossover, solve
from sdc_ext.theory.perceptron_map import Grid, draw_map, solve_map
from sdc_ext.theory.perceptron_simulation import Simulator, largest_margin
from sdc_ext.theory.perceptron_study import Setting

REFERENCE: dict[str, Any] = json.loads(
    (Path(__file__).parent.parent / "golden" / "perceptron.json").read_text()
)

# alpha times error of a student of all samples, when they are many.
ASYMPTOTE = 0.500489


def of(point: dict[str, Any]) -> Selection:
    return Selection(point["keep"], point["f"], math.radians(point["gamma_deg"]))


def curves() -> list[tuple[Selection, list[dict[str, Any]]]]:
    def order(point: dict[str, Any]) -> tuple[Any, ...]:
        return point["gamma_deg"], point["f"], point["keep"], point["alpha_syn"]

    points = sorted(REFERENCE["points"], key=order)
    grouped = groupby(points, key=of)
    return [(selection, list(members)) for selection, members in grouped]


@pytest.mark.parametrize(
    ("selection", "points"),
    curves(),
    ids=lambda of: f"{of.keep}-{of.f}-{of.gamma:.2f}" if isinstance(of, Selection) else "",
)
def test_students_equal_the_reference(selection: Selection, points: list[dict[str, Any]]) -> None:
    students = solve(selection, [point["alpha_syn"] for point in points]).students
    for student, point in zip(students, points, strict=True):
        assert student.error == pytest.approx(point["eps"], abs=1e-8)
        assert student.overlap == pytest.approx(point["R"], abs=1e-8)
        assert student.probe_overlap == pytest.approx(point["rho"], abs=1e-8)
        assert student.margin == pytest.approx(point["kappa"], abs=1e-8)


@pytest.mark.parametrize(
    "row",
    [
        row
        for row in REFERENCE["crossovers"]
        if (row["gamma_deg"], row["f"]) in ((0, 0.8), (20, 0.5))
    ],
    ids=lambda row: f"{row['gamma_deg']}-{row['f']}",
)
def test_crossovers_equal_the_reference(row: dict[str, Any]) -> None:
    alphas, gamma = np.geomspace(0.5, 9, 12).tolist(), math.radians(row["gamma_deg"])
    easy, hard = (solve(Selection(keep, row["f"], gamma), alphas) for keep in ("easy", "hard"))
    everything = solve(Selection("all", 1.0, gamma), alphas)
    pairs = {
        "easy_eq_hard": (easy, hard),
        "hard_eq_full": (hard, everything),
        "easy_eq_full": (easy, everything),
    }
    for name, pair in pairs.items():
        found = crossover(*pair)
        assert (found is None) == (row[name] is None)
        assert found is None or found == pytest.approx(row[name], abs=1e-5)


@pytest.mark.parametrize("f", [0.4, LEAST_SHARE])
@pytest.mark.parametrize("keep", ["easy", "hard"])
def test_few_samples_are_averaged(keep: Any, f: float) -> None:
    """R goes to E|z| sqrt(alpha), as of the mean of the labelled samples."""
    alpha = 1e-7
    selection = Selection(keep, f)
    if keep == "easy":
        mean = 2 / f * norm.pdf(norm.isf(f / 2))
    else:
        mean = -2 / f * norm.pdf(0) * math.expm1(-(norm.ppf((1 + f) / 2) ** 2) / 2)
    assert solve(selection, [alpha]).students[0].overlap == pytest.approx(
        mean * math.sqrt(alpha), rel=1e-5
    )


@pytest.mark.parametrize("keep", ["all", "easy", "hard"])
def test_errors_of_many_samples_fall_with_their_inverse(keep: Any) -> None:
    f = 1.0 if keep == "all" else 0.5
    border = float(norm.isf(f / 2))
    factor = {"all": 1.0, "hard": f, "easy": f * math.exp(border**2 / 2)}[keep]
    (error,) = solve(Selection(keep, f), [3000.0]).errors
    assert 3000 * error == pytest.approx(ASYMPTOTE * factor, rel=2e-3)


def test_hard_students_that_learnt_much_ignore_what_was_left_out() -> None:
    (hard,), (everything,) = (
        solve(Selection("hard", 0.5), [8.0]).errors,
        solve(Selection("all"), [16.0]).errors,
    )
    assert hard == pytest.approx(everything, abs=1e-8)


def test_students_of_all_samples_do_not_see_the_probe() -> None:
    seen, blind = (solve(Selection("all", 1.0, g), [1.5]).students[0] for g in (0.4, 0.0))
    assert seen.error == pytest.approx(blind.error, abs=1e-12)
    assert seen.probe_overlap == pytest.approx(seen.overlap * math.cos(0.4), abs=1e-12)


@pytest.mark.parametrize("keep", ["easy", "hard"])
def test_probes_become_perfect_without_a_jump(keep: Any) -> None:
    near, perfect = (solve(Selection(keep, 0.5, g), [1.0]).errors[0] for g in (1e-4, 0.0))
    assert near == pytest.approx(perfect, abs=1e-7)


@settings(max_examples=12, deadline=None)
@given(
    keep=st.sampled_from(["easy", "hard"]),
    f=st.floats(0.05, 0.95),
    alphas=st.lists(st.floats(0.05, 30), min_size=2, max_size=4, unique=True).map(sorted),
)
def test_more_samples_of_a_kind_lower_error_and_margin(
    keep: Any, f: float, alphas: list[float]
) -> None:
    students = solve(Selection(keep, f), alphas).students
    for fewer, more in pairwise(students):
        assert more.error <= fewer.error + 1e-9
        assert 0 < more.margin <= fewer.margin + 1e-9


@settings(max_examples=3, deadline=None)
@given(alpha=st.floats(0.3, 3), between=st.floats(1.01, 2))
def test_curves_give_students_between_their_points(alpha: float, between: float) -> None:
    selection = Selection("easy", 0.5, 0.2)
    inside: Student = solve(selection, [alpha, 2 * alpha]).at(alpha * between)
    (direct,) = solve(selection, [alpha * between]).students
    assert inside.error == pytest.approx(direct.error, abs=1e-8)


@pytest.mark.parametrize("alpha", [-3.0, 0.5, math.inf, math.nan])
def test_curves_begin_at_their_first_alpha(alpha: float) -> None:
    curve = solve(Selection("easy", 0.5), [1.0, 2.0])
    assert curve.at(1.0).error == pytest.approx(curve.errors[0], abs=1e-12)
    with pytest.raises(InputError, match="alpha must be at least 1, where the curve begins"):
        curve.at(alpha)


@pytest.mark.parametrize(
    ("selection", "alpha"),
    [
        (Selection("all"), 1.0),
        (Selection("easy", 0.5), 2.0),
        (Selection("hard", 0.5), 0.5),
        (Selection("hard", 0.2), 4.0),
        (Selection("easy", 0.2, math.radians(20)), 2.0),
        (Selection("hard", 0.8, math.radians(10)), 4.0),
    ],
    ids=str,
)
def test_simulations_agree_with_the_theory(selection: Selection, alpha: float) -> None:
    simulated = Simulator(dimensions=100, trials=40)(selection, alpha)
    (error,) = solve(selection, [alpha]).errors
    assert abs(simulated.mean - error) < 3 * simulated.standard_error + 0.5 / 100


def test_largest_margin_equals_a_support_vector_machines() -> None:
    draw = np.random.default_rng(0)
    x = draw.standard_normal((60, 20))
    y = np.sign(x @ draw.standard_normal(20))
    machine = LinearSVC(loss="hinge", C=1e6, fit_intercept=False, max_iter=10**7, tol=1e-10)
    weights = machine.fit(x, y).coef_[0]
    student = largest_margin(x * y[:, None])
    np.testing.assert_allclose(student, weights / np.linalg.norm(weights), atol=1e-5)


@pytest.mark.parametrize(
    ("keep", "f", "gamma", "problem"),
    [
        ("middle", 0.5, 0.0, "unknown selection 'middle'"),
        ("hard", 1.0, 0.0, "f must be between 1e-06 and 1 for easy and hard"),
        ("hard", 1e-16, 0.0, "got 1e-16 for hard"),
        ("easy", 1e-34, 0.0, "got 1e-34 for easy"),
        ("all", 0.5, 0.0, "got 0.5 for all"),
        ("easy", 0.5, 1.6, "gamma must be at least 0 and below 90 degrees, got 91.6"),
    ],
)
def test_impossible_selections_are_refused(keep: Any, f: float, gamma: float, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        Selection(keep, f, gamma)


@pytest.mark.parametrize("alphas", [[1.0, 0.5], [0.0, 1.0], [1.0, math.inf], []])
def test_alphas_that_do_not_increase_are_refused(alphas: list[float]) -> None:
    with pytest.raises(InputError, match=re.escape(f"increasing, got {alphas}")):
        solve(Selection("all"), alphas)


def test_settings_refuse_simulations_beside_the_lines() -> None:
    assert Setting((0.0,), (0.5,), simulated=(2.0,), alphas=(1.0, 2.0)).simulated == (2.0,)
    with pytest.raises(InputError, match="alphas must include those simulated, and lack 3"):
        Setting((0.0,), (0.5,), simulated=(2.0, 3.0), alphas=(1.0, 2.0))


def test_maps_refuse_shares_that_no_selection_has() -> None:
    with pytest.raises(InputError, match="between 1e-06 and 1, got 1e-16"):
        Grid(shares=(1e-16, 0.5))


def test_command_draws_lines_and_dots(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "figure"
    small = ["--gamma", "0", "--f", "0.5", "--trials", "2", "--dimensions", "20"]
    assert main(["theory", "perceptron", *small, "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "2.52406" in printed and "of 18 simulations are within" in printed
    with Image.open(out / "perceptron.png") as picture:
        assert picture.width > 300
    with (out / "perceptron.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    dots = [row for row in rows if row["simulated"]]
    assert len(dots) == 18 and {row["keep"] for row in dots} == {"easy", "hard", "all"}
    one = next(row for row in rows if row["keep"] == "hard" and float(row["alpha"]) == 1.0)
    assert float(one["error"]) == pytest.approx(0.321048, abs=1e-6)


@pytest.mark.parametrize(("computed", "options"), [("study", []), ("solve_map", ["--map"])])
def test_results_are_shown_even_if_another_command_has_taken_their_folder(
    computed: str,
    options: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    compute = getattr(perceptron, computed)

    def compute_while_another_writes(*arguments: Any, **others: Any) -> Any:
        (tmp_path / "others.txt").touch()
        return compute(*arguments, **others)

    monkeypatch.setattr(perceptron, computed, compute_while_another_writes)
    small = ["--gamma", "0", "--f", "0.5", "0.6", "--trials", "0", "--out", str(tmp_path)]
    assert main(["theory", "perceptron", *small, *options]) == 2
    said = capsys.readouterr()
    assert ("easy ones are better" if options else "2.52406") in said.out
    assert said.err == f"sdc-ext: {tmp_path} exists: choose another --out\n"
    assert [path.name for path in tmp_path.iterdir()] == ["others.txt"]


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--f", "1"], "--f must be a number above 0 and below 1, got 1"),
        (["--gamma", "95"], "--gamma must be a number of at least 0 and below 90, got 95"),
        (
            ["--trials", "1"],
            "--trials must be 0 for none, or a whole number from 2 to 1000000, got 1",
        ),
        (["--dimensions", "1"], "--dimensions must be a whole number from 2 to 100000, got 1"),
        (["--gamma", "0", "--f", "1e-5"], "f = 1e-05 is too small to simulate alpha 0.2"),
        (["--f", "1e-16"], "the kept share f must be between 1e-06 and 1"),
    ],
)
def test_command_names_what_is_wrong(
    options: list[str], problem: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["theory", "perceptron", *options, "--out", str(tmp_path / "out")]) == 2
    assert problem in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_map_is_of_the_curves(tmp_path: Path) -> None:
    grid = Grid((0.0,), (0.2, 0.8), (0.5, 2.0, 8.0), simulated=((0.2, 2.0), (0.8, 2.0)))
    found = solve_map(grid, Simulator(dimensions=30, trials=20))
    assert found.gains(0.0).shape == (2, 3)
    easy, hard = (solve(Selection(keep, 0.2), [0.1, 0.4, 1.6]) for keep in ("easy", "hard"))
    expected = 100 * (np.array(hard.errors) - np.array(easy.errors))
    assert found.gains(0.0)[0] == pytest.approx(expected)
    assert found.agreeing == len(found.dots) == 2
    rows = found.rows()
    assert [row["by"] for row in rows] == ["theory"] * 6 + ["simulation"] * 2
    assert rows[0]["alpha"] == pytest.approx(0.1) and rows[6]["standard_error"] > 0
    draw_map(found, tmp_path / "map.png")
    assert (tmp_path / "map.png").stat().st_size > 0


def test_the_boundary_is_where_hard_samples_begin_to_be_better() -> None:
    grid = Grid((0.0,), (0.3,), (1.0, 2.0, 4.0, 8.0, 16.0, 32.0), simulated=())
    ((_, end),) = [tuple(row.values()) for row in solve_map(grid, None).boundary()]
    assert end is not None
    alphas = [0.3 * end / 1.1, 0.3 * end * 1.1]
    easy, hard = (solve(Selection(keep, 0.3), alphas).errors for keep in ("easy", "hard"))
    assert easy[0] < hard[0] and easy[1] > hard[1]


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--map", "--f", "0.5", "0.5"], "two different kept shares, got 0.5: add some to --f"),
        (["--processes", "2"], "have an effect on a map only: add --map"),
    ],
)
def test_what_does_not_suit_a_map_is_refused(
    options: list[str], problem: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["theory", "perceptron", *options, "--out", str(out)]) == 2
    assert problem in capsys.readouterr().err
    assert not out.exists()
