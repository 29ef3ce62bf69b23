"""What a person in a fork meets: every message names the family's recipe and what it passes."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from helpers import ROOT
from losses import LAM, computed, leaf, match_loss, param_loss, real, synthetic, two
from torch import nn
from torch.utils.checkpoint import checkpoint

from sdc_ext import with_sdc
from sdc_ext._families import PAGE, Family

NETWORK = nn.Linear(2, 2)


def observed(*gradients: Any, loss: Any, **options: Any) -> None:
    wrapped = with_sdc(param_loss if isinstance(loss, tuple) else lambda loss: loss, LAM, **options)
    for gradient in gradients:
        wrapped.observe(gradient)
    wrapped(*(loss if isinstance(loss, tuple) else (loss,)))


def detached() -> list[torch.Tensor]:
    return [g.detach() for g in synthetic()]


def never_used() -> None:
    wrapped = with_sdc(param_loss, LAM)
    wrapped.observe(synthetic())
    wrapped.iteration = 1
    wrapped.observe(synthetic())


def without_share() -> None:
    image = torch.ones(1, 1, 2, requires_grad=True)
    with_sdc(match_loss, share=0.1, images=image)(synthetic(), real())


def differentiated_once() -> None:
    codes = torch.ones(1, 1, 2, requires_grad=True)
    images = checkpoint(torch.tanh, codes, use_reentrant=True)
    with_sdc(lambda gw: gw[0].sum(), share=0.1)([images.square().sum()])


def returning(value: Any) -> Callable[[], object]:
    return lambda: with_sdc(lambda gw_syn: value, LAM)(synthetic())


FLAT = leaf(1.0, 2.0), torch.zeros(2).double()

# What a person did; the family that the message has to name; how the message begins.
MET: dict[str, tuple[Callable[[], object], Family, str]] = {
    "order": (
        lambda: with_sdc(match_loss, LAM)(real(), synthetic()),
        Family.BY_CLASS,
        "nothing is corrected, because the gradients have no graph although the loss has one",
    ),
    "none": (
        lambda: with_sdc(two, LAM)([]),
        Family.BY_CLASS,
        "no gradients to penalise, because the collection is empty",
    ),
    "numbers": (
        lambda: with_sdc(two, LAM)([1.0]),
        Family.BY_CLASS,
        "gradients must be tensors, got a float among them",
    ),
    "generator": (
        lambda: with_sdc(two, LAM)(g for g in synthetic()),
        Family.BY_CLASS,
        "with_sdc finds no gradients, because the first argument is a generator",
    ),
    "name": (
        lambda: with_sdc(match_loss, LAM, grads="gw_sin")(synthetic(), real()),
        Family.BY_CLASS,
        "with_sdc finds no argument 'gw_sin' in this call",
    ),
    "lists": (
        lambda: with_sdc(two, LAM)([synthetic(), synthetic()]),
        Family.ALL_CLASSES,
        "gradients must be tensors, got a list among them",
    ),
    "flat": (
        lambda: with_sdc(param_loss, LAM)(*FLAT),
        Family.UNROLLED,
        "no gradient was observed, and the first argument is a tensor of the shape (2,), which "
        "with_sdc takes for parameters",
    ),
    "parameters": (
        lambda: with_sdc(two, LAM)(list(NETWORK.parameters())),
        Family.UNROLLED,
        "the first argument holds parameters, so their norm is penalised instead of that of "
        "gradients",
    ),
    "no graph": (
        lambda: observed(detached(), detached(), loss=computed(1.0)[0]),
        Family.UNROLLED,
        "nothing is corrected, because the observed gradients have no graph although the loss has "
        "one",
    ),
    "unused": (
        never_used,
        Family.UNROLLED,
        "1 gradient was observed in iteration 0 and left out, because no call of the loss followed",
    ),
    "both": (
        lambda: observed(synthetic(), loss=FLAT, grads="student"),
        Family.UNROLLED,
        "with_sdc(grads='student') takes the gradients from that argument, so that none can be "
        "observed",
    ),
    "no norms": (
        lambda: with_sdc(two, LAM).corrected([]),
        Family.UNROLLED,
        "no norms to penalise",
    ),
    "one norm": (
        lambda: with_sdc(two, LAM).observe_norms(computed(1.0)[0]),
        Family.UNROLLED,
        "norms must be a list of scalar tensors with their graphs",
    ),
    "norms as numbers": (
        lambda: with_sdc(two, LAM).observe_norms([1.0]),  # type: ignore[list-item]
        Family.UNROLLED,
        "norms must be a list of scalar tensors with their graphs",
    ),
    "a network to observe": (
        lambda: with_sdc(two, LAM).observe(NETWORK),  # type: ignore[arg-type]
        Family.BY_CLASS,
        "gradients must be tensors, got a Linear:",
    ),
    "images without a gradient": (
        lambda: with_sdc(match_loss, LAM, images=torch.ones(1, 1, 2))(synthetic(), real()),
        Family.GENERATED,
        "images= holds a tensor that requires no gradient, so it is not what is learnt",
    ),
    "no images": (
        lambda: with_sdc(match_loss, share=0.1)(synthetic(), real()),
        Family.GENERATED,
        "share needs the images that are learnt, and finds none in the graph of the gradients",
    ),
    "no share": (
        without_share,
        Family.GENERATED,
        "no share can be measured, because the gradient by the images of the matching loss or of "
        "the correction is zero or not finite",
    ),
    "a single pass": (
        differentiated_once,
        Family.GENERATED,
        "no share can be measured, because the loss cannot be differentiated twice (",
    ),
    "flat, no graph": (
        lambda: with_sdc(lambda *_: leaf(1.0)[0], LAM, grads=0)(detached()[0]),
        Family.BY_CLASS,
        "nothing is corrected, because the gradients have no graph although the loss has one",
    ),
    "dictionaries": (
        lambda: with_sdc(lambda g: leaf(1.0)[0], LAM)(dict(enumerate(detached()))),
        Family.FUNCTIONAL,
        "nothing is corrected, because the gradients have no graph although the loss has one",
    ),
    "features": (
        lambda: with_sdc(nn.MSELoss(), LAM)(torch.rand(4, 3), torch.rand(4, 3)),
        Family.FEATURES,
        "no gradient was observed, and the first argument is a tensor of the shape (4, 3), which "
        "with_sdc takes for features",
    ),
    "features, no graph": (
        lambda: observed(detached(), loss=(leaf(1.0, 2.0)[None], torch.zeros(1, 2).double())),
        Family.FEATURES,
        "nothing is corrected, because the observed gradients have no graph",
    ),
    "network": (
        lambda: with_sdc(two, LAM)(NETWORK, torch.rand(4, 2)),
        Family.INLINE,
        "with_sdc finds no gradients, because the first argument is a Linear",
    ),
    "nothing": (
        lambda: with_sdc(two, LAM)(),
        Family.INLINE,
        "with_sdc finds no argument 0 in this call",
    ),
    "value": (
        lambda: with_sdc(leaf(1.0)[0], LAM),  # type: ignore[arg-type]
        Family.INLINE,
        "loss_fn must be callable, got Tensor",
    ),
    "scalar": (
        lambda: observed(loss=leaf(1.0)[0]),
        Family.INLINE,
        "no gradient was observed, and the first argument is a tensor of the shape (), which "
        "with_sdc takes for a loss",
    ),
    "scalar, no graph": (
        lambda: observed(detached(), loss=leaf(1.0)[0]),
        Family.INLINE,
        "nothing is corrected, because the observed gradients have no graph",
    ),
    "number": (
        returning(1.0),
        Family.INLINE,
        "the wrapped loss returned a float, but with_sdc corrects scalar tensors",
    ),
    "vector": (
        returning(torch.zeros(10)),
        Family.INLINE,
        "the wrapped loss returned the shape (10,), but with_sdc corrects scalar tensors",
    ),
}


def said(call: Callable[[], object]) -> str:
    """The one error or warning of a call."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            call()
        except (TypeError, ValueError) as error:
            return str(error)
    (one,) = caught
    return str(one.message)


