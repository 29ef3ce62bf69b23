"""Real data: what is loaded, how it is normalised, and what is refused."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sdc_ext.data.known import CLASS_COUNTS, KNOWN, STATISTICS
from sdc_ext.data.load import DATASETS, load_data
from sdc_ext.data.real import RealData
from sdc_ext.errors import InputError


def write_image(path: Path, size: tuple[int, int] = (8, 6), mode: str = "RGB") -> None:
    """A random picture of (height, width) pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = size if mode == "L" else (*size, 3)
    pixels = np.random.default_rng(list(str(path).encode())).integers(0, 256, shape, dtype=np.uint8)
    Image.fromarray(pixels, mode).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes with train and test images of 8x6 pixels."""
    for part, count in (("train", 4), ("test", 2)):
        for name in ("cat", "dog"):
            for i in range(count):
                write_image(tmp_path / part / name / f"{i}.png")
    return tmp_path


def load_folder(folder: Path, image_size: int | tuple[int, int] | None = None) -> RealData:
    return load_data("imagefolder", folder, image_size=image_size)


def test_digits_have_a_fixed_stratified_split() -> None:
    data, again = load_data("digits"), load_data("digits")
    assert torch.equal(data.train.images, again.train.images)
    assert (len(data.train), len(data.test)) == (1347, 450)
    shares = torch.bincount(data.test.labels) / torch.bincount(data.train.labels)
    assert float((shares - 1 / 3).abs().max()) < 0.02
    assert (
        len(
            {*map(tuple, data.train.images.flatten(1).tolist())}
            & {*map(tuple, data.test.images.flatten(1).tolist())}
        )
        == 0
    )


def test_normalised_training_images_are_standardised(folder: Path) -> None:
    for data in (load_data("digits"), load_folder(folder)):
        pixels = data.normalize(data.train.images)
        torch.testing.assert_close(pixels.mean((0, 2, 3)), torch.zeros(data.channels))
        torch.testing.assert_close(pixels.std((0, 2, 3), correction=0), torch.ones(data.channels))


def write_mnist(root: Path, n: int = 20) -> None:
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part in ("train", "t10k"):
        images = np.arange(n * 784, dtype=np.uint32).astype(np.uint8)
        labels = (np.arange(n) % 10).astype(np.uint8)
        header = np.array([0x803, n, 28, 28], dtype=">u4").tobytes()
        (raw / f"{part}-images-idx3-ubyte").write_bytes(header + images.tobytes())
        header = np.array([0x801, n], dtype=">u4").tobytes()
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(header + labels.tobytes())
        with gzip.open(raw / f"{part}-labels-idx1-ubyte.gz", "wb") as file:
            file.write(header + labels.tobytes())


def test_mnist_folder_works_offline_with_the_originals_statistics(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    data = load_data("mnist", tmp_path)
    assert data.train.images.shape == (20, 1, 28, 28)
    assert (data.mean, data.std) == ((0.1307,), (0.3081,))
    pixel = float(data.train.images[0, 0, 0, 7]) / 255
    normalised = float(data.normalize(data.train.images)[0, 0, 0, 7])
    assert normalised == pytest.approx((pixel - 0.1307) / 0.3081, rel=1e-5)


def test_statistics_of_another_set_can_be_taken(folder: Path) -> None:
    data = load_data("imagefolder", folder, statistics="cifar10")
    assert (data.mean, data.std) == STATISTICS["cifar10"]


def test_image_folder_keeps_non_square_sizes_and_class_names(folder: Path) -> None:
    data = load_folder(folder)
    assert (data.image_size, data.channels, data.classes) == ((8, 6), 3, ("cat", "dog"))
    assert (len(data.train), len(data.test)) == (8, 4)
    with Image.open(folder / "train" / "dog" / "0.png") as image:
        expected = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    assert torch.equal(data.train.images[4], expected)


def test_image_folder_without_test_part_holds_a_quarter_out(tmp_path: Path) -> None:
    for name in ("a", "b"):
        for i in range(8):
            write_image(tmp_path / name / f"{i}.png", mode="L")
    data = load_folder(tmp_path)
    assert (len(data.train), len(data.test), data.channels) == (12, 4, 1)


def test_grey_and_colour_images_mix(folder: Path) -> None:
    write_image(folder / "train" / "cat" / "grey.png", mode="L")
    data = load_folder(folder)
    grey = data.train.images[4]
    assert torch.equal(grey[0], grey[1]) and torch.equal(grey[0], grey[2])


def test_images_of_different_sizes_need_an_image_size(folder: Path) -> None:
    write_image(folder / "train" / "cat" / "large.png", size=(9, 9))
    with pytest.raises(InputError, match=r"images differ: .*8x6 .*9x9; pass `image_size`"):
        load_folder(folder)
    assert load_folder(folder, (4, 5)).image_size == (4, 5)
    assert load_folder(folder, 6).image_size == (6, 6)


def test_corrupt_image_is_named(folder: Path) -> None:
    (folder / "train" / "cat" / "1.png").write_bytes(b"not a picture")
    with pytest.raises(InputError, match=r"cannot read image .*cat/1\.png"):
        load_folder(folder)


def test_truncated_image_is_named(folder: Path) -> None:
    path = folder / "train" / "cat" / "1.png"
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(InputError, match=r"cannot read image .*cat/1\.png"):
        load_folder(folder)


def test_empty_class_is_named(folder: Path) -> None:
    (folder / "train" / "emu").mkdir()
    with pytest.raises(InputError, match=r"train/emu holds no images"):
        load_folder(folder)


def test_class_in_one_part_only_is_named(folder: Path) -> None:
    write_image(folder / "test" / "emu" / "0.png")
    with pytest.raises(InputError, match="'emu' is only in one of"):
        load_folder(folder)


def test_tiny_imagenet_folder(tmp_path: Path) -> None:
    root = tmp_path / "tiny-imagenet-200"
    for wnid in ("n01", "n02"):
        write_image(root / "train" / wnid / "images" / "0.JPEG", (64, 64))
    write_image(root / "val" / "images" / "v.JPEG", (64, 64))
    (root / "val" / "val_annotations.txt").write_text("v.JPEG\tn02\t0\t0\t1\t1\n")
    data = load_data("tinyimagenet", tmp_path)
    assert data.classes == ("n01", "n02")
    assert data.test.labels.tolist() == [1]
    assert (data.mean, data.std) == STATISTICS["tinyimagenet"]


@pytest.mark.parametrize(
    ("name", "data_dir", "message"),
    [
        ("mnst", None, "unknown dataset 'mnst': did you mean 'mnist'"),
        ("mnist", None, "mnist needs its folder: pass `data_dir`"),
        ("mnist", "missing", "finds no mnist in .*missing: .* `download`"),
        ("cifar10", "missing", "finds no cifar10 in .*missing: .* `download`"),
        ("imagefolder", "missing", "missing is not a folder"),
        ("tinyimagenet", ".", "not tiny-imagenet-200"),
    ],
)
def test_what_cannot_be_loaded_is_explained(
    name: str, data_dir: str | None, message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        load_data(name, None if data_dir is None else tmp_path / data_dir)
    assert list(tmp_path.iterdir()) == []


def test_failed_download_names_its_cause(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **options: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr("torchvision.datasets.MNIST", fail)
    with pytest.raises(InputError, match=r"cannot download mnist to .*: no route to host; try"):
        load_data("mnist", tmp_path, download=True)


def test_image_size_is_for_folders_only() -> None:
    with pytest.raises(InputError, match="`image_size` resizes images of folders, not digits"):
        load_data("digits", image_size=(4, 4))


def test_what_is_known_of_the_digits_is_so() -> None:
    data, known = load_data("digits"), KNOWN["digits"]
    assert (len(data.train), data.network_shape) == (known.train, known.shape)
    assert set(CLASS_COUNTS) < set(DATASETS.names())
