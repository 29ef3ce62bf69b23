"""One self-contained HTML page about distilled sets: pictures, curves, tables, settings."""

from __future__ import annotations

import base64
import io
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sdc_ext._files import as_text, write_whole
from sdc_ext._reading import each_once
from sdc_ext.adapters import selects_of
from sdc_ext.errors import InputError
from sdc_ext.evaluation.results import select_evaluation
from sdc_ext.evaluation.tracking import Drift
from sdc_ext.report.courses import ACCURACY, GRADN, X_LABEL, courses
from sdc_ext.report.kept_tables import ACCURACIES, Rows, comparisons, evaluations, percent
from sdc_ext.report.pages import render
from sdc_ext.report.runs import Kind, Run, RunArm, by_arm, shown
from sdc_ext.report.svg_charts import COLORS, Line, line_chart
from sdc_ext.sets.history import MEASURED, read_history
from sdc_ext.sets.loading import short_names
from sdc_ext.sets.synthetic_set import META, RUN, SyntheticSet

_MOST_PICTURES, _MOST_NAMED = 12, 20


def read_runs(folders: Sequence[Path]) -> list[Run]:
    """Reads the sets in some folders and, as comparisons have them, in their subfolders.

    Raises:
        InputError: If a folder holds neither a set, nor a run, nor results of
            ``sdc-ext evaluate``, or there is nothing to report in any of them.
    """
    found: list[Path] = []
    unfinished = unfinished_runs(folders)
    for folder in folders:
        inside = sorted(path.parent for path in folder.rglob(META))
        waits = any(folder in (run, *run.parents) for run in unfinished)
        if not (inside or waits or (folder / ACCURACIES).is_file()):
            raise InputError(
                f"{folder} holds no distilled set: pass a folder that sdc-ext distill, select, "
                "compare or evaluate has written"
            )
        found += inside
    if not found and not any((folder / ACCURACIES).is_file() for folder in folders):
        raise InputError(f"the run in {unfinished[0]} has not saved a set yet: finish it first")
    found = list(dict.fromkeys(found))
    return [
        Run(name, SyntheticSet.load(path), read_history(path), path)
        for name, path in zip(short_names(found) if found else [], found, strict=True)
    ]


def unfinished_runs(folders: Sequence[Path]) -> list[Path]:
    """Returns the folders of runs that have not saved a set yet, which a report leaves out."""
    begun = (path.parent for folder in folders for path in sorted(folder.rglob(RUN)))
    return [run for run in dict.fromkeys(begun) if not (run / META).is_file()]


def write_report(folders: Sequence[str | Path], path: str | Path) -> None:
    """Writes one HTML page about distilled sets, with pictures, curves, tables and settings.

    The page needs no other files. It sets accuracies and curves of comparable runs side by side,
    and includes what ``compare`` and ``evaluate`` left in the folders.

    Args:
        folders: Folders of distilled sets, of comparisons or of evaluations.
        path: The file to write.

    Raises:
        InputError: If a folder holds none of these, or a file in it is damaged.
    """
    given = each_once(map(Path, folders))
    write_whole(Path(path), as_text(report_page(read_runs(given), given)))


def report_page(runs: Sequence[Run], folders: Sequence[Path]) -> str:
    """Returns the page that ``write_report`` writes.

    Args:
        runs: What ``read_runs`` found in the folders.
        folders: The folders.

    Raises:
        InputError: If a file of an evaluation or a comparison is damaged.
    """
    return render("report", **_content(runs, folders))


def _content(runs: Sequence[Run], folders: Sequence[Path]) -> dict[str, Any]:
    kinds: defaultdict[Kind, list[Run]] = defaultdict(list)
    for run in runs:
        kinds[run.kind].append(run)
    groups = [_group([run for run in of_kind if run.history]) for of_kind in kinds.values()]
    groups.insert(0, _methods(runs))
    # The first run of each arm, up to the limit of the page.
    first = [run for of_kind in kinds.values() for run, *_ in by_arm(of_kind).values()]
    pictured = first[:_MOST_PICTURES]
    left_out = len(runs) - len(pictured)
    differing, shared = _settings(runs)
    return {
        "title": "; ".join(dict.fromkeys(_title(kind) for kind in kinds)) or "evaluations",
        "runs": _run_table(runs),
        "groups": [group for group in groups if group is not None],
        "tables": [*comparisons(folders), *evaluations([run.folder for run in runs], folders)],
        "pictures": [_picture(run) for run in pictured],
        "left_out": f"Not shown: {left_out} more." if left_out else "",
        "differing": differing,
        "shared": shared,
    }


def _title(kind: Kind) -> str:
    method, dataset, ipc, factor, _ = kind
    parts = "" if factor == 1 else f", factor {factor}"
    return f"{method} on {dataset}, {ipc} image{'s' if ipc > 1 else ''} per class{parts}"


def _run_table(runs: Sequence[Run]) -> Rows:
    head = ["set", "method", "data", "ipc", "correction", "network", "GraDN"]
    head += ["last", "best", "counts"]
    rows = [head]
    for run in runs:
        info = run.info
        row = [run.name, info.method, info.dataset, str(info.ipc)]
        row += [str(info.correction), info.network]
        row.append(str(run.drift) if run.history else "")
        if info.accuracies:
            row += [percent(select_evaluation(info.accuracies, name)) for name in ("last", "best")]
            row.append(selects_of(info.method))
        rows.append(row + [""] * (len(head) - len(row)))
    return rows


