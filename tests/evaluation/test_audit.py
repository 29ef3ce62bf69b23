"""Audits of sets: attacks, corruptions, groups, and the command."""

from __future__ import annotations

import csv
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sdc_ext import audit_set, evaluate_set, load_data, select_set
from sdc_ext.cli import main
from sdc_ext.data.preprocessing import Preprocessing, as_pixels
from sdc_ext.data.real import Split
from sdc_ext.errors import InputError
from sdc_ext.evaluation.attacks import ATTACKS, pgd
from sdc_ext.evaluation.audit import Answers
from sdc_ext.evaluation.intervals import MeanInterval
from sdc_ext.report.audits import group_table
from sdc_ext.sets import SyntheticSet
from sdc_ext.verbs.audit import Audited

UNIT = Preprocessing((0.0,), (1.0,))
QUICK = {"network": "convnet:depth=1:width=8", "num_eval": 2, "epoch_eval_train": 30}


@pytest.fixture(scope="module")
def random_set() -> SyntheticSet:
    return select_set("random", ipc=2, progress=False)


@pytest.mark.parametrize("name", ATTACKS)
def test_attacks_on_a_linear_network_find_the_worst_change(name: str) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(9, 2))
    pixels = 0.3 + 0.4 * torch.rand(6, 1, 3, 3)
    labels = torch.tensor([0, 1, 0, 1, 1, 0])
    attacked = ATTACKS[name](network, pixels, labels, 0.1, UNIT)
    weight = network[1].weight
    direction = (weight[1 - labels] - weight[labels]).sign().view_as(pixels)
    torch.testing.assert_close(attacked, pixels + 0.1 * direction)


def test_attacks_stay_within_pixels() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    pixels = torch.tensor([0.0, 1.0, 0.01, 0.99]).view(1, 1, 2, 2)
    for attack in ATTACKS.values():
        attacked = attack(network, pixels, torch.tensor([0]), 0.1, UNIT)
        assert float(attacked.min()) >= 0 and float(attacked.max()) <= 1
        assert float((attacked - pixels).abs().max()) <= 0.1 + 1e-6


def test_clean_accuracies_are_those_of_an_evaluation(random_set: SyntheticSet) -> None:
    audited = audit_set({"a": random_set}, conditions=["jpeg:1"], progress=False, **QUICK)
    how = {**QUICK, "networks": QUICK["network"]}
    del how["network"]
    (result,) = evaluate_set(random_set, progress=False, **how).results
    found = audited.answers["a"].correct[:, 0].double().mean(1).tolist()
    assert found == pytest.approx(list(result.evaluation.accuracies))


def test_workers_find_what_one_process_does(random_set: SyntheticSet) -> None:
    conditions = ["gaussian-noise:5", "pgd:8"]
    alone, together = (
        audit_set(random_set, conditions=conditions, workers=who, progress=False, **QUICK)
        for who in (1, ThreadPoolExecutor(1))
    )
    assert alone.rows() == together.rows()
    by_name = {r["condition"]: r["accuracy"] for r in alone.rows() if r["group"] == ""}
    assert by_name["pgd:8"] < by_name["clean"]


def test_groups_have_their_own_accuracies() -> None:
    correct = torch.tensor([[[1, 1, 0, 0]], [[1, 1, 1, 0]]]).bool()
    answers = Answers(("clean",), correct, torch.tensor([0, 0, 1, 1]), ("a", "b", "empty"))
    found = answers.accuracies_by_group("clean")
    assert {name: mean.mean for name, mean in found.items()} == {"a": 1, "b": 0.25}
    assert answers.worst_group("clean")[0] == "b"
    assert answers.gap("clean") == 0.75
    assert answers.accuracy("clean").mean == 0.625
    assert MeanInterval.of([0.4, 0.6]).half_width == pytest.approx(12.7062 * 0.1, rel=1e-4)


