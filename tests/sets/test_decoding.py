"""Stored images that hold several: decoding them, and sets of them in files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from sdc_ext.data import RealData, load_data
from sdc_ext.errors import InputError
from sdc_ext.sets import FORMATS, Decoder, Distilled, SetInfo, SyntheticSet, load_set
from sdc_ext.sets.export import default_name
from sdc_ext.sets.synthetic_set import META, TENSORS, class_labels
from sdc_ext.training.recipe import TrainingRecipe

IPC = 2


@pytest.fixture(scope="module")
def data() -> RealData:
    return load_data("digits")


def make_set(data: RealData, factor: int = 2, *, soft: bool = False) -> SyntheticSet:
    info = SetInfo(
        *("dm", "digits", data.classes, data.mean, data.std, IPC, "convnet:depth=1:width=4"),
        evaluation=TrainingRecipe(epochs=2),
        whitening=data.whitened_by,
        factor=factor,
    )
    labels = class_labels(10, IPC)
    if soft:
        labels = torch.randn(len(labels), 10).softmax(1)
    return SyntheticSet.of(torch.randn(len(labels), 1, 8, 8), labels, info, data)


def idc(images: Tensor, factor: int) -> Tensor:
    """IDC's ``decode_zoom`` of square images whose size the factor divides, place by place."""
    size = images.shape[-1]
    part = size // factor
    parts = [
        images[:, :, i * part : (i + 1) * part, j * part : (j + 1) * part]
        for i in range(factor)
        for j in range(factor)
    ]
    return torch.cat([F.interpolate(p, size=(size, size), mode="bilinear") for p in parts])


@pytest.mark.parametrize("factor", [2, 3])
def test_images_are_decoded_as_idc_decodes_them(factor: int) -> None:
    stored = torch.randn(5, 3, 12, 12, dtype=torch.float64)
    decoder = Decoder(factor)
    by_place = decoder.decode(stored).unflatten(0, (5, decoder.parts)).transpose(0, 1).flatten(0, 1)
    torch.testing.assert_close(by_place, idc(stored, factor), rtol=0, atol=0)


def test_a_part_is_enlarged_by_the_formula_of_bilinear_interpolation() -> None:
    stored = torch.tensor([[[[1.0, 2.0, 9.0, 9.0], [3.0, 4.0, 9.0, 9.0]] + [[9.0] * 4] * 2]])
    first, *others = Decoder(2).decode(stored)[:, 0]
    across = torch.tensor([[1.0, 0.0], [0.75, 0.25], [0.25, 0.75], [0.0, 1.0]])
    torch.testing.assert_close(first, across @ stored[0, 0, :2, :2] @ across.T)
    assert all(bool((part == 9).all()) for part in others)


def test_images_of_other_sides_are_decoded() -> None:
    decoded = Decoder(2).decode(torch.randn(3, 1, 4, 6))
    assert decoded.shape == (12, 1, 4, 6)


def test_real_images_are_shrunk_as_idc_shrinks_them() -> None:
    images = torch.randn(8, 3, 12, 12)
    stored = Decoder(2).encode(images)
    small = F.interpolate(images, size=(6, 6))
    for k, row in enumerate(stored):
        for place, (down, right) in enumerate(((0, 0), (0, 6), (6, 0), (6, 6))):
            part = row[:, down : down + 6, right : right + 6]
            assert torch.equal(part, small[4 * k + place])


def test_labels_are_repeated_and_averaged() -> None:
    rows = torch.randn(3, 10)
    decoder = Decoder(2)
    assert torch.equal(decoder.repeat(rows)[::4], rows)
    torch.testing.assert_close(decoder.mean(decoder.repeat(rows)), rows)


@pytest.mark.parametrize("factor", [0, -2, 9, 1.5])
def test_factors_out_of_range_are_refused(factor: int) -> None:
    with pytest.raises(InputError, match=r"`factor` must be .*from 1 to 8"):
        Decoder(factor)


def test_without_a_factor_nothing_happens() -> None:
    given = torch.randn(4, 1, 5, 7)
    assert all(f(given) is given for f in (Decoder().decode, Decoder().encode, Decoder().repeat))
    assert Decoder().mean(given) is given


def test_what_data_have_too_few_pixels_or_images_for_is_refused(data: RealData) -> None:
    Decoder(8).check(data, 1)
    Decoder().check(data, 10**6)  # the task's own check, since no factor is to blame
    allowed = "`factor` 3 does not divide images of 8x8 pixels: choose from 1, 2, 4, 8$"
    with pytest.raises(InputError, match=allowed):
        Decoder(3).check(data, 1)
    oblong = replace(data, train=replace(data.train, images=data.train.images[..., :6]))
    with pytest.raises(InputError, match=r"images of 8x6 pixels: choose from 1, 2$"):
        Decoder(4).check(oblong, 1)
    too_many = "ipc 40 with `factor` 2 makes 160 images per class, more than the 133 training image"
    with pytest.raises(InputError, match=too_many):
        Decoder(2).check(data, 40)


