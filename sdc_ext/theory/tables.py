"""Tables and sentences that present fitted laws and learning curves on the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.table import Table

from sdc_ext._console import PlainTable
from sdc_ext.evaluation.intervals import Interval
from sdc_ext.evaluation.paired import bounded
from sdc_ext.theory.coverage import MODE, Coverage
from sdc_ext.theory.required import Required
from sdc_ext.theory.scaling import FLOOR_SIZES, Scaling
from sdc_ext.theory.side_by_side import Difference, SideBySide

# Smaller numbers are zero up to rounding.
_LEAST = 1e-7


def scaling_table(law: Scaling) -> Table:
    """Returns a table of the laws fitted to one series, with 95 % intervals.

    The law that the test for a floor chooses is marked.
    """
    table = PlainTable(
        f"{law.series.quantity} of {law.series} over {len(law.points.sizes)} sizes",
        *("law", "A", "beta", "floor B", "saturation", "AICc"),
    )
    for name, fitted in law.laws.items():
        table.add_row(
            name + (" (chosen)" if name == law.chosen else ""),
            _value(fitted.amplitude, fitted.intervals["amplitude"]),
            _value(fitted.exponent, fitted.intervals["exponent"]),
            _value(fitted.floor, fitted.intervals["floor"]),
            _value(fitted.saturation, fitted.intervals["saturation"]),
            f"{fitted.aicc:.1f}",
        )
    return table


def floor_sentence(law: Scaling) -> str:
    """Returns a sentence on whether there is a floor, and on the fit of the chosen law."""
    fits = f"goodness of fit of {law.chosen}: p = {law.misfit:.3f}"
    if law.p_value is None or law.aicc_gain is None:
        sizes = len(law.points.sizes)
        return f"floor: undetermined, {sizes} of the {FLOOR_SIZES} sizes needed; {fits}"
    second = "also finds one" if law.aicc_claims else "does not find one"
    return (
        f"floor: {law.verdict} (likelihood ratio p = {law.p_value:.3f}; with beta 1/2, AICc "
        f"{second}: a gain of {law.aicc_gain:+.1f}, where 4 is needed); {fits}"
    )


def crossover_table(rows: Sequence[Mapping[str, float | None]], last: float) -> Table:
    """Returns a table of the alphas at which the errors of two selections are equal.

    Args:
        rows: One row per gamma and share, as ``Study.crossovers`` returns them.
        last: The largest alpha of the curves.
    """
    table = PlainTable("kept samples per dimension at which errors are equal", *rows[0])
    for row in rows:
        values = row.values()
        table.add_row(*(f"none up to {last:g}" if v is None else f"{v:.6g}" for v in values))
    return table


def boundary_table(rows: Sequence[Mapping[str, float | None]]) -> Table:
    """Returns a table of samples per dimension, before selection, below which easy ones are better.

    Args:
        rows: One row per share, as ``Map.boundary`` returns them.
    """
    title = "samples per dimension before selection, below which easy ones are better, by angle"
    table = PlainTable(title, *rows[0])
    for row in rows:
        table.add_row(*("all" if value is None else f"{value:.3g}" for value in row.values()))
    return table


def coverage_table(law: Coverage) -> Table:
    """Returns a table of the worst of M by number of images, and the required sizes."""
    title = f"{law.quantity} of {law.family}: {MODE}, of {len(law.configurations)}, by images"
    sizes = (str(size) for size in law.sizes)
    table = PlainTable(title, "M", *sizes, f"for {law.target:.3g}")
    for row, required in zip(law.worst, law.required, strict=True):
        table.add_row(str(required.count), *(f"{v:.3f}" for v in row), _required(required))
    return table


def form_table(law: Coverage) -> Table:
    """Returns a table that compares the coverage laws."""
    table = PlainTable("laws for the worst of M", "grows with", "parameters", "AICc", "rms")
    for name, form in law.forms.items():
        parameters = ", ".join(f"{k} {_number(v)}" for k, v in form.parameters.items())
        label = {"log": "ln M", "constant": "nothing", "linear": "M", "floor": "ln M, floor only"}
        mark = " (best)" if name == law.best else ""
        table.add_row(label[name] + mark, parameters, f"{form.aicc:.1f}", f"{form.rms:.4f}")
    return table


def coverage_sentences(laws: Sequence[Coverage]) -> list[str]:
    """Returns one sentence per family on whether the required size grows with ln M."""
    return [
        f"{law.family}: h = {law.forms['log'].parameters['h']:.3g} ({_between(law.growth)}); "
        f"growth with ln M is {'' if law.claimed else 'not '}claimed"
        for law in laws
    ]


def side_by_side_tables(result: SideBySide) -> tuple[Table, Table]:
    """Returns the worst of M and the required sizes of two families, and their differences."""
    title = (
        f"{result.quantity} of the worst of M, of {len(result.configurations)}: "
        f"{result.families[0]} / {result.families[1]}, by images"
    )
    sizes = [str(size) for size in result.sizes]
    both = PlainTable(title, "M", *sizes, f"for {result.target:.3g}")
    pairs = ", ".join(map(str, dict.fromkeys(result.pairs)))
    differences = PlainTable(
        f"first minus second, over {pairs} pairs of sets, with 95 % interval", "M", *sizes
    )
    for k, (count, row) in enumerate(zip(result.counts, result.differences, strict=True)):
        worst = [" / ".join(f"{of[k][s]:.3f}" for of in result.worst) for s in range(len(sizes))]
        needed = "\n".join(
            f"{_required(of[k])} ({_bounds(bounds[k], result.sizes)})"
            for of, bounds in zip(result.required, result.intervals, strict=True)
        )
        both.add_row(str(count), *worst, needed)
        differences.add_row(str(count), *map(_difference, row))
    return both, differences


def _difference(one: Difference) -> str:
    known = bounded(one.interval) is not None
    interval = " to ".join(f"{bound:+.3f}" for bound in one.interval) if known else "unbounded"
    return f"{one.mean:+.3f}\n{interval}"


def _bounds(interval: Interval, sizes: Sequence[int]) -> str:
    """Returns the interval of a required size, whose bounds may lie beyond what was measured."""
    low, high = interval
    below = "at most " if low <= sizes[0] else ""
    above = "over " if high >= sizes[-1] else ""
    return f"{below}{low:.0f} to {above}{high:.0f}"


def _required(required: Required) -> str:
    sign = {"none": "", "above": "over ", "below": "at most "}[required.censored]
    return f"{sign}{required.images:.0f}"


def _value(value: float, interval: Interval) -> str:
    """Returns a value and its interval on two lines, which fit a table of 80 characters."""
    fitted = interval != (value, value)
    return f"{_number(value)}\n{_between(interval)}" if fitted else _number(value)


def _number(value: float) -> str:
    return "0" if abs(value) < _LEAST else f"{value:.3g}"


def _between(interval: Interval) -> str:
    return " to ".join(_number(bound) for bound in interval)
