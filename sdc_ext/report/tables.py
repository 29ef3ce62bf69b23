"""Tables of settings and results for the terminal."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, get_args

from rich.table import Table

from sdc_ext._console import PlainTable
from sdc_ext._words import number_of
from sdc_ext.evaluation.paired import points
from sdc_ext.evaluation.results import Selects, select_evaluation
from sdc_ext.evaluation.spread import configuration_names
from sdc_ext.evaluation.tracking import Action, Drift, warm_up
from sdc_ext.sets.history import MEASURED
from sdc_ext.sets.info import Evaluation
from sdc_ext.strength import STRENGTHS

if TYPE_CHECKING:
    from sdc_ext.adapters.settings import Settings
    from sdc_ext.evaluation.closeness import Closeness
    from sdc_ext.evaluation.comparison import Comparison
    from sdc_ext.evaluation.difficulty import Difficulty
    from sdc_ext.evaluation.results import Result
    from sdc_ext.evaluation.scores import Scores
    from sdc_ext.experts.store import ExpertStore
    from sdc_ext.sets.synthetic_set import SyntheticSet


def settings_table(settings: Settings, title: str = "settings") -> Table:
    """Returns a table of the settings that have an effect on a run, each with its source."""
    table = PlainTable(title, "setting", "value", "source")
    unused = {*settings.loop.unused, *STRENGTHS} - {settings.run.strength}
    for name, setting in settings.origin.items():
        if name not in unused:
            table.add_row(name, str(setting.value), setting.source)
    return table


def evaluation_table(title: str, evaluations: Mapping[str, Evaluation]) -> Table:
    """Returns a table of test accuracies in percent.

    Args:
        title: The title of the table.
        evaluations: The accuracies by what networks were trained on.
    """
    table = PlainTable(title, "trained on", "accuracy %", "std", "n")
    for what, e in evaluations.items():
        count = str(len(e.accuracies))
        table.add_row(what, f"{100 * e.mean:.2f}", f"{100 * e.std:.2f}", count)
    return table


def cross_table(results: Sequence[Result]) -> Table:
    """Returns a table of test accuracies by network and set: mean ± standard deviation in percent.

    Networks that were trained in several configurations have a row or column for each. The columns
    are the sets or the networks, whichever are fewer.
    """
    names = list(dict.fromkeys(result.name for result in results))
    of_results = configuration_names(results)
    networks = list(dict.fromkeys(of_results))
    count = len(results[0].evaluation.accuracies)
    found = {
        (network, r.name): str(r.evaluation).removesuffix(" %")
        for network, r in zip(of_results, results, strict=True)
    }
    title = f"test accuracy %, mean ± std of {number_of(count, 'network')}"
    tall = len(names) > len(networks)
    rows, columns = (names, networks) if tall else (networks, names)
    table = PlainTable(title, "set" if tall else "network", *columns)
    for row in rows:
        keys = ((column, row) if tall else (row, column) for column in columns)
        table.add_row(row, *(found.get(key, "") for key in keys))
    return table


def score_table(scores: Scores) -> Table:
    """Returns a table of HLR, IOR, LRS and ARS, as fractions."""
    table = PlainTable("scores, as fractions", "score", "value", "better if")
    table.add_row("hard-label recovery (HLR)", f"{scores.hlr:.4f}", "lower")
    table.add_row("improvement over random (IOR)", f"{scores.ior:.4f}", "higher")
    table.add_row("label-robust score (LRS)", f"{scores.lrs:.4f}", "higher")
    table.add_row("augmentation-robust score (ARS)", f"{scores.ars:.4f}", "higher")
    return table


def closeness_table(sets: Mapping[str, Sequence[Closeness]]) -> Table:
    """Returns a table of discrepancies as ratios to those of random real images.

    It has the pooled ratio, the standard deviation of this ratio for random images, and the mean
    ratio over classes. A class whose random images are all its real images has none; it then says
    how many have one.
    """
    columns = ("space", "measure", "set", "pooled", "random, sd", "by class")
    table = PlainTable("discrepancy, random real images = 1", *columns)
    cells: defaultdict[tuple[str, str], dict[str, list[Closeness]]] = defaultdict(dict)
    for name, rows in sets.items():
        for row in rows:
            cells[row.space, row.measure].setdefault(name, []).append(row)
    for (space, measure), by_set in cells.items():
        for name, rows in by_set.items():
            (pooled,) = (row for row in rows if row.is_pooled)
            of_classes = [row.ratio for row in rows if not row.is_pooled]
            known = [ratio for ratio in of_classes if not math.isnan(ratio)]
            by_class = f"{statistics.fmean(known):.3g}" if known else "-"
            if len(known) < len(of_classes):
                by_class += f" ({len(known)} of {len(of_classes)} classes)"
            values = f"{pooled.ratio:.3g}", f"{pooled.noise:.2g}", by_class
            table.add_row(space, measure, name, *values)
        table.add_section()
    return table


def expert_table(store: ExpertStore) -> Table:
    """Returns a table of a store: the number of experts, their training and their accuracy."""
    accuracies = Evaluation(store.info.network, tuple(store.accuracies()))
    table = PlainTable(f"experts in {store.folder}", "what", "value")
    table.add_row("trajectories", f"{len(store)} of {number_of(store.epochs, 'epoch')}")
    table.add_row("network", store.info.network)
    table.add_row("whitened", "no" if store.info.whitening is None else "ZCA")
    for name, value in store.info.recipe.items():
        table.add_row(name, str(value))
    table.add_row("test accuracy", str(accuracies))
    return table


def injection_table(columns: Mapping[str, Sequence[float]]) -> Table:
    """Returns a table of an injection's record: first, last and mean GraDN, loss and lam."""
    table = PlainTable("image steps recorded", "what", "first", "last", "mean")
    for name, label in (
        ("difficulty", "GraDN (difficulty)"),
        ("matching", "matching loss"),
        ("lam", "lam"),
    ):
        values = columns[name]
        if math.isnan(values[0]):
            continue
        mean = sum(values) / len(values)
        table.add_row(label, *(f"{v:.4g}" for v in (values[0], values[-1], mean)))
    return table


