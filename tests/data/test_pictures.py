"""Pictures of people: how they are decoded, laid out in folders, and told about."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, TiffImagePlugin

from sdc_ext.data import RealData, load_data
from sdc_ext.data.pictures import Decoding
from sdc_ext.data.splits import stratified_split
from sdc_ext.errors import InputError

ORIENTATION = 0x0112


def noise(height: int, width: int, seed: int, most: int = 256) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, most, (height, width))


def fill(folder: Path, n: int = 4, classes: tuple[str, ...] = ("cat", "dog")) -> None:
    """Random grey pictures of 6x5 pixels."""
    for c, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for i in range(n):
            pixels = noise(6, 5, 100 * c + i).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i}.png")


def one_changed(folder: Path, image: Image.Image, suffix: str = ".png", **how: object) -> RealData:
    """A folder of random pictures whose first one is ``image``."""
    fill(folder)
    (folder / "cat" / "0.png").unlink()
    image.save(folder / "cat" / f"0{suffix}", **how)
    return load_data(folder)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bits_keep_their_levels(suffix: str, tmp_path: Path) -> None:
    levels = noise(6, 5, 0, 65536).astype(np.uint16)
    data = one_changed(tmp_path, Image.fromarray(levels), suffix)
    everything = torch.cat([data.train.images, data.test.images])
    expected = torch.from_numpy(levels.astype(np.float32) / np.float32(65535))
    assert any(torch.equal(image[0], expected) for image in everything)
    assert data.channels == 1 and everything.dtype == torch.float32
    # Those of 8 bits beside it mean what they meant.
    eight = torch.from_numpy(noise(6, 5, 1) / 255).float()
    assert any(torch.equal(image[0], eight) for image in everything)


def test_sixteen_bits_of_netpbm_keep_their_levels(tmp_path: Path) -> None:
    levels = noise(6, 5, 0, 30000).astype(np.uint16)
    (tmp_path / "deep.pgm").write_bytes(b"P5 5 6 65535\n" + levels.astype(">u2").tobytes())
    picture = Decoding().read(tmp_path / "deep.pgm")
    np.testing.assert_array_equal(picture.array[0], levels.astype(np.float32) / np.float32(65535))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused_with_the_file(value: float, tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[0.5, value]], np.float32))
    with pytest.raises(InputError, match=r"cat/0\.tif: it contains NaN or infinite values"):
        one_changed(tmp_path, image, ".tif")


def test_twelve_bits_fill_the_range(tmp_path: Path) -> None:
    levels = noise(4, 6, 0, 4096).astype(np.uint16)
    pairs = levels.reshape(-1, 2).astype(np.uint32)
    packed = pairs[:, 0] << 12 | pairs[:, 1]
    content = b"".join(int(value).to_bytes(3, "big") for value in packed)
    path = tmp_path / "twelve.tif"
    write_tiff(path, content, levels.shape, bits=12)
    picture = Decoding().read(path)
    np.testing.assert_array_equal(picture.array[0], levels.astype(np.float32) / np.float32(4095))


def write_tiff(path: Path, content: bytes, shape: tuple[int, ...], bits: int) -> None:
    """A grey TIFF with any number of bits, which Pillow reads but does not write."""
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    for tag, value in ((256, shape[1]), (257, shape[0]), (258, bits), (259, 1), (262, 1)):
        tags[tag] = value
    tags[277], tags[278], tags[279] = 1, shape[0], len(content)
    tags[273] = 0  # counted from the end of the tags
    header = b"II\x2a\x00" + (8).to_bytes(4, "little")
    path.write_bytes(header + tags.tobytes(8) + content)


def test_thirty_two_bits_share_one_range(tmp_path: Path) -> None:
    fill(tmp_path, n=2)
    for name, values in (("cat", [[-3.0, 1]]), ("dog", [[0, 7.0]])):
        for path in (tmp_path / name).iterdir():
            path.unlink()
        for i in range(2):
            Image.fromarray(np.array(values, np.float32) - i).save(tmp_path / name / f"{i}.tif")
    data = load_data(tmp_path)
    assert sorted(torch.cat([data.train.images, data.test.images]).unique().tolist()) == (
        pytest.approx([0, 1 / 11, 3 / 11, 4 / 11, 5 / 11, 10 / 11, 1])
    )
    assert "4 pictures were scaled from -4 to 7" in repr(data)


@pytest.mark.parametrize("values", [[[0.25, 0.5]], [[0, 1]]])
def test_floats_within_the_range_stay(values: list[list[float]], tmp_path: Path) -> None:
    Image.fromarray(np.array(values, np.float32)).save(tmp_path / "f.tif")
    assert Decoding().read(tmp_path / "f.tif").array.tolist() == [values]


@pytest.mark.parametrize(("background", "seen"), [("white", 255), ("black", 0), ("#808080", 128)])
@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_what_is_transparent_shows_the_background(
    mode: str, background: str, seen: int, tmp_path: Path
) -> None:
    black = Image.new(mode, (2, 1))
    black.putpixel((0, 0), (*(9,) * (len(mode) - 1), 255))
    black.save(tmp_path / "icon.png")
    picture = Decoding(background=background).read(tmp_path / "icon.png")
    assert picture.array.tolist() == [[[9, seen]]] * (len(mode) - 1)
    assert picture.changes == (f"laid on a {background} background",)


def test_opaque_alpha_changes_nothing(tmp_path: Path) -> None:
    pixels = np.dstack([noise(4, 3, 0), noise(4, 3, 1), noise(4, 3, 2)]).astype(np.uint8)
    plain = Image.fromarray(pixels)
    opaque = plain.copy()
    opaque.putalpha(255)
    opaque.save(tmp_path / "opaque.png")
    picture = Decoding().read(tmp_path / "opaque.png")
    np.testing.assert_array_equal(picture.array, pixels.transpose(2, 0, 1))
    assert picture.changes == ()


@pytest.mark.parametrize("orientation", range(2, 9))
def test_pictures_are_turned_upright(orientation: int, tmp_path: Path) -> None:
    seen = Image.fromarray(noise(8, 6, 0).astype(np.uint8))
    ways = Image.Transpose
    undone = {2: ways.FLIP_LEFT_RIGHT, 3: ways.ROTATE_180, 4: ways.FLIP_TOP_BOTTOM}
    undone |= {5: ways.TRANSPOSE, 6: ways.ROTATE_90, 7: ways.TRANSVERSE, 8: ways.ROTATE_270}
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    seen.transpose(undone[orientation]).save(tmp_path / "photo.png", exif=exif)
    picture = Decoding().read(tmp_path / "photo.png")
    np.testing.assert_array_equal(picture.array[0], np.asarray(seen))
    assert picture.changes == ("turned upright as their orientation says",)


def test_palettes_of_greys_are_grey_and_others_are_not(tmp_path: Path) -> None:
    grey = Image.fromarray(noise(4, 4, 0).astype(np.uint8)).convert("P")
    grey.save(tmp_path / "grey.png")
    assert Decoding().read(tmp_path / "grey.png").array.shape == (1, 4, 4)
    Image.new("RGB", (4, 4), "red").convert("P").save(tmp_path / "red.png")
    assert Decoding().read(tmp_path / "red.png").array[:, 0, 0].tolist() == [255, 0, 0]


def test_print_colours_and_further_frames_are_told(tmp_path: Path) -> None:
    Image.new("CMYK", (4, 4), (0, 255, 255, 0)).save(tmp_path / "print.tif")
    picture = Decoding().read(tmp_path / "print.tif")
    assert picture.array[:, 0, 0].tolist() == [255, 0, 0]
    assert picture.changes == ("converted from CMYK",)
    frames = [Image.new("L", (4, 4), value) for value in (10, 200)]
    frames[0].save(tmp_path / "film.tif", save_all=True, append_images=frames[1:])
    picture = Decoding().read(tmp_path / "film.tif")
    assert picture.array.max() == 10
    assert picture.changes == ("reduced to their first frame",)


def test_what_was_done_is_told_in_one_line(tmp_path: Path) -> None:
    fill(tmp_path)
    Image.new("LA", (5, 6)).save(tmp_path / "cat" / "icon.png")
    (tmp_path / "cat" / ".ipynb_checkpoints").mkdir()
    for litter in (".ipynb_checkpoints/0.png", "._0.png", "Thumbs.db", "notes.txt", "scan.pdf"):
        (tmp_path / "cat" / litter).write_bytes(b"x")
    (tmp_path / "__MACOSX" / "cat").mkdir(parents=True)
    os.mkfifo(tmp_path / "dog" / "pipe.png")
    (tmp_path / "dog" / "loop").symlink_to(tmp_path / "dog")
    assert repr(load_data(tmp_path)) == (
        "imagefolder: 6 training and 3 test images of 1x6x5, 2 classes; 3 hidden files were "
        "skipped; 3 non-image files were skipped; 1 picture was laid on a white "
        "background"
    )


@pytest.mark.parametrize(
    ("train", "test"), [("Training", "Testing"), ("TRAIN", "Val"), ("train", "validation")]
)
def test_published_layouts_are_read_as_parts(train: str, test: str, tmp_path: Path) -> None:
    fill(tmp_path / train, 5)
    fill(tmp_path / test, 3)
    data = load_data(tmp_path)
    assert data.classes == ("cat", "dog")
    assert (len(data.train), len(data.test)) == (10, 6)


def test_parts_that_are_not_used_are_told(tmp_path: Path) -> None:
    for part in ("train", "test", "val"):
        fill(tmp_path / part)
    assert "the folder val was not used" in repr(load_data(tmp_path))


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    fill(tmp_path, classes=("car", "train"))
    assert load_data(tmp_path).classes == ("car", "train")


def test_every_class_gets_a_test_image() -> None:
    labels = torch.tensor([0] * 200 + [1] * 2 + [2] * 3)
    train, test = stratified_split(labels, ("many", "two", "three"))
    assert torch.bincount(labels[test]).tolist() == [51, 1, 1]
    assert sorted([*train.tolist(), *test.tolist()]) == list(range(205))


def png_bomb(path: Path) -> None:
    """A small file that claims to be an enormous picture."""
    Image.new("1", (1, 1)).save(path)
    content = bytearray(path.read_bytes())
    content[16:24] = (50_000).to_bytes(4, "big") * 2
    path.write_bytes(content)


def test_giant_pictures_are_one_sentence(tmp_path: Path) -> None:
    fill(tmp_path)
    png_bomb(tmp_path / "dog" / "1.png")
    with pytest.raises(InputError, match=r"cannot read image .*dog/1\.png: "):
        load_data(tmp_path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.eps", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 5 6\n"),
        ("a.png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 5 6\n"),
    ],
)
def test_pictures_that_are_programs_are_not_run(name: str, content: bytes, tmp_path: Path) -> None:
    fill(tmp_path)
    (tmp_path / "cat" / name).write_bytes(content)
    with pytest.raises(InputError, match=rf"cannot read image .*{name}: (Pillow reads|cannot)"):
        load_data(tmp_path)


def test_pictures_that_are_all_the_same_are_refused(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for i in range(4):
            icon = Image.new("RGBA", (4, 4), "white")
            icon.putalpha(Image.fromarray(noise(4, 4, i).astype(np.uint8)))
            icon.save(tmp_path / name / f"{i}.png")
    with pytest.raises(InputError, match="all 6 training images of imagefolder are the same"):
        load_data(tmp_path)
    assert load_data(tmp_path, background="black").train.images.max() > 200


def test_no_colour_is_one_sentence() -> None:
    with pytest.raises(InputError, match="`background` 'sky' is no colour: write a name"):
        load_data("digits", background="sky")
