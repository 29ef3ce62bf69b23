"""Text of others on consoles, in tables and on progress bars: printed as it is written."""

from __future__ import annotations

import io
import re

import pytest
from helpers import ROOT
from rich.console import Console

from sdc_ext._console import PlainConsole, PlainTable, make_progress
from sdc_ext._text import first_line, visible

HOSTILE = "[/x] [red]:smile: \x1b[31m\x07\u202e{task}"
SEEN = r"[/x] [red]:smile: \x1b[31m\x07\u202e{task}"


def test_what_a_terminal_obeys_is_written_out() -> None:
    assert visible("a\tb\r\x9b\udcff\u2028") == r"a\tb\r\x9b\udcff\u2028"
    assert visible("Größe 10 %\n日本 🙂\u200d") == "Größe 10 %\n日本 🙂\u200d"


def test_an_error_without_text_is_named_by_its_type() -> None:
    assert first_line(ValueError("\n1 of\n2")) == "1 of"
    assert first_line(TimeoutError()) == first_line(TimeoutError("\n")) == "TimeoutError"


def test_a_console_prints_text_as_it_is_written() -> None:
    console = PlainConsole(file=io.StringIO(), width=200)
    console.print(HOSTILE)
    assert console.file.getvalue() == f"{SEEN}\n"  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", [PlainConsole, Console])
def test_a_table_is_plain_on_any_console(kind: type[Console]) -> None:
    console = kind(file=io.StringIO(), width=200)
    table = PlainTable(f"title {HOSTILE}", f"head {HOSTILE}")
    table.add_row(HOSTILE)
    console.print(table)
    printed = console.file.getvalue()  # type: ignore[attr-defined]
    assert printed.count(SEEN) == 3 and "\x1b" not in printed
    assert len({len(line) for line in printed.splitlines()[1:]}) == 1


def test_a_bar_is_plain() -> None:
    console = PlainConsole(file=io.StringIO(), width=200, force_terminal=True, color_system=None)
    with make_progress(console) as progress:
        progress.add_task(HOSTILE, total=1)
    printed = console.file.getvalue()  # type: ignore[attr-defined]
    assert SEEN in printed and "\x07" not in printed and "\u202e" not in printed


def test_all_consoles_are_made_in_one_place() -> None:
    made = re.compile(r"(?<![\w.])(Console|Progress|Table|Text|TextColumn|Prompt)\(|from_markup")
    found = {
        path.name
        for folder in ("sdc_ext", "adapters")
        for path in (ROOT / folder).rglob("*.py")
        if "from rich" in (text := path.read_text(encoding="utf-8")) and made.search(text)
    }
    assert found == {"_console.py"}
