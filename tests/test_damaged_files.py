"""Files of every format, damaged by a generator: each is read, or refused in one sentence."""

from __future__ import annotations

import json
import math
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from damage import damaged
from PIL import Image

from sdc_ext._files import as_table, as_text, write_files
from sdc_ext.data import load_data
from sdc_ext.errors import InputError
from sdc_ext.experts.store import ExpertInfo, ExpertStore, open_experts
from sdc_ext.report.html_page import write_report
from sdc_ext.report.tables import expert_table, summary
from sdc_ext.sets import SetInfo, SyntheticSet, load_set
from sdc_ext.sets.formats.best import write_best
from sdc_ext.sets.formats.dd_ranking import write_dd_ranking
from sdc_ext.sets.formats.pictures import write_picture_folder
from sdc_ext.sets.formats.res import write_res
from sdc_ext.sets.history import read_history
from sdc_ext.sets.loading import Opening, open_with_data
from sdc_ext.theory import collect, read_accuracies
from sdc_ext.training import TrainingRecipe

RES = "res_DC_MNIST_ConvNet_1ipc.pt"
OPENING = Opening(dataset="digits")
RECIPE = {"train_epochs": 1, "lr_teacher": 0.1, "optimizer": "sgd"}

Use = Callable[[Path], object]


def whole_set(*, soft: bool = False, dataset: str = "digits") -> SyntheticSet:
    channels, generator = (1 if dataset == "digits" else 3), torch.Generator().manual_seed(0)
    hard = torch.arange(10)
    labels = torch.rand(10, 10, generator=generator).softmax(1) if soft else hard
    info = SetInfo.of_data(load_data("digits"), hard, TrainingRecipe(epochs=1))
    row = {"iteration": 1, "of": "images", "network": "mlp", "mean": 0.5, "std": 0.0}
    read = {"lam": 0.1, "contrast": True, "outer_warmup": 1, "eval_network": "mlp", "lr_eval": None}
    info = replace(
        info,
        dataset=dataset,
        mean=(0.5,) * channels,
        std=(0.2,) * channels,
        settings={name: {"value": value, "source": "test"} for name, value in read.items()},
        accuracies=({**row, "accuracies": [0.5]},),
    )
    return SyntheticSet(torch.randn(10, channels, 8, 8, generator=generator), labels, info)


def use(synthetic: SyntheticSet, folder: Path | None = None) -> None:
    """Whatever commands do with a set before they train on it."""
    assert bool(synthetic.images.isfinite().all()) and synthetic.images.ndim == 4
    assert len(synthetic.images) == len(synthetic.labels) > 0
    recipe = synthetic.info.evaluation
    assert 0 < recipe.lr < math.inf and 0 <= recipe.momentum < 1
    assert all(0 <= a <= 1 for row in synthetic.info.accuracies for a in row["accuracies"])
    str(synthetic)
    synthetic.pixels()
    synthetic.hard_labels.bincount()
    synthetic.info.to_json()
    summary(synthetic, "last", read_history(folder) if folder is not None else None)


def use_folder(folder: Path) -> None:
    # Noise does not show whether it is whitened, which is refused before damage is seen.
    theirs = replace(OPENING, zca=False) if (folder / "images_best.pt").is_file() else OPENING
    synthetic, data = open_with_data(folder, lambda *_: load_data("digits"), theirs)
    assert synthetic.images.shape[1:] == data.train.images.shape[1:]
    use(synthetic, folder)


def make_set(folder: Path, *, soft: bool = False) -> None:
    whole_set(soft=soft).save(folder)
    row = {"iteration": 0, "loss": 1.5, "matching": 1.0, "difficulty": 0.5}
    write_files(folder, {"history.csv": as_table([row] * 3)})
    # Or all damage to the tensors would be seen by their digest.
    meta = folder / "meta.json"
    meta.write_text(json.dumps({**json.loads(meta.read_text()), "tensors": None}))


def make_theirs(folder: Path, *, soft: bool = False) -> None:
    synthetic = whole_set(soft=soft)
    torch.save(synthetic.images, folder / "images_best.pt")
    torch.save(synthetic.labels, folder / "labels_best.pt")
    torch.save(torch.tensor(0.1), folder / "lr_best.pt")


def make_res(folder: Path) -> None:
    content = {"data": [[torch.randn(10, 1, 28, 28), torch.arange(10)]]}
    torch.save({**content, "accs_all_exps": {"ConvNet": [np.float64(0.5), 0.6]}}, folder / RES)


def expert_info() -> ExpertInfo:
    return ExpertInfo.of(load_data("digits"), "mlp", torch.nn.Linear(2, 1), RECIPE, 0)


def make_experts(folder: Path) -> None:
    ExpertStore.create(folder, expert_info()).add(0, torch.rand(2, 3), 0.5)


def use_experts(folder: Path) -> None:
    experts = open_experts(folder, expert_info(), torch.nn.Linear(2, 1))
    for epoch in range(experts.epochs + 1):
        row = experts.parameters(0, epoch)
        assert row.shape == (3,) and bool(row.isfinite().all())
    assert experts.epochs > 0 and experts.description
    json.dumps(experts.identity, allow_nan=False)
    if isinstance(experts, ExpertStore):
        expert_table(experts)


