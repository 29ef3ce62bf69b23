"""Plans: the same arms in several settings, and their summaries."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import sdc_ext
from sdc_ext import InputError, compare_plan
from sdc_ext.cli import main
from sdc_ext.verbs import Plan, PlannedRun
from sdc_ext.verbs.plans import read_plan

SETTINGS: dict[str, Any] = {
    **{"network": "convnet:width=8:depth=1", "batch_real": 8, "iterations": 2},
    **{"num_eval": 1, "epoch_eval_train": 2},
}
PLAN = """\
seeds: 3
margin: 1
arms: [{lam: 0}, {lam: 1e-1}, {lam: 2, norm: l2_squared}]
settings: {network: "convnet:width=8:depth=1", batch_real: 8, iterations: 2, num_eval: 1,
           epoch_eval_train: 2}
runs:
  - {method: dc, settings: {outer_loop: 1}}
  - {method: dm, ipc: 2}
"""
NAMES = ["dc-digits-ipc1-outer_loop-1", "dm-digits-ipc2"]


def test_a_plan_is_made_in_folders_of_its_own_and_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text(PLAN)
    assert main(["compare", "--plan", "mine.yaml"]) == 0
    shown = capsys.readouterr().out
    assert "points gained over lam 0 in each setting" in shown and "all settings" in shown
    assert "lam 2, norm l2_squared: the gain differs between 2 settings by" in shown
    out = Path("runs/plan-mine")
    assert sorted(path.name for path in out.iterdir() if path.is_dir()) == NAMES
    for name in NAMES:
        assert (out / name / "lam-0.1" / "seed-2" / "meta.json").is_file()
        assert (out / name / "comparison.json").is_file()
    assert (out / "forest.png").read_bytes()[:4] == b"\x89PNG"
    written = json.loads((out / "plan.json").read_text())
    assert list(written["settings"]) == NAMES
    assert [row["arm"] for row in written["arms"]] == ["lam 0.1", "lam 2, norm l2_squared"]
    assert written["settings"][NAMES[0]][1]["margin"] == 0.01
    assert len((out / "plan.csv").read_text().splitlines()) == 1 + 2 * 3 * 3

    of_first = out / NAMES[0] / "lam-0" / "seed-0" / "synthetic.safetensors"
    made = of_first.stat().st_mtime_ns
    Path("mine.yaml").write_text(PLAN.replace("seeds: 3", "seeds: 4"))
    assert main(["compare", "--plan", "mine.yaml"]) == 0
    assert capsys.readouterr().out.count("9 runs of 12 are kept") == 2
    assert of_first.stat().st_mtime_ns == made
    assert (out / NAMES[1] / "lam-0" / "seed-3").is_dir()


def test_a_plan_in_python_takes_data_of_ones_own(tmp_path: Path) -> None:
    images, labels = torch.rand(30, 1, 8, 8), torch.arange(30) % 3
    data = sdc_ext.load_data((images, labels), test=(images, labels), name="mine")
    plan = Plan(
        arms=[{"lam": 0}, {"lam": 0.5}],
        runs=[PlannedRun(method="dm", dataset=data), PlannedRun(method="dm")],
        seeds=2,
        settings=SETTINGS,
    )
    compared = compare_plan(plan, out=tmp_path, progress=False)
    assert list(compared.comparisons) == ["dm-mine-ipc1", "dm-digits-ipc1"]
    (arm,) = compared.arms
    assert arm.arm.name == "lam 0.5" and list(arm.gains) == list(compared.comparisons)
    assert "dm-mine-ipc1" in str(compared)
    compared.draw(tmp_path / "mine.png")
    assert (tmp_path / "mine.png").is_file()


def test_data_of_one_name_are_told_apart_and_may_be_added(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder, grey in (("one/pets", 10), ("two/pets", 20)):
        for name in ("cat", "dog"):
            Path(folder, name).mkdir(parents=True)
            for k in range(4):
                Image.effect_noise((8, 8), grey + k).save(Path(folder, name, f"{k}.png"))
    pets: list[dict[str, Any]] = [
        {"method": "dm", "dataset": "imagefolder", "data_dir": "one/pets", "image_size": 16},
        {"method": "dm", "dataset": "two/pets", "image_size": 16},
        {"method": "dm", "dataset": "one/pets", "image_size": 20},
    ]
    plan = {"arms": [{"lam": 0}, {"lam": 0.5}], "seeds": 2, "settings": SETTINGS}
    (first,) = compare_plan({**plan, "runs": pets[:1]}, out="out", progress=False).comparisons
    assert first == "dm-imagefolder-pets-ipc1"
    whole = [{**run, "dataset": str(Path(run["dataset"]).absolute())} for run in pets[1:]]
    for runs, kept in (([pets[0], *pets[1:]], 1), ([pets[0], *whole], 3)):
        compared = compare_plan({**plan, "runs": runs}, out="out")
        assert capsys.readouterr().out.count("4 runs of 4 are kept") == kept
        one, *others = compared.comparisons
        assert one == first and len({*others}) == 2
        assert all(re.fullmatch(rf"{first}\+[0-9a-f]{{8}}", name) for name in others)
    same = {**pets[1], "dataset": "./two/pets", "image_size": (16, 16)}
    with pytest.raises(InputError, match=r"two runs of the plan are the same \(dm-imagefolder"):
        compare_plan({**plan, "runs": [pets[1], same]}, progress=False)


def test_data_in_memory_of_one_name_are_told_apart(tmp_path: Path) -> None:
    runs = []
    for _ in range(2):
        images, labels = torch.rand(30, 1, 8, 8), torch.arange(30) % 3
        data = sdc_ext.load_data((images, labels), test=(images, labels), name="mine")
        runs.append(PlannedRun(method="dm", dataset=data))
    plan = Plan(arms=[{"lam": 0}, {"lam": 0.5}], runs=runs, seeds=2, settings=SETTINGS)
    first, second = compare_plan(plan, out=tmp_path, progress=False).comparisons
    assert first == "dm-mine-ipc1" and second.startswith("dm-mine-ipc1+")


def test_runs_with_other_experts_are_told_apart(tmp_path: Path) -> None:
    tiny = {"network": "convnet:width=4:depth=1"}
    for seed, name in enumerate(("one", "two")):
        folder = tmp_path / name
        sdc_ext.train_experts("mtt", num_experts=1, train_epochs=2, seed=seed, out=folder, **tiny)
    runs = [{"method": "mtt", "experts": str(tmp_path / name)} for name in ("one", "two")]
    settings = {**tiny, "iterations": 1, "num_eval": 1, "epoch_eval_train": 1}
    settings |= {"syn_steps": 1, "expert_epochs": 1, "max_start_epoch": 1}
    plan = {"arms": [{"lam": 0}, {"lam": 0.5}], "runs": runs, "seeds": 2, "settings": settings}
    first, second = compare_plan(plan, out=tmp_path / "plan", progress=False).comparisons
    assert first == "mtt-digits-ipc1" and second.startswith("mtt-digits-ipc1+")


@pytest.mark.parametrize(
    ("run", "message"),
    [
        ({"dataset": sdc_ext.load_data("digits"), "image_size": 4}, "loaded already: .*image_size"),
        ({"image_size": 0}, "`image_size` must be"),
        ({"data_dir": ""}, "digits are bundled and take no `data_dir`|`data_dir` must be"),
        ({"settings": {"refresh_every": 2}}, "`refresh_every` has no effect"),
    ],
)
def test_no_value_of_a_run_is_dropped(run: dict[str, Any], message: str, tmp_path: Path) -> None:
    runs = [{"method": "dm"}, {"method": "dm", **run}]
    plan = {"arms": [{"lam": 0}, {"lam": 0.5}], "runs": runs}
    with pytest.raises(InputError, match=rf"^run 2 of the plan \(dm\): .*({message})"):
        compare_plan(plan, out=tmp_path, progress=False)


@pytest.mark.parametrize("plan", [3, None])
def test_what_is_no_plan_is_refused_in_a_sentence(plan: Any) -> None:
    with pytest.raises(InputError, match="`plan` must be"):
        compare_plan(plan)
    with pytest.raises(InputError, match="`progress` must be"):
        compare_plan(PLAN, progress=plan)


def test_a_setting_that_diverges_is_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = {
        "arms": [{"lam": 0}, {"lam": 0.5}],
        "seeds": 2,
        "settings": SETTINGS,
        "runs": [{"method": "dm", "settings": {"lr_img": 1e30}}, {"method": "dm"}],
    }
    compared = compare_plan(plan, out=tmp_path)
    assert list(compared.comparisons) == ["dm-digits-ipc1"]
    ((name, why),) = compared.diverged.items()
    assert name.startswith("dm-digits-ipc1-lr_img") and why.startswith("iteration 1: the loss is")
    for said in (capsys.readouterr().out, str(compared)):
        assert f"{name} diverged and is left out: iteration 1: " in said
    assert json.loads((tmp_path / "plan.json").read_text())["diverged"] == compared.diverged
    with pytest.raises(sdc_ext.DivergenceError):
        compare_plan({**plan, "runs": plan["runs"][:1]}, out=tmp_path, progress=False)
    assert [path.name for path in (tmp_path / name).glob("*/seed-*")] == ["seed-0"]  # then it ended


def test_an_arm_that_diverges_in_one_setting_is_named_there(tmp_path: Path) -> None:
    plan = {
        "arms": [{"lam": 0}, {"lam": 0.5}, {"lr_img": 1e30}],
        "seeds": 2,
        "settings": SETTINGS,
        "runs": [{"method": "dm"}, {"method": "dm", "settings": {"on_divergence": "skip"}}],
    }
    compared = compare_plan(plan, out=tmp_path, progress=False)
    first, second = compared.comparisons
    assert [arm.diverged for arm in compared.arms] == [[], [first]]
    assert list(compared.arms[1].gains) == [second]
    said = " ".join(str(compared).split())
    assert f"Left out, since the arm diverged: {first}." in said
    assert f"{first}: lr_img 1e+30 diverged and is left out: iteration 1: the loss is nan" in said
    written = json.loads((tmp_path / "plan.json").read_text())
    assert [row["diverged"] for row in written["arms"]] == [[], [first]]
    assert written["settings"][first][2]["diverged"].startswith("iteration 1: the loss is nan")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("arms: 3\nruns: []", r"arms: Expected `?array`?, got `?int"),
        ("runs: []\narms: [{lam: 0}, {lam: 1}]", "at least one run, got none"),
        ("runs: [{method: dc}]", "missing required field"),
        ("arms: []\nrun: []\nruns: []", "unknown field"),
        (PLAN.replace("ipc: 2", "ipcs: 2"), r"runs\[1\]: .*unknown field"),
        (PLAN.replace("method: dm", "method: dx"), "unknown method 'dx'"),
        (PLAN.replace("lam: 1e-1", "lam: x"), "lam in an arm must be 0, or a number"),
        (PLAN.replace("lam: 1e-1", "frob: 1"), "unknown setting of dc 'frob'"),
        (PLAN.replace("ipc: 2", "settings: {inner_loop: 1}"), "`inner_loop` is for dc, dsa"),
        (PLAN.replace("seeds: 3", "seeds: 1"), "a comparison needs at least 2 seeds, got 1"),
        (PLAN.replace("margin: 1", "margin: 0"), "`margin` must be a number from 0.001"),
        (PLAN.replace("{method: dm, ipc: 2}", "{method: dm, ipc: 0}"), "`ipc` must be"),
        (PLAN + "  - {method: dm, ipc: 2}", r"two runs of the plan are the same \(dm-digits-ipc2"),
        (
            PLAN.replace("outer_loop: 1", "lr_img: 1e-3")
            + "  - {method: dc, settings: {lr_img: 0.001}}",
            r"two runs of the plan are the same \(dc-digits-ipc1-lr_img-0.001\)",
        ),
        (PLAN.replace("iterations: 2", "lam: 2"), "a plan takes no lam: put it into the arms"),
        (PLAN.replace("method: dm", "method: dm, dataset: nowhere"), "nowhere"),
        (PLAN + "runs: []", "runs is given twice"),
        (PLAN.replace("lam: 1e-1", "lam: 1, lam: 2"), "lam is given twice"),
        ("[", "is not YAML"),
        ("a: &x [1]\nb: *x", "reference"),
        ("[" * 5000, "is not YAML|nested too deeply"),
        ("3", r"Expected `?object`?, got `?int"),
        ("", r"Expected `?object`?, got `?null"),
        ("\0", "is not YAML"),
        ("? [a, b]\n: 3", "is not YAML|damaged"),
        ("seeds: 2020-01-01\nruns: []\narms: []", "seeds: Expected `?int"),
    ],
)
def test_bad_plans_are_refused_before_anything_runs(
    content: str, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(content)
    with pytest.raises(InputError, match=message):
        compare_plan(path, out=tmp_path / "out", progress=False)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["dc", "--plan", "plan.yaml"], "METHOD has no effect with --plan: put it into the plan"),
        (["--plan", "plan.yaml", "--lam", "0", "1"], "--lam has no effect with --plan"),
        (["--plan", "plan.yaml", "--iterations", "3"], "--iterations has no effect with --plan"),
        (["--plan", "nowhere.yaml"], "nowhere.yaml"),
        ([], "METHOD is missing"),
    ],
)
def test_options_beside_a_plan_are_refused(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", *options]) == 2
    assert message in capsys.readouterr().err


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="not a text in UTF-8"):
        read_plan(path)
