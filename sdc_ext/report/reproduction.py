"""The tables, the sentences and the picture of a reproduced table or figure of the paper."""

from __future__ import annotations

import base64
import io
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from matplotlib.figure import Figure

from sdc_ext._figures import as_written, save_figure
from sdc_ext._words import number_of
from sdc_ext.evaluation.paired import points, signed
from sdc_ext.evaluation.summaries import random_effects
from sdc_ext.evaluation.tracking import hardly_acts
from sdc_ext.report.pages import render
from sdc_ext.reproduction.published import originals_above

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from sdc_ext.adapters import Settings
    from sdc_ext.evaluation.results import Selects
    from sdc_ext.reproduction.rows import Row


def compared_rows(rows: Sequence[Row], tracks: bool = False) -> list[list[str]]:
    """Returns the table of accuracies in percent: the paper's, the original authors', and ours.

    Args:
        rows: The rows of the table or figure.
        tracks: Whether to add how GraDN changed.
    """
    networks = any(row.network for row in rows)
    head = ["method", "data", "ipc", *["network"] * networks, "arm", "paper", "authors", "here"]
    head += ["n", "gain here", "95 %, t", "share"]
    table = [[*head, *["GraDN, first and last tenth"] * tracks]]
    for row in rows:
        name = row.cell.dataset
        used = f"{name} ({row.data})" if row.data not in ("", name) else name
        cells = [row.cell.method, used, str(row.cell.ipc), *[row.network] * networks, row.arm.name]
        published = ["" if one is None else str(one) for one in (row.paper, row.original)]
        table.append([*cells, *published, *_here(row), *[row.drift] * tracks])
    return table


def _here(row: Row) -> list[str]:
    if not row.here:
        return ["not run", "", "", "", ""]
    spread = f" ± {100 * statistics.stdev(row.here):.2f}" if len(row.here) > 1 else ""
    cells = [f"{100 * statistics.fmean(row.here):.2f}{spread}", str(len(row.here))]
    if row.gain is None:
        return [*cells, "", "", ""]
    share = "" if math.isnan(row.share) else f"{100 * row.share:.2g} %"
    return [*cells, signed(row.gain.mean), points(row.gain.t_interval), share]


def differences(
    ours: Settings, paper: Settings, further: Mapping[str, str], selects: Selects
) -> str:
    """Returns what differs from the paper, as ``NAME ours (the paper's); ...``.

    Args:
        ours: The settings here.
        paper: The paper's.
        further: What differs beside settings, by name.
        selects: The evaluation that counts for the method; if it is the best, their number matters.
    """
    # The strengths are compared in the arms, and the network for evaluation follows from the other.
    left_out = {"lam", "eval_network"} | ({"eval_every"} if selects == "last" else set())
    values = {name: setting.value for name, setting in paper.origin.items()}
    changed = {
        name: f"{_text(setting.value)} ({_text(values[name])})"
        for name, setting in ours.origin.items()
        if name in values and setting.value != values[name] and name not in left_out
    }
    return "; ".join(f"{name} {value}" for name, value in {**further, **changed}.items())


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def sentences(rows: Sequence[Row], claim: str) -> list[str]:
    """Returns what the rows say, in sentences: the paper's claim and how it fares here."""
    said = [f"The paper: {claim}."]
    gains = [row for row in rows if row.gain is not None]
    if gains:
        said.append(_gains(gains))
    weak = [row for row in gains if hardly_acts(row.share)]
    if weak:
        said.append(
            f"In {len(weak)} of these the correction's image gradient is below a thousandth of the "
            "matching loss's, so that it can hardly have acted."
        )
    if any(row.original is not None for row in rows):
        above, known = originals_above()
        said.append(
            f"In {above} of the {known} cells of Tables 1 and 2 in which the authors of a method "
            "published its accuracy, that is above the paper's accuracy with the correction."
        )
    return said


