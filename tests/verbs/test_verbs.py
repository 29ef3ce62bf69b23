"""The verbs as a person calls them from Python."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from helpers import capture
from originals import save_mtt
from torch import Tensor, nn
from torch.utils.data import Dataset

import sdc_ext
from sdc_ext import (
    InputError,
    LogRamp,
    audit_set,
    compare,
    distill,
    evaluate_set,
    score_set,
    select_set,
)
from sdc_ext.adapters.loops import GradientMatching
from sdc_ext.cli import main
from sdc_ext.data import load_data
from sdc_ext.data.load import DATASETS
from sdc_ext.engine import Callback
from sdc_ext.sets import SyntheticSet
from sdc_ext.sets.history import read_history
from sdc_ext.verbs import comparison
from sdc_ext.verbs.opening import open_sets

NETWORK = "convnet:width=8:depth=1"
TINY: dict[str, Any] = {
    **{"network": NETWORK, "batch_real": 8, "iterations": 2},
    **{"num_eval": 1, "epoch_eval_train": 2},
}


class Bars(Dataset[tuple[Tensor, int]]):
    """Three classes of 1x20x30 images: a bar at one of three places, and noise."""

    classes = ("left", "middle", "right")

    def __init__(self, n: int, seed: int) -> None:
        self.noise = torch.rand(n, 1, 20, 30, generator=torch.Generator().manual_seed(seed))

    def __len__(self) -> int:
        return len(self.noise)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        if index >= len(self):
            raise IndexError(index)
        image = 0.5 * self.noise[index]
        image[:, :, 10 * (index % 3) : 10 * (index % 3) + 5] += 0.5
        return image, index % 3


def flat(in_chans: int, num_classes: int, img_size: tuple[int, int]) -> nn.Module:
    """A network of one's own."""
    inputs = in_chans * img_size[0] * img_size[1]
    return nn.Sequential(nn.Flatten(), nn.Linear(inputs, 8), nn.Tanh(), nn.Linear(8, num_classes))


@pytest.mark.parametrize("method", ["dc", "dm"])
def test_data_and_a_network_of_ones_own(method: str, tmp_path: Path) -> None:
    data = sdc_ext.load_data(Bars(60, 0), test=Bars(30, 1), name="bars")
    out, settings = tmp_path / "set", {**TINY, "network": flat, "progress": False}
    synthetic = distill(method, data, out=out, **settings)
    assert synthetic.images.shape == (3, 1, 20, 30)
    assert (synthetic.info.dataset, synthetic.info.network) == ("bars", "flat")
    assert synthetic.info.classes == Bars.classes
    tested = evaluate_set(out, data, networks=[flat, NETWORK], num_eval=1, progress=False)
    assert [r.evaluation.network for r in tested.results] == ["flat", NETWORK]
    assert sdc_ext.load_set(out).info == synthetic.info
    with pytest.raises(InputError, match=r"data called 'bars', .* or the data themselves"):
        evaluate_set(out, progress=False)


