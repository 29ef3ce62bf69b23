"""The share of an injected correction, measured and asked for."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from injected import SCRIPTS, matched_by_hand, run, unrolled_by_hand
from torch import Tensor

from sdc_ext import LogRamp, inject, strength
from sdc_ext.errors import InjectionError
from sdc_ext.injection import hooks
from sdc_ext.injection.hooks import REFRESHED_EVERY
from sdc_ext.injection.measures import BackwardPass, Measure
from sdc_ext.strength import RECORDED_EVERY, Strength

pytestmark = pytest.mark.usefixtures("environment")


def image_gradients(profile: str, iterations: int = 1) -> list[Tensor]:
    """The image gradients of a stand-in's steps, corrected if an injection is active."""
    _, seen = run(profile, "--Iteration", str(iterations))
    return [saw if isinstance(saw, Tensor) else saw[-1] for saw in seen]


def term_by_hand(profile: str) -> Tensor:
    """The image gradient of the term at lam 1, at the first image step."""
    if profile == "gm":
        torch.manual_seed(0)
        torch.randn(3, 5, 1, 4, 4)
        images, *norms = matched_by_hand(torch.randn(3, 1, 4, 4), contrast=False)
        total = torch.stack(norms).sum()
    else:
        _, seen = run(profile, "--Iteration", "1")
        images, *norms = unrolled_by_hand(profile, seen[0])
        total = torch.stack(norms).mean()
    return torch.autograd.grad(total, images)[0]


def norm_ratio(one: Tensor, other: Tensor) -> float:
    return float(one.norm() / other.norm())


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """The roots of the passes that were measured."""
    passes: list[Tensor] = []
    add = Measure.add

    def counted(self: Measure, asked: BackwardPass, *rest: Any) -> Any:
        passes.append(asked.roots[0].detach())
        return add(self, asked, *rest)

    monkeypatch.setattr(Measure, "add", counted)
    return passes


@pytest.mark.parametrize("profile", SCRIPTS)
def test_the_share_of_a_given_lam_is_recorded(profile: str) -> None:
    (matching,), term = image_gradients(profile), term_by_hand(profile)
    with inject(0.3) as record:
        run(profile, "--Iteration", "2")
    shares, cosines = (record.columns()[name] for name in ("share", "cosine"))
    assert shares == pytest.approx([0.3 * norm_ratio(term, matching)] * 2, rel=1e-9)
    cosine = float((matching * term).sum() / matching.norm() / term.norm())
    assert cosines == pytest.approx([cosine] * 2, abs=1e-9)


@pytest.mark.parametrize("profile", ["gm", "tm"])
def test_the_first_step_has_the_share_asked_for(profile: str) -> None:
    (matching,), term = image_gradients(profile), term_by_hand(profile)
    with inject(share=0.1) as record:
        (corrected,) = image_gradients(profile)
    lam = 0.1 * norm_ratio(matching, term)
    torch.testing.assert_close(corrected, matching + lam * term, rtol=1e-9, atol=1e-12)
    assert norm_ratio(corrected - matching, matching) == pytest.approx(0.1, rel=1e-9)
    (step,) = record.steps
    assert (step.lam, step.share) == pytest.approx((lam, 0.1), rel=1e-9)


def test_steps_by_hand_have_the_share_from_the_second_on() -> None:
    first = image_gradients("tesla")[0]
    with inject(share=0.1) as record:
        plain, corrected = image_gradients("tesla", 2)
    assert torch.equal(plain, first)
    lam = 0.1 * norm_ratio(first, term_by_hand("tesla"))
    with inject(lambda iteration: iteration * lam):
        _, expected = image_gradients("tesla", 2)
    torch.testing.assert_close(corrected, expected, rtol=1e-9, atol=1e-12)
    assert record.columns()["lam"] == pytest.approx([0.0, lam], rel=1e-9)
    assert record.columns()["share"] == pytest.approx([0.0, 0.1], rel=1e-9)
    assert not math.isnan(record.steps[0].cosine)


def test_steps_by_hand_keep_the_share_on_average(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hooks, "REFRESHED_EVERY", 1)
    matching = image_gradients("tesla", 2)[1]
    with inject(share=0.1) as record:
        corrected = image_gradients("tesla", 40)[1]
    realised = record.columns()["share"][1:]
    assert realised[0] == pytest.approx(norm_ratio(corrected - matching, matching), rel=1e-9)
    assert statistics.median(realised) == pytest.approx(0.1, rel=0.5)