@pytest.mark.parametrize("met", MET)
def test_a_message_names_the_recipe_of_the_family(met: str) -> None:
    call, family, problem = MET[met]
    message = said(call)
    assert message.startswith(problem) and "\n" not in message
    assert message.endswith(f" ({PAGE}#{family.value[0]})")
    assert re.search(r": (\w|\.)", message), "a problem, a colon, advice"


@pytest.mark.parametrize("family", Family)
def test_a_family_is_named_by_some_message_and_has_a_section(family: Family) -> None:
    assert family in {named for _, named, _ in MET.values()}
    page = (ROOT / PAGE).read_text(encoding="utf-8")
    titles = re.findall(r"^## (.*)$", page, re.MULTILINE)
    assert family.value[0] in {re.sub(r"\W+", "-", title.lower()) for title in titles}


def test_the_page_of_messages_quotes_them() -> None:
    page = (ROOT / "docs/guides/troubleshooting.md").read_text(encoding="utf-8")
    section = page.partition("## In a loop of your own\n")[2].partition("\n## ")[0]
    quoted = re.findall(r"^\*\*`(.*?)(?:: )?\.\.\.`\*\*", section, re.MULTILINE)
    begun = {problem for _, _, problem in MET.values()}
    assert len(quoted) > 5
    for quote in quoted:
        assert any(problem.startswith(quote) for problem in begun), quote