def test_small_images_of_ones_own_suit_trajectories(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    split = sdc_ext.load_data("digits").train
    data = (split.images[:100], split.labels[:100])
    sdc_ext.train_experts("mtt", data, num_experts=1, train_epochs=3, progress=False)
    settings = {"max_start_epoch": 1, "num_eval": 1, "epoch_eval_train": 2, "progress": False}
    synthetic = distill("mtt", data, iterations=3, **settings)
    assert synthetic.info.network == synthetic.info.eval_network == "convnet:depth=2"
    assert [folder.name for folder in Path("experts").iterdir()] == ["custom-convnet-depth2-sgd"]
    measured = sdc_ext.difficulty_of(data=data, num_networks=1, train_epochs=1, progress=False)
    assert measured.network == "convnet:depth=2"


def test_every_name_is_there() -> None:
    for name in sdc_ext.__all__:
        assert callable(getattr(sdc_ext, name))
    assert set(sdc_ext.__all__) <= set(dir(sdc_ext))
    with pytest.raises(AttributeError, match="no attribute 'distil'"):
        _ = sdc_ext.distil


def test_distil_returns_what_it_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    synthetic = distill("dc", ipc=2, progress=False, **TINY)
    written = SyntheticSet.load(Path("runs/dc-digits-ipc2"))
    assert torch.equal(written.images, synthetic.images) and synthetic.images.shape[0] == 20
    with pytest.raises(InputError, match="exists"):
        distill("dc", ipc=2, progress=False, **TINY)
    again = distill("dc", ipc=2, resume=True, progress=False, **TINY)
    assert torch.equal(again.images, synthetic.images)


def test_a_ramp_takes_the_place_of_lam(tmp_path: Path) -> None:
    ramp = LogRamp(0.01, 0.04, 2)
    synthetic = distill("dc", lam=ramp, out=tmp_path / "set", progress=False, **TINY)
    assert synthetic.info.value("lam_ramp") == (0.01, 0.04, 2)
    with pytest.raises(InputError, match="`lam` and `lam_ramp` exclude each other"):
        distill("dc", lam=0.1, lam_ramp=(0.1, 0.2, 2), progress=False, **TINY)


def test_an_accelerator_of_ones_own_is_used(tmp_path: Path) -> None:
    accelerator = Accelerator(cpu=True, mixed_precision="bf16")
    distill("dc", out=tmp_path / "set", accelerator=accelerator, progress=False, **TINY)
    assert '"bf16"' in (tmp_path / "set" / "run.json").read_text()


def test_precisions_that_are_not_used_are_refused_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    accelerator = Accelerator(cpu=True)
    monkeypatch.setattr(Accelerator, "mixed_precision", "fp16")  # which CPUs do not have
    with pytest.raises(InputError, match="unknown mixed precision 'fp16'"):
        distill("dc", out=tmp_path / "set", accelerator=accelerator, progress=False, **TINY)
    assert not (tmp_path / "set").exists()


def test_progress_is_off_or_on(tmp_path: Path) -> None:
    with capture() as shown:
        distill("dc", out=tmp_path / "quiet", progress=False, **TINY)
    assert shown.getvalue() == ""
    with capture() as shown:
        distill("dc", out=tmp_path / "loud", **TINY)
    assert "digits: 1347 train" in shown.getvalue() and "iteration 2: " in shown.getvalue()


def test_sets_are_evaluated_as_values_or_paths(tmp_path: Path) -> None:
    synthetic = distill("dc", out=tmp_path / "set", progress=False, **TINY)
    options: dict[str, Any] = {"num_eval": 1, "epoch_eval_train": 2, "seed": 3, "progress": False}
    value = evaluate_set(synthetic, **options)
    path = evaluate_set(str(tmp_path / "set"), out=tmp_path / "table", **options)
    (of_value,), (of_path,) = value.results, path.results
    assert of_value.evaluation == of_path.evaluation
    assert (tmp_path / "table" / "accuracies.csv").is_file()
    named = evaluate_set({"mine": synthetic, "same": tmp_path / "set"}, real_epochs=1, **options)
    assert [result.name for result in named.results] == ["mine", "same", "all real images"]
    assert "mine" in str(named) and "<pre" in named._repr_html_()
    named.draw(tmp_path / "bars.png")
    assert (tmp_path / "bars.png").stat().st_size > 1000


def test_a_rate_serves_files_that_have_none(tmp_path: Path) -> None:
    digits = load_data("digits")
    folder = save_mtt(digits, tmp_path)
    options: dict[str, Any] = {"num_eval": 1, "epoch_eval_train": 2, "progress": False}
    with pytest.raises(InputError, match="as `lr`"):
        evaluate_set(folder, digits, networks=NETWORK, **options)
    (result,) = evaluate_set(folder, digits, networks=NETWORK, lr=0.02, **options).results
    assert result.recipe.lr == 0.02
    scored = score_set(folder, digits, network="mlp", lr=0.02, num_eval=1, full_epochs=1)
    assert scored.scored.recipe.lr == 0.02
    quick: dict[str, Any] = options | {"network": "mlp", "conditions": ["contrast:1"]}
    assert audit_set(folder, digits, lr=0.02, **quick).answers


def test_verbs_that_train_nothing_on_a_set_need_no_rate(tmp_path: Path) -> None:
    folder = save_mtt(load_data("digits"), tmp_path)
    for data in (None, "digits"):
        (opened,) = open_sets(folder, data, Accelerator(cpu=True), trained_on=False)
        assert opened.synthetic.info.dataset == "digits"
        with pytest.raises(InputError, match="syn_lr"):
            open_sets(folder, data, Accelerator(cpu=True))


def test_a_rate_counts_for_sets_that_are_given_as_values() -> None:
    chosen = sdc_ext.select_set("random", progress=False)
    (opened,) = open_sets(chosen, None, Accelerator(cpu=True), lr=0.5)
    assert (opened.synthetic.info.evaluation.lr, chosen.info.evaluation.lr) == (0.5, 0.01)
    (again,) = open_sets({"mine": opened}, None, Accelerator(cpu=True), lr=0.25)
    assert (again.name, again.synthetic.info.evaluation.lr) == ("mine", 0.25)
    assert open_sets(opened, None, Accelerator(cpu=True)) == [opened]


def test_paths_count_once_and_a_line_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    chosen = sdc_ext.select_set("random", out=tmp_path / "a", progress=False)
    given = ["a", chosen, tmp_path / "a", "a"]
    opened = open_sets(given, "digits", Accelerator(cpu=True))
    assert [one.name for one in opened] == ["a", "random 2"]
    assert caplog.messages == [
        f"{tmp_path / 'a'} is left out, since it was named before as a",
        "a is left out, since it was named before",
    ]
    named = open_sets({"x": "a", "y": "a"}, "digits", Accelerator(cpu=True))
    assert [one.name for one in named] == ["x", "y"]


def test_what_there_is_too_much_or_nothing_of_is_refused() -> None:
    chosen = sdc_ext.select_set("random", progress=False)
    with pytest.raises(InputError, match="one set is scored with one network, got 2 and 1"):
        score_set([chosen, chosen])
    with pytest.raises(InputError, match="got 1 and 2: pass others in separate calls"):
        score_set(chosen, network=["mlp", "lenet"])
    with pytest.raises(InputError, match="pass `measures` and `spaces`"):
        sdc_ext.verbs.Measurement(measures=())
    with pytest.raises(InputError, match="`download` is of no use without a folder"):
        sdc_ext.reproduce("table1", download=True, progress=False)


def test_a_set_of_other_data_asks_for_them(tmp_path: Path) -> None:
    synthetic = select_set("random", out=tmp_path / "set", progress=False)
    for dataset, advice in (
        ("mnist", r"the real data, e\.g\. data=load_data\('mnist', FOLDER\)$"),
        ("custom", "the folder with their pictures .* or the data themselves from Python$"),
    ):
        info = synthetic.info.__class__(**{**vars(synthetic.info), "dataset": dataset})
        other = SyntheticSet(synthetic.images, synthetic.labels, info)
        with pytest.raises(InputError, match=f"{dataset}.*: pass {advice}"):
            evaluate_set(other, progress=False)


def test_data_are_resized_to_the_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = torch.arange(12) % 3
    images = torch.rand(12, 1, 16, 16) / 2 + labels[:, None, None, None] / 4
    monkeypatch.setitem(DATASETS._known, "stamps", lambda folder: (images, labels))
    data = load_data("stamps", image_size=8)
    synthetic = select_set("random", data, ipc=1, out=tmp_path / "set", progress=False)
    options: dict[str, Any] = {"networks": "mlp", "num_eval": 1, "epoch_eval_train": 2}
    for one in (synthetic, tmp_path / "set"):
        (found,) = evaluate_set(one, progress=False, **options).results
        (given,) = evaluate_set(one, data, progress=False, **options).results
        assert found.evaluation == given.evaluation


def test_select_equals_the_command(tmp_path: Path) -> None:

    assert (
        main(["select", "random", "--ipc", "2", "--seed", "5", "--out", str(tmp_path / "c")]) == 0
    )
    synthetic = select_set("random", ipc=2, seed=5, progress=False)
    assert torch.equal(synthetic.images, SyntheticSet.load(tmp_path / "c").images)
    with pytest.raises(InputError, match="unknown baseline 'randon'"):
        select_set("randon")


def test_compare_is_paired_and_goes_on(tmp_path: Path) -> None:
    options: dict[str, Any] = {"lams": (0, 0.5), "seeds": 2, "out": tmp_path / "c", **TINY}
    compared = compare("dc", progress=False, **options)
    assert [cell.arm.name for cell in compared.comparison.cells] == ["lam 0", "lam 0.5"] * 2
    again = compare("dc", progress=False, **options)
    assert again.comparison == compared.comparison
    text = str(compared)
    assert "lam" in text and "GraDN over the distillation" in text
    assert (tmp_path / "c" / "comparison.png").is_file()
    assert (tmp_path / "c" / "lam-0.5" / "seed-1" / "meta.json").is_file()
    with pytest.raises(InputError, match=r"the same to six digits \(lam 0; lam 0\): leave one"):
        compare("dc", lams=(0, 0), progress=False, **TINY)


def test_fresh_seeds_share_nothing_with_the_first(tmp_path: Path) -> None:
    options: dict[str, Any] = {"lams": (0, 0.5), "seeds": 2, "out": tmp_path / "c", **TINY}
    first = compare("dc", progress=False, **options).comparison
    overlapping = compare("dc", first_seed=1, progress=False, **options).comparison
    assert [cell.seed for cell in overlapping.cells] == [1, 1, 2, 2]
    assert overlapping.cells[:2] == first.cells[2:]
    made = sorted(path.name for path in (tmp_path / "c" / "lam-0").iterdir())
    assert made == ["seed-0", "seed-1", "seed-2"]
    with pytest.raises(InputError, match="`first_seed` must be a whole number from 0"):
        compare("dc", first_seed=-1)


def test_every_history_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []

    def counted(folder: Path) -> dict[str, list[float]]:
        read.append(folder)
        return read_history(folder)

    monkeypatch.setattr(comparison, "read_history", counted)
    out = tmp_path / "c"
    compared = compare("dc", lams=(0, 0.5), seeds=2, out=out, progress=False, **TINY)
    assert "GraDN over the distillation" in str(compared) and (out / "tracking.png").is_file()
    folders = [out / arm / seed for arm in ("lam-0", "lam-0.5") for seed in ("seed-0", "seed-1")]
    assert sorted(read) == folders


def test_arms_are_any_settings(tmp_path: Path) -> None:
    arms = [{}, {"norm": "l2_squared"}, {"network": flat, "lam": 0.5}, {"iterations": 1}]
    options: dict[str, Any] = {"arms": arms, "seeds": 2, "out": tmp_path / "c", **TINY}
    compared = compare("dc", progress=False, **options)
    names = ["defaults", "norm l2_squared", "lam 0.5, network flat", "iterations 1"]
    assert [arm.name for arm in compared.comparison.arms] == names
    folders = {path.name for path in (tmp_path / "c").iterdir() if path.is_dir()}
    assert folders == {"defaults", "norm-l2_squared", "lam-0.5,network-flat", "iterations-1"}
    networks = {row["arm"]: row["network"] for row in compared.comparison.rows()}
    assert networks[names[2]] == "flat" and networks[names[0]] == NETWORK
    corrections = {row["correction"] for row in compared.comparison.rows()}
    assert corrections == set(names)  # no arm is taken for replicates of another
    assert {name: len(rows[0]["difficulty"]) for name, rows in compared.histories().items()} == {
        **dict.fromkeys(names[:3], 2),
        names[3]: 1,
    }
    again = compare("dc", progress=False, **{**options, "arms": arms[:2]})
    assert again.comparison.cells == compared.comparison.cells[:2] + compared.comparison.cells[4:6]


def test_scores_print_and_save(tmp_path: Path) -> None:
    synthetic = select_set("random", progress=False)
    scored = score_set(synthetic, network=NETWORK, num_eval=1, full_epochs=1, progress=False)
    assert "HLR" in str(scored) or "hard-label" in str(scored)
    scored.save(tmp_path / "scores.json")
    assert '"lrs"' in (tmp_path / "scores.json").read_text()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: compare("dc", lam=0.1), "compare takes no lam: pass `lams`"),
        (
            lambda: compare("dc", lams=(0, 1), arms=[{}, {"lam": 1}]),
            "^`lams` and `arms` exclude each other in a comparison: put all of them into `arms`$",
        ),
        (lambda: sdc_ext.tune("dc", lams=(1, 2), shares=(1, 2)), "^`lams` and `shares` exclude"),
        (lambda: compare("dc", arms=[{}, {"lam": 1, "ipc": 2}]), "an arm takes no ipc"),
        (lambda: compare("dc", arms=[{}, 3]), "an arm must be settings by name.* got 3"),
        (lambda: compare("dc", arms=[{}, {"lam": 10**400}]), "`lam` must be 0, or a number"),
        (lambda: compare("dc", arms=[{}, {"lam": None}]), "`lam` must be 0, or a number"),
        (lambda: compare("dc", margin=0), "`margin` must be a number from 0.001 to 100, got 0"),
        (lambda: distill("dc", "photos", image_size=32), r"pass data=load_data\(..., image_size="),
        (lambda: sdc_ext.tune("dc", eval_every=3), "tune takes no eval_every"),
        (lambda: select_set("herding", train_epoch=3), "unknown setting of the probe 'train_epo"),
        (lambda: sdc_ext.train_experts("mtt", epochs=3), "unknown setting of experts 'epochs'"),
        (lambda: sdc_ext.train_experts("dc"), "dc matches no experts: choose from"),
        (lambda: distill("dc", iteration=3), "did you mean 'iterations'"),
        (
            lambda: distill("dc", iterations="3"),
            "`iterations` must be a whole number from 1 to 1000000000, got '3'",
        ),
        (lambda: distill("dc", lam="0.1"), "`lam` must be 0, or a number"),
        (lambda: distill("dc", callbacks=[Callback], progress=False), "must be an instance"),
        (lambda: evaluate_set([]), "got no sets"),
        (lambda: evaluate_set(iter([])), "got no sets"),
        (lambda: sdc_ext.audit_set({}, "digits"), "got no sets"),
        (lambda: sdc_ext.discrepancy_of({}, "digits"), "got no sets"),
    ],
)
def test_what_a_verb_does_not_take_is_refused(
    call: Callable[[], object], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message):
        call()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("verb", "method", "settings"),
    [
        (distill, "dm", {}),
        (distill, "mtt", {"adjoint": "direct"}),
        (compare, "dm", {"lams": (0, 0.5)}),
        (compare, "mtt", {"lams": (0, 0.5), "adjoint": "direct"}),
        (sdc_ext.tune, "dm", {}),
    ],
)
def test_compiling_is_refused_where_nothing_is_compiled(
    verb: Any, method: str, settings: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=f"`compile` has no effect with .* settings of {method}"):
        verb(method, compile=True, iterations=1, out=tmp_path / "out", progress=False, **settings)
    assert not list(tmp_path.iterdir())


