"""Writes what ``gpu.py`` found into ``docs/gpu.md``, whose other parts are written by hand."""

from __future__ import annotations

import os
import platform
import shlex
import statistics
import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path

import numpy as np
import torch
from gpu_parts import DEVICE, ROOT, Measured, Part  # type: ignore[import-not-found]

PAGE = ROOT / "docs" / "gpu.md"
BEGIN, END = "<!-- written by make gpu -->", "<!-- end of what make gpu writes -->"


class Page:
    """The tables so far, which are printed as they come."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    @property
    def has_failures(self) -> bool:
        """Whether a test or a case failed or was given up."""
        bad = ("failed", "given up", "error")
        return any(word in line for line in self._lines for word in bad)

    def add(self, lines: Sequence[str]) -> None:
        print("\n".join(lines), end="\n\n", flush=True)
        self._lines += [*lines, ""]

    def write(self, on_gpu: bool) -> Path:
        """Writes the page, or a copy of it in ``build`` without a GPU, and returns its path."""
        head, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
        tail = rest.split(END)[1]
        target = PAGE if on_gpu else ROOT / "build" / "gpu.md"
        target.parent.mkdir(exist_ok=True)
        text = "\n".join([head + BEGIN, "", *self._lines, END + tail])
        target.write_text(text, encoding="utf-8")
        return target


def machine_lines() -> list[str]:
    import sdc_ext

    if DEVICE.type == "cuda":
        found = torch.cuda.get_device_properties(0)
        gpu = f"{found.name}, {found.total_memory / 1e9:.0f} GB"
        cuda = f", CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}"
    else:
        gpu, cuda = "no GPU: small sizes on the CPU, as a proof that this works", ""
    named = [Path(argument).name for argument in sys.argv]
    command = shlex.join(["python", f"benchmarks/{named[0]}", *named[1:]])
    return [
        "| | |",
        "| --- | --- |",
        f"| machine | {gpu}; {os.cpu_count()} CPU cores ({platform.machine()}) |",
        f"| versions | sdc_ext {sdc_ext.__version__}, Python {platform.python_version()}, "
        f"torch {torch.__version__}{cuda} |",
        f"| date | {date.today().isoformat()} |",
        f"| command | `{command}` |",
    ]


def tests_lines(found: Sequence[str]) -> list[str]:
    *failed, last = found
    return ["### Tests", "", last.strip("= "), "", *(f"* `{line}`" for line in failed)]


def part_lines(part: Part, results: Sequence[Measured | str]) -> list[str]:
    """Returns a table; the first case that was measured is what the others are compared with."""
    columns = ("", "median", "fastest", "speed", "peak memory", part.compared)
    lines = [f"### {part.title}", "", f"| {' | '.join(columns)} |", "| --- " * len(columns) + "|"]
    base: tuple[float, np.ndarray] | None = None
    for case, result in zip(part.cases, results, strict=True):
        if isinstance(result, str):
            cells = [result.replace("|", "/"), *[""] * (len(columns) - 2)]
        else:
            median = statistics.median(result.seconds)
            base = base or (median, result.value)
            cells = [
                _in_units(median),
                _in_units(min(result.seconds)),
                f"{base[0] / median:.2f}x",
                f"{result.peak / 1e6:.0f} MB" if result.peak else "-",
                part.compare(result.value, base[1]),
            ]
        lines.append(f"| {' | '.join([case.name, *cells])} |")
    return lines


def _in_units(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 10 else f"{1000 * seconds:.1f} ms"