def tracking_table(
    tracked: Mapping[str, Sequence[Mapping[str, Sequence[float]]]], skips: Mapping[str, int]
) -> Table:
    """Returns a table of GraDN in the first and last tenth of the iterations, and of the share.

    Both are means over the seeds; the share is that of the correction's image gradient in percent
    of the matching loss's.

    Args:
        tracked: The histories by the name of the arm, one per seed.
        skips: The number of iterations to leave out at the start, by the name of the arm; see
            [`warm_up`][sdc_ext.evaluation.warm_up].
    """
    title = f"GraDN over the distillation{_after(max(skips.values(), default=0))}"
    table = PlainTable(title, "arm", "first and last tenth", "rose in", "share %")
    for arm, histories in tracked.items():
        drifts = [Drift.of(history["difficulty"], skips.get(arm, 0)) for history in histories]
        rose = sum(drift.last > drift.first for drift in drifts)
        share = statistics.fmean(Action.of(history).share for history in histories)
        rose_in = f"{rose} of {number_of(len(drifts), 'seed')}"
        table.add_row(arm, str(Drift.mean(drifts)), rose_in, f"{100 * share:.2g}")
    return table


def _after(skip: int) -> str:
    return " after the warm-up" if skip else ""


def accuracy_table(comparison: Comparison) -> Table:
    """Returns a table of test accuracies by arm, in percent: mean and deviation over seeds."""
    table = PlainTable("test accuracy", "arm", "mean %", "std", "seeds")
    for arm in comparison.arms:
        values = [100 * a for a in comparison.accuracies(arm)]
        mean, std = statistics.mean(values), statistics.stdev(values)
        table.add_row(arm.name, f"{mean:.2f}", f"{std:.2f}", str(len(values)))
    return table


def gain_table(comparison: Comparison) -> Table:
    """Returns a table of the gains over the first arm in points, paired by seed.

    It fits into 100 columns; ``Comparison.summary`` has further statistics.
    """
    title = f"points gained over {comparison.base}, paired by seed"
    within = f"p, ±{100 * comparison.margin:g}"
    columns = ("arm", "gain", "95 %, t", "p, Holm", "p, sign", within, "95 %, any look")
    table = PlainTable(title, *columns, "to go")
    for gain in comparison.gains:
        d = gain.difference
        left = d.seeds_left(gain.margin)
        table.add_row(
            gain.arm.name,
            f"{100 * d.mean:+.2f}",
            points(d.t_interval),
            f"{gain.p:.3f}",
            f"{d.sign_test:.3f}",
            f"{gain.equivalence_p:.3f}",
            points(d.anytime_interval),
            "-" if left is None else str(left),
        )
    return table


