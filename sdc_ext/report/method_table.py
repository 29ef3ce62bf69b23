"""The table of methods: what each matches, its defaults, and what a run costs."""

from __future__ import annotations

from collections.abc import Iterable

from rich.table import Table

from sdc_ext._console import PlainTable
from sdc_ext.adapters import Method, resolve


def method_table(methods: Iterable[Method], dataset: str, ipc: int, classes: int | None) -> Table:
    """Returns a table with one row per method, with its defaults for a data set and ipc.

    The cost of a run is the number of images, in millions, that it takes through networks forward
    and back; it includes neither the training of experts nor evaluations.

    Args:
        methods: The methods.
        dataset: The name of the data set.
        ipc: The number of images per class.
        classes: The number of classes; None if it is unknown, and with it the cost.
    """
    size = "" if classes is None else f" ({classes} classes)"
    title = f"methods, with their defaults for {dataset}{size} at ipc {ipc}"
    columns = ("method", "matches", "start", "iterations", "lam", "images", "epochs of an expert")
    table = PlainTable(title, *columns)
    for method in methods:
        settings = resolve(method, dataset, ipc, {})
        origin = settings.origin
        initial = origin.get("init", origin.get("pix_init"))
        per_iteration = classes and settings.loop.images_per_iteration(classes, ipc)
        experts = None if method.experts is None else method.experts(dataset, ipc)
        table.add_row(
            method.name,
            method.matches,
            "" if initial is None else "noise" if initial.value == "noise" else "real",
            str(settings.run.iterations),
            f"{settings.run.lam:g}",
            ""
            if per_iteration is None
            else f"{settings.run.iterations * per_iteration / 1e6:.3g} M",
            "" if experts is None else str(experts.train_epochs),
        )
    return table
