"""Opening sets: which real data are asked for, how often, and what is found out once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sdc_ext.data.load import load_data
from sdc_ext.data.real import RealData
from sdc_ext.errors import InputError
from sdc_ext.sets import sources, unnamed
from sdc_ext.sets.export import FORMATS
from sdc_ext.sets.info import SetInfo
from sdc_ext.sets.loading import Opening, load_set, open_all, open_set, open_with_data
from sdc_ext.sets.synthetic_set import SyntheticSet, class_labels
from sdc_ext.training.recipe import TrainingRecipe


class Loader:
    """Loads the digits, whatever they are called, and notes what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, tuple[int, int] | None]] = []

    def __call__(self, name: str, size: tuple[int, int] | None) -> RealData:
        self.asked.append((name, size))
        return replace(load_data("digits"), name=name)


def make_set(dataset: str = "digits") -> SyntheticSet:
    """The first digit of each class, as if a method had distilled it."""
    data = replace(load_data("digits"), name=dataset)
    images = data.train.images[torch.stack([found[0] for found in data.indices_by_class()])]
    labels = class_labels(10, 1)
    info = SetInfo.of_data(data, labels, TrainingRecipe(epochs=3, lr=0.02))
    return SyntheticSet.of(data.normalize(images), labels, info, data)


@pytest.mark.parametrize("fmt", ["best", "pictures"])
def test_data_that_reading_takes_are_loaded_once(tmp_path: Path, fmt: str) -> None:
    path = tmp_path / "set"
    FORMATS[fmt](make_set(), path)
    for ours in ("meta.json", "synthetic.safetensors"):
        if fmt == "pictures":  # or it is still a set of ours
            (path / ours).unlink()
    load = Loader()
    synthetic, data = open_with_data(path, load, Opening(dataset="digits"))
    assert load.asked == [("digits", None)]
    assert (synthetic.info.mean, data.mean) == (data.mean, synthetic.info.mean)


def test_data_that_only_testing_takes_are_loaded_for_testing(tmp_path: Path) -> None:
    synthetic = make_set()
    synthetic.save(tmp_path)
    load = Loader()
    assert torch.equal(open_set(tmp_path, load).images, synthetic.images)
    assert load.asked == []
    open_with_data(tmp_path, load)
    assert load.asked == [("digits", None)]


def test_sets_share_their_data_and_count_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a", "b"):
        make_set().save(tmp_path / name)
    load = Loader()
    opened = list(open_all([tmp_path / "a", tmp_path / "b", tmp_path / "a"], load))
    assert [name for name, _, _ in opened] == ["a", "b"]
    assert load.asked == [("digits", None)]
    assert caplog.messages == [f"{tmp_path / 'a'} is left out, since it was named before"]


@pytest.mark.parametrize(
    ("kind", "file"), [("best", "images_best.pt"), ("dd-ranking", "images.pt")]
)
def test_a_folder_and_the_file_in_it_are_one_set(kind: str, file: str, tmp_path: Path) -> None:
    make_set().save(tmp_path / "other")
    if kind == "best":
        FORMATS["best"](make_set(), tmp_path / "a")
    else:
        (tmp_path / "a").mkdir()
        torch.save(make_set().images, tmp_path / "a" / file)
    paths = [tmp_path / "a", tmp_path / "other", tmp_path / "a" / file]
    opened = list(open_all(paths, Loader(), Opening(lr=0.01, dataset="digits")))
    assert [name for name, _, _ in opened] == ["a", "other"]


def test_images_of_folders_are_resized_as_the_set(tmp_path: Path) -> None:
    make_set("imagefolder").save(tmp_path)
    load = Loader()
    open_with_data(tmp_path, load)
    open_with_data(tmp_path, load, Opening(image_size=(8, 8), dataset="tinyimagenet"))
    assert load.asked == [("imagefolder", (8, 8)), ("tinyimagenet", (8, 8))]


def test_folders_of_the_originals_name_their_data(tmp_path: Path) -> None:
    path = tmp_path / "logged_files" / "CIFAR10" / "run"
    FORMATS["best"](make_set(), path)
    (path / "meta.json").unlink()
    load = Loader()
    assert open_set(path, load).info.dataset == "cifar10"
    assert load.asked == [("cifar10", None)]


def test_what_lies_beside_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    FORMATS["best"](make_set(), tmp_path)
    asked = []
    for name in ("format_of", "read_info"):
        real = getattr(sources, name)
        monkeypatch.setattr(sources, name, lambda *a, f=real, n=name: asked.append(n) or f(*a))
    open_with_data(tmp_path, Loader())
    assert sorted(asked) == ["format_of", "read_info"]


def test_set_of_unnamed_data_asks_for_them(tmp_path: Path) -> None:
    make_set("custom").save(tmp_path)
    with pytest.raises(InputError, match="made from data called 'custom', which have no loader"):
        open_with_data(tmp_path, Loader())
    synthetic, data = open_with_data(tmp_path, Loader(), Opening(dataset="digits"))
    assert (synthetic.info.dataset, data.name) == ("custom", "digits")


def test_files_that_do_not_name_their_data_need_them(tmp_path: Path) -> None:
    FORMATS["best"](make_set(), tmp_path)
    (tmp_path / "meta.json").unlink()
    with pytest.raises(InputError, match="does not say what it was made from: pass `data`"):
        load_set(tmp_path)


def test_files_that_do_not_name_their_data_are_recognised(tmp_path: Path) -> None:
    FORMATS["best"](make_set(), tmp_path)
    (tmp_path / "meta.json").unlink()
    load = Loader()
    synthetic, data = open_with_data(tmp_path, load)
    assert load.asked == [("digits", None)] and synthetic.info.dataset == data.name == "digits"


def test_data_that_do_not_fit_are_studied_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    FORMATS["best"](make_set(), tmp_path)
    (tmp_path / "meta.json").unlink()
    torch.save(torch.arange(10).roll(1), tmp_path / "labels_best.pt")
    asked = r"pass `data` \(digits: a linear classifier of the real images gives 0 of 10 images"
    studied = []
    real = unnamed.study
    monkeypatch.setattr(unnamed, "study", lambda *given: studied.append(given[2]) or real(*given))
    with pytest.raises(InputError, match=asked):
        open_with_data(tmp_path, Loader(), Opening(lr=0.1))
    assert len(studied) == 1
    # What is declared of the images may make them look like the data.
    with pytest.raises(InputError, match="pass `data`"):
        open_with_data(tmp_path, Loader(), Opening(zca=False))
    assert [one.zca for one in studied[1:]] == [None, False]
