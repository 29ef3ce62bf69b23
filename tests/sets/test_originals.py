"""Sets of other projects, as their scripts save them: read without a flag, and wrong words met."""

from __future__ import annotations

import logging
import re
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from originals import (
    ORIGINALS,
    pixels_of,
    save_datm,
    save_dream,
    save_idc,
    save_mtt,
    save_ncfm,
    save_released,
    save_released_hard,
)
from PIL import Image, ImageColor

from sdc_ext import evaluate_set, identify_set, select_set
from sdc_ext.cli import main
from sdc_ext.data.load import load_data
from sdc_ext.data.real import RealData
from sdc_ext.errors import InputError
from sdc_ext.sets import SyntheticSet, load_set
from sdc_ext.sets.identification import Examination
from sdc_ext.sets.loading import Opening, open_with_data
from sdc_ext.sets.recognition.conclusions import Recognition
from sdc_ext.verbs.identification import Identified

pytestmark = pytest.mark.usefixtures("own_cache")

EVALUATION = ["--networks", "mlp", "--num-eval", "1", "--epoch-eval-train", "40"]


@pytest.fixture(scope="module")
def data() -> RealData:
    return load_data("digits")


def load_digits(name: str, size: tuple[int, int] | None) -> RealData:
    """The digits, whatever they are called, as long as it is not the name of other data."""
    assert name == "digits"
    return load_data("digits")


@pytest.mark.parametrize("project", [name for name in ORIGINALS if name != "DC"])
def test_released_sets_are_read_without_a_flag(
    project: str, data: RealData, tmp_path: Path
) -> None:
    path = ORIGINALS[project](data, tmp_path)
    lr = 0.02 if project in ("MTT", "TESLA") else None  # their files have none
    synthetic, real = open_with_data(path, load_digits, Opening(lr=lr))
    zca = project in ("TESLA", "DATM", "PAD", "EDF", "DD-Ranking, soft")
    factor = 2 if project in ("IDC", "DREAM", "NCFM") else 1
    assert (synthetic.info.whitening is not None) is zca is (real.whitening is not None)
    assert synthetic.info.factor == factor
    assert len(synthetic.images) == 40 * factor**2
    pixels, labels = pixels_of(data, 4 * factor**2)
    assert synthetic.hard_labels.equal(labels)
    if factor == 1:
        torch.testing.assert_close(synthetic.pixels(), pixels, atol=1e-4, rtol=0)
    assert synthetic.labels.ndim == (2 if zca else 1)


def test_soft_labels_that_are_not_sorted_say_the_classes(data: RealData, tmp_path: Path) -> None:
    folder = save_released(data, tmp_path)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(0))[:39]
    for name in ("images.pt", "labels.pt"):
        torch.save(torch.load(folder / name, weights_only=True)[order], folder / name)
    synthetic = load_set(folder, data)
    assert synthetic.info.method == "datm"
    assert synthetic.hard_labels.equal(pixels_of(data, 4)[1][order])


def test_files_of_dc_name_their_data(data: RealData, tmp_path: Path) -> None:
    path = ORIGINALS["DC"](replace(data, name="mnist"), tmp_path)
    assert load_set(path).info.dataset == "mnist"


@pytest.mark.parametrize(
    ("save", "recipe"),
    [
        (save_idc, (1000, "sgd", "multistep", 0.01, 64, "cutmix:p=0.5")),
        (save_dream, (1000, "sgd", "multistep", 0.01, 64, "cutmix:p=0.5")),
        (save_ncfm, (2000, "adamw", "multistep", 0.001, 128, "cutmix:p=0.5")),
        (save_datm, (1000, "sgd", "step", 0.02, 256, "none")),
        (save_released_hard, (1000, "sgd", "halfway", 0.01, 256, "none")),
    ],
)
def test_released_sets_are_evaluated_as_their_scripts_do(
    save: Callable[[RealData, Path], Path],
    recipe: tuple[object, ...],
    data: RealData,
    tmp_path: Path,
) -> None:
    r = load_set(save(data, tmp_path), data).info.evaluation
    found = (r.epochs, r.optimizer, r.schedule, pytest.approx(r.lr), r.batch_size, r.mix)
    assert recipe == found


def test_the_last_file_of_a_folder_counts(data: RealData, tmp_path: Path) -> None:
    """Those of earlier iterations hold noise here, which does not pass for digits."""
    for folder in (save_dream(data, tmp_path), save_ncfm(data, tmp_path)):
        last = load_set(folder, data)
        (file,) = [path for path in folder.rglob("*000.pt")]
        assert torch.equal(load_set(file, data).images, last.images)


def test_the_factor_is_seen_where_the_path_does_not_name_it(data: RealData, tmp_path: Path) -> None:
    for factor in (1, 2):
        folder = save_idc(data, tmp_path, ipc=20, factor=factor)
        moved = (folder / "data.pt").rename(tmp_path / "data.pt")
        assert load_set(moved, data).info.factor == factor
        assert load_set(moved, data, factor=4).info.factor == 4


