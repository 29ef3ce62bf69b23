"""Measurements that follow known laws, and tables of them."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sdc_ext.theory.accuracies import Family, Series
from sdc_ext.theory.scaling import power_law

FIVE = (10, 30, 100, 300, 1000)
SEVEN = (10, 20, 50, 100, 200, 500, 1000)
FAMILY = Family("digits", "dc", "lam 0")


def measure(
    sizes: Sequence[int],
    truth: Sequence[float],
    random: np.random.Generator,
    replicates: int = 5,
    error: float = 0.006,
    configuration: str = "convnet",
) -> Series:
    """Gaps that follow B + A (k/k0)^-beta, their means with this standard error."""
    means = power_law(np.array(sizes) / np.exp(np.log(sizes).mean()), *truth)
    noise = error * replicates**0.5 * random.standard_normal((len(sizes), replicates))
    values = {
        size: {str(r): float(v) for r, v in enumerate(mean + row)}
        for size, mean, row in zip(sizes, means, noise, strict=True)
    }
    return Series(FAMILY, configuration, "gap", values, 0.0)


def write(path: Path, rows: Sequence[dict[str, object]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def evaluated(**changes: object) -> dict[str, object]:
    return {
        **{"set": "a", "method": "dc", "dataset": "digits", "ipc": 1, "images": 10},
        **{"correction": "lam 0", "network": "convnet", "epochs": 2, "lr": 0.01},
        **{"augmentation": "none", "seed": 0, "index": 0, "accuracy": 0.5},
        **changes,
    }


def compared(**changes: object) -> dict[str, object]:
    row = {**evaluated(), "lam": 0.0, **changes}
    for name in ("set", "lr"):
        del row[name]
    return row
