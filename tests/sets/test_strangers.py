"""Files from strangers: nothing in them runs, is markup, or fills the memory."""

from __future__ import annotations

import json
import os
import pickle
import random
import struct
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from sdc_ext._files import as_table, as_text, write_files
from sdc_ext.cli import main
from sdc_ext.data import load_data
from sdc_ext.errors import InputError
from sdc_ext.experts.store import ExpertInfo, ExpertStore
from sdc_ext.report.html_page import write_report
from sdc_ext.report.tables import summary
from sdc_ext.sets import SetInfo, SyntheticSet, load_set
from sdc_ext.sets.formats.best import write_best
from sdc_ext.sets.formats.pictures import write_picture_folder
from sdc_ext.sets.formats.res import write_res
from sdc_ext.sets.history import read_history
from sdc_ext.training import TrainingRecipe


class Payload:
    """Leaves a file behind where it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.trace),)


@pytest.mark.parametrize("setting", ["network", "eval_network"])
def test_a_network_of_a_set_loads_no_file(
    setting: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = load_data("digits")
    info = SetInfo.of_data(data, torch.arange(10), TrainingRecipe(epochs=1))
    SyntheticSet(torch.randn(10, 1, 8, 8), torch.arange(10), info).save(tmp_path / "set")
    weights = tmp_path / "weights.pth"
    weights.write_bytes(pickle.dumps(Payload(tmp_path / "executed")))
    meta = tmp_path / "set" / "meta.json"
    description = json.loads(meta.read_text())
    hostile = f"timm:resnet18:checkpoint_path={weights}"
    description["network"] = hostile
    description["settings"]["eval_network"] = {"value": hostile, "source": "a stranger"}
    if setting == "network":
        del description["settings"]["eval_network"]
    meta.write_text(json.dumps(description))
    assert main(["evaluate", str(tmp_path / "set"), "--num-eval", "1"]) == 2
    assert "'checkpoint_path': choose from act_layer" in capsys.readouterr().err
    assert not (tmp_path / "executed").exists()


def whole_set(folder: Path, soft: bool = False) -> SyntheticSet:
    data = load_data("digits")
    labels = torch.arange(10)
    info = SetInfo.of_data(data, labels, TrainingRecipe(epochs=1))
    row = {"iteration": 1, "of": "images", "network": "mlp", "mean": 0.5, "std": 0.0}
    lam = {"lam": {"value": 0.1, "source": "test"}}
    info = replace(info, settings=lam, accuracies=({**row, "accuracies": [0.5]},))
    torch.manual_seed(0)
    chosen = torch.rand(10, 10).softmax(1) if soft else labels
    return SyntheticSet(torch.randn(10, 1, 8, 8), chosen, info)


def make_folder(folder: Path) -> None:
    whole_set(folder).save(folder)
    row = {"iteration": 0, "loss": 1.5, "matching": 1.0, "difficulty": 0.5}
    write_files(folder, {"history.csv": as_table([row] * 3)})


def make_experts(folder: Path) -> None:
    data, recipe = load_data("digits"), {"train_epochs": 1, "lr_teacher": 0.1, "optimizer": "sgd"}
    info = ExpertInfo.of(data, "mlp", torch.nn.Linear(2, 1), recipe, 0)
    ExpertStore.create(folder, info).add(0, torch.zeros(2, 3), 0.5)


def read_experts(folder: Path) -> None:
    store = ExpertStore.open(folder)
    store.parameters(0, 0)
    store.accuracies()
    str(store.description)


def make_report(folder: Path) -> None:
    whole_set(folder).save(folder / "set")
    gain = {"difference": 0.1, "t_interval": [0, 1], "bootstrap_interval": [0, 1], "wins": 1}
    gain |= {"losses": 0, "sign_test": 1.0, "seeds_for_0.005": None}
    base = {"lam": 0.0, "mean": 0.5, "std": 0.1, "n": 2}
    evaluated = {"set": "a", "network": "mlp", "epochs": 1, "lr": 0.1, "seed": 0}
    evaluated |= {"mean": 0.5, "std": 0.1, "accuracies": [0.4, 0.6]}
    files = {
        "comparison.json": as_text(json.dumps([base, {**base, **gain}])),
        "accuracies.json": as_text(json.dumps([evaluated])),
    }
    write_files(folder, files)


def read_as_a_user(folder: Path) -> None:
    synthetic = load_set(folder, load_data("digits"))
    synthetic.adopt(load_data("digits"))
    str(synthetic)
    summary(synthetic, "last", read_history(folder))


# How each form is made in a folder, and how it is read again.
FORMS: dict[str, tuple[Callable[[Path], object], Callable[[Path], object]]] = {
    "set": (make_folder, read_as_a_user),
    "best": (lambda f: write_best(whole_set(f), f), read_as_a_user),
    "soft": (lambda f: write_best(whole_set(f, soft=True), f), read_as_a_user),
    "res": (lambda f: write_res([whole_set(f)], f / "r.pt"), lambda f: load_set(f / "r.pt")),
    "pictures": (lambda f: write_picture_folder(whole_set(f), f), read_as_a_user),
    "experts": (make_experts, read_experts),
    "report": (make_report, lambda f: write_report([f], f / "page.html")),
}

ABSURD = [None, "x", "", -1, 0, 1.5, 1e308, 10**400, True, [], {}, [[]], "\x1b[31m", "[/x]"]


def damaged_json(content: bytes, draw: random.Random) -> bytes:
    """JSON with one value replaced or removed."""
    tree = json.loads(content)
    places = [(tree, key) for key in (tree if isinstance(tree, dict) else range(len(tree)))]
    for holder, key in places:  # grows while it is walked
        inner = holder[key]
        if isinstance(inner, (dict, list)):
            places += [
                (inner, k) for k in (inner if isinstance(inner, dict) else range(len(inner)))
            ]
    holder, key = draw.choice(places)
    if draw.random() < 0.2:
        del holder[key]
    else:
        holder[key] = draw.choice(ABSURD)
    return json.dumps(tree).encode()


def damaged(path: Path, draw: random.Random) -> bytes:
    content = path.read_bytes()
    if path.suffix == ".json" and draw.random() < 0.7:
        return damaged_json(content, draw)
    start, length = draw.randrange(len(content)), draw.choice([1, 1, 8, 300])
    return draw.choice(
        [
            content[:start],
            content[:start]
            + bytes([content[start] ^ 1 << draw.randrange(8)])
            + content[start + 1 :],
            content[:start] + bytes(length) + content[start + length :],
            content[:start] + draw.randbytes(length) + content[start:],
            b"[" * 100_000,
            draw.randbytes(64),
        ]
    )


def try_damages(name: str, folder: Path, count: int) -> Counter[str]:
    """Damages a file of a form again and again; each time it is read, or refused in a sentence."""
    make, read = FORMS[name]
    make(folder)
    read(folder)
    kinds = (".json", ".pt", ".safetensors", ".csv", ".png")
    files = sorted(p for p in folder.rglob("*") if p.suffix in kinds and p.name != "grid.png")
    draw, outcome = random.Random(name), Counter[str]()
    for _ in range(count):
        path = draw.choice(files)
        content = path.read_bytes()
        path.write_bytes(damaged(path, draw))
        try:
            read(folder)
            outcome["read"] += 1
        except InputError as error:
            assert len(str(error).splitlines()) == 1, str(error)
            outcome["refused"] += 1
        path.write_bytes(content)
    return outcome


@pytest.mark.parametrize("name", FORMS)
def test_damaged_files_are_read_or_refused_in_a_sentence(name: str, tmp_path: Path) -> None:
    assert try_damages(name, tmp_path, 40)["refused"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMS)
def test_thousands_of_damaged_files(name: str, tmp_path: Path) -> None:
    outcome = try_damages(name, tmp_path, 1000)
    print(f"{name}: {dict(outcome)}")


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    """A folder with a set."""
    info = SetInfo.of_data(load_data("digits"), torch.arange(10), TrainingRecipe(epochs=1))
    SyntheticSet(torch.rand(10, 1, 8, 8), torch.arange(10), info).save(tmp_path / "set")
    return tmp_path / "set"


@pytest.mark.parametrize("hostile", ["[/x]", ":smile:", "\x1b[31m\x07", r"$\frac$ \$"])
def test_show_prints_what_is_written(
    hostile: str, stored: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    description = json.loads((stored / "meta.json").read_text())
    description["method"] = description["network"] = description["classes"][0] = hostile
    (stored / "meta.json").write_text(json.dumps(description))
    assert main(["show", str(stored)]) == 0
    written = hostile.replace("\x1b", r"\x1b").replace("\x07", r"\x07")
    printed = capsys.readouterr().out
    assert f"{written} on digits" in printed and printed.count(written) == 2
    assert "\x1b" not in printed


@pytest.mark.parametrize("label", [10**9, 10, -1])
def test_labels_without_a_class_are_refused(label: int, stored: Path) -> None:
    synthetic = SyntheticSet.load(stored)
    labels = synthetic.labels.clone()
    labels[3] = label
    description = json.loads((stored / "meta.json").read_text())
    del description["tensors"]
    (stored / "meta.json").write_text(json.dumps(description))
    tensors = {"images": synthetic.images, "labels": labels}
    save_file(tensors, stored / "synthetic.safetensors")
    with pytest.raises(InputError, match=r"safetensors is damaged \(labels are not from 0 to 9\)"):
        load_set(stored)
    theirs = stored / "res_DC_MNIST_ConvNet_1ipc.pt"
    torch.save({"data": [[synthetic.images, labels]]}, theirs)
    with pytest.raises(InputError, match=f"{theirs.name}: (it holds the label|labels must be)"):
        load_set(theirs)


def test_safetensors_hold_what_their_header_says(stored: Path) -> None:
    tensors = stored / "synthetic.safetensors"
    images = {"dtype": "F32", "shape": [10**9], "data_offsets": [0, 4 * 10**9]}
    header = json.dumps({"images": images, "labels": images}).encode()
    repeated = json.dumps({"images": {**images, "data_offsets": [0, 4]}}).encode()
    for content in (
        struct.pack("<Q", 2**62),
        struct.pack("<Q", 10**9) + b"{}",
        struct.pack("<Q", len(header)) + header,
        struct.pack("<Q", len(repeated)) + repeated + bytes(4),
    ):
        tensors.write_bytes(content)
        with pytest.raises(InputError, match=f"{stored} is damaged"):
            load_set(stored)