def test_two_networks_of_one_name_are_refused() -> None:
    def make() -> Callable[..., nn.Module]:
        def twin(in_chans: int, num_classes: int, img_size: tuple[int, int]) -> nn.Module:
            return flat(in_chans, num_classes, img_size)

        return twin

    synthetic = select_set("random", progress=False)
    with pytest.raises(InputError, match="two different networks are called 'twin'"):
        evaluate_set(synthetic, networks=[make(), make()], progress=False)
    with pytest.raises(InputError, match="two different networks are called 'twin'"):
        distill("dc", network=make(), eval_network=make(), progress=False)


@pytest.mark.parametrize("name", ["custom", "digits", "mnist"])
def test_a_run_of_other_data_of_the_same_name_is_not_continued(tmp_path: Path, name: str) -> None:
    images, labels = torch.rand(30, 1, 8, 8), torch.arange(30) % 3
    one, other = (
        sdc_ext.load_data((x, y), test=(x, y), name=name)
        for x, y in ((images, labels), (images / 2, labels.flip(0)))
    )
    options: dict[str, Any] = {"out": tmp_path / "set", "progress": False, **TINY}
    first = distill("dc", one, **options)
    again = distill("dc", one, resume=True, **options)
    assert torch.equal(first.images, again.images)
    with pytest.raises(InputError, match=f"other data with the name '{name}'"):
        distill("dc", other, resume=True, **options)
    compared: dict[str, Any] = {"lams": (0, 0.5), "seeds": 2, "out": tmp_path / "c", **TINY}
    compare("dc", one, progress=False, **compared)
    with pytest.raises(InputError, match=f"other data with the name '{name}'"):
        compare("dc", other, progress=False, **compared)


