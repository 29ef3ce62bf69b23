"""Data of others: what is taken, what it becomes, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset, TensorDataset

from sdc_ext._registry import Registry
from sdc_ext.adapters import METHODS, get_method
from sdc_ext.adapters.settings import resolve
from sdc_ext.data import load as load_module
from sdc_ext.data.load import load_data, register_dataset
from sdc_ext.data.pictures import Decoding
from sdc_ext.data.real import RealData
from sdc_ext.data.sources import as_real_data
from sdc_ext.errors import InputError


class Items(Dataset[tuple[Any, Any]]):
    """A torch data set of given items."""

    def __init__(self, items: list[Any], classes: list[str] | None = None) -> None:
        self.items = items
        if classes is not None:
            self.classes = classes

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        return self.items[index]


# Hugging Face's features are told by the names of their classes.
Image = type("Image", (), {})


class ClassLabel:
    def __init__(self, *names: str) -> None:
        self.names = list(names)


class Rows:
    """A Hugging Face data set as far as it is read, which is by duck typing."""

    def __init__(self, rows: list[dict[str, Any]], **features: Any) -> None:
        self.rows, self.features, self.column_names = rows, features, list(features)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.rows[index]


def pictures(count: int, size: tuple[int, int] = (20, 30), mode: str = "L") -> list[Any]:
    """Random pictures of (height, width) pixels."""
    shape = (count, *size) if mode == "L" else (count, *size, 3)
    arrays = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    return [Pillow.fromarray(array) for array in arrays]


def pair(count: int = 24, classes: int = 3, channels: int = 1) -> tuple[Tensor, Tensor]:
    return torch.rand(count, channels, 20, 30), torch.arange(count) % classes


def rows(count: int, *names: str) -> Rows:
    content = [{"img": p, "y": i % len(names)} for i, p in enumerate(pictures(count))]
    return Rows(content, img=Image(), y=ClassLabel(*names))


@given(
    channels=st.sampled_from([1, 3]),
    classes=st.integers(2, 4),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    as_bytes=st.booleans(),
    as_items=st.booleans(),
)
@settings(deadline=None, max_examples=30)
def test_tensors_of_any_shape_are_kept_as_they_are(
    channels: int, classes: int, height: int, width: int, as_bytes: bool, as_items: bool
) -> None:
    images = torch.rand(8 * classes, channels, height, width)
    images = (images * 255).to(torch.uint8) if as_bytes else images
    labels = torch.arange(len(images)) % classes
    source = TensorDataset(images, labels) if as_items else (images, labels)
    data = as_real_data(source, test=source)
    assert torch.equal(data.train.images, images) and torch.equal(data.test.labels, labels)
    assert data.train.images.dtype == images.dtype
    assert data.network_shape == (channels, classes, (height, width))
    held_out = as_real_data(source)
    assert torch.bincount(held_out.test.labels).tolist() == [2] * classes
    assert torch.bincount(held_out.train.labels).tolist() == [6] * classes


def test_torch_data_set_of_pictures() -> None:
    ours = pictures(24)
    source = Items([(p, i % 3) for i, p in enumerate(ours)], ["ant", "bee", "cat"])
    data = as_real_data(source, test=source)
    assert (data.name, data.classes) == ("custom", ("ant", "bee", "cat"))
    assert data.network_shape == (1, 3, (20, 30))
    assert str(data) == "custom: 24 training and 24 test images of 1x20x30, 3 classes"
    assert torch.equal(data.train.images[5, 0], torch.from_numpy(np.array(ours[5])))


def test_held_out_test_images_are_told() -> None:
    data = load_data(pair())
    assert repr(data) == (
        "custom: 18 training and 6 test images of 1x20x30, 3 classes; no test set was given, so a "
        "quarter of each class is held out"
    )


def test_hugging_face_data_set() -> None:
    source = rows(24, "ant", "bee")
    data = load_data(source)
    assert (data.classes, data.network_shape) == (("ant", "bee"), (1, 2, (20, 30)))
    expected = torch.from_numpy(np.array(source[0]["img"]))
    assert any(torch.equal(image[0], expected) for image in [*data.train.images, *data.test.images])


@pytest.mark.parametrize("split", ["test", "validation"])
def test_hugging_face_splits(split: str) -> None:
    data = load_data({"train": rows(8, "a", "b"), split: rows(6, "a", "b")})
    assert (len(data.train), len(data.test), data.note) == (8, 6, "")
    assert load_data({"train": rows(8, "a", "b")}).note


def test_folder_is_an_image_folder(tmp_path: Path) -> None:
    for k, picture in enumerate(pictures(8)):
        folder = tmp_path / "animals" / "ab"[k % 2]
        folder.mkdir(parents=True, exist_ok=True)
        picture.save(folder / f"{k}.png")
    for source in (tmp_path / "animals", str(tmp_path / "animals")):
        data = load_data(source)
        assert (data.name, data.label) == ("imagefolder", "imagefolder-animals")
    assert as_real_data(source, name="animals", decoding=Decoding((4, 5))).image_size == (4, 5)


def test_grey_and_colour_pictures_mix() -> None:
    grey, colour = pictures(1)[0], pictures(1, mode="RGB")[0]
    source = Items([(grey, 0), (colour, 1)] * 4)
    data = as_real_data(source, test=Items([(grey, 0), (grey, 1)]))
    assert data.channels == 3 == data.test.images.shape[1]
    image = data.train.images[0]
    assert torch.equal(image[0], image[1]) and torch.equal(image[0], image[2])


def test_arrays_have_their_channels_last() -> None:
    arrays = np.random.default_rng(0).random((8, 20, 30, 3))
    data = as_real_data(Items([(a, k % 2) for k, a in enumerate(arrays)]), test=pair(4, 2, 3))
    expected = torch.from_numpy(arrays).permute(0, 3, 1, 2).float()
    assert torch.equal(data.train.images, expected)


@pytest.mark.parametrize("as_items", [False, True])
def test_flipped_and_big_endian_arrays_are_taken(as_items: bool) -> None:
    images, labels = (part.numpy() for part in pair())
    flipped, ordered = images.astype(">f4")[..., ::-1], labels.astype(">i4")
    items = list(zip(flipped.transpose(0, 2, 3, 1), ordered, strict=True))
    data = as_real_data(Items(items) if as_items else (flipped, ordered), test=pair())
    assert torch.equal(data.train.images, torch.from_numpy(images).flip(3))
    assert data.train.labels.tolist() == labels.tolist()


def test_read_only_arrays_are_taken_in_silence() -> None:
    images = np.broadcast_to(np.arange(24, dtype=np.uint8)[:, None, None, None], (24, 1, 4, 4))
    assert load_data((images, LABELS)).train.images.dtype == torch.uint8


def test_number_of_classes_gives_no_names() -> None:
    source = Items([(p, i % 2) for i, p in enumerate(pictures(8))])
    source.classes = 2  # type: ignore[assignment]
    assert as_real_data(source).classes == ("0", "1")


def test_tensors_are_resized_as_pictures_are() -> None:
    colour = pictures(8, mode="RGB")
    tensors = [torch.from_numpy(np.array(p)).permute(2, 0, 1) for p in colour]
    labelled = [k % 2 for k in range(8)]
    of_pictures, of_bytes, of_floats = (
        as_real_data(Items(list(zip(images, labelled, strict=True))), decoding=Decoding((7, 4)))
        for images in (colour, tensors, [t / 255 for t in tensors])
    )
    assert of_pictures.image_size == (7, 4)
    assert torch.equal(of_pictures.train.images, of_bytes.train.images)
    exact = of_floats.train.images * 255
    assert float((exact - of_bytes.train.images).abs().max()) < 1.5


def test_loaded_data_are_taken_as_they_are() -> None:
    data = load_data("digits")
    assert load_data(data) is data
    assert as_real_data(data, name="mine").name == "mine"
    with pytest.raises(InputError, match=r"digits is already loaded, with images of size \(8, 8\)"):
        load_data(data, image_size=(4, 4))


def test_background_shows_in_test_pictures_beside_tensors() -> None:
    test = Items([(Pillow.new("LA", (30, 20)), k) for k in range(3)])
    for background, seen in (("white", 255), ("black", 0)):
        data = load_data(pair(), test=test, background=background)
        assert data.test.images.unique().tolist() == [seen]


IMAGES, LABELS = pair()
PICTURES = [(p, k % 2) for k, p in enumerate(pictures(4))]


class Streamed(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        yield from PICTURES


REFUSED: list[tuple[Any, dict[str, Any], str]] = [
    ((IMAGES * 4 - 2, LABELS), {}, "images range from -2 to 2, so they look normalised already"),
    ((IMAGES * 255, LABELS), {}, r"pass pixels in \[0, 1\] or uint8"),
    ((IMAGES / 0 * 0, LABELS), {}, "images contain NaN"),
    (Items([(torch.full((4, 4), torch.inf), 0)]), {}, "images contain NaN or infinite values"),
    (Items([(Pillow.new("F", (4, 4), torch.inf), 0)]), {}, "cannot read image 0: it contains NaN"),
    (((IMAGES * 255).int(), LABELS), {}, "images have the type int32: pass uint8, or floats"),
    ((IMAGES.permute(0, 2, 3, 1), LABELS), {}, r"\(24, 20, 30, 1\): pass \(N, C, H, W\)"),
    ((IMAGES, LABELS.float()), {}, r"labels .* \(24,\) and type float32: pass one integer"),
    ((IMAGES, LABELS[:5]), {}, r"labels .* \(5,\) and type int64: .* each of the 24 images"),
    ((IMAGES, LABELS - 1), {}, "label -1 is outside the 2 classes: number the"),
    ((IMAGES, LABELS), {"classes": list("ab")}, "label 2 is outside the 2 classes"),
    ((IMAGES, LABELS), {"classes": list("abcd")}, "custom has 0 images of class 'd'"),
    (
        (IMAGES, LABELS),
        {"classes": list("abcd"), "test": pair()},
        "no training images of class 'd'",
    ),
    ((IMAGES, LABELS * 0), {}, "custom has only one class, '0': add another"),
    ((IMAGES[:4], LABELS[:4]), {}, "custom has 1 image of class '1', .* or pass a test set"),
    (
        (IMAGES[:4], torch.tensor([0, 1, 0, 300_000])),
        {},
        "label 300000 is too large for 4 training images, of which each class needs one",
    ),
    ((IMAGES, LABELS), {"test": (IMAGES, LABELS * 12)}, "label 24 is too large for 24 training"),
    ((IMAGES[:0], LABELS[:0]), {}, "the data set is empty"),
    ((IMAGES[..., :0], LABELS), {}, r"shape \(24, 1, 20, 0\): .* and no side of 0"),
    ((IMAGES, np.array(["ant", "bee"] * 12)), {}, "labels have the type <U3: pass numbers"),
    ((IMAGES, LABELS), {"test": (IMAGES[..., 1:], LABELS)}, r"size \(20, 30\) and .* \(20, 29\)"),
    ((IMAGES, LABELS), {"name": "a/b"}, "'a/b' cannot name a data set: use letters"),
    (
        (IMAGES, LABELS),
        {"image_size": (0, 5)},
        r"`image_size` must be pixels .* from 1 to 4096, got \(0, 5\)",
    ),
    ((Items(PICTURES), Items(PICTURES)), {}, r"from \(Items, Items\): .* as test=\.\.\."),
    (Items([]), {}, "the data set is empty"),
    (Items([(pictures(1)[0], "cat")]), {}, "label 'cat' of image 0 is not an integer"),
    (Items([(pictures(1)[0], torch.tensor([0.0, 1.0]))]), {}, "of image 0 is not an integer"),
    (Items([("cat.png", 0)]), {}, "image 0 is a str: pass PIL images"),
    (Items([(torch.rand(4, 8, 8), 0)]), {}, r"image 0 .* \(4, 8, 8\): pass \(C, H, W\)"),
    (Items([(Pillow.new("F", (0, 8)), 0)]), {}, "cannot read image 0: it has no pixels"),
    (Items([(torch.rand(1, 0, 8), 0)]), {}, r"image 0 .* \(1, 0, 8\): .* and no side of 0"),
    (
        Items([(np.rec.array([(1, 2)] * 3), 0)]),
        {},
        "images have the type .*: pass numbers",
    ),
    (Items([torch.rand(1, 8, 8)]), {}, r"item 0 of the data set is a Tensor: .* pairs"),
    (
        Items([*PICTURES, (pictures(1, (8, 9))[0], 1)]),
        {},
        r"images differ: image 0 is 20x30 and image 4 is 8x9; pass `image_size` to resize",
    ),
    (Items([*PICTURES, (torch.rand(20, 30), 1)]), {}, "image 0 is uint8 and image 4 is float32"),
    (Streamed(), {}, "from a Streamed: pass a data set that has a length"),
    (3, {}, "from a int: pass the name of a data set, a folder, a torch Dataset"),
    (
        Rows([], img=Image(), y=object()),
        {},
        r"one ClassLabel column, but 0 of its columns \(img, y\)",
    ),
    (
        Rows([], a=Image(), b=Image(), y=ClassLabel("a")),
        {},
        r"one Image column, but 2 of its columns \(a, b",
    ),
    ((IMAGES, LABELS), {"test": "/tmp"}, "`test` takes a pair of tensors, .* not a str: pass one"),
    ((IMAGES, LABELS), {"test": Path("/tmp")}, "`test` takes .* not a PosixPath"),
    ((IMAGES, LABELS), {"test": {"test": pair()}}, "`test` takes .* not a dict"),
    ((IMAGES, LABELS), {"background": "black"}, "`background` is for pictures, not tensors"),
    ({"train": pair(), "test": pair()}, {"background": "black"}, "`background` is for pictures"),
    (load_data("digits"), {"background": "black"}, "`background` is for pictures, .* loaded data"),
    ({"validation": rows(4, "a", "b")}, {}, "no split 'train', only validation"),
    (rows(8, "a", "b"), {"test": rows(8, "b", "a")}, "pass two parts of the same data set"),
    (Path(__file__).parent, {"classes": list("ab")}, "leave test and classes out"),
]


@pytest.mark.parametrize(("source", "options", "message"), REFUSED)
def test_what_cannot_be_read_is_explained(
    source: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        load_data(source, **options)


def test_damaged_picture_is_named(tmp_path: Path) -> None:
    pictures(1)[0].save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(content[: len(content) // 2])
    with (
        Pillow.open(tmp_path / "a.png") as damaged,
        pytest.raises(InputError, match="cannot read image 0: "),
    ):
        as_real_data(Items([(damaged, 0)]))


def test_folders_and_downloads_belong_to_names(tmp_path: Path) -> None:
    for options in ({"data_dir": tmp_path}, {"download": True}):
        with pytest.raises(InputError, match="go with the name of a data set"):
            load_data(pair(), **options)


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers is forgotten after it."""
    ours = {name: load_module.DATASETS.get(name) for name in load_module.DATASETS.names()}
    monkeypatch.setattr(load_module, "DATASETS", Registry("dataset", "sdc_ext.datasets", ours))


