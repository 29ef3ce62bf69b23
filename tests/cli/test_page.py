"""The page of the documentation about the command line says what the parsers say.

    python tests/cli/test_page.py --write

writes the page anew.
"""

from __future__ import annotations

import sys
from argparse import SUPPRESS, Action, ArgumentParser, _SubParsersAction
from collections.abc import Iterator
from pathlib import Path

from sdc_ext.cli import build_parser

PAGE = Path(__file__).parent.parent.parent / "docs" / "cli.md"
COMMAND = "python tests/cli/test_page.py --write"

INTRODUCTION = """\
# Command line

Every command and option, as the program itself describes them. `sdc-ext COMMAND --help` prints
the same; `sdc-ext distill METHOD --help` prints only what applies to one method. A command reports
bad input in one sentence and exits with status 2; it exits with 3 if a loss is not finite, with 130
on Ctrl-C, 143 on SIGTERM, and 141 if the program that reads its output has ended. Numbers have
bounds, which the sentence names: counts go up to 1000000000, rates from 1e-30 to 1e+30, seeds up to
4294967295.
"""


def page() -> str:
    parts = [INTRODUCTION]
    of_distill: list[str] = []
    for parser, depth in commands(build_parser(), 1):
        parts.append(f"{'#' * depth} {parser.prog}\n\n{sentence(parser)}\n")
        tables = [table for group in parser._action_groups if (table := as_table(group))]
        known = [table for table in tables if table in of_distill and table.startswith("**")]
        if parser.prog.endswith(" distill"):
            of_distill = tables
        parts += [table for table in tables if table not in known]
        if parser.epilog:
            parts.append(
                "\n".join(["```text", (parser.epilog % {"prog": parser.prog}).strip(), "```\n"])
            )
        if known:
            parts.append("The other options are those of `sdc-ext distill`.\n")
    return "\n".join(parts)


def commands(parser: ArgumentParser, depth: int) -> Iterator[tuple[ArgumentParser, int]]:
    """The parsers of all commands below one, and theirs."""
    for action in parser._actions:
        if isinstance(action, _SubParsersAction):
            for inner in action.choices.values():
                yield inner, depth + 1
                yield from commands(inner, depth + 1)


def sentence(parser: ArgumentParser) -> str:
    text = parser.description or ""
    return f"{text[:1].upper()}{text[1:]}{'' if text[-1] in '.?' else '.'}" if text else ""


def as_table(group: object) -> str:
    actions = [a for a in group._group_actions if shown(a)]  # type: ignore[attr-defined]
    if not actions:
        return ""
    title = group.title  # type: ignore[attr-defined]
    heading = "" if title in ("positional arguments", "options") else f"**{title}**\n\n"
    rows = [f"| {spelling(action)} | {escaped(action.help or '')} |" for action in actions]
    return f"{heading}| option | meaning |\n| --- | --- |\n" + "\n".join(rows) + "\n"


def shown(action: Action) -> bool:
    return action.help != SUPPRESS and not (
        "--help" in action.option_strings or isinstance(action, _SubParsersAction)
    )


def spelling(action: Action) -> str:
    """The flags and what follows them, as code."""
    if action.nargs == 0 or len(action.option_strings) > 1:
        return ", ".join(f"`{flag}`" for flag in action.option_strings)
    value = action.metavar or (action.choices and "{" + ",".join(map(str, action.choices)) + "}")
    value = value or action.dest.upper()
    text = " ".join(value) if isinstance(value, tuple) else str(value)
    if action.nargs in ("+", "*") and not isinstance(value, tuple):
        text = f"{text} ..."
    return "`" + " ".join([*action.option_strings, text]) + "`"


def escaped(text: str) -> str:
    """Stars are no emphasis, bars no columns."""
    return text.replace("*", r"\*").replace("|", r"\|").replace("%%", "%")


def test_the_page_is_what_the_parsers_say() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), f"the options have changed, run: {COMMAND}"


def test_the_page_has_all_commands_with_their_options() -> None:
    text = page()
    for part in ("## sdc-ext distill", "### sdc-ext theory scaling", "`--tau X`", "`--compile`"):
        assert part in text


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit(f"usage: {COMMAND}")
    PAGE.write_text(page(), encoding="utf-8")
    print(f"wrote {PAGE}")
