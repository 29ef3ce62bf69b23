"""The distilled set on disk: ours and the originals' files."""

from __future__ import annotations

import io
import json
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sdc_ext.data.load import load_data
from sdc_ext.data.sources import as_real_data
from sdc_ext.errors import InputError
from sdc_ext.sets.formats.original_names import original_name
from sdc_ext.sets.formats.res import read_res, write_res
from sdc_ext.sets.info import Evaluation, SetInfo
from sdc_ext.sets.loading import load_set
from sdc_ext.sets.synthetic_set import SyntheticSet, class_labels
from sdc_ext.training.recipe import TrainingRecipe


def make_set(dataset: str = "digits") -> SyntheticSet:
    info = SetInfo(
        method="dsa",
        dataset=dataset,
        classes=tuple(str(c) for c in range(10)),
        mean=(0.3,),
        std=(0.4,),
        ipc=2,
        network="convnet:depth=2",
        evaluation=TrainingRecipe(epochs=7, augmentation="crop"),
        settings={"lam": {"value": 0.002, "source": "test"}},
        accuracies=(Evaluation("convnet:depth=2", (0.5,)).row(3),),
        versions={"torch": "x"},
    )
    return SyntheticSet(torch.randn(20, 1, 8, 8), class_labels(10, 2), info)


def assert_same(a: SyntheticSet, b: SyntheticSet) -> None:
    assert torch.equal(a.images, b.images)
    assert torch.equal(a.labels, b.labels)
    assert a.info == b.info


def test_saved_set_is_read_back(tmp_path: Path) -> None:
    synthetic = make_set()
    synthetic.save(tmp_path / "set")
    assert_same(SyntheticSet.load(tmp_path / "set"), synthetic)
    names = sorted(p.name for p in (tmp_path / "set").iterdir())
    assert names == ["grid.png", "meta.json", "synthetic.safetensors"]


def test_grid_shows_the_images(tmp_path: Path) -> None:
    make_set().save(tmp_path)
    with Image.open(tmp_path / "grid.png") as picture:
        grey_levels = {level for _, level in picture.convert("L").getcolors() or []}
    assert len(grey_levels) > 50


def test_set_draws_itself_in_a_notebook() -> None:
    synthetic = make_set()
    with Image.open(io.BytesIO(synthetic._repr_png_())) as picture:
        assert picture.format == "PNG"
    assert repr(synthetic) == "SyntheticSet(dsa on digits, ipc 2, lam 0.002, 20 images)"


def test_set_draws_to_the_format_that_the_path_names(tmp_path: Path) -> None:
    make_set().draw(tmp_path / "set.svg")
    assert "<svg" in (tmp_path / "set.svg").read_text()


def test_pixels_are_in_range() -> None:
    synthetic = make_set()
    inside = (synthetic.images * 0.4 + 0.3).clamp(0, 1)
    torch.testing.assert_close(synthetic.pixels(), inside)


def test_folder_that_is_no_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"is not a distilled set \(it has no meta.json\)"):
        SyntheticSet.load(tmp_path)


@pytest.mark.parametrize("damage", ["{", "{}", '{"format": 99}', "[]"])
def test_damaged_meta_is_refused(tmp_path: Path, damage: str) -> None:
    make_set().save(tmp_path)
    (tmp_path / "meta.json").write_text(damage)
    with pytest.raises(InputError, match=r"meta.json (is damaged|was written by a newer)"):
        SyntheticSet.load(tmp_path)


def test_damaged_tensors_are_refused(tmp_path: Path) -> None:
    make_set().save(tmp_path)
    (tmp_path / "synthetic.safetensors").write_bytes(b"\x08" * 40)
    with pytest.raises(InputError, match="is damaged"):
        SyntheticSet.load(tmp_path)


def test_real_data_takes_the_sets_statistics() -> None:
    data = make_set().adopt(load_data("digits"))
    assert (data.mean, data.std) == ((0.3,), (0.4,))


def test_data_that_do_not_fit_are_refused() -> None:
    synthetic = make_set()
    wide = SyntheticSet(torch.zeros(20, 1, 8, 9), synthetic.labels, synthetic.info)
    with pytest.raises(InputError, match=r"images of \(1, 8, 9\).*digits has \(1, 8, 8\)"):
        wide.adopt(load_data("digits"))


@pytest.mark.parametrize("name", ["custom", "mnist"])
@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ("bca", "the distilled set and {} have the same classes in another order"),
        ("abd", "class 'c' is only in one of the distilled set and {}: evaluate on"),
    ],
)
def test_data_of_others_have_the_sets_classes(classes: str, message: str, name: str) -> None:
    images, labels = torch.rand(12, 1, 8, 8), torch.arange(12) % 3
    data = as_real_data((images, labels), name=name, classes=list("abc"))
    info = SetInfo.of_data(data, labels, TrainingRecipe(epochs=1))
    synthetic = SyntheticSet.of(images, labels, info, data)
    assert synthetic.adopt(data) == data
    with pytest.raises(InputError, match=message.format(name)):
        synthetic.adopt(replace(data, classes=tuple(classes)))


