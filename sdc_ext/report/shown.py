"""The base class of results that display themselves as tables."""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from collections.abc import Sequence

from rich.console import Group, RenderableType

from sdc_ext._console import PlainConsole, plain

# The width of a result as text, in characters: wide enough not to cut off any table.
_WIDTH = 140


class Shown(ABC):
    """A result that displays as tables with ``print``, on rich's consoles and in notebooks."""

    @abstractmethod
    def tables(self) -> Sequence[RenderableType]:
        """Returns the tables and sentences to display, in this order."""

    def __rich__(self) -> Group:
        return Group(*(plain(part) if isinstance(part, str) else part for part in self.tables()))

    def __repr__(self) -> str:
        console = PlainConsole(file=io.StringIO(), width=_WIDTH, color_system=None)
        with console.capture() as captured:
            console.print(self)
        return captured.get().rstrip("\n")

    def _repr_html_(self) -> str:
        console = PlainConsole(file=io.StringIO(), width=_WIDTH, record=True)
        console.print(self)
        return console.export_html(
            inline_styles=True, code_format='<pre style="line-height:1.2">{code}</pre>'
        )
