"""Results that show themselves: as tables on a terminal and in a notebook."""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from collections.abc import Sequence

from rich.console import Console, Group, RenderableType

# Columns of characters of a result in text, wide enough for a table that is not cut.
_WIDTH = 140


class Shown(ABC):
    """A result that prints as tables, with ``print``, rich's consoles and in notebooks."""

    @abstractmethod
    def tables(self) -> Sequence[RenderableType]:
        """Tables and sentences, in the order in which they are read."""

    def __rich__(self) -> Group:
        return Group(*self.tables())

    def __str__(self) -> str:
        console = Console(file=io.StringIO(), width=_WIDTH, highlight=False, color_system=None)
        with console.capture() as captured:
            console.print(self)
        return captured.get().rstrip("\n")

    def _repr_html_(self) -> str:
        console = Console(file=io.StringIO(), width=_WIDTH, highlight=False, record=True)
        console.print(self)
        return console.export_html(
            inline_styles=True, code_format='<pre style="line-height:1.2">{code}</pre>'
        )