@pytest.mark.parametrize("soft", [False, True])
def test_a_saved_set_is_read_back_decoded(data: RealData, tmp_path: Path, soft: bool) -> None:
    synthetic = make_set(data, soft=soft)
    synthetic.save(tmp_path / "set")
    tensors = load_file(tmp_path / "set" / TENSORS)
    assert tensors["images"].shape == (10 * IPC, 1, 8, 8) and len(tensors["labels"]) == 10 * IPC
    again = load_set(tmp_path / "set")
    assert again.stored is not None and synthetic.stored is not None
    assert torch.equal(again.stored, synthetic.stored)
    assert torch.equal(again.images, Decoder(2).decode(tensors["images"]))
    assert torch.equal(again.labels, synthetic.labels) and len(again.labels) == 40 * IPC
    assert again.info == synthetic.info and again.info.factor == 2
    assert again.title == "dm on digits, ipc 2, factor 2, lam unknown"


def test_whitened_images_are_unwhitened_after_decoding(data: RealData, tmp_path: Path) -> None:
    whitened = data.whitened()
    synthetic = make_set(whitened)
    assert synthetic.unwhitened is not None
    torch.testing.assert_close(
        synthetic.unwhitened, whitened.preprocessing.pixels(synthetic.images)
    )
    synthetic.save(tmp_path / "set")
    assert torch.equal(load_set(tmp_path / "set").pixels(), synthetic.pixels())


def test_sets_of_earlier_versions_have_factor_1(data: RealData, tmp_path: Path) -> None:
    make_set(data, factor=1).save(tmp_path)
    content = json.loads((tmp_path / META).read_text())
    assert content.pop("factor") == content["format"] == 1
    (tmp_path / META).write_text(json.dumps(content))
    again = load_set(tmp_path)
    assert again.info.factor == 1 and again.stored is None
    assert again.images.shape == (10 * IPC, 1, 8, 8)


def test_earlier_versions_refuse_sets_with_a_factor(data: RealData, tmp_path: Path) -> None:
    make_set(data).save(tmp_path)
    assert json.loads((tmp_path / META).read_text())["format"] == 2


@pytest.mark.parametrize(
    ("factor", "problem"),
    [
        (3, r"factor 3 does not divide images of 8x8 pixels"),
        (0, "factor must be a whole number from 1 to 8, got 0"),
        (9, "factor must be a whole number from 1 to 8, got 9"),
        ("two", r"factor: Expected int, got str"),
    ],
)
def test_a_damaged_factor_is_refused(
    data: RealData, tmp_path: Path, factor: object, problem: str
) -> None:
    make_set(data).save(tmp_path)
    content = json.loads((tmp_path / META).read_text())
    (tmp_path / META).write_text(json.dumps(content | {"factor": factor}))
    with pytest.raises(InputError, match=rf"is damaged \({problem}"):
        load_set(tmp_path)


def test_a_factor_without_stored_images_is_refused(data: RealData) -> None:
    synthetic = make_set(data)
    with pytest.raises(InputError, match="the set has factor 2, for which `stored` must be given"):
        replace(synthetic, stored=None)
    with pytest.raises(InputError, match="the set has factor 1, for which `stored` must not be"):
        replace(synthetic, info=replace(synthetic.info, factor=1))


@pytest.mark.parametrize(
    ("fmt", "path"),
    [("res", "res_DM_digits_X_8ipc.pt"), ("best", "best"), ("pictures", "pictures")],
)
def test_exports_hold_what_networks_see(
    data: RealData, tmp_path: Path, fmt: str, path: str
) -> None:
    synthetic = make_set(data)
    FORMATS[fmt](synthetic, tmp_path / path)
    again = load_set(tmp_path / path, data)
    assert torch.equal(again.images, synthetic.images)
    assert torch.equal(again.labels, synthetic.labels)
    # Our own folder keeps the factor, and so the storage.
    assert (again.info.ipc, again.info.factor) == ((2, 2) if fmt == "pictures" else (8, 1))
    assert "_8ipc" in default_name(synthetic, fmt)


def test_dd_ranking_is_given_what_networks_see(data: RealData, tmp_path: Path) -> None:
    info = replace(make_set(data).info, dataset="cifar10", mean=(0.5,) * 3, std=(0.2,) * 3)
    stored, labels = torch.randn(10 * IPC, 3, 8, 8), class_labels(10, IPC)
    synthetic = SyntheticSet.of(stored, labels, info, data)
    FORMATS["dd-ranking"](synthetic, tmp_path / "set.pt")
    again = load_set(tmp_path / "set.pt")
    torch.testing.assert_close(again.images, synthetic.images)
    assert (again.info.ipc, again.info.factor) == (8, 1)


def test_picture_folder_says_what_is_stored(data: RealData, tmp_path: Path) -> None:
    FORMATS["pictures"](make_set(data), tmp_path)
    assert len(list((tmp_path / "train" / "3").iterdir())) == 4 * IPC
    card = (tmp_path / "README.md").read_text()
    assert "80 images of 1x8x8, 8 per class" in card
    assert "20 stored images, which are decoded to those here" in card


def test_a_moment_of_a_run_keeps_its_factor() -> None:
    moment = Distilled(torch.randn(3, 1, 4, 4), torch.arange(3), 0.5, 2).copy()
    images, labels = moment.for_training()
    assert moment.factor == 2 and moment.lr == 0.5
    assert images.shape == (12, 1, 4, 4) and labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