@pytest.mark.usefixtures("registry")
def test_registered_data_set_is_loaded_by_name(tmp_path: Path) -> None:
    asked = []

    def loader(folder: Path | None) -> tuple[Tensor, Tensor]:
        asked.append(folder)
        return pair()

    register_dataset("stamps", loader)
    data = load_data("stamps", tmp_path, image_size=(10, 15))
    assert (data.name, data.image_size, asked) == ("stamps", (10, 15), [tmp_path])
    with pytest.raises(InputError, match=r"unknown dataset 'stamp': did you mean 'stamps'.*mnist"):
        load_data("stamp")
    with pytest.raises(InputError, match="`download` is for torchvision's data sets, not stamps"):
        load_data("stamps", download=True)


@pytest.mark.usefixtures("registry")
def test_registered_data_keep_the_name_that_finds_them_again() -> None:
    def loader(folder: Path | None) -> RealData:
        return load_data("digits")

    register_dataset("numbers", loader)
    assert load_data("numbers").name == "numbers"


def test_our_data_sets_keep_their_names() -> None:
    with pytest.raises(InputError, match="dataset 'mnist' is built into sdc-ext"):
        register_dataset("mnist", lambda folder: pair())
    with pytest.raises(InputError, match="cannot name a data set"):
        register_dataset("my data", lambda folder: pair())


@pytest.mark.parametrize("method", METHODS.names())
def test_every_method_has_settings_for_data_of_others(method: str) -> None:
    settings = resolve(get_method(method), "custom", 1, {})
    assert settings.run.network == "convnet"
