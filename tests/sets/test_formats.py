"""Distilled sets in other people's formats: written, read back, and trained on alike."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import to_pil_image

from sdc_ext.cli import main
from sdc_ext.data.load import load_data
from sdc_ext.data.real import RealData
from sdc_ext.errors import InputError
from sdc_ext.sets.export import FORMATS
from sdc_ext.sets.info import SetInfo
from sdc_ext.sets.loading import load_set
from sdc_ext.sets.sources import format_of
from sdc_ext.sets.synthetic_set import SyntheticSet, class_labels
from sdc_ext.training.recipe import TrainingRecipe
from sdc_ext.verbs import select_set


@pytest.fixture(scope="module")
def data() -> RealData:
    return load_data("digits")


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def make_set(data: RealData, labels: str = "hard", *, zca: bool = False) -> SyntheticSet:
    """Two real digits a class, as if a method had distilled them."""
    data = data.whitened() if zca else data
    index = torch.cat([of_class[:2] for of_class in data.indices_by_class()])
    images = data.normalize(data.train.images[index])
    hard = class_labels(10, 2)
    soft = torch.nn.functional.one_hot(hard, 10) * 0.8 + 0.02
    info = SetInfo(
        method={"hard": "dsa", "logits": "datm", "soft": "tesla"}[labels],
        dataset="digits",
        classes=data.classes,
        mean=data.mean,
        std=data.std,
        ipc=2,
        network="mlp",
        evaluation=TrainingRecipe(30, lr=0.03, batch_size=7, augmentation="crop_scale"),
        whitening=data.whitened_by,
    )
    return SyntheticSet.of(images, hard if labels == "hard" else soft, info, data)


def accuracies(path: str, *options: str) -> list[float]:
    shutil.rmtree("results", ignore_errors=True)
    assert main(["evaluate", path, "--num-eval", "2", "--out", "results", *options]) == 0
    (row,) = json.loads(Path("results/accuracies.json").read_text())
    return list(row["accuracies"])


@pytest.mark.parametrize(
    ("fmt", "labels", "zca"),
    [
        ("res", "hard", False),
        ("best", "hard", False),
        ("best", "soft", False),
        ("best", "logits", False),
        ("best", "hard", True),
        ("pictures", "hard", False),
        ("pictures", "logits", True),
    ],
)
def test_exported_and_read_back_it_teaches_alike(
    data: RealData, fmt: str, labels: str, zca: bool
) -> None:
    make_set(data, labels, zca=zca).save(Path("set"))
    before = accuracies("set")
    target = "res_DSA_digits_MLP_2ipc.pt" if fmt == "res" else "exported"
    assert main(["export", "set", target, "--format", fmt]) == 0
    shutil.rmtree("set")
    options = ["--dataset", "digits"] if fmt == "best" else []
    assert accuracies(target, *options) == before
    assert min(before) > 0.4


def test_dd_rankings_tensors(data: RealData) -> None:
    """Under their statistics, sorted by class; read back they are ours again."""
    hard = torch.tensor([2, 0, 1, 0])
    info = replace(
        make_set(data).info,
        dataset="cifar100",
        classes=("a", "b", "c"),
        mean=(0.5071, 0.4866, 0.4409),
        std=(0.2673, 0.2564, 0.2762),
    )
    synthetic = SyntheticSet(torch.randn(4, 3, 8, 8), hard, info)
    FORMATS["dd-ranking"](synthetic, Path("set.pt"))
    content = torch.load("set.pt", weights_only=True)
    pixels = synthetic.images[1] * torch.tensor(info.std)[:, None, None]
    pixels += torch.tensor(info.mean)[:, None, None]
    theirs = content["images"][0] * torch.tensor([0.2023, 0.1994, 0.2010])[:, None, None]
    theirs += torch.tensor([0.4914, 0.4822, 0.4465])[:, None, None]
    torch.testing.assert_close(theirs, pixels)
    assert content["soft_labels"] is None and content["syn_lr"] == 0.03
    back = load_set(Path("set.pt"))
    assert back.labels.tolist() == [0, 0, 1, 2]
    torch.testing.assert_close(back.images[3], synthetic.images[0])
    assert back.info == info


@pytest.mark.parametrize(
    ("fmt", "zca", "message"),
    [
        ("dd-ranking", False, "does not evaluate on digits, only on cifar10, cifar100"),
        ("res", True, "a res_*.pt cannot hold soft labels or ZCA-whitened images"),
    ],
)
def test_what_a_format_cannot_hold_is_refused(
    data: RealData, fmt: str, zca: bool, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    make_set(data, zca=zca).save(Path("set"))
    assert main(["export", "set", "there.pt", "--format", fmt]) == 2
    assert message in capsys.readouterr().err
    assert not Path("there.pt").exists()


def test_existing_export_is_kept(data: RealData, capsys: pytest.CaptureFixture[str]) -> None:
    make_set(data).save(Path("set"))
    assert main(["export", "set", "set", "--format", "pictures"]) == 2
    assert "set exists: name another" in capsys.readouterr().err


def save_as_the_originals_do(folder: Path, which: str = "best", **tensors: Tensor) -> Path:
    folder.mkdir(parents=True)
    for name, tensor in tensors.items():
        torch.save(tensor, folder / f"{name}_{which}.pt")
    return folder


def test_originals_files_get_the_originals_recipe(data: RealData) -> None:
    ours = make_set(data, "logits")
    folder = save_as_the_originals_do(
        Path("logged_files/digits/run"),
        images=ours.images,
        labels=ours.labels.log() - 3,
        lr=torch.tensor(0.07),
    )
    read = load_set(folder, data)
    assert torch.equal(read.images, ours.images)
    torch.testing.assert_close(read.labels, ours.labels)
    recipe = read.info.evaluation
    assert (recipe.epochs, recipe.lr, recipe.align_corners) == (1000, pytest.approx(0.07), True)
    assert recipe.augmentation == "color_crop_cutout_flip_scale_rotate"  # also for digits
    assert (read.info.ipc, read.info.network, read.info.classes) == (2, "convnet", data.classes)


def test_later_and_averaged_files_are_read_by_name(data: RealData) -> None:
    ours = make_set(data)
    folder = save_as_the_originals_do(
        Path("run"), "500", ema_images=ours.images, ema_labels=ours.labels
    )
    with pytest.raises(InputError, match=r"no lr_500\.pt with the learning rate.* as `lr`"):
        load_set(folder / "ema_images_500.pt", data)
    read = load_set(folder / "ema_images_500.pt", data, lr=0.02)
    assert torch.equal(read.labels, ours.labels)
    assert read.info.evaluation.lr == 0.02


def test_folder_of_the_originals_names_the_data_set(capsys: pytest.CaptureFixture[str]) -> None:
    run = Path("logged_files/MNIST/run")
    save_as_the_originals_do(run, images=torch.zeros(10, 1, 28, 28), labels=torch.arange(10))
    assert main(["evaluate", str(run)]) == 2
    assert "mnist needs its folder: pass --data-dir" in capsys.readouterr().err


def test_whitened_files_want_the_images_they_were_whitened_by(data: RealData) -> None:
    ours = make_set(data, zca=True)
    assert ours.unwhitened is not None
    folder = save_as_the_originals_do(
        Path("run"),
        images=ours.images,
        labels=ours.labels,
        images_zca=ours.unwhitened,
        lr=torch.tensor(0.1),
    )
    read = load_set(folder, data)
    assert read.info.whitening == ours.info.whitening
    torch.testing.assert_close(read.pixels(), ours.pixels())
    (folder / "images_zca_best.pt").rename(folder / "pictures.pt")
    assert load_set(folder, data).info.whitening == ours.info.whitening  # by their spectrum
    assert load_set(folder, data, zca=False).info.whitening is None
    assert load_set(folder, data, zca=True).info.whitening == ours.info.whitening
    (folder / "pictures.pt").rename(folder / "images_zca_best.pt")
    fewer = replace(
        data, train=replace(data.train, images=data.train.images[:300], labels=data.train.labels)
    )
    with pytest.raises(InputError, match="ZCA-whitened by other training images"):
        load_set(folder, fewer)


def test_folder_of_pictures_is_matched_by_name(data: RealData) -> None:
    ours = make_set(data)
    classes = tuple(f"digit {c}" for c in "9876543210")  # sorted otherwise than labelled
    named = replace(data, classes=classes)
    for image, label in zip(ours.pixels(), ours.labels.tolist(), strict=True):
        folder = Path("pictures") / classes[label]
        folder.mkdir(parents=True, exist_ok=True)
        to_pil_image((image * 255).round().byte()).save(
            folder / f"{len(list(folder.iterdir()))}.png"
        )
    read = load_set(Path("pictures"), named)
    assert torch.equal(read.labels, ours.labels)
    torch.testing.assert_close(read.pixels(), ours.pixels(), atol=0.002, rtol=0)


def test_picture_folder_has_a_card_and_one_picture_an_image(data: RealData) -> None:
    make_set(data).save(Path("set"))
    assert main(["export", "set", "pictures", "--format", "pictures"]) == 0
    card = Path("pictures/README.md").read_text()
    header = card.split("---")[1]
    assert "size_categories:\n- n<1K" in header and "image-classification" in header
    assert "20 images of 1x8x8, 2 per class, distilled from `digits`" in card
    files = sorted(Path("pictures/train").rglob("*.png"))
    assert len(files) == 20 and files[0].parent.name == "0"
    with Image.open(files[0]) as picture:
        assert picture.size == (8, 8)


def test_class_folders_sort_as_the_labels_do(data: RealData) -> None:
    ours = make_set(data)
    classes = ("zebra", "../ant", *(f"c {k}" for k in range(8)))
    FORMATS["pictures"](replace(ours, info=replace(ours.info, classes=classes)), Path("pictures"))
    names = sorted(folder.name for folder in Path("pictures/train").iterdir())
    assert names[:3] == ["0_zebra", "1_.._ant", "2_c_0"]
    for name in ("meta.json", "synthetic.safetensors"):
        Path("pictures", name).unlink()
    read = load_set(Path("pictures"), data)
    assert torch.equal(read.labels, ours.labels)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"images": torch.zeros(3, 1, 8, 8)}, "the shape .2,., and there are 3 images"),
        (
            {"images": torch.zeros(2, 64)},
            "holds no images of the shape .N, C, H, W., but .2, 64.",
        ),
        ({"images": torch.full((2, 1, 8, 8), float("nan"))}, "images are not finite"),
        ({"labels": torch.tensor([0, 11])}, "classes from 0 to 9 nor rows of 10"),
        ({"labels": torch.tensor([0.5, 1.0])}, "no classes from 0"),
        ({"labels": torch.rand(2, 9)}, "classes from 0 to 9 nor rows of 10"),
        ({"labels": torch.full((2, 10), float("nan"))}, "labels of .* are not finite"),
        ({"lr": torch.tensor(-0.1)}, "holds no learning rate above 0"),
        ({"lr": torch.ones(2)}, "holds no learning rate above 0"),
    ],
)
def test_files_that_do_not_belong_together_are_refused(
    data: RealData, tensors: dict[str, Tensor], message: str
) -> None:
    good = {"images": torch.zeros(2, 1, 8, 8), "labels": torch.arange(2), "lr": torch.tensor(0.1)}
    folder = save_as_the_originals_do(Path("run"), **{**good, **tensors})
    with pytest.raises(InputError, match=message):
        load_set(folder, data)


def test_missing_labels_are_missed(data: RealData) -> None:
    folder = save_as_the_originals_do(Path("run"), images=torch.zeros(2, 1, 8, 8))
    with pytest.raises(InputError, match=r"there is no file .*labels_best\.pt"):
        load_set(folder, data)


def test_numbered_and_grey_folders_are_read(data: RealData) -> None:
    """More than ten numbered folders do not sort as their numbers; grey is saved as colour."""
    twelve = replace(data, classes=tuple(f"class {c}" for c in range(12)))
    for c in range(12):
        folder = Path("pictures") / str(c)
        folder.mkdir(parents=True)
        Image.new("RGB", (8, 8), (20 * c,) * 3).save(folder / "1.png")
    read = load_set(Path("pictures"), twelve)
    assert read.images.shape == (12, 1, 8, 8)
    assert read.labels.tolist() == list(range(12))
    levels = (read.pixels()[:, 0, 0, 0] * 255).round().tolist()
    assert levels == [20 * c for c in range(12)]


def test_soft_labels_for_dd_ranking_are_logits(data: RealData) -> None:
    info = replace(make_set(data).info, dataset="cifar10", mean=(0.5,) * 3, std=(0.2,) * 3)
    labels = torch.tensor([[1.0] + [0.0] * 9, [0.3] * 2 + [0.05] * 8])
    synthetic = SyntheticSet(torch.randn(2, 3, 8, 8), labels, replace(info, settings={}))
    FORMATS["dd-ranking"](synthetic, Path("set.pt"))
    theirs = torch.load("set.pt", weights_only=True)["soft_labels"]
    torch.testing.assert_close(theirs.softmax(1), labels)
    torch.testing.assert_close(load_set(Path("set.pt")).labels, labels)


def test_picture_folder_is_left_alone_by_evaluation(data: RealData) -> None:
    make_set(data).save(Path("set"))
    assert main(["export", "set", "pictures", "--format", "pictures"]) == 0
    for name in ("meta.json", "synthetic.safetensors"):
        Path("pictures", name).unlink()
    command = ["evaluate", "pictures", "--dataset", "digits", "--epoch-eval-train", "1"]
    for _ in range(2):
        assert main([*command, "--networks", "mlp", "--num-eval", "1"]) == 0
    assert not Path("pictures/evaluation").exists()
    assert Path("evaluation-pictures-2/accuracies.csv").is_file()


def test_unknown_data_set_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    save_as_the_originals_do(Path("run"), images=torch.zeros(2, 1, 8, 8), labels=torch.arange(2))
    for command in (["evaluate", "run"], ["show", "run"], ["export", "run"]):
        assert main(command) == 2
        said = capsys.readouterr().err
        assert "run/images_best.pt does not say what it was made from: pass --dataset" in said
        assert "no data set here has images of 1x8x8 with 2 classes" in said


def test_wrong_number_of_class_folders_is_refused(data: RealData) -> None:
    Path("pictures/cat").mkdir(parents=True)
    Image.new("L", (8, 8)).save("pictures/cat/1.png")
    assert format_of(Path("pictures")) == "pictures"
    with pytest.raises(InputError, match="class folder 'cat' in pictures is not a class of digits"):
        load_set(Path("pictures"), data)


@pytest.mark.parametrize("fmt", ["res", "dd-ranking"])
def test_files_have_the_ending_by_which_they_are_read(
    fmt: str, data: RealData, capsys: pytest.CaptureFixture[str]
) -> None:
    make_set(data, "hard" if fmt == "res" else "soft").save(Path("set"))
    assert main(["export", "set", "exported", "--format", fmt]) == 2
    assert f"exported must end in .pt for --format {fmt}" in capsys.readouterr().err
    assert not Path("exported").exists()


def test_evaluations_land_beside_exports(data: RealData) -> None:
    make_set(data).save(Path("set"))
    assert main(["export", "set", "set/a.pt"]) == 0
    command = ["evaluate", "set/a.pt", "--networks", "mlp", "--num-eval", "1"]
    assert main([*command, "--epoch-eval-train", "1"]) == 0
    assert Path("set/evaluation-a/accuracies.csv").is_file()


def test_a_learning_rate_counts_for_every_format(data: RealData) -> None:
    make_set(data).save(Path("set"))
    assert load_set("set").info.evaluation.lr == 0.03
    assert load_set("set", lr=0.5).info.evaluation.lr == 0.5


def test_sets_of_own_data_are_evaluated_with_their_folder() -> None:
    for label, k in itertools.product(("cat", "dog"), range(4)):
        path = Path("pets", label, f"{k}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), 20 * k + 100 * (label == "cat")).save(path)
    pets = load_data("pets", name="pets")
    selected = select_set("random", pets, out="selected", progress=False)
    assert selected.info.dataset == "pets"
    command = ["evaluate", "selected", "--dataset", "pets", "--num-eval", "1"]
    assert main([*command, "--epoch-eval-train", "1", "--networks", "mlp"]) == 0


@pytest.mark.parametrize("read", [load_set, SyntheticSet.load])
def test_what_is_not_there_is_said_to_be_missing(read: Callable[[str], object]) -> None:
    with pytest.raises(InputError, match=r"there is no (file or )?folder nothing"):
        read("nothing")
