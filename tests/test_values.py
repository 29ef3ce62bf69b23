"""Values are checked by the kinds of their annotations, wherever they come from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from sdc_ext import InputError, compare, distill, load_data, train_experts, tune
from sdc_ext._values import (
    Count,
    Decay,
    Names,
    Rate,
    Seed,
    Share,
    Size,
    Weight,
    allowed_by,
    check_fields,
    check_value,
    checked,
    kind_of,
)
from sdc_ext.experts import ExpertRecipe
from sdc_ext.training import Probe

# Texts that no number, name or path should be.
DIGITS = "9" * 400


@pytest.mark.parametrize(
    ("annotation", "text", "value"),
    [
        (Count, "1", 1),
        (Count, "1000000000", 10**9),
        (Seed, "0", 0),
        (Rate, "1e-30", 1e-30),
        (Rate, ".5", 0.5),
        (Weight, "0", 0),
        (Decay, "0", 0),
        (Share, "1", 1),
        (Size, "32x48", (32, 48)),
        (Size, "8", (8, 8)),
        (Names, "mlp, convnet,mlp", ("mlp", "convnet")),
        (Path, "a b", Path("a b")),
    ],
)
def test_what_is_allowed_is_read(annotation: Any, text: str, value: object) -> None:
    assert kind_of(annotation).read("--x", text) == value
    assert check_value("x", value, annotation) == value


@pytest.mark.parametrize("text", ["", " ", "nan", "inf", "-inf", "-1", DIGITS, "²", "[/x]", "1_0"])
@pytest.mark.parametrize("annotation", [Count, Seed, Rate, Weight, Decay, Share, Size])
def test_absurd_texts_are_one_sentence(annotation: Any, text: str) -> None:
    with pytest.raises(InputError) as refused:
        kind_of(annotation).read("--x", text)
    sentence = str(refused.value)
    assert sentence.startswith("--x must be ") and len(sentence.splitlines()) == 1
    assert len(sentence) < 200


@pytest.mark.parametrize("text", ["0", "1.5", "1e308", str(10**18)])
def test_counts_are_whole_and_can_be_waited_for(text: str) -> None:
    with pytest.raises(InputError, match=f"--x must be a whole number from 1 to .*, got {text}"):
        kind_of(Count).read("--x", text)


@pytest.mark.parametrize("text", ["1e308", "1e-320", "0"])
def test_rates_survive_their_use(text: str) -> None:
    with pytest.raises(InputError, match=f"from 1e-30 to .*, got {text}"):
        kind_of(Rate).read("--x", text)


@pytest.mark.parametrize("text", ["", "a,,b", ","])
def test_lists_have_no_empty_names(text: str) -> None:
    with pytest.raises(InputError, match="must be a text that is not empty, got "):
        kind_of(Names).read("--x", text)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: distill("dc", zca="False"), "`zca` must be True or False, got 'False'"),
        (lambda: distill("dc", ipc=1.5), "`ipc` must be a whole number from 1 to .*, got 1.5"),
        (lambda: distill("dc", num_eval=None), "`num_eval` must be a whole number .*, got None"),
        (lambda: distill("dc", seed=-1), "`seed` must be a whole number from 0 to .*, got -1"),
        (lambda: distill("dc", iterations=True), "`iterations` must be a whole .*, got True"),
        (lambda: distill("dc", lr_img=math.nan), "`lr_img` must be a number from .*, got nan"),
        (lambda: distill("dc", lr_img=10**400), "`lr_img` must be a number .*, got 1000.*0"),
        (lambda: distill("dc", network=""), "`network` '' has an empty name: write one name"),
        (lambda: distill("dc", lam_ramp=3), "`lam_ramp` must be 3 values .*, got 3"),
        (lambda: distill("dc", lam_ramp=(0.1, 2)), "`lam_ramp` must be 3 values .*, got .0.1, 2."),
        (
            lambda: distill("dc", share_ramp=(0.1, 0.2, 0)),
            "^ITERATIONS of `share_ramp` must be a whole number from 1 to .*, got 0$",
        ),
        (lambda: tune("dc", lams=(0, 1)), "^value 1 of `lams` must be a number from 1e-30 .* 0$"),
        (lambda: distill("dc", out=""), "`out` must be a path that is not empty, got ''"),
        (lambda: distill("dc", ipc=10**18), "`ipc` must be a whole number from 1 to"),
        (lambda: compare("dc", lams=(0, -1)), "`lams` must be 0, or a number .*, got -1"),
        (
            lambda: compare("dc", lams=(0.1, 0.1000000001)),
            r"same to six digits \(lam 0\.1; lam",
        ),
        (lambda: train_experts("mtt", ipc=0), "`ipc` must be a whole number from 1"),
        (lambda: load_data(""), "`source` must be a path that is not empty"),
        (lambda: load_data("digits", image_size=-3), "`image_size` must be pixels .*, got -3"),
        (lambda: load_data("./none"), "there is no folder ./none"),
        (lambda: load_data(Path("none")), "there is no folder none"),
        (lambda: load_data("digits", background="black"), "`background` is for pictures"),
        (lambda: Probe(train_epochs=0), "`train_epochs` must be a whole number"),
        (lambda: Probe(network=3), "`network` must be a text"),  # type: ignore[arg-type]
        (lambda: ExpertRecipe(rho=math.inf), "`rho` must be a number from"),
        (lambda: ExpertRecipe(optimizer="adam"), "unknown optimizer 'adam'"),  # type: ignore[arg-type]
    ],
)
def test_python_gets_the_sentences_of_the_command_line(call: Any, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        call()


def test_numbers_of_numpy_become_plain() -> None:
    @dataclass(frozen=True)
    class Settings:
        count: Count
        rate: Rate | None
        how: Literal["a", "b"] = "a"

        def __post_init__(self) -> None:
            check_fields(self)

    found = Settings(np.int64(3), np.float32(0.5))
    assert (type(found.count), type(found.rate)) == (int, float)
    assert Settings(1, None).rate is None


def test_a_decorated_function_keeps_its_own_errors() -> None:
    @checked
    def add(count: Count, *, more: Count = 1) -> int:
        return count + more

    assert add(1, more=2) == 3
    with pytest.raises(TypeError, match="unexpected keyword argument 'other'"):
        add(1, other=2)  # type: ignore[call-arg]
    with pytest.raises(InputError, match="`more` must be"):
        add(1, more=0)


def test_names_count_once_and_other_values_as_often_as_they_come() -> None:
    assert check_value("x", ["mlp", "convnet", "mlp"], Names) == ("mlp", "convnet")
    assert check_value("x", ["mlp", "mlp"], Sequence[str]) == ("mlp", "mlp")
    assert kind_of(Sequence[str]).read("x", "mlp,mlp") == ("mlp", "mlp")


def test_annotations_without_a_kind_allow_everything() -> None:
    assert allowed_by(dict[str, int]) is None
    assert check_value("x", object, dict) is object