def test_what_is_open_is_asked_for(data: RealData, tmp_path: Path) -> None:
    torch.manual_seed(0)
    folder = save_mtt(data, tmp_path)
    torch.save(torch.randn(40, 1, 8, 8), folder / "images_best.pt")
    with pytest.raises(
        InputError, match=r"images are ZCA-whitened .*: pass `zca=True` or `zca=False`"
    ):
        load_set(folder, data, lr=0.01)
    for zca in (True, False):
        read = load_set(folder, data, lr=0.01, zca=zca)
        assert (read.info.whitening is not None) is zca
    parts = [torch.load(save_idc(data, tmp_path, 20, f) / "data.pt") for f in (1, 2)]
    moved = tmp_path / "data.pt"
    torch.save([torch.cat(both) for both in zip(*parts, strict=True)], moved)
    with pytest.raises(InputError, match=r"how many pictures a stored image holds .*`factor`"):
        load_set(moved, data)


WRONG: dict[str, tuple[Callable[[RealData, Path], Path], dict[str, object], str]] = {
    "zca": (save_mtt, {"zca": True, "lr": 0.01}, "read as ZCA-whitened, as you say, although"),
    "no zca": (save_datm, {"zca": False}, "read as not whitened, as you say, although they look"),
    "factor": (save_idc, {"factor": 1}, "read with factor 1, although it looks like 2: steps"),
    "high rate": (save_datm, {"lr": 20.0}, "learning rate of 20, as you say, although its files"),
    "low rate": (save_datm, {"lr": 0.001}, "0.001, as you say, although its files .* use 0.02"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_declarations_are_obeyed_with_a_warning(
    wrong: str, data: RealData, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save, declared, line = WRONG[wrong]
    path = save(data, tmp_path) if save is not save_idc else save_idc(data, tmp_path, ipc=20)
    caplog.set_level(logging.WARNING)
    read = load_set(path, data, **declared)  # type: ignore[arg-type]
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith(str(tmp_path))
    assert re.search(line, caplog.messages[0]), caplog.messages[0]
    if "lr" in declared:
        assert read.info.evaluation.lr == declared["lr"]
    if "zca" in declared:
        assert (read.info.whitening is not None) is declared["zca"]


def test_another_data_set_is_noticed(
    data: RealData, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    torch.manual_seed(0)
    other = data.train.images.flip(2).roll(3, 0)  # upside down, and under each other's labels
    train = replace(data.train, images=other)
    load_set(save_mtt(replace(data, train=train), tmp_path), data, lr=0.01)
    assert "the images do not look like those of digits" in caplog.text


def test_right_declarations_are_silent(
    data: RealData, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    load_set(save_datm(data, tmp_path), data, zca=True, lr=0.05)
    load_set(save_idc(data, tmp_path), data, factor=2)
    assert not caplog.messages


def test_a_set_that_describes_itself_is_believed(
    data: RealData, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    load_set(save_datm(data, tmp_path), data).save(tmp_path / "ours")
    load_set(tmp_path / "ours", zca=False)
    assert "its own description says that it is ZCA-whitened" in caplog.text
    with pytest.raises(InputError, match="says its factor itself, or has none: leave `factor` out"):
        load_set(tmp_path / "ours", factor=2)


def test_unreadable_pairs_are_refused_in_one_sentence(data: RealData, tmp_path: Path) -> None:
    folder = save_idc(data, tmp_path)
    for images, labels, problem in (
        (torch.rand(4, 3, 8, 8), torch.arange(4), "digits needs images"),
        (torch.rand(4, 1, 8, 8), torch.arange(3), "the shape .3,., and there are 4 images"),
        (torch.full((4, 1, 8, 8), float("nan")), torch.arange(4), "images are not finite"),
    ):
        torch.save([images, labels], folder / "data.pt")
        with pytest.raises(InputError, match=problem):
            load_set(folder, data)


def test_identify_prints_evidence_and_the_command(
    data: RealData, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = save_datm(data, tmp_path)
    assert main(["identify", str(folder)]) == 0
    said = capsys.readouterr().out
    for part in ("DATM, PAD or EDF", "ZCA-whitened", "logits", "sorted by class", "digits"):
        assert part in said
    assert f"sdc-ext evaluate {folder} --dataset digits" in said
    assert not list(tmp_path.rglob("*.csv"))
    command = ["evaluate", str(folder), "--out", str(tmp_path / "out"), *EVALUATION]
    assert main(command) == 0


def test_identify_asks_after_the_evidence(
    data: RealData, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = save_mtt(data, tmp_path)
    assert main(["identify", str(folder)]) == 2
    said = capsys.readouterr()
    assert "normalised" in said.out and "pass the learnt syn_lr as --lr-eval" in said.err
    assert main(["identify", str(folder), "--lr-eval", "0.02"]) == 0
    assert "--lr-eval 0.02" in capsys.readouterr().out


def test_identify_concludes_nothing_where_no_set_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["identify", str(tmp_path)]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.startswith(f"sdc-ext: {tmp_path} is not a distilled set")


def test_identify_examines_sets_of_ours(data: RealData, tmp_path: Path) -> None:
    load_set(save_idc(data, tmp_path), data).save(tmp_path / "ours")
    found = {row["property"]: row["conclusion"] for row in identify_set(tmp_path / "ours").rows()}
    assert found["format"] == "folder of sdc-ext" and found["data set"] == "digits"
    assert found["factor"] == "2"
    path = tmp_path / "grid.png"
    identify_set(tmp_path / "ours").draw(path)
    assert path.is_file() and isinstance(
        identify_set(tmp_path / "ours").examination.synthetic, SyntheticSet
    )


@pytest.mark.parametrize(
    ("images", "labels", "question"),
    [
        (torch.rand(0, 1, 8, 8), torch.zeros(0), "holds no images of the shape (N, C, H, W)"),
        (torch.full((10, 1, 8, 8), torch.nan), torch.arange(10), "images are not finite"),
        (torch.rand(10, 1, 8, 8) * 1e30, torch.arange(10), "or too large to compute with"),
        (torch.rand(10, 8, 8), torch.arange(10), "holds no images of the shape (N, C, H, W)"),
        (torch.rand(10, 1, 8, 8), torch.arange(10) - 1, "no classes from 0"),
        (torch.rand(10, 1, 8, 8), torch.full((10, 10), torch.nan), "are not finite"),
        (torch.rand(10, 1, 8, 8), torch.full((10,), torch.nan), "are not finite"),
        (torch.rand(10, 1, 8, 8), torch.full((10,), torch.inf), "are not finite"),
        (torch.rand(10, 1, 8, 8), torch.tensor(1), "the shape (), and there are 10 images"),
        (torch.rand(10, 1, 8, 8), torch.arange(9), "the shape (9,), and there are 10 images"),
    ],
)
def test_what_is_no_set_is_not_examined(
    tmp_path: Path,
    images: torch.Tensor,
    labels: torch.Tensor,
    question: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    torch.save(images, tmp_path / "images_best.pt")
    torch.save(labels, tmp_path / "labels_best.pt")
    found = identify_set(tmp_path, "digits")
    assert question in found.examination.question
    assert [row["property"] for row in found.rows()] == ["format"]
    assert main(["evaluate", str(tmp_path), "--num-eval", "1"]) == 2
    assert question in capsys.readouterr().err


def test_what_a_description_states_needs_no_statistics(data: RealData, tmp_path: Path) -> None:
    random = select_set("random", data, ipc=1, out=tmp_path / "set", progress=False)
    noise = replace(random, images=torch.randn_like(random.images), labels=random.labels)
    noise.save(tmp_path / "noise")
    rows = {row["property"]: row for row in identify_set(tmp_path / "noise").rows()}
    for about, stated in (("pixels", "normalised"), ("factor", "1"), ("data set", "digits")):
        assert rows[about]["conclusion"] == stated and rows[about]["certainty"] == "sure"
    assert "its description says so" in rows["pixels"]["evidence"]


def test_the_command_repeats_what_was_said(tmp_path: Path) -> None:
    said = Opening(lr=0.0123456789, factor=2, dataset="pets", image_size=(8, 12))
    nothing = Examination(tmp_path, Recognition(()), question="what is it?")
    named = ("--dataset", "pets", "--data-dir", "a b")
    words = f"--dataset pets --data-dir 'a b' --lr-eval {said.lr} --factor 2 --image-size 8x12"
    assert Identified(nothing, said, named).command() == f"sdc-ext evaluate {tmp_path} {words}"


def test_the_command_runs_as_it_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for label in ("black", "white"):
        for k in range(4):
            path = tmp_path / "my photos" / label / f"{k}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGBA", (8, 8), (*ImageColor.getrgb(label), 255 - k)).save(path)
    select_set("random", "my photos", out=tmp_path / "set", progress=False)
    assert main(["identify", "set", "--dataset", "my photos", "--background", "red"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    command = said.partition("evaluate it: ")[2]
    words = "--dataset imagefolder --data-dir 'my photos' --background red"
    assert command == f"sdc-ext evaluate set {words}"
    assert main([*shlex.split(command)[1:], *EVALUATION, "--out", "table"]) == 0


def test_data_of_ones_own_are_named_by_a_call(data: RealData, tmp_path: Path) -> None:
    own = replace(data, name="custom")
    folder = save_idc(data, tmp_path, factor=2)
    call = identify_set(folder, own, factor=2, lr=0.01).command()
    assert call == (
        f"evaluate_set(load_set({str(folder)!r}, load_data(data), lr=0.01, factor=2), data)"
    )
    quick = call.replace("), data)", "), data, networks='mlp', num_eval=1, epoch_eval_train=1)")
    known = {"evaluate_set": evaluate_set, "load_set": load_set, "load_data": load_data}
    (result,) = eval(quick, known | {"data": own}).results
    assert result.recipe.lr == 0.01
    assert identify_set(folder, "digits").command().endswith(f"{folder} --dataset digits")
