"""Settings of a method that a person registers, of every type that options have."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

import sdc_ext
from sdc_ext import InputError, compare, distill
from sdc_ext._values import Count, Names, Ramp, Share, Size
from sdc_ext.adapters import Method, option
from sdc_ext.adapters.loops import GradientMatching
from sdc_ext.cli import main


@dataclass(frozen=True)
class AnyKind(GradientMatching):
    """A loop with a setting of every type that the command line reads."""

    place: Path = option(Path("here"), "a path")
    no_place: Path | None = option(None, "a path, or none")
    places: Sequence[Path] = option((), "paths")
    words: Names = option((), "words")
    size: Size = option(8, "a size")
    slope: Ramp | None = option(None, "a ramp")
    pair: tuple[int, Path] = option((1, Path("one")), "a number and a path")
    way: Literal["up", "down"] = option("up", "a way")
    mirrored: bool = option(False, "a flag")
    part: Share = option(1.0, "a part")
    many: Count | None = option(None, "a number")
    called: str = option("x", "a text")


def test_settings_of_all_types_are_written_and_resumed(tmp_path: Path) -> None:
    sdc_ext.register_method(Method("any-kind", "none: a test", AnyKind))
    options = [*("--network", "mlp", "--batch-real", "2", "--iterations", "1", "--num-eval", "1")]
    options += ["--epoch-eval-train", "1", "--inner-loop", "1", "--outer-loop", "2"]
    options += ["--place", "a/b", "--no-place", "c", "--places", "d,e", "--words", "f,g"]
    options += ["--size", "3x4", "--slope", "0.1", "0.2", "5", "--pair", "2", "h", "--way", "down"]
    options += ["--mirrored", "--part", "0.5", "--many", "6", "--called", "i"]
    command = ["distill", "any-kind", *options, "--out", str(tmp_path / "set")]
    assert main(command) == 0
    written = json.loads((tmp_path / "set/meta.json").read_text())["settings"]
    assert {f.name: written[f.name]["value"] for f in fields(AnyKind)[-12:]} == {
        **{"place": "a/b", "no_place": "c", "places": ["d", "e"], "words": ["f", "g"]},
        **{"size": [3, 4], "slope": [0.1, 0.2, 5], "pair": [2, "h"], "way": "down"},
        **{"mirrored": True, "part": 0.5, "many": 6, "called": "i"},
    }
    assert main([*command, "--resume"]) == 0
    same = {name: row["value"] for name, row in written.items() if row["source"] == "your choice"}
    del same["seed"]
    for again in (same, same | {"place": Path("a/b/"), "part": np.float32(0.5)}):
        distill("any-kind", out=tmp_path / "set", resume=True, progress=False, **again)
    with pytest.raises(InputError, match="holds a run with place a/b, not k: resume with the same"):
        distill("any-kind", out=tmp_path / "set", resume=True, **same | {"place": Path("k")})
    arms = [{"place": "l"}, {"place": Path("m")}]
    shared = {name: value for name, value in same.items() if name != "place"}
    compare("any-kind", arms=arms, seeds=2, out=tmp_path / "arms", progress=False, **shared)
    kept = json.loads((tmp_path / "arms/comparison.json").read_text())
    assert '"place": "m"' in json.dumps(kept)
