"""Loops whose stored images hold several: what they match, start from and leave behind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from helpers import launch
from torch import Tensor
from unrolled import OneExpert

import sdc_ext
from sdc_ext import with_sdc
from sdc_ext.adapters import Loop, Task
from sdc_ext.adapters.loops import DistributionMatching, GradientMatching, TrajectoryMatching
from sdc_ext.adapters.loops.expert_labels import expert_logits
from sdc_ext.cli import main
from sdc_ext.data import load_data
from sdc_ext.errors import InputError
from sdc_ext.evaluation import scores
from sdc_ext.sets import Decoder, Evaluation, SyntheticSet
from sdc_ext.sets.history import read_history
from sdc_ext.strength import DEFAULT_LAM
from sdc_ext.verbs.discrepancy import Measurement

NETWORK = "convnet:width=4:depth=1"
SMOOTH = f"{NETWORK}:act=sigmoid"
EVALUATION = ("--eval-every", "2", "--num-eval", "1", "--epoch-eval-train", "2")
TINY = ("--network", NETWORK, "--ipc", "2", "--factor", "2", "--iterations", "4", *EVALUATION)
STEPS = ("--syn-steps", "2", "--batch-syn", "15", "--expert-epochs", "1", "--max-start-epoch", "2")


class ExactTask(Task):
    """A task in double precision."""

    def real_images(self, index: Tensor) -> Tensor:
        return super().real_images(index).double()


@pytest.fixture
def _exact() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def make_task(kind: type[Task] = Task, network: str = NETWORK) -> Task:
    experts = OneExpert(network)
    return kind(load_data("digits"), 2, network, Accelerator(cpu=True), experts=experts)


def trajectories(**settings: Any) -> TrajectoryMatching:
    return TrajectoryMatching(
        factor=2, syn_steps=3, batch_syn=30, max_start_epoch=1, expert_epochs=1, **settings
    )


LOOPS: dict[str, Loop] = {
    "class by class": GradientMatching(factor=2, batch_real=5, dsa_strategy="flip", lr_img=1.0),
    "all classes": GradientMatching(
        factor=2, batch_real=5, contrast=True, outer_warmup=0, lr_img=1.0
    ),
    "distributions": DistributionMatching(factor=2, batch_real=5, dsa_strategy="flip"),
    "trajectories": trajectories(dsa_strategy="flip", lr_img=1.0),
    "trajectories, the whole graph": trajectories(
        dsa_strategy="none", lr_img=1.0, adjoint="direct", difficulty_at="final"
    ),
    "learned labels": trajectories(dsa_strategy="none", lr_img=1.0, labels="learned"),
}


@pytest.mark.usefixtures("_exact")
@pytest.mark.parametrize("name", LOOPS)
def test_the_step_of_the_images_is_the_gradient_of_the_loss(name: str) -> None:
    task, loop = make_task(ExactTask, SMOOTH), LOOPS[name]
    torch.manual_seed(1)
    state = loop.start(task)
    before, direction = state.images.detach().clone(), torch.randn_like(state.images)

    def loss_at(distance: float) -> tuple[float, Tensor]:
        """The loss, and its gradient: the step that is taken at a learning rate of 1."""
        torch.manual_seed(1)
        moved = loop.start(task)
        with torch.no_grad():
            moved.images.copy_(before + distance * direction)
        start = moved.images.detach().clone()
        torch.manual_seed(2)
        log = loop.step(moved, task, with_sdc(loop.matching_loss(), 0.1), 0)
        return log["loss"], start - moved.images.detach()

    far = 1e-4
    differences = (loss_at(far)[0] - loss_at(-far)[0]) / (2 * far)
    _, gradient = loss_at(0.0)
    assert float((gradient * direction).sum()) == pytest.approx(differences, rel=1e-5)
    assert bool((gradient.flatten(1).norm(dim=1) > 0).all())


@pytest.mark.parametrize("init", ["real", "samples_predicted_correctly"])
def test_trajectories_start_from_real_images_put_together(init: Any) -> None:
    task = make_task()
    torch.manual_seed(0)
    state = trajectories(pix_init=init).start(task)
    assert_made_of_real(state.images.detach(), task)


def test_gradients_and_distributions_start_from_real_images_put_together() -> None:
    task = make_task()
    for loop in (GradientMatching(init="real", factor=2), DistributionMatching(factor=2)):
        assert_made_of_real(loop.start(task).images.detach(), task)
    noise = GradientMatching(init="noise", factor=2).start(task).images
    assert noise.shape == (20, 1, 8, 8)


def assert_made_of_real(stored: Tensor, task: Task) -> None:
    """Every quarter of a stored image is another shrunk real image of its class."""
    parts = torch.stack([stored[..., y : y + 4, x : x + 4] for y in (0, 4) for x in (0, 4)], 1)
    found = []
    for label, quarters in enumerate(parts.flatten(1).unflatten(0, (10, 2))):
        index = task.class_indices[label]
        small = task.real_images(index)[..., ::2, ::2].flatten(1)
        same = (quarters.reshape(8, 1, -1) == small).all(2)
        assert bool((same.sum(1) > 0).all())
        found.append(same.int().argmax(1).unique())
    # Digits of so few pixels may be equal by chance, but not all.
    assert sum(map(len, found)) > 0.9 * 80


def test_learned_labels_start_from_the_mean_over_a_stored_image() -> None:
    task = make_task()
    loop = trajectories(labels="learned")
    torch.manual_seed(0)
    state = loop.start(task)
    assert state.labels.shape == (20, 10)
    seen = Decoder(2).decode(state.images.detach())
    logits = expert_logits(state.students[0], task.experts.parameters(0, -1), seen)  # type: ignore[union-attr]
    right = logits.argmax(1) == torch.arange(10).repeat_interleave(8)
    whole = right.unflatten(0, (20, 4)).all(1)
    expected = logits.unflatten(0, (20, 4)).mean(1)
    torch.testing.assert_close(state.labels.detach()[whole], expected[whole])


def test_labels_of_a_teacher_are_the_mean_over_a_stored_image() -> None:
    task = make_task()
    loop = trajectories(labels="teacher")
    torch.manual_seed(0)
    state = loop.start(task)
    seen = Decoder(2).decode(state.images.detach())
    loop.step(state, task, with_sdc(loop.matching_loss(), 0.0), 0)
    logits = expert_logits(state.students[0], task.experts.parameters(0, 1), seen)  # type: ignore[union-attr]
    torch.testing.assert_close(state.labels, logits.softmax(1).unflatten(0, (20, 4)).mean(1))


@pytest.fixture(scope="module")
def experts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("experts") / "digits"
    options = ("--network", NETWORK, "--num-experts", "2", "--train-epochs", "3")
    assert main(["experts", "mtt", *options, "--out", str(folder)]) == 0
    return folder


def options_of(method: str, experts: Path) -> tuple[str, ...]:
    if method in ("mtt", "ftd", "tesla", "datm"):
        return (*STEPS, "--experts", str(experts))
    small = () if method == "dm" else ("--outer-loop", "2", "--inner-loop", "2")
    return ("--batch-real", "8", *small)


@pytest.mark.parametrize(
    "method", ["dc", "dsa", "dcc", "dsac", "dm", "mtt", "ftd", "tesla", "datm"]
)
def test_every_method_leaves_a_set_that_every_command_takes(
    method: str, tmp_path: Path, experts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "set"
    arguments = [*TINY, *options_of(method, experts), "--out", str(out)]
    assert main(["distill", method, *arguments]) == 0
    synthetic = SyntheticSet.load(out)
    assert synthetic.stored is not None and synthetic.stored.shape == (20, 1, 8, 8)
    assert synthetic.images.shape == (80, 1, 8, 8) and len(synthetic.labels) == 80
    assert synthetic.hard_labels.tolist() == [c for c in range(10) for _ in range(8)]
    assert (synthetic.info.ipc, synthetic.info.factor) == (2, 2)
    # The run's own accuracy comes again, with no option that says the factor.
    kept = max(synthetic.info.accuracies, key=lambda row: row["mean"])
    if method in ("dc", "dsa", "dcc", "dsac", "dm"):
        kept = synthetic.info.accuracies[-1]
    tested = sdc_ext.evaluate_set(out, num_eval=1, progress=False)
    assert tested.results[0].evaluation.mean == kept["mean"]
    assert tested.results[0].row()["images"] == 80
    capsys.readouterr()
    assert main(["show", str(out)]) == 0
    assert "20, of 2 x 2 images each" in capsys.readouterr().out


def test_measures_take_what_networks_see(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = {"network": NETWORK, "iterations": 1, "num_eval": 1, "epoch_eval_train": 1}
    made = sdc_ext.distill(
        "dm", "digits", ipc=2, factor=2, out=tmp_path / "set", progress=False, **small
    )
    hard = sdc_ext.difficulty_of(made, num_networks=1, train_epochs=1, progress=False)
    (name,) = (name for name in hard.labels if name != "real test")
    assert len(hard.labels[name]) == 80
    how = Measurement(measures=("mmd-linear",), spaces=("pixels",), draws=2)
    near = sdc_ext.discrepancy_of(made, measurement=how, progress=False)
    assert {row["synthetic"] for row in near.rows()} == {80, 8}
    sizes = []

    def noting(images: Tensor, *arguments: Any, **options: Any) -> Evaluation:
        sizes.append(len(images))
        return Evaluation(NETWORK, (0.5,))

    monkeypatch.setattr(scores, "evaluate", noting)
    sdc_ext.score_set(made, num_eval=1, full_epochs=1, progress=False)
    # Own images, real ones in the same storage, all real images, and the former two augmented.
    assert sizes == [80, 20, 1347, 80, 20]


def test_an_export_says_that_it_is_decoded(
    tmp_path: Path, experts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, res = tmp_path / "set", tmp_path / "res_DM_digits_X_8ipc.pt"
    arguments = [*TINY, *options_of("dm", experts), "--out", str(out)]
    assert main(["distill", "dm", *arguments]) == 0
    capsys.readouterr()
    assert main(["export", str(out), str(res)]) == 0
    assert "it holds the 80 images that the 20 stored images decode to" in capsys.readouterr().out
    assert main(["export", str(out), str(tmp_path / "p"), "--format", "pictures"]) == 0
    assert "decode" not in capsys.readouterr().out
    whole, exported = (
        sdc_ext.evaluate_set(path, num_eval=1, progress=False).results[0] for path in (out, res)
    )
    assert exported.evaluation == whole.evaluation


@pytest.mark.parametrize(
    ("method", "loop"), [("dsa", GradientMatching), ("datm", TrajectoryMatching)]
)
def test_a_resumed_run_equals_an_uninterrupted_one(
    method: str, loop: type[Loop], tmp_path: Path, experts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["distill", method, *TINY, *options_of(method, experts)]
    assert main([*arguments, "--out", str(tmp_path / "whole")]) == 0
    step = loop.step

    def interrupted(self: Loop, *given: Any) -> dict[str, float]:
        if given[-1] == 3:
            raise KeyboardInterrupt
        return step(self, *given)

    with monkeypatch.context() as patched:
        patched.setattr(loop, "step", interrupted)
        assert main([*arguments, "--out", str(tmp_path / "parts")]) == 130
    assert main([*arguments, "--out", str(tmp_path / "parts"), "--resume"]) == 0
    for name in ("history.csv", "meta.json", "synthetic.safetensors"):
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.parametrize("method", ["dsa", "dsac", "dm", "mtt"])
def test_two_processes_equal_one(method: str, tmp_path: Path, experts: Path) -> None:
    for number, name in ((1, "one"), (2, "two")):
        launch(
            *(number, tmp_path, "distill", method, *TINY, *options_of(method, experts)),
            *("--share", "0.1", "--out", name),
        )
    alone, together = (SyntheticSet.load(tmp_path / name) for name in ("one", "two"))
    assert alone.stored is not None and together.stored is not None
    torch.testing.assert_close(together.stored, alone.stored, rtol=1e-4, atol=1e-5)
    # lam follows the share in both, from gradients that both processes measure.
    first, second = (read_history(tmp_path / name) for name in ("one", "two"))
    assert second["share"] == pytest.approx(first["share"], rel=1e-3)
    assert first["lam"][-1] != DEFAULT_LAM


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (("--factor", "3"), "--factor 3 does not divide images of 8x8 pixels: choose from 1, 2, 4"),
        (("--factor", "0"), "--factor must be a whole number from 1 to 8, got 0"),
        (
            ("--factor", "4", "--ipc", "9"),
            "ipc 9 with --factor 4 makes 144 images per class, more than the 133 training images",
        ),
    ],
)
def test_an_impossible_factor_is_one_sentence_and_leaves_nothing(
    options: tuple[str, ...], problem: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "set"
    assert main(["distill", "dc", *TINY, *options, "--out", str(out)]) == 2
    assert problem in capsys.readouterr().err
    assert not out.exists()


def test_an_arm_of_a_comparison_may_have_a_factor(tmp_path: Path) -> None:
    small = {"network": NETWORK, "iterations": 1, "num_eval": 1, "epoch_eval_train": 1}
    arms = [{"lam": 0, "factor": 1}, {"lam": 0, "factor": 2}]
    compared = sdc_ext.compare("dm", arms=arms, seeds=2, out=tmp_path, progress=False, **small)
    sets = [SyntheticSet.load(path.parent) for path in sorted(tmp_path.rglob("meta.json"))]
    assert sorted(len(one.images) for one in sets) == [10, 10, 40, 40]
    assert len(compared.comparison.arms) == 2
    assert main(["report", str(tmp_path), "--out", str(tmp_path / "page.html")]) == 0
    assert "dm on digits, 1 image per class, factor 2" in (tmp_path / "page.html").read_text()


def test_a_factor_that_does_not_fit_an_arm_is_refused_before_the_first_run(tmp_path: Path) -> None:
    arms = [{"lam": 0}, {"lam": 0, "factor": 5}]
    with pytest.raises(InputError, match="`factor` 5 does not divide"):
        sdc_ext.compare("dm", arms=arms, seeds=2, out=tmp_path, progress=False, network=NETWORK)
    assert list(tmp_path.rglob("meta.json")) == []
