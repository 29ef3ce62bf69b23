"""The trajectory-matching step against the originals' numbers, with and without the correction."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from accelerate import Accelerator
from helpers import Golden, relative_error
from torch import Tensor
from unrolled import OneExpert

from sdc_ext import with_sdc
from sdc_ext.adapters.loops.trajectory import Inner, TrajectoryMatching, match_trajectory
from sdc_ext.adapters.task import Task
from sdc_ext.data.load import load_data
from sdc_ext.matching.adjoints import Direct, Recompute, Share, Tesla
from sdc_ext.matching.distances import parameter_distance
from sdc_ext.matching.minibatches import Minibatch
from sdc_ext.networks.create import create_network
from sdc_ext.networks.functional import FunctionalNetwork

MTT_CASES = ("mtt_step_1x28_w8_d2_n4_N3_b4", "mtt_step_3x12_w8_d2_n6_N4_b3")
DATM_CASES = ("datm_step_3x12_w8_d2_n6_N4_b3", "datm_step_3x12_w8_d2_n6_N4_b6")
TESLA_CASES = ("tesla_step_n6_N4_b3_w8", "tesla_step_n6_N4_b6_w8", "datm_tesla_step_n6_N4_b3_w8")
# How a stored correction is named, and what we call it.
CORRECTIONS = (
    ("mean_norm", "recompute", "steps", "l2"),
    ("mean_norm", "direct", "steps", "l2"),
    ("mean_sqnorm", "recompute", "steps", "l2_squared"),
    ("final_norm", "recompute", "final", "l2"),
    ("final_norm", "direct", "final", "l2"),
)
LAM = 0.002


class Step:
    """One step on stored inputs: its loss, and the gradients of what is learnt."""

    def __init__(
        self,
        case: Golden,
        lam: float,
        adjoint: str = "recompute",
        difficulty_at: str = "steps",
        norm: str = "l2",
    ) -> None:
        meta = case.meta
        spec = f"convnet:width={meta['net_width']}:depth={meta['net_depth']}"
        size = tuple(meta["im_size"])
        network = create_network(spec, meta["channel"], meta["num_classes"], size).double()
        images = case["images_syn"].requires_grad_()
        labels, lr = case["labels"], case["syn_lr"].requires_grad_()
        soft = labels.is_floating_point()
        learnt = [images, lr, *([labels.requires_grad_()] if soft else [])]
        batches = [Minibatch(row[row >= 0], lambda x: x) for row in case["batch_idx"]]
        loop = TrajectoryMatching(adjoint=adjoint)
        corrected = match_trajectory(
            Inner(FunctionalNetwork(network), images, labels.softmax(-1) if soft else labels, lr),
            case["start_params"],
            case["target_params"],
            batches,
            with_sdc(parameter_distance, lam, norm=norm),
            adjoint=loop._adjoint(Share()),
            difficulty_at=difficulty_at,
        )
        self.gradients = dict(
            zip(("image", "lr", "label"), torch.autograd.grad(corrected.loss, learnt), strict=False)
        )
        self.loss = corrected.loss.detach()
        self.difficulty = corrected.difficulty


def correction(corrected: Tensor, plain: Tensor, lam: float) -> Tensor:
    """The correction by itself, which would vanish in the tolerance of the sum."""
    return (corrected - plain) / lam


@pytest.mark.parametrize("adjoint", ["recompute", "direct"])
@pytest.mark.parametrize("name", MTT_CASES + DATM_CASES)
def test_step_is_the_originals(golden: Callable[[str], Golden], name: str, adjoint: str) -> None:
    case = golden(name)
    step = Step(case, 0.0, adjoint)
    assert relative_error(step.loss, case["loss"]) < 1e-10
    for what, gradient in step.gradients.items():
        assert relative_error(gradient, case[f"grad_{what}"]) < 1e-10, what
    assert relative_error(step.difficulty, case["step_grad_norms"].mean()) < 1e-10


@pytest.mark.parametrize(("variant", "adjoint", "at", "norm"), CORRECTIONS)
@pytest.mark.parametrize("name", [MTT_CASES[1], DATM_CASES[0]])
def test_correction_is_its_definition(
    golden: Callable[[str], Golden], name: str, variant: str, adjoint: str, at: str, norm: str
) -> None:
    case = golden(name)
    step = Step(case, LAM, adjoint, at, norm)
    term = correction(step.loss, case["loss"], LAM)
    assert relative_error(term, case[f"sdc_{variant}_term"]) < 1e-8
    for what, gradient in step.gradients.items():
        ours = correction(gradient, case[f"grad_{what}"], LAM)
        stored = case[f"sdc_{variant}_grad_{what}"]
        theirs = correction(stored, case[f"grad_{what}"], LAM)
        assert relative_error(ours, theirs) < 1e-7, what


@pytest.mark.parametrize("name", TESLA_CASES)
def test_tesla_is_the_originals_with_its_factor_two(
    golden: Callable[[str], Golden], name: str
) -> None:
    case = golden(name)
    step = Step(case, 0.0, "tesla")
    assert relative_error(step.loss, case["loss"]) < 1e-10
    assert relative_error(step.gradients["image"], case["grad_image_factor2"]) < 1e-10
    assert relative_error(step.gradients["lr"], case["grad_lr"]) < 1e-10
    if "label" in step.gradients:
        assert relative_error(step.gradients["label"], case["grad_label"]) < 1e-10


def test_soft_cross_entropy_is_the_originals(golden: Callable[[str], Golden]) -> None:
    case = golden("datm_softce_n3_K10")
    logits, targets = (case[k].requires_grad_() for k in ("logits", "target_logits"))
    student = FunctionalNetwork(torch.nn.Linear(1, 1))
    student._logits = lambda parts, images: logits  # type: ignore[method-assign]
    value = student.loss(torch.zeros(2), logits, targets.softmax(-1)) / len(logits)
    gradients = torch.autograd.grad(value, [logits, targets])
    assert relative_error(value.detach(), case["value"]) < 1e-12
    for gradient, name in zip(gradients, ("logits", "target_logits"), strict=True):
        assert relative_error(gradient, case[f"grad_{name}"]) < 1e-12


def test_moving_average_is_the_originals(golden: Callable[[str], Golden]) -> None:
    case = golden("ftd_ema_decay0p999")
    images = case["image_init"]
    loop = TrajectoryMatching(ema_decay=case.meta["decay"])
    student = FunctionalNetwork(torch.nn.Linear(1, 1))
    state = loop._new_state(images.clone(), torch.arange(len(images)), student)
    for after, average in zip(case["image_after_step"], case["ema_after_step"], strict=True):
        with torch.no_grad():
            state.images.copy_(after)
        loop._update(state, [torch.zeros_like(leaf) for leaf in state.leaves])
        assert torch.equal(state.images.detach(), after)
        assert relative_error(state.candidates()["ema"].images, average) < 1e-12


@pytest.mark.parametrize("norm", ["norm", "sqnorm"])
@pytest.mark.parametrize("name", TESLA_CASES)
def test_teslas_correction_holds_the_weights_constant(
    golden: Callable[[str], Golden], name: str, norm: str
) -> None:
    case = golden(name)
    step = Step(case, LAM, "tesla", norm={"norm": "l2", "sqnorm": "l2_squared"}[norm])
    plain = case["grad_image_factor2"]
    stored = case[f"sdc_mean_{norm}_detached_grad_image"]
    ours = correction(step.gradients["image"], plain, LAM)
    assert relative_error(ours, correction(stored, plain, LAM)) < 1e-7
    assert relative_error(step.gradients["lr"], case["grad_lr"]) < 1e-10


@pytest.mark.parametrize("own", [0.9, 1.1])
def test_processes_that_drifted_apart_skip_what_the_first_one_skips(
    own: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = "convnet:width=4:depth=1"
    task = Task(load_data("digits"), 1, network, Accelerator(cpu=True), experts=OneExpert(network))
    loop = TrajectoryMatching(syn_steps=2, expert_epochs=1, max_start_epoch=1, threshold=1.0)
    torch.manual_seed(0)
    state = loop.start(task)
    before = state.images.detach().clone()
    # What the first process sends: losses on the other side of the threshold.
    sent = torch.tensor([0.5, 2.0 - own, 0.5, 0.5])
    monkeypatch.setattr(
        "sdc_ext.adapters.loops.trajectory.broadcast",
        lambda tensor: sent if tensor.shape == (4,) else torch.ones_like(tensor),
    )
    loss_fn = with_sdc(lambda final, *_: 0 * final.sum() + own, 0.0)
    log = loop.step(state, task, loss_fn, 0)
    assert log["skipped"] == int(own < 1)
    assert state.images.detach().equal(before) == (own < 1)
    assert (log["loss"], log["matching"], log["difficulty"]) == tuple(sent[:3].tolist())


def test_settings_name_adjoints() -> None:
    share = Share(1, 2)
    for name, chunk_size, adjoint in (
        ("recompute", 0, Recompute(None, share)),
        ("recompute", 3, Recompute(3, share)),
        ("tesla", 3, Tesla(3, share)),
        ("direct", 3, Direct()),
    ):
        assert TrajectoryMatching(adjoint=name, chunk_size=chunk_size)._adjoint(share) == adjoint
    budgeted = TrajectoryMatching(memory_budget=0.5)._adjoint(share)
    assert budgeted == Recompute(None, share, 500_000_000)