def _gains(rows: Sequence[Row]) -> str:
    found = [row.gain for row in rows if row.gain is not None]
    up = sum(gain.t_interval[0] > 0 for gain in found)
    down = sum(gain.t_interval[1] < 0 for gain in found)
    said = (
        f"Here, of {number_of(len(found), 'comparison')}: gains {up}, losses {down}, neither "
        f"{len(found) - up - down}, at a level of 5 %, unadjusted."
    )
    equal = len(found) - sum(gain.varies for gain in found)
    varying = [gain for gain in found if gain.varies]
    # Several arms or networks of a cell share its base, and are no independent evidence.
    if len({row.cell for row in rows}) < len(rows) or len(varying) < 2:
        return said
    mean = random_effects([gain.mean for gain in varying], [gain.error for gain in varying])
    without = f", without {equal} whose differences are all equal" if equal else ""
    gain = f"{signed(mean.mean)} points (95 %: {points(mean.interval)}{without})"
    return f"{said} The mean gain over {number_of(len(varying), 'cell')} is {gain}."


def drift_sentence(rows: Sequence[Row]) -> str:
    """Returns in how many runs without correction GraDN rose, by method."""
    plain = [row for row in rows if row.drifts and row.gain is None]
    rose = {r.cell.method: (sum(d.last > d.first for d in r.drifts), len(r.drifts)) for r in plain}
    named = ", ".join(f"{method} {up} of {n}" for method, (up, n) in rose.items())
    return f"GraDN rose in these runs without correction: {named}." if named else ""


def draw_reproduction(rows: Sequence[Row], to: Path | IO[bytes]) -> None:
    """Draws the gains of all runs with their 95 % intervals, beside those that the paper reports.

    Args:
        rows: The rows of the table or figure.
        to: The picture to write.
    """
    drawn = [row for row in rows if row.gain is not None]
    base = {
        (row.cell, row.network): row.paper
        for row in rows
        if row.paper is not None and _is_base(row)
    }
    figure = Figure(figsize=(7, 1.2 + 0.28 * max(1, len(drawn))), layout="constrained")
    axis = figure.subplots()
    for place, row in enumerate(drawn):
        _draw_gain(axis, place, row)
        plain = base.get((row.cell, row.network))
        if plain is not None and row.paper is not None:
            axis.plot(row.paper.mean - plain.mean, place, "D", color="C1", markersize=4)
    axis.axvline(0, color="0.3", linewidth=0.8)
    axis.set_yticks(range(len(drawn)), [as_written(_name(row)) for row in drawn], fontsize=8)
    axis.set_ylim(len(drawn) - 0.4, -0.6)
    figure.supxlabel(
        "points gained: here, 95 % intervals (blue); in the paper (orange)", fontsize=9
    )
    axis.grid(axis="x", alpha=0.3)
    save_figure(figure, to)


def _is_base(row: Row) -> bool:
    return row.arm.values == {"lam": 0.0}


def _draw_gain(axis: Axes, place: int, row: Row) -> None:
    if row.gain is None:
        return
    axis.plot([100 * bound for bound in row.gain.t_interval], [place] * 2, color="C0")
    axis.plot(100 * row.gain.mean, place, "s", color="C0", markersize=4)


def _name(row: Row) -> str:
    network = f", {row.network}" if row.network else ""
    return f"{row.cell}{network}: {row.arm}"


def write_reproduction(
    title: str,
    tables: Mapping[str, Sequence[Sequence[str]]],
    said: Sequence[str],
    rows: Sequence[Row],
    curves: Mapping[str, Path],
    path: Path,
) -> None:
    """Writes one HTML page about a reproduced table or figure, which needs no other files.

    Args:
        title: Its title.
        tables: Tables by their titles; the first row of each has the headings.
        said: Sentences that stand above them.
        rows: The rows to draw.
        curves: Further pictures by their titles.
        path: The page to write.
    """
    picture = io.BytesIO()
    draw_reproduction(rows, picture)
    page = render(
        "reproduction",
        title=title,
        sentences=said,
        picture=_encoded(picture.getvalue()),
        curves=[{"title": k, "picture": _encoded(v.read_bytes())} for k, v in curves.items()],
        tables=[{"title": name, "rows": table} for name, table in tables.items()],
    )
    path.write_text(page, "utf-8")


def _encoded(picture: bytes) -> str:
    return base64.b64encode(picture).decode()
