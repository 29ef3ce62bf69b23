"""Consoles, tables and progress bars that print text of others as it is written.

Paths, class names and messages may hold what rich reads as markup or emoji, and what terminals
obey. All consoles, tables and progress bars of the library are made here, so that none does.
"""

from __future__ import annotations

from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import Task as Bar
from rich.style import StyleType
from rich.table import Table
from rich.text import Text

from sdc_ext._text import visible

# The width of the widest table that is written to a file.
_MOST_CHARACTERS = 10_000


def plain(text: str, style: StyleType = "") -> Text:
    """Returns a text without markup, with its control characters written out."""
    return Text(visible(text), style)


class PlainConsole(Console):
    """A console that prints texts as they are written.

    Args:
        **options: Options of rich's ``Console``.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """Returns what is printed for a text; rich calls it for all texts but its own ``Text``."""
        return super().render_str(visible(text), **options)


class PlainTable(Table):
    """A table whose title, headings and cells are printed as they are written, on any console.

    Nothing is cut: lines are broken on a terminal, and a file gets as wide a table as it needs.

    Args:
        title: The title.
        *columns: The headings of the columns.
    """

    def __init__(self, title: str, *columns: str) -> None:
        super().__init__(title=plain(title, "table.title"), title_justify="left")
        for column in columns:
            self.add_column(plain(column), overflow="fold")

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if not console.is_terminal:  # a file is as wide as the table
            wanted = self.__rich_measure__(console, options.update(width=_MOST_CHARACTERS)).maximum
            options = options.update(width=max(wanted, options.max_width))
        yield from super().__rich_console__(console, options)

    def add_row(self, *cells: RenderableType | None, **options: Any) -> None:
        """Adds a row of cells."""
        super().add_row(*(plain(c) if isinstance(c, str) else c for c in cells), **options)


class Words(TextColumn):
    """A column of a progress bar with a text that is shown as it is written."""

    def render(self, task: Bar) -> Text:
        """Returns the text for a bar."""
        return plain(self.text_format.format(task=task))


def make_progress(console: Console, *columns: ProgressColumn) -> Progress:
    """Returns progress bars.

    Args:
        console: The console to show them on; a quiet one shows nothing.
        *columns: What stands in the line of a bar; by default its description, the bar, the
            percentage and the remaining time.
    """
    usual = (Words("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    return Progress(*(columns or usual), console=console, disable=console.quiet)