def test_sets_of_different_data_have_all_groups_in_one_table() -> None:
    def answers(groups: list[int], names: tuple[str, ...]) -> Answers:
        correct = torch.tensor([[[group == 0 for group in groups]]])
        return Answers(("clean",), correct, torch.tensor(groups), names)

    sets = {
        "a": answers([0, 0, 1], ("cat", "dog")),
        "b": answers([0, 1, 2, 2, 2], ("owl", "dog", "cat")),
    }
    rows = zip(*(map(str, column.cells) for column in group_table(sets).columns), strict=True)
    assert list(rows) == [
        ("cat", "2", "100.00", ""),
        ("dog", "1", "0.00", "0.00"),
        ("owl", "1", "", "100.00"),
        ("cat", "3", "", "0.00"),
    ]
    assert "3 or 5 test images" in str(Audited(sets, dict.fromkeys(sets, "mlp"), 0))


def test_the_command_reads_groups_and_writes_a_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], random_set: SyntheticSet
) -> None:
    random_set.save(tmp_path / "set")
    number = len(load_data("digits").test)
    groups = tmp_path / "groups.csv"
    lines = "".join(f"{'even' if k % 2 else 'odd'}\n" for k in range(number))
    groups.write_text(lines, "utf-8-sig")  # as spreadsheets write it
    options = ["--network", str(QUICK["network"]), "--num-eval", "2", "--epoch-eval-train", "2"]
    command = ["audit", str(tmp_path / "set"), *options, "--groups", str(groups)]
    assert main([*command, "--conditions", "contrast:5,fgsm:8"]) == 0
    assert "worst group" in capsys.readouterr().out
    with (tmp_path / "set/audit/audit.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3 * 3 and {row["group"] for row in rows} == {"", "even", "odd"}
    assert (tmp_path / "set/audit/audit.png").stat().st_size > 0
    groups.write_text("odd\n\n")
    assert main([*command, "--out", str(tmp_path / "other")]) == 2
    assert "names no group" in capsys.readouterr().err
    groups.write_text("0,odd\n1,even\n")
    assert main([*command, "--out", str(tmp_path / "other")]) == 2
    assert "line 1 of" in (said := capsys.readouterr().err) and "has 2 columns: keep" in said


def test_whitened_sets_are_attacked_in_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    data, seen = load_data("digits"), []

    def noting(network: nn.Module, pixels: Tensor, *others: Any) -> Tensor:
        attacked = pgd(network, pixels, *others)
        seen.append((pixels, attacked))
        return attacked

    monkeypatch.setitem(ATTACKS, "pgd", noting)
    test = Split(data.test.images[:40], data.test.labels[:40])
    made = select_set("random", data, ipc=1, progress=False)
    white = replace(data, test=test).whitened()
    quick = {**QUICK, "num_eval": 1, "epoch_eval_train": 1}
    answers = audit_set([made], white, conditions=["pgd:8"], progress=False, **quick).answers
    assert next(iter(answers.values())).correct.shape == (1, 2, 40)
    ((pixels, attacked),) = seen
    torch.testing.assert_close(pixels, as_pixels(data.test.images[:40]))
    assert float(attacked.min()) >= 0 and float(attacked.max()) <= 1
    assert 0 < float((attacked - pixels).abs().max()) <= 8 / 255 + 1e-6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"conditions": ["pgd"]}, "cannot read the attack 'pgd'"),
        ({"conditions": ["pgd:nan"]}, "cannot read the attack 'pgd:nan'"),
        ({"conditions": ["fog:1"]}, "unknown corruption 'fog'"),
        ({"conditions": ["none"]}, "always measured, as `clean`"),
        ({"groups": ["a"]}, "1 labels for 450 test images"),
        ({"groups": ["a", "", *"b" * 448]}, "test image 1 is in a group without a name"),
        ({"groups": ["a"] * 450}, "all test images are in the group 'a'"),
        ({"network": "nothing"}, "nothing"),
    ],
)
def test_bad_choices_are_refused(random_set: SyntheticSet, options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        audit_set(random_set, progress=False, **options)