def difficulty_table(found: Mapping[tuple[str, int], Difficulty]) -> Table:
    """Returns a table of mean difficulties, by samples and epoch."""
    table = PlainTable(
        "difficulty, means", "samples", "n", "epoch", "wrong %", "GraDN", "loss", "EL2N", "margin"
    )
    for (name, epoch), d in found.items():
        means = (float(s.mean()) for s in (d.gradn, d.loss, d.el2n, d.margin))
        wrong = f"{100 * float(d.misclassified.mean()):.2f}"
        table.add_row(name, str(len(d.gradn)), str(epoch), wrong, *(f"{m:.4g}" for m in means))
    return table


def rank_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Returns a table of rank correlations between measures of difficulty.

    Args:
        rows: Rows with the ``samples``, their ``epoch``, ``class`` and number ``n``, and the
            correlations, each under ``rho NAME``.
    """
    correlations = [name for name in rows[0] if name.startswith("rho ")]
    title = "rank correlations (rho) with the share of wrong networks, or of two measures"
    table = PlainTable(title, "samples", "n", "epoch", "class", *correlations)
    for row in rows:
        rho = ("" if math.isnan(row[name]) else f"{row[name]:+.3f}" for name in correlations)
        table.add_row(row["samples"], str(row["n"]), str(row["epoch"]), row["class"], *rho)
    return table


def search_table(rows: Sequence[Mapping[str, Any]], baseline: float | None) -> Table:
    """Returns a table of a search's trials and of the run without correction.

    Args:
        rows: The trials, the best first.
        baseline: The accuracy without correction in [0, 1], if it is known.
    """
    table = PlainTable(
        "accuracy on held-out training images", "schedule", "%", "iterations", "state"
    )
    if baseline is not None:
        table.add_row("--lam 0", f"{100 * baseline:.2f}", "all", "baseline")
    for row in rows:
        accuracy = "" if row["accuracy"] is None else f"{100 * row['accuracy']:.2f}"
        table.add_row(row["schedule"], accuracy, str(row["iterations"]), row["state"])
    return table


def summary(
    synthetic: SyntheticSet,
    selects: Selects,
    history: Mapping[str, Sequence[float]] | None = None,
) -> Table:
    """Returns a table of what is known about a set: origin, size, accuracies, drift of GraDN.

    Args:
        synthetic: The set.
        selects: The evaluation that counts for its method.
        history: The columns that its run logged, with ``difficulty`` among them; None for a set
            not made by a run.
    """
    info = synthetic.info
    table = PlainTable(f"{info.method} on {info.dataset}", "what", "value")
    table.add_row("images", f"{len(synthetic.images)} of {tuple(synthetic.images.shape[1:])}")
    if synthetic.stored is not None:
        held = f"{len(synthetic.stored)}, of {info.factor} x {info.factor} images each"
        table.add_row("stored images", held)
    table.add_row("images per class", str(synthetic.decoded().info.ipc))
    table.add_row("correction", str(info.correction))
    table.add_row("distilled with", info.network)
    table.add_row("labels", "hard" if synthetic.labels.ndim == 1 else "soft")
    table.add_row("preprocessing", "ZCA" if info.whitening else "channel statistics")
    table.add_row("learning rate", f"{info.evaluation.lr:g}")
    if info.accuracies:
        for name in get_args(Selects):
            e = select_evaluation(info.accuracies, name)
            mark = " (counts)" if name == selects else ""
            of = " for the moving average" if e.get("of") == "ema" else ""
            value = f"{100 * e['mean']:.2f} ± {100 * e['std']:.2f} %"
            table.add_row(
                f"accuracy, {name}{mark}",
                f"{value} at iteration {e['iteration']}{of}, {len(e['accuracies'])} {e['network']}",
            )
    if history:
        skip = warm_up(info, len(history["difficulty"]))
        drift = Drift.of(history["difficulty"], skip)
        table.add_row(f"GraDN, first and last tenth{_after(skip)}", str(drift))
        action = Action.of(history)
        if action.share > 0:
            table.add_row("correction's share", str(action))
    for kind, images in MEASURED.items():
        if history and f"{kind}_gradn" in history:
            measured = Drift.of(history[f"{kind}_gradn"])
            table.add_row(f"GraDN of {images}", str(measured))
    if history and "easy_share" in history:
        share = 100 * statistics.fmean(history["easy_share"])
        table.add_row("easy real images matched", f"{share:.2g} % of each batch")
    return table
