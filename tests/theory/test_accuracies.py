"""Reading the tables that ``evaluate`` and ``compare`` write."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from law_data import compared, evaluated, write

from sdc_ext.errors import InputError
from sdc_ext.theory.accuracies import Trained, collect, read_accuracies


def test_sets_are_replicates_in_tables_of_evaluate(tmp_path: Path) -> None:
    rows = [
        evaluated(accuracy=0.5),
        evaluated(accuracy=0.7, index=1),
        evaluated(set="b", accuracy=0.4),
        evaluated(set="c", images=100, accuracy=0.9),
    ]
    (series,) = collect(read_accuracies([write(tmp_path / "a.csv", rows)]))
    assert (series.quantity, series.configuration) == ("error", "convnet")
    assert series.values[10] == pytest.approx({"a": 0.4, "b": 0.6})
    assert series.values[100] == pytest.approx({"c": 0.1})


def test_seeds_are_replicates_in_tables_of_compare(tmp_path: Path) -> None:
    small = [compared(seed=s, index=k, accuracy=0.5 + 0.1 * k) for s in (0, 1) for k in (0, 1)]
    large = [compared(seed=0, images=100, accuracy=0.8), compared(seed=0, correction="lam 0.5")]
    paths = [write(tmp_path / "a.csv", small), write(tmp_path / "b.csv", large)]
    base, corrected = collect(read_accuracies([*paths, paths[0]]))
    assert base.values[10] == pytest.approx({"0": 0.45, "1": 0.45})
    assert base.values[100] == pytest.approx({"0": 0.2})
    assert corrected.family.correction == "lam 0.5"


def test_real_images_make_gaps_of_their_network(tmp_path: Path) -> None:
    real = {"set": "real", "method": "real", "images": 1000}
    rows = [
        evaluated(accuracy=0.5),
        evaluated(network="mlp", accuracy=0.5),
        evaluated(**real, accuracy=0.92),
        evaluated(**real, accuracy=0.88, index=1),
    ]
    gap, error = collect(read_accuracies([write(tmp_path / "a.csv", rows)]))
    assert (gap.quantity, gap.values[10]["a"]) == ("gap", pytest.approx(0.4))
    assert gap.reference_error == pytest.approx(0.02)
    assert (error.quantity, error.values[10]["a"]) == ("error", pytest.approx(0.5))
    with pytest.raises(InputError, match="all rows are of real images"):
        collect([row for row in read_accuracies([tmp_path / "a.csv"]) if row.method == "real"])


def test_augmentations_are_configurations(tmp_path: Path) -> None:
    rows = [evaluated(), evaluated(augmentation="flip"), evaluated(network="mlp")]
    series = collect(read_accuracies([write(tmp_path / "a.csv", rows)]))
    assert [s.configuration for s in series] == ["convnet, none", "convnet, flip", "mlp"]


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from("ab"), st.floats(0, 1)), min_size=1, max_size=20))
def test_series_hold_means_over_networks(seen: list[tuple[str, float]]) -> None:
    rows = [Trained("digits", "dc", "lam 0", "mlp", "", 10, name, a) for name, a in seen]
    (series,) = collect(rows)
    for name, value in series.values[10].items():
        assert value == pytest.approx(1 - np.mean([a for n, a in seen if n == name]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"accuracy": "high"}, r"a\.csv, line 2: accuracy must be a number, got 'high'"),
        ({"accuracy": 85}, r"line 2: accuracy must be a fraction .* got 85: divide percentages"),
        ({"accuracy": "nan"}, "accuracy must be a fraction"),
        ({"images": "ten"}, "images must be a number, got 'ten'"),
        ({"images": 0}, "images must be a whole number above 0, got 0"),
        ({"images": "inf"}, "images must be a whole number above 0, got inf"),
    ],
)
def test_bad_values_are_named(changes: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        read_accuracies([write(tmp_path / "a.csv", [evaluated(**changes)])])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"a\.csv lacks the columns method, .*, set \(or seed\): pass accuracies\.csv"),
        ("lam,seed,index,accuracy\n0,0,0,0.5\n", "lacks the columns method, dataset, images"),
        ("set,method,dataset,images,correction,network,accuracy\n", "has columns but no rows"),
        ("set,method,dataset,images,correction,network,accuracy\na,dc\n", "images must be a num"),
    ],
)
def test_other_tables_are_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        read_accuracies([tmp_path / "a.csv"])


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"\x89PNG\r\n")
    with pytest.raises(InputError, match="is no table of comma-separated values"):
        read_accuracies([tmp_path / "a.csv"])