@pytest.mark.parametrize("profile", SCRIPTS)
@pytest.mark.parametrize(
    "options", [{"scale": 0.5}, {"reduction": "mean"}, {"reduction": "sum"}, {"norm": "l2_squared"}]
)
def test_the_share_is_that_of_what_is_added(profile: str, options: dict[str, Any]) -> None:
    (matching,) = image_gradients(profile)
    with inject(0.3, **options) as record:
        (corrected,) = image_gradients(profile)
    realised = norm_ratio(corrected - matching, matching)
    assert record.steps[0].share == pytest.approx(realised, rel=1e-9)


@pytest.mark.parametrize("profile", SCRIPTS)
def test_measures_leave_a_given_lam_alone_bit_for_bit(
    profile: str, monkeypatch: pytest.MonkeyPatch, measured: list[Tensor]
) -> None:
    def images() -> list[Tensor]:
        with inject(0.1):
            images, seen = run(profile, "--Iteration", "4")
        return [images, *(s if isinstance(s, Tensor) else s[-1] for s in seen)]

    monkeypatch.setattr(strength, "RECORDED_EVERY", 1)
    often = images()
    assert len(measured) == (16 if profile == "tesla" else 4)
    monkeypatch.setattr(Strength, "measures", property(lambda self: False))
    never = images()
    assert len(measured) == (16 if profile == "tesla" else 4)
    assert all(map(torch.equal, often, never))


@pytest.mark.parametrize("profile", SCRIPTS)
@pytest.mark.parametrize("off", [{"lam": 0.0}, {"share": 0.0}])
def test_without_a_correction_nothing_is_measured(
    profile: str, off: dict[str, float], measured: list[Tensor]
) -> None:
    with inject(**off) as record:
        run(profile)
    assert measured == []
    assert record.columns()["share"] == [0.0, 0.0]
    assert all(map(math.isnan, record.columns()["cosine"]))


@pytest.mark.parametrize(
    ("chosen", "every"), [({"lam": 0.1}, RECORDED_EVERY), ({"share": 0.1}, REFRESHED_EVERY)]
)
def test_measures_are_rare(chosen: dict[str, float], every: int, measured: list[Tensor]) -> None:
    with inject(**chosen) as record:
        run("gm", "--Iteration", str(every + 1))
    columns = record.columns()
    assert torch.stack(measured).tolist() == [columns["matching"][0], columns["matching"][-1]]
    assert len(set(columns["cosine"])) == len(set(columns["cosine"][-2:])) == 2


def test_ramps_of_the_share_count_as_ramps_of_lam_do() -> None:
    with inject(share=LogRamp(0.1, 0.4, 2)) as record:
        run("gm", "--Iteration", "3", "--outer_loop", "2")
    columns = record.columns()
    assert columns["share"] == pytest.approx([0.1, 0.1, 0.2, 0.2, 0.4, 0.4])
    first = columns["lam"][0]
    assert columns["lam"] == pytest.approx([factor * first for factor in (1, 1, 2, 2, 4, 4)])


def test_new_images_are_measured_anew() -> None:
    with inject(share=0.1) as record:
        run("gm", "--num_exp", "2")
    columns = record.columns()
    assert columns["iteration"] == [0, 1, 0, 1]
    assert columns["share"] == pytest.approx([0.1] * 4)
    assert columns["lam"][0] == columns["lam"][1] != columns["lam"][2] == columns["lam"][3]


class Loop:
    """A gradient-matching step in small, whose network has a convolution of plain tensors."""

    def __init__(self, as_images: Callable[[Tensor], Tensor] = lambda x: x) -> None:
        torch.manual_seed(0)
        self.images = as_images(torch.randn(2, 1, 4, 4)).requires_grad_()
        self.weights = [torch.randn(3, 1, 3, 3).requires_grad_(), torch.randn(12).requires_grad_()]

    def gradients(self) -> Sequence[Tensor]:
        hidden = torch.tanh(torch.nn.functional.conv2d(self.images, self.weights[0]))
        loss = (hidden.flatten(1) @ self.weights[1]).square().sum()
        return torch.autograd.grad(loss, self.weights, create_graph=True)

    def parts(self) -> tuple[Tensor, Tensor]:
        """The image gradients of the matching loss and of the norm."""
        gradients = self.gradients()
        norm = torch.cat([g.flatten() for g in gradients]).norm()
        roots = (matching_loss(gradients), norm)
        return tuple(torch.autograd.grad(root, self.images, retain_graph=True)[0] for root in roots)


