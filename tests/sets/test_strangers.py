"""Sets from strangers: nothing in them is executed."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path

import pytest
import torch

from sdc_ext.cli import main
from sdc_ext.data import load_data
from sdc_ext.sets import SetInfo, SyntheticSet
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
