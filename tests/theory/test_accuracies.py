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
    with pytest.raises(InputError, match="all rows are on all real images"):
        collect([row for row in read_accuracies([tmp_path / "a.csv"]) if row.method == "real"])


def test_sets_with_other_factors_and_settings_are_no_replicates(tmp_path: Path) -> None:
    kinds = [
        ("1", "iterations=9; norm=l2"),
        ("1", "iterations=9; norm=l2_squared"),
        ("2", "iterations=9; norm=l2"),
    ]
    rows = [
        evaluated(set=f"{k}-{seed}", factor=factor, distilled_settings=settings, accuracy=k / 10)
        for k, (factor, settings) in enumerate(kinds)
        for seed in range(2)
    ]
    # Settings that follow from the size are no reason for a family of its own.
    larger = "iterations=5; norm=l2"
    rows.append(evaluated(set="l", images=50, factor="1", distilled_settings=larger, accuracy=0.7))
    series = collect(read_accuracies([write(tmp_path / "a.csv", rows)]))
    assert {str(one.family): {n: [*v] for n, v in one.values.items()} for one in series} == {
        "dc on digits, lam 0, norm=l2": {10: ["0-0", "0-1"], 50: ["l"]},
        "dc on digits, lam 0, norm=l2_squared": {10: ["1-0", "1-1"]},
        "dc on digits, lam 0, factor 2": {10: ["2-0", "2-1"]},
    }
    # Tables of earlier versions have no such columns.
    old = write(tmp_path / "b.csv", [evaluated(set="old")])
    new = write(tmp_path / "c.csv", rows[:2])
    (both,) = collect(read_accuracies([old, new]))
    assert [*both.values[10]] == ["0-0", "0-1", "old"]


def test_several_learning_rates_on_one_set_are_refused(tmp_path: Path) -> None:
    rows = [evaluated(lr=lr, index=k) for k, lr in enumerate(("0.1", 0.10, ""))]
    rows.append(evaluated(set="b", lr=0.2))  # a learning rate may belong to its set
    path = write(tmp_path / "a.csv", rows)
    assert len(collect(read_accuracies([path]))) == 1
    write(path, [*rows, evaluated(lr=0.2)])
    with pytest.raises(InputError, match=r"on a at the learning rates 0\.1 and"):
        collect(read_accuracies([path]))


def test_augmentations_are_configurations(tmp_path: Path) -> None:
    rows = [evaluated(), evaluated(augmentation="flip"), evaluated(network="mlp")]
    series = collect(read_accuracies([write(tmp_path / "a.csv", rows)]))
    labels = [f"convnet, augmentation {a}, 2 epochs" for a in ("none", "flip")]
    assert [s.configuration for s in series] == [*labels, "mlp"]


def test_networks_optimisers_and_augmentations_are_configurations(tmp_path: Path) -> None:
    usual = {"optimizer": "sgd", "schedule": "step", "mix": "none", "teacher": ""}
    real = {"set": "real", "method": "real", "images": 1000, "accuracy": 0.9}
    rows = [
        evaluated(**{**usual, "optimizer": o, "augmentation": a, **which})
        for which in ({}, real)
        for o in ("sgd", "adamw")
        for a in ("none", "flip")
    ]
    series = collect(read_accuracies([write(tmp_path / "a.csv", rows)]))
    assert [s.configuration for s in series] == [
        f"convnet, {o}augmentation {a}, 2 epochs"
        for o in ("", "optimizer adamw, ")
        for a in ("none", "flip")
    ]
    assert {s.quantity for s in series} == {"gap"}
    # Tables of earlier versions have no such columns, and mean the same configuration.
    (alone,) = collect(read_accuracies([write(tmp_path / "b.csv", [evaluated()])]))
    (both,) = collect(
        read_accuracies([tmp_path / "b.csv", write(tmp_path / "c.csv", [evaluated(**usual)])])
    )
    assert alone.configuration == both.configuration == "convnet"


def test_temperatures_are_numbers(tmp_path: Path) -> None:
    texts = ("1", "1.0", "", "4", "4.0")
    rows = [evaluated(temperature=text) for text in texts]
    path = write(tmp_path / "a.csv", rows)
    assert [row.others for row in read_accuracies([path])] == [()] * 3 + [("temperature 4.0",)] * 2
    write(path, [evaluated(temperature="hot")])
    with pytest.raises(InputError, match="line 2: temperature must be a number, got 'hot'"):
        read_accuracies([path])


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from("ab"), st.floats(0, 1)), min_size=1, max_size=20))
def test_series_hold_means_over_networks(seen: list[tuple[str, float]]) -> None:
    rows = [Trained("digits", "dc", "lam 0", "mlp", "", "", 10, name, a) for name, a in seen]
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
        ({"images": 0}, "images must be an integer above 0, got 0"),
        ({"images": "inf"}, "images must be an integer above 0, got inf"),
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


def test_other_training_is_another_configuration() -> None:
    kind = ("digits", "dc", "lam 0", "mlp", "none")
    rows = [Trained(*kind, epochs, 10, "a", 0.5) for epochs in ("1", "300")]
    labels = [series.configuration for series in collect(rows)]
    assert labels == [f"mlp, augmentation none, {epochs} epochs" for epochs in (1, 300)]


def test_gaps_are_to_real_images_under_the_same_augmentation() -> None:
    def real(augmentation: str, epochs: str) -> Trained:
        return Trained("digits", "real", "lam unknown", "mlp", augmentation, epochs, 99, "r", 0.9)

    row = Trained("digits", "dc", "lam 0", "mlp", "none", "300", 10, "a", 0.5)
    assert collect([row, real("flip", "20")])[0].quantity == "error"
    (series,) = collect([row, real("flip", "20"), real("none", "20")])
    assert series.quantity == "gap" and series.values[10]["a"] == pytest.approx(0.4)
    with pytest.raises(InputError, match="all real images for 20 and 60 epochs: pass the table"):
        collect([row, real("none", "20"), real("none", "60")])


def test_gaps_are_to_real_images_under_the_same_whitening(tmp_path: Path) -> None:
    real = {"set": "real", "method": "real", "images": 1000}
    rows = [evaluated(whitening="zca", accuracy=0.5), evaluated(set="b", accuracy=0.4)]
    rows += [
        evaluated(**real, whitening=kind, accuracy=a) for kind, a in [("zca", 0.9), ("none", 0.7)]
    ]
    rows[1]["whitening"] = "none"
    white, plain = collect(read_accuracies([write(tmp_path / "a.csv", rows)]))
    gaps = [next(iter(one.values[10].values())) for one in (white, plain)]
    assert gaps == pytest.approx([0.4, 0.3])


def test_tables_that_a_spreadsheet_saved_are_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", [evaluated()])
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert len(read_accuracies([path])) == 1


def test_a_single_path_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", [evaluated()])
    for one in (str(path), path):
        with pytest.raises(InputError, match="`paths` must be a sequence, each of which is a path"):
            read_accuracies(one)  # type: ignore[arg-type]


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"\x89PNG\r\n")
    with pytest.raises(InputError, match="is not a table of comma-separated values"):
        read_accuracies([tmp_path / "a.csv"])
