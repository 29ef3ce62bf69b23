"""Files from strangers: nothing in them runs, is markup, or fills the memory."""

from __future__ import annotations

import json
import os
import pickle
import struct
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from sdc_ext.cli import main
from sdc_ext.data import load_data
from sdc_ext.errors import InputError
from sdc_ext.sets import SetInfo, SyntheticSet, load_set
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
    with pytest.raises(InputError, match=f"{theirs.name} (holds the label|is damaged .labels are)"):
        load_set(theirs)


def test_sets_made_in_python_have_labels_of_classes(stored: Path) -> None:
    synthetic = SyntheticSet.load(stored)
    with pytest.raises(InputError, match="the set's labels are not from 0 to 9: pass the set"):
        replace(synthetic, labels=synthetic.labels + 10**9)


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


EVALUATION = {"iteration": 1, "network": "mlp", "mean": 0.5, "std": 0.0, "accuracies": [0.5]}


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"ipc": 11}, "it holds 10 images, but 11 per class"),
        ({"std": [0.0]}, "std must be a number from 1e-30 to 1e[+]30, got 0"),
        ({"mean": [1e308]}, "mean must be a number from -1e[+]30 to 1e[+]30"),
        ({"evaluation": {"epochs": 1, "momentum": -1}}, "evaluation: momentum must be a number of"),
        ({"evaluation": {"epochs": 10**400}}, "a whole number has more than 64 bits"),
        ({"evaluation": {}}, "evaluation: Object missing required field epochs"),
        ({"accuracies": [{**EVALUATION, "accuracies": []}]}, "an evaluation has no accuracies"),
        ({"accuracies": [{**EVALUATION, "mean": 50.0}]}, "accuracies must be a number from 0 to 1"),
        ({"versions": {"torch": 2}}, r"versions\[...\]: Expected str, got int"),
        ({"settings": {"outer_warmup": {"value": "x", "source": ""}}}, "setting outer_warmup, is"),
        (
            {"settings": {"a": {"value": json.loads("[" * 60 + "]" * 60), "source": ""}}},
            "too deeply",
        ),
    ],
)
def test_values_that_a_set_cannot_have_are_named(
    changes: dict[str, object], problem: str, stored: Path
) -> None:
    description = json.loads((stored / "meta.json").read_text())
    (stored / "meta.json").write_text(json.dumps(description | changes))
    with pytest.raises(InputError, match=f"{stored}.*{problem}"):
        load_set(stored)


@pytest.mark.parametrize(
    ("images", "labels", "problem"),
    [
        (torch.randint(0, 256, (10, 1, 28, 28)).float(), torch.arange(10), "look like pixels"),
        (torch.randn(10, 1, 28, 28) * 1e38, torch.arange(10), "too large to compute with"),
        (torch.randn(10, 3, 28, 28), torch.arange(10), r"not \(N, 1, H, W\)"),
        (torch.randn(10, 1, 28, 28), torch.arange(10) + 0.5, "labels are not whole numbers"),
        (torch.randn(10, 1, 28, 28), torch.arange(9), "for 10 images"),
        (torch.randn(10, 1, 28, 28).to(torch.complex64), torch.arange(10), "than usual numbers"),
        (torch.tensor(1.0), torch.arange(10), r"have the shape \(\)"),
    ],
)
def test_tensors_that_are_no_set_are_refused(
    images: torch.Tensor, labels: torch.Tensor, problem: str, tmp_path: Path
) -> None:
    path = tmp_path / "res_DC_MNIST_ConvNet_1ipc.pt"
    torch.save({"data": [[images, labels]]}, path)
    with pytest.raises(InputError, match=f"{path.name}.*{problem}"):
        load_set(path)
