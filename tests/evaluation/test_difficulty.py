"""Difficulty of samples: per-sample gradients, ensembles, the command."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from helpers import launch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor, nn

from sdc_ext.cli import main
from sdc_ext.data.load import load_data
from sdc_ext.errors import InputError
from sdc_ext.evaluation.difficulty import Difficulty, measure_difficulty, score_samples
from sdc_ext.networks.create import create_network
from sdc_ext.training.probe import Probe

QUICK = Probe(network="convnet:depth=1:width=4", train_epochs=3)
SMALL = ["--network", "convnet:depth=1:width=4", "--num-networks", "2", "--train-epochs", "3"]


def sample_by_sample(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    norms = []
    for image, label in zip(images, labels, strict=True):
        network.zero_grad()
        F.cross_entropy(network(image[None]), label[None]).backward()
        norms.append(torch.cat([p.grad.flatten() for p in network.parameters()]).norm())
    return torch.stack(norms)


@settings(max_examples=12, deadline=None)
@given(
    size=st.integers(1, 7),
    chunk=st.integers(1, 9),
    width=st.integers(1, 4),
    depth=st.integers(1, 2),
    soft=st.booleans(),
)
def test_chunks_equal_the_loop_over_samples(
    size: int, chunk: int, width: int, depth: int, soft: bool
) -> None:
    torch.manual_seed(size)
    network = create_network(f"convnet:width={width}:depth={depth}", 1, 3, (8, 8)).double()
    images = torch.randn(size, 1, 8, 8, dtype=torch.float64)
    labels = torch.rand(size, 3, dtype=torch.float64).softmax(1) if soft else torch.arange(size) % 3
    scored = score_samples(network, images, labels, chunk_size=chunk)
    output = network(images)
    torch.testing.assert_close(scored.gradn, sample_by_sample(network, images, labels))
    torch.testing.assert_close(
        scored.loss, F.cross_entropy(output, labels, reduction="none").detach()
    )
    hard = labels.argmax(1) if soft else labels
    assert torch.equal(scored.misclassified.bool(), output.argmax(1) != hard)
    probabilities = labels if soft else F.one_hot(labels, 3).double()
    residual = output.softmax(1) - probabilities
    torch.testing.assert_close(scored.el2n, residual.square().sum(1).sqrt().detach())
    for row, label, margin in zip(output.tolist(), hard.tolist(), scored.margin, strict=True):
        assert float(margin) == pytest.approx(row.pop(label) - max(row))
    assert torch.equal(scored.margin < 0, scored.misclassified.bool())


@pytest.mark.parametrize(
    "spec", ["timm:resnet10t", "timm:vit_tiny_patch16_224:patch_size=8:depth=1", "mlp", "alexnet"]
)
def test_any_network_is_taken(spec: str) -> None:
    torch.manual_seed(0)
    network = create_network(spec, 3, 5, (32, 32)).eval()
    images, labels = torch.randn(4, 3, 32, 32), torch.arange(4)
    scored = score_samples(network, images, labels, chunk_size=4)
    torch.testing.assert_close(
        scored.gradn, sample_by_sample(network, images, labels), rtol=1e-3, atol=1e-5
    )


def test_samples_that_are_mixed_by_batch_norm_are_refused() -> None:
    network = create_network("convnet:depth=1:width=4:norm=batch", 1, 3, (8, 8)).train()
    images, labels = torch.randn(4, 1, 8, 8), torch.zeros(4, dtype=torch.int64)
    with pytest.raises(InputError, match="batch norm in training mode mixes samples"):
        score_samples(network, images, labels)
    assert len(score_samples(network.eval(), images, labels).gradn) == 4
    with pytest.raises(InputError, match="chunk_size must be at least 1, got 0"):
        score_samples(network.eval(), images, labels, chunk_size=0)


def test_ensembles_average_their_networks() -> None:
    data = load_data("digits")
    samples = {"some": (data.normalize(data.test.images[:20]), data.test.labels[:20])}

    def measure(networks: int, epochs: list[int]) -> dict[tuple[str, int], Difficulty]:
        return measure_difficulty(
            *(samples, data, QUICK),
            epochs=epochs,
            networks=networks,
            seed=3,
            accelerator=Accelerator(cpu=True),
        )

    one, two = measure(1, [3]), measure(2, [1, 3])
    assert set(two) == {("some", 1), ("some", 3)}
    first, both = one["some", 3], two["some", 3]
    second = 2 * both.gradn - first.gradn
    assert not torch.allclose(second, first.gradn, rtol=0.01)
    assert set((2 * both.misclassified).tolist()) <= {0.0, 1.0, 2.0}
    assert two["some", 1].loss.mean() > both.loss.mean()  # training makes samples easier
    with pytest.raises(InputError, match=r"epochs must be from 1 to 3 \(`train_epochs`\), got 4"):
        measure(1, [4])


def test_rank_correlations_are_of_ranks() -> None:
    chi = torch.tensor([0.0, 0.25, 0.5, 1.0])
    scored = Difficulty(chi, gradn=chi.exp(), loss=-chi, el2n=chi**2, margin=-chi.exp())
    expected = {"gradn": 1.0, "loss": -1.0, "el2n": 1.0, "margin": -1.0}
    assert scored.rank_correlations == pytest.approx(expected)
    assert scored.rank_correlation("loss", "margin") == pytest.approx(1.0)
    assert scored.at(torch.tensor([True, False, False, True])).gradn.tolist() == pytest.approx(
        [1.0, math.e]
    )
    with pytest.raises(InputError, match="unknown measure 'grand': did you mean 'gradn'"):
        scored.rank_correlation("misclassified", "grand")
    flat = Difficulty(torch.zeros(4), gradn=chi, loss=chi, el2n=chi, margin=chi)
    assert all(value != value for value in flat.rank_correlations.values())


def test_command_scores_real_and_distilled_samples(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["select", "random", "--ipc", "2", "--out", str(tmp_path / "set")]) == 0
    capsys.readouterr()
    out = tmp_path / "scored"
    arguments = [str(tmp_path / "set"), *SMALL, "--epochs", "1", "3", "--per-class", "5"]
    assert main(["difficulty", *arguments, "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "real test" in printed and "rho GraDN" in printed
    with (out / "difficulty.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * (20 + 50)
    assert {row["misclassified"] for row in rows} <= {"0.0", "0.5", "1.0"}
    with (out / "classes.csv").open(newline="") as file:
        by_class = list(csv.DictReader(file))
    assert len(by_class) == 2 * 2 * 10
    assert {row["n"] for row in by_class} == {"5", "2"}
    for name in ("difficulty", "gradn-misclassified", "loss-misclassified", "loss-gradn"):
        with Image.open(out / f"{name}.png") as picture:
            assert picture.width > 500


def test_two_processes_score_what_one_does(tmp_path: Path) -> None:
    small = [*SMALL, "--per-class", "3"]
    for number, name in ((1, "one"), (2, "two")):
        launch(number, tmp_path, "difficulty", *small, "--out", name)
    one, two = ((tmp_path / name / "difficulty.csv").read_text() for name in ("one", "two"))
    for ours, theirs in zip(one.splitlines()[1:], two.splitlines()[1:], strict=True):
        for a, b in zip(ours.split(",")[4:], theirs.split(",")[4:], strict=True):
            assert float(a) == pytest.approx(float(b), rel=1e-3, abs=1e-5)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--per-class", "0"], "--per-class must be a whole number from 1"),
        (["--epochs", "9"], "epochs must be from 1 to 3 (--train-epochs), got 9"),
        (["--network", "convnat"], "unknown network 'convnat': did you mean 'convnet'?"),
    ],
)
def test_command_names_what_is_wrong(
    options: list[str], problem: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["difficulty", *SMALL, *options, "--out", str(out)]) == 2
    assert problem in capsys.readouterr().err
    assert not out.exists()