def _group(runs: Sequence[Run]) -> dict[str, Any] | None:
    """Draws runs of one kind, one colour per arm."""
    if not runs:
        return None
    arms = by_arm(runs)
    colored = [(k, run) for k, of_arm in enumerate(arms.values()) for run in of_arm]

    def lines(column: str) -> list[Line]:
        drawn = []
        for color, run in ((k, run) for k, run in colored if column in run.history):
            skip = run.skip if column == "difficulty" else 0
            x, y = run.history["iteration"][skip:], run.history[column][skip:]
            drawn.append(Line(x, y, color))
        return [line for line in drawn if not all(map(math.isnan, line.y))]

    accuracies = _accuracy_lines(colored)
    charts = []
    if any(len(line.x) > 1 for line in accuracies):
        charts.append(line_chart("test accuracy %", accuracies, "iteration"))
    for column, title in (("difficulty", "GraDN (difficulty)"), ("matching", "matching loss")):
        if lines(column):
            charts.append(line_chart(title, lines(column), "iteration", smooth=True))
    charts += _measured_charts(colored)
    legend = [(str(arm), COLORS[k % len(COLORS)]) for k, arm in enumerate(arms)]
    return {"title": _title(runs[0].kind), "legend": legend, "charts": charts, "said": _drift(arms)}


def _methods(runs: Sequence[Run]) -> dict[str, Any] | None:
    """Draws runs of several methods together, one colour per method and arm (Figure 1)."""
    found = courses(runs)
    if len({course.method for course in found}) < 2:
        return None
    charts = [
        line_chart(
            title,
            [
                Line(x.tolist(), y.tolist(), k)
                for k, course in enumerate(found)
                for x, y in getattr(course, name)
            ],
            X_LABEL,
        )
        for title, name in ((GRADN, "difficulty"), (ACCURACY, "accuracy"))
    ]
    legend = [
        (f"{course.method}, {course.arm}", COLORS[k % len(COLORS)])
        for k, course in enumerate(found)
    ]
    return {"title": "Methods", "legend": legend, "charts": charts, "said": ""}


def _measured_charts(colored: Sequence[tuple[int, Run]]) -> list[str]:
    """Draws GraDN of the real and of the synthetic images, where runs have measured it."""
    charts = []
    for kind, images in MEASURED.items():
        lines: list[Line] = []
        for color, run in colored:
            values = run.history.get(f"{kind}_gradn", [])
            known = [k for k, value in enumerate(values) if not math.isnan(value)]
            if known:
                x = [run.history["iteration"][k] for k in known]
                lines.append(Line(x, [values[k] for k in known], color))
        if lines:
            charts.append(line_chart(f"GraDN of {images}", lines, "iteration"))
    return charts


def _accuracy_lines(colored: Sequence[tuple[int, Run]]) -> list[Line]:
    lines = []
    for color, run in colored:
        x = [row["iteration"] for row in run.evaluations]
        percents = [100 * row["mean"] for row in run.evaluations]
        spread = [100 * row["std"] for row in run.evaluations] if len(colored) <= 2 else None
        lines.append(Line(x, percents, color, spread))
    return lines


def _drift(arms: Mapping[RunArm, Sequence[Run]]) -> str:
    """Returns a sentence on the mean GraDN of the first and last tenth, by arm."""
    parts = []
    for arm, runs in arms.items():
        drift = Drift.mean([run.drift for run in runs])
        parts.append(f"{drift.first:.3g} to {drift.last:.3g} with {arm}")
    after = ", after the warm-up" if any(r.skip for runs in arms.values() for r in runs) else ""
    said = "; ".join(parts)
    return f"Mean GraDN from the first to the last tenth of the iterations{after}: {said}."


def _picture(run: Run) -> dict[str, str]:
    buffer = io.BytesIO()
    run.synthetic.draw(buffer)
    classes = ", ".join(run.info.classes[:_MOST_NAMED])
    more = "" if len(run.info.classes) <= _MOST_NAMED else " and further classes"
    name = f"{run.name}: {run.info.method}, {run.info.correction}"
    alt = f"distilled images of {classes}{more}"
    return {"name": name, "png": base64.b64encode(buffer.getvalue()).decode(), "alt": alt}


def _settings(runs: Sequence[Run]) -> tuple[Rows, Rows]:
    """Returns a table of the settings that differ between the runs, and one of all others."""
    names = list(dict.fromkeys(name for run in runs for name in run.info.settings))
    differing: Rows = [["setting", *(run.name for run in runs)]]
    shared: Rows = [["setting", "value", "source"]]
    for name in names:
        found = [run.info.settings.get(name) for run in runs]
        values = [shown(run.info.value(name)) for run in runs]
        # Sets of other methods, and sets not made by a run, may lack a setting. That does not
        # count as a difference.
        if len({value for setting, value in zip(found, values, strict=True) if setting}) > 1:
            differing.append([name, *values])
        else:
            value, source = next((v, s["source"]) for v, s in zip(values, found, strict=True) if s)
            shared.append([name, value, source])
    return (differing if len(differing) > 1 else []), shared