def matching_loss(gradients: Sequence[Tensor]) -> Tensor:
    return torch.stack([(g - 1).square().sum() for g in gradients]).sum()


@pytest.mark.parametrize("seed", [None, 3.0])
def test_weights_that_are_plain_tensors_are_no_images(seed: float | None) -> None:
    loop = Loop()
    matching, term = loop.parts()
    with inject(0.5, profile="gm") as record:
        loss = matching_loss(loop.gradients())
        loss.backward(None if seed is None else torch.tensor(seed))
    expected = 0.5 * norm_ratio(term, (seed or 1.0) * matching)
    assert record.steps[0].share == pytest.approx(expected, rel=1e-9)


def test_images_of_an_optimiser_may_be_parameters() -> None:
    loop = Loop(torch.nn.Parameter)
    matching, term = loop.parts()
    with inject(0.5, profile="gm") as record:
        torch.optim.SGD([loop.images], lr=0.1)
        matching_loss(loop.gradients()).backward()
    assert record.steps[0].share == pytest.approx(0.5 * norm_ratio(term, matching), rel=1e-9)


def test_gradients_by_one_tensor_add_up_and_those_by_several_stand_side_by_side() -> None:
    first, second = (torch.randn(2, 1, 2, requires_grad=True) for _ in range(2))
    weights = [torch.randn(2, 1, 2) for _ in range(6)]
    measure = Measure()
    for image, w, v in zip((first, first, second), weights[::2], weights[1::2], strict=True):
        asked = BackwardPass([(image * w).sum()], None, None, None)
        assert measure.add(asked, (image * v).sum(), [image]) is None
    matching, term = (
        torch.cat([weights[k] + weights[2 + k], weights[4 + k]]).norm() for k in (0, 1)
    )
    assert measure.pull.matching == pytest.approx(float(matching))
    assert measure.pull.term == pytest.approx(float(term))


@pytest.fixture
def short_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def gradients(*_: Any) -> Any:
        raise RuntimeError("not enough memory")

    monkeypatch.setattr(BackwardPass, "gradients", gradients)


@pytest.mark.parametrize("profile", SCRIPTS)
@pytest.mark.usefixtures("short_of_memory")
def test_a_loop_that_cannot_be_measured_goes_on_with_its_lam(profile: str) -> None:
    (matching,), term = image_gradients(profile), term_by_hand(profile)
    with inject(0.5) as record:
        (corrected,) = image_gradients(profile)
    torch.testing.assert_close(corrected, matching + 0.5 * term, rtol=1e-9, atol=1e-12)
    (step,) = record.steps
    assert math.isnan(step.share) and math.isnan(step.cosine)


@pytest.mark.parametrize("profile", SCRIPTS)
@pytest.mark.usefixtures("short_of_memory")
def test_a_share_that_cannot_be_measured_is_an_error(profile: str) -> None:
    message = r"cannot be measured, since .* \(not enough memory\): pass `lam` instead"
    with pytest.raises(InjectionError, match=message), inject(share=0.1):
        run(profile)
    (matching,) = image_gradients(profile)
    with pytest.warns(UserWarning, match=message), inject(share=0.1, strict=False) as record:
        (uncorrected,) = image_gradients(profile)
    assert torch.equal(uncorrected, matching)
    assert record.columns()["lam"] == [0.0]


def test_networks_without_images_are_not_corrected() -> None:
    one, other = (torch.randn(2, 2, requires_grad=True) for _ in range(2))
    with (
        pytest.raises(InjectionError, match="nothing was corrected"),
        inject(share=0.1, profile="tm"),
    ):
        loss = (one * other).square().sum()
        gradients = [torch.autograd.grad(loss, w, create_graph=True)[0] for w in (one, other)]
        matching_loss(gradients).backward()