def test_runs_tested_on_other_images_are_not_continued(tmp_path: Path) -> None:
    images, labels = torch.rand(30, 1, 8, 8), torch.arange(30) % 3
    one, other = (
        sdc_ext.load_data((images, labels), test=(tested, labels))
        for tested in (images, torch.rand(30, 1, 8, 8))
    )
    options: dict[str, Any] = {"lams": (0, 0.5), "out": tmp_path, "progress": False, **TINY}
    compare("dc", one, seeds=2, **options)
    with pytest.raises(InputError, match="other data with the name 'custom'"):
        compare("dc", other, seeds=3, **options)
    for path in tmp_path.rglob("run.json"):  # as earlier versions wrote it
        identity = json.loads(path.read_text())
        del identity["test_fingerprint"]
        path.write_text(json.dumps(identity))
    assert len(compare("dc", one, seeds=3, **options).comparison.arms) == 2


def test_a_run_on_digits_of_an_earlier_version_is_continued(tmp_path: Path) -> None:
    options: dict[str, Any] = {"out": tmp_path / "set", "progress": False, **TINY}
    first = distill("dc", **options)
    path = tmp_path / "set" / "run.json"
    identity = json.loads(path.read_text())
    del identity["fingerprint"], identity["test_fingerprint"]  # as earlier versions wrote it
    path.write_text(json.dumps(identity))
    assert torch.equal(first.images, distill("dc", resume=True, **options).images)