def test_numbered_classes_of_public_data_fit_their_names() -> None:
    """The original repositories' files number the classes."""
    images, labels = torch.rand(12, 1, 8, 8), torch.arange(12) % 3
    named = as_real_data((images, labels), name="mnist", classes=list("abc"))
    info = SetInfo.of_data(named, labels, TrainingRecipe(epochs=1))
    numbered = SyntheticSet.of(images, labels, replace(info, classes=("0", "1", "2")), named)
    assert numbered.adopt(named) == named
    with pytest.raises(InputError, match="class '0' is only in one of"):
        numbered.adopt(replace(named, name="custom"))


def test_originals_file_round_trip(tmp_path: Path) -> None:
    synthetic = make_set()
    path = tmp_path / original_name(synthetic.info)
    assert path.name == "res_DSA_digits_ConvNetD2_2ipc.pt"
    write_res([synthetic], path)
    assert_same(load_set(path), synthetic)
    content = torch.load(path, weights_only=True)
    images, labels = content["data"][-1]
    assert images.shape == (20, 1, 8, 8) and labels.dtype == torch.int64
    assert content["accs_all_exps"] == {"ConvNetD2": [0.5]}


@pytest.mark.parametrize(
    ("name", "network", "epochs", "augmentation"),
    [
        ("res_DC_MNIST_ConvNet_2ipc.pt", "convnet", 1000, "dc:crop_scale_rotate"),
        (
            "res_DSA_SVHN_ConvNetD4_2ipc.pt",
            "convnet:depth=4",
            1000,
            "color_crop_cutout_scale_rotate",
        ),
        ("res_DC_CIFAR10_ConvNetW64_2ipc.pt", "convnet:width=64", 300, "none"),
    ],
)
def test_file_of_the_originals_is_understood(
    tmp_path: Path, name: str, network: str, epochs: int, augmentation: str
) -> None:
    images = torch.randn(20, 1 if "MNIST" in name else 3, 28, 28)
    accuracies = [np.float64(0.9), np.float64(0.8)]
    content = {"data": [[images, class_labels(10, 2)]], "accs_all_exps": {"ConvNet": accuracies}}
    torch.save(content, tmp_path / name)
    synthetic = read_res(tmp_path / name)
    assert torch.equal(synthetic.images, images)
    info = synthetic.info
    assert (info.network, info.ipc, str(info.correction)) == (network, 2, "lam unknown")
    assert (info.evaluation.epochs, info.evaluation.augmentation) == (epochs, augmentation)
    assert info.accuracies[0]["mean"] == pytest.approx(0.85)


def test_file_written_with_numpy_1_is_read(tmp_path: Path) -> None:
    """Most of the originals' files were, and name numpy's numbers otherwise than numpy 2."""
    path = tmp_path / "res_DC_MNIST_ConvNet_2ipc.pt"
    data = [[torch.randn(20, 1, 28, 28), class_labels(10, 2)]]
    torch.save(
        {"data": data, "accs_all_exps": {"ConvNet": [np.float64(0.9)]}},
        path,
        _use_new_zipfile_serialization=False,
    )
    new, old = b"numpy._core.multiarray", b"numpy.core.multiarray"
    content = path.read_bytes()
    assert new in content or old in content
    path.write_bytes(content.replace(b"c" + new + b"\n", b"c" + old + b"\n"))
    assert read_res(path).info.accuracies[0]["mean"] == pytest.approx(0.9)


class Malicious:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path("executed"),)


def test_strangers_code_is_not_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "res_DC_MNIST_ConvNet_1ipc.pt"
    torch.save({"data": Malicious()}, path)
    with pytest.raises(InputError, match=r"(holds no plain tensors|is not a res_\*\.pt)"):
        read_res(path)
    path.write_bytes(pickle.dumps(Malicious()))
    with pytest.raises(InputError, match=r"(holds no plain tensors|is not a res_\*\.pt)"):
        read_res(path)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [("images.pt", "does not say the data set"), ("res_DC_Emojis_ConvNet_1ipc.pt", "not say")],
)
def test_file_whose_name_tells_nothing_is_refused(tmp_path: Path, name: str, message: str) -> None:
    torch.save({"data": [[torch.zeros(2, 1, 8, 8), torch.arange(2)]]}, tmp_path / name)
    with pytest.raises(InputError, match=message):
        read_res(tmp_path / name)


def test_other_tensors_are_refused(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(1)}, tmp_path / "weights.pt")
    with pytest.raises(InputError, match=r"(holds no plain tensors|is not a res_\*\.pt)"):
        read_res(tmp_path / "weights.pt")


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no file"):
        load_set(tmp_path / "res_DC_MNIST_ConvNet_1ipc.pt")


def test_meta_is_plain_json() -> None:
    text = make_set().info.to_json()
    assert json.loads(text)["evaluation"]["epochs"] == 7