def make_buffer(folder: Path) -> None:
    trajectory = [[torch.rand(1, 2), torch.rand(1)] for _ in range(3)]
    torch.save([trajectory, trajectory[::-1]], folder / "replay_buffer_0.pt")


def make_report(folder: Path) -> None:
    whole_set().save(folder / "set")
    base = {"lam": 0.0, "mean": 0.5, "std": 0.1, "n": 2}
    gain = {"difference": 0.1, "t_interval": [0, 1], "bootstrap_interval": [0, 1], "wins": 1}
    gain |= {"losses": 0, "sign_test": 1.0, "seeds_for_0.005": None}
    arm = {"arm": "share 0.1", "settings": {"share": 0.1}, "mean": 0.5, "std": 0.1, "n": 2}
    tests = {"t_test_holm": 1.0, "equivalence_test": 0.5, "margin": 0.005, "verdict": "open"}
    tests |= {"anytime_interval": None, "seeds_left": 3}
    evaluated = {"set": "a", "network": "mlp", "epochs": 1, "lr": 0.1, "seed": 0}
    evaluated |= {"mean": 0.5, "std": 0.1, "accuracies": [0.4, 0.6]}
    files = {
        "comparison.json": as_text(json.dumps([base, {**base, **gain}])),  # of earlier versions
        "accuracies.json": as_text(json.dumps([evaluated])),
    }
    write_files(folder, files)
    rows = [arm, {**arm, **gain, **tests}]
    write_files(folder / "arms", {"comparison.json": as_text(json.dumps(rows))})


def make_table(folder: Path) -> None:
    row = {"set": "a", "method": "dc", "dataset": "digits", "images": 10, "correction": "lam 0"}
    row |= {"network": "mlp", "augmentation": "none", "epochs": 1, "accuracy": 0.5}
    as_table([row, {**row, "set": "b", "images": 20}])(folder / "accuracies.csv")


def make_tiny_imagenet(folder: Path) -> None:
    for part in ("train/n0/images", "train/n1/images", "val/images"):
        (folder / part).mkdir(parents=True)
        for k in range(2):
            colour = (90 * k, 9 * len(part), 0)
            Image.new("RGB", (8, 8), colour).save(folder / part / f"{k}.png")
    lines = [f"{k}.png\tn{k}\t0\t0\t8\t8\n" for k in range(2)]
    (folder / "val" / "val_annotations.txt").write_text("".join(lines))


# How each form is made in a folder, and how it is read and used again.
FORMS: dict[str, tuple[Use, Use]] = {
    "set": (make_set, use_folder),
    "soft": (lambda f: make_set(f, soft=True), use_folder),
    "best": (lambda f: write_best(whole_set(), f), use_folder),
    "theirs": (make_theirs, use_folder),
    "theirs, soft": (lambda f: make_theirs(f, soft=True), use_folder),
    "res": (make_res, lambda f: summary(load_set(f / RES), "last")),
    "our res": (
        lambda f: write_res([whole_set()], f / "r.pt"),
        lambda f: use(load_set(f / "r.pt")),
    ),
    "dd-ranking": (
        lambda f: write_dd_ranking(whole_set(soft=True, dataset="cifar10"), f / "d.pt"),
        lambda f: summary(load_set(f / "d.pt"), "last"),
    ),
    "pictures": (lambda f: write_picture_folder(whole_set(), f), use_folder),
    "experts": (make_experts, use_experts),
    "buffer": (make_buffer, use_experts),
    "report": (make_report, lambda f: write_report([f], f / "page.html")),
    "table": (make_table, lambda f: collect(read_accuracies([f / "accuracies.csv"]))),
    "annotations": (make_tiny_imagenet, lambda f: load_data("tinyimagenet", data_dir=f)),
}

KINDS = (".json", ".pt", ".safetensors", ".csv", ".txt", ".png")


def try_damages(name: str, folder: Path, count: int) -> Counter[str]:
    """Damages a file of a form again and again, and counts what reading it does."""
    make, read = FORMS[name]
    make(folder)
    read(folder)
    files = sorted(p for p in folder.rglob("*") if p.suffix in KINDS and p.name != "grid.png")
    draw, outcome = random.Random(name), Counter[str]()
    for _ in range(count):
        path = draw.choice(files)
        content = path.read_bytes()
        path.write_bytes(damaged(path, draw))
        try:
            read(folder)
            outcome["read"] += 1
        except InputError as error:
            said = str(error)
            assert len(said.splitlines()) == 1 and folder.name in said, said
            outcome["refused"] += 1
        path.write_bytes(content)
    return outcome


@pytest.mark.filterwarnings("ignore")  # of torch, for the tensors that damage makes
@pytest.mark.parametrize("name", FORMS)
def test_damaged_files_are_read_or_refused_in_a_sentence(name: str, tmp_path: Path) -> None:
    assert try_damages(name, tmp_path, 30)["refused"] > 0


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", FORMS)
def test_thousands_of_damaged_files(name: str, tmp_path: Path) -> None:
    print(f"{name}: {dict(try_damages(name, tmp_path, 1000))}")