def test_results_of_earlier_are_not_overwritten(tmp_path: Path) -> None:
    synthetic = select_set("random", out=tmp_path / "set", progress=False)
    with pytest.raises(InputError, match="exists"):
        select_set("random", out=tmp_path / "set", progress=False)
    with pytest.raises(InputError, match="exists"):
        evaluate_set(synthetic, out=tmp_path / "set", progress=False)


def _diverge(*_: object) -> None:
    raise sdc_ext.DivergenceError("the loss is nan")


@pytest.mark.parametrize("verb", ["tune", "membership_of"])
def test_a_divergence_in_a_temporary_folder_names_none(
    verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(GradientMatching, "step", _diverge)
    options = {"network": "convnet:width=4:depth=1", "out": tmp_path / "out", "progress": False}
    with pytest.raises(sdc_ext.DivergenceError, match=r"iteration 0: the loss is nan$"):
        getattr(sdc_ext, verb)("dc", **options)


def test_a_divergence_names_the_set_that_it_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(GradientMatching, "step", _diverge)
    with pytest.raises(sdc_ext.DivergenceError) as found:
        distill("dc", network="convnet:width=4:depth=1", out=tmp_path / "set", progress=False)
    error = pickle.loads(pickle.dumps(found.value))  # as it comes from a worker
    message = f"iteration 0: the loss is nan; the last good set is in {tmp_path / 'set'}"
    assert str(error) == str(found.value) == message
