"""Tables and pictures of audits: robustness, fairness across groups, and membership."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from rich.table import Table

from sdc_ext._console import PlainTable
from sdc_ext._figures import as_written, save_figure
from sdc_ext.evaluation.audit import CLEAN, Answers
from sdc_ext.evaluation.intervals import MeanInterval
from sdc_ext.evaluation.membership import LOW_RATE, Attacks


def audit_table(sets: Mapping[str, Answers]) -> Table:
    """Returns a table of the accuracy, the worst group and the gap by condition and set."""
    columns = ("condition", "set", "accuracy", "worst group", "its accuracy", "gap")
    table = PlainTable("accuracy in %, and differences in percentage points", *columns)
    for condition in next(iter(sets.values())).conditions:
        for name, found in sets.items():
            group, worst = found.worst_group(condition)
            accuracy, gap = percent_of_mean(found.accuracy(condition)), found.gap(condition)
            of_worst = percent_of_mean(worst)
            table.add_row(condition, name, accuracy, group, of_worst, f"{100 * gap:.2f}")
        table.add_section()
    return table


def group_table(sets: Mapping[str, Answers]) -> Table:
    """Returns a table of the accuracies on clean images by group and set.

    Sets of different data share the rows of groups with the same name and size.
    """
    table = PlainTable("accuracy in % on clean test images", "group", "images", *sets)
    rows: defaultdict[tuple[str, int], dict[str, str]] = defaultdict(dict)
    for name, found in sets.items():
        for group, mean in found.accuracies_by_group(CLEAN).items():
            size = int((found.groups == found.names.index(group)).sum())
            rows[group, size][name] = percent_of_mean(mean)
    for (group, size), cells in rows.items():
        table.add_row(group, str(size), *(cells.get(name, "") for name in sets))
    return table


def membership_table(method: str, control: str, attacks: Attacks) -> Table:
    """Returns a table of the area under the curve and the true-positive rate at a low rate."""
    table = PlainTable("membership inference", "what", "value")
    table.add_row("sets", method if control == "none" else f"{method}, control {control}")
    auc = attacks.auc
    table.add_row("area under the curve (a guess: 0.5)", f"{auc.mean:.3f} ± {auc.half_width:.3f}")
    rate, guess = percent_of_mean(attacks.true_positive_at()), 100 * attacks.guessed_at()
    what = f"% of members found at {LOW_RATE:.0%} of others (a guess: {guess:.2g})"
    table.add_row(what, rate)
    return table


def percent_of_mean(mean: MeanInterval) -> str:
    """Returns a mean of fractions as text in percent, with half of its interval if it has one."""
    if np.isnan(mean.half_width):
        return f"{100 * mean.mean:.2f}"
    return f"{100 * mean.mean:.2f} ± {100 * mean.half_width:.2f}"


def draw_audit(sets: Mapping[str, Answers], path: Path) -> None:
    """Draws the accuracy (dots) and that of the worst group (triangles) by condition and set."""
    conditions = next(iter(sets.values())).conditions
    figure = Figure(figsize=(1.5 + 0.6 * len(conditions), 3.8), layout="constrained")
    axis = figure.subplots()
    for k, (name, found) in enumerate(sets.items()):
        places = np.arange(len(conditions)) + 0.6 * ((k + 0.5) / len(sets) - 0.5)
        overall = [found.accuracy(condition) for condition in conditions]
        worst = [found.worst_group(condition)[1] for condition in conditions]
        for means, marker, label in ((overall, "o", as_written(name)), (worst, "v", None)):
            axis.errorbar(
                places,
                [100 * mean.mean for mean in means],
                np.nan_to_num([100 * mean.half_width for mean in means]),
                fmt=marker,
                markersize=4,
                color=f"C{k}",
                label=label,
            )
    axis.set_xticks(range(len(conditions)), conditions, rotation=40, ha="right")
    axis.set_ylabel("accuracy in % (triangles: worst group)")
    axis.grid(axis="y", alpha=0.3)
    figure.legend(loc="outside upper center", ncols=3)
    save_figure(figure, path)


def draw_attacks(attacks: Attacks, path: Path) -> None:
    """Draws the curve of every attack, on logarithmic axes, and that of a guess."""
    figure = Figure(figsize=(4, 4), layout="constrained")
    axis = figure.subplots()
    for attack in attacks.each:
        axis.plot(attack.false_positive, attack.true_positive, color="C0", alpha=0.4)
    guess = np.geomspace(1e-3, 1)
    axis.plot(guess, guess, color="0.3", linestyle="--", label="a guess")
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xlim(1e-3, 1)
    axis.set_ylim(1e-3, 1)
    axis.set_xlabel("false-positive rate")
    axis.set_ylabel("true-positive rate")
    axis.set_title(f"area under the curve: {attacks.auc.mean:.3f}", fontsize=10)
    axis.legend()
    axis.grid(alpha=0.3)
    save_figure(figure, path)
