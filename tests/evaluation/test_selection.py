from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sdc_ext.cli import main
from sdc_ext.data.load import load_data
from sdc_ext.errors import InputError
from sdc_ext.evaluation.selection import (
    BASELINES,
    ProbeStatistics,
    forgetting,
    herding,
    k_center,
    probe_statistics,
    select_images,
)
from sdc_ext.sets.decoding import Decoder
from sdc_ext.sets.synthetic_set import SyntheticSet
from sdc_ext.training.probe import Probe

QUICK = Probe(network="convnet:depth=2:width=4", train_epochs=2)
CPU = torch.device("cpu")


def statistics(features: list[list[float]], forgotten: list[int] | None = None) -> ProbeStatistics:
    return ProbeStatistics(torch.tensor(features), torch.tensor(forgotten or [0] * len(features)))


def test_herding_keeps_the_running_mean_close() -> None:
    # The mean is 2; 2.5 is nearest, then 1.5 brings the mean of the two back to 2.
    seen = statistics([[0.0], [1.5], [2.5], [4.0], [99.0]])
    index = torch.tensor([0, 1, 2, 3])
    chosen = herding(seen, index, 4).tolist()
    assert set(chosen[:2]) == {1, 2}
    assert sorted(chosen) == [0, 1, 2, 3]


def test_k_center_takes_the_farthest() -> None:
    seen = statistics([[0.0], [1.0], [5.0], [5.5], [10.0]])
    assert k_center(seen, torch.arange(5), 3).tolist() == [2, 0, 4]
    assert sorted(k_center(seen, torch.arange(5), 5).tolist()) == [0, 1, 2, 3, 4]


def test_duplicates_are_not_chosen_twice() -> None:
    seen = statistics([[1.0]] * 4)
    for choose in (herding, k_center, forgetting):
        assert sorted(choose(seen, torch.arange(4), 4).tolist()) == [0, 1, 2, 3]


def test_forgetting_takes_what_was_forgotten_most() -> None:
    seen = statistics([[0.0]] * 5, forgotten=[1, 5, 0, 3, 2])
    assert forgetting(seen, torch.arange(5), 3).tolist() == [1, 3, 4]
    assert forgetting(seen, torch.tensor([0, 2, 4]), 2).tolist() == [4, 0]


@pytest.mark.parametrize("baseline", BASELINES)
def test_selections_are_sorted_by_class_and_follow_the_seed(baseline: str) -> None:
    data = load_data("digits")
    first, again = (select_images(baseline, data, 3, QUICK, seed=1, device=CPU) for _ in range(2))
    assert torch.equal(first, again)
    assert data.train.labels[first].tolist() == [c for c in range(10) for _ in range(3)]
    assert len(set(first.tolist())) == 30
    other = select_images(baseline, data, 3, QUICK, seed=2, device=CPU)
    assert not torch.equal(first, other)


def test_images_that_are_never_right_count_as_forgotten_most() -> None:
    data = load_data("digits")
    wrong = data.train.labels.clone()
    wrong[:5] = (wrong[:5] + 1) % 10
    mislabelled = replace(data, train=replace(data.train, labels=wrong))
    probe = replace(QUICK, network="convnet:depth=2:width=32", train_epochs=4)
    seen = probe_statistics(mislabelled, probe, seed=0, device=CPU)
    assert seen.features.shape[0] == len(data.train)
    assert seen.forgotten[:5].float().mean() > 3 > seen.forgotten[5:].float().mean()


@pytest.mark.parametrize("ipc", [0, 10_000])
def test_too_many_or_too_few(ipc: int) -> None:
    with pytest.raises(InputError, match="ipc must be from 1 to"):
        select_images("random", load_data("digits"), ipc, QUICK, seed=0, device=CPU)


def test_the_command_leaves_a_set_that_can_be_evaluated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "set"
    options = ["--ipc", "2", "--network", "convnet:depth=2:width=4", "--out", str(out)]
    assert main(["select", "herding", *options, "--train-epochs", "1", "--like", "dsa"]) == 0
    selected = SyntheticSet.load(out)
    assert selected.info.method == "herding"
    assert selected.info.evaluation.augmentation == "color_crop_cutout_scale_rotate"
    pixels = load_data("digits").train.images
    first = (selected.pixels()[0] - pixels / pixels.max()).abs().flatten(1).max(1).values
    assert first.min() < 1e-5
    assert main(["evaluate", str(out), "--num-eval", "1", "--epoch-eval-train", "1"]) == 0
    assert main(["select", "herding", *options]) == 2
    assert "exists: choose another --out" in capsys.readouterr().err
    assert main(["select", "hurding"]) == 2
    assert "did you mean 'herding'" in capsys.readouterr().err


def test_shrunk_images_share_the_storage_of_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "set"
    arguments = ["select", "random", "--factor", "2", "--seed", "1", "--out"]
    assert main([*arguments, str(out), "--ipc", "2"]) == 0
    selected, data = SyntheticSet.load(out), load_data("digits")
    assert selected.stored is not None and selected.stored.shape == (20, 1, 8, 8)
    assert (len(selected.images), selected.info.ipc, selected.info.factor) == (80, 2, 2)
    chosen = select_images("random", data, 8, QUICK, seed=1, device=CPU)
    assert torch.equal(selected.labels, data.train.labels[chosen])
    real = data.normalize(data.train.images[chosen])
    assert torch.equal(selected.stored, Decoder(2).encode(real))
    assert main([*arguments, str(tmp_path / "more"), "--ipc", "40"]) == 2
    assert "ipc 40 with --factor 2 makes 160 images per class" in capsys.readouterr().err
