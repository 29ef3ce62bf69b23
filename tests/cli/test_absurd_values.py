"""Every option of every command takes absurd values, or refuses them in one sentence.

    python -m pytest -m slow tests/cli/test_absurd_values.py -s

tries all of them and prints the counts.
"""

from __future__ import annotations

import random
import re
import signal
from argparse import Action
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from helpers import ROOT

from sdc_ext.cli import build_parser, main
from sdc_ext.cli.options import all_actions
from sdc_ext.data import load_data
from sdc_ext.errors import InputError
from sdc_ext.verbs import select_set

VALUES = ["", " ", "nan", "inf", "-inf", "-1", "0", "1e308", "1e-320", "-1e-3", "1.5"]
VALUES += ["9" * 400, str(10**18), "²", "[/x]", "a word", "x\ny", "../..", "?"]

# What each command needs beside an option, so that its value is looked into.
COMMANDS = {
    "distill dc": "--iterations 1",
    "distill mtt": "--iterations 1",
    "compare dsac": "--iterations 1",
    "tune dc": "--iterations 1",
    "experts ftd": "",
    "run": "--dry-run -- SCRIPT",
    "methods": "dc",
    "select herding": "",
    "evaluate SET": "",
    "score SET": "",
    "discrepancy SET": "",
    "surrogates SET": "",
    "difficulty SET": "",
    "show SET": "",
    "report SET": "",
    "export SET": "",
    "theory perceptron": "",
    "theory scaling CSV": "",
    "theory coverage CSV": "",
}

# Where the work would begin.
WORK = [
    *("verbs.distillation.with_experts", "verbs.comparison.with_experts"),
    *("verbs.tuning.with_experts", "verbs.experts.train_store", "verbs.selection.selected_set"),
    *("cli.evaluate.run_jobs", "verbs.scoring.measure_scores", "cli.discrepancy.measure_sets"),
    "evaluation.surrogates.Yardstick.of",
    *("verbs.difficulty.measure_difficulty", "cli.perceptron.study", "cli.laws.collect"),
]

SECONDS = 60

Try = tuple[str, str, str]


def tries() -> Iterator[Try]:
    """Every command with an option and a value."""
    for command in COMMANDS:
        name, *more = command.split()
        parser = build_parser(name)
        (commands,) = (a for a in parser._actions if isinstance(a.choices, dict))
        actions = list(all_actions(commands.choices[name]))  # type: ignore[index]
        if name == "theory":
            (inner,) = (a.choices for a in actions if isinstance(a.choices, dict))
            actions = list(all_actions(inner[more[0]]))
        for action in actions:
            if action.option_strings and action.nargs != 0:
                yield from ((command, spelling(action), value) for value in VALUES)


def spelling(action: Action) -> str:
    """The option, and how often it takes its value."""
    return f"{action.option_strings[-1]} {action.nargs if isinstance(action.nargs, int) else 1}"


def outcome(
    one: Try, places: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> tuple[str, str]:
    """What a command did: accepted the value, said a sentence, or else; and its sentence."""
    command, option, value = one
    flag, _, times = option.partition(" ")
    words = [*command.split()[:1], flag, *[value] * int(times), *command.split()[1:]]
    # Some options take all words that follow.
    if command.startswith("theory") or flag in ("--epochs", "--lam"):
        words = [*command.split(), flag, *[value] * int(times)]
    arguments = [places.get(word, word) for word in [*words, *COMMANDS[command].split()]]
    signal.alarm(SECONDS)
    try:
        status = main(arguments)
    except TimeoutError:
        return "hang", ""
    except BaseException as error:  # a traceback, or an exit of argparse
        return f"traceback {type(error).__name__}", repr(error)
    finally:
        signal.alarm(0)
    lines = capsys.readouterr().err.splitlines()
    if status == 0:
        return "accepted", ""
    told = status == 2 and len(lines) == 1 and lines[0].startswith("sdc-ext: ")
    stopped = told and lines[0] == "sdc-ext: the work begins"
    return "accepted" if stopped else "sentence" if told else f"status {status}", "\n".join(lines)


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """A folder with what the commands read, and commands that stop where their work begins."""
    folder = tmp_path / "of" / "work"  # ../.. is still a folder of its own
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    select_set("random", load_data("digits"), out="set", progress=False)
    Path("cells.csv").write_text("lam,seed,accuracy\n")

    def stop(*_: object, **__: object) -> NoReturn:
        raise InputError("the work begins")

    for name in WORK:
        monkeypatch.setattr(f"sdc_ext.{name}", stop)

    def hang(*_: object) -> NoReturn:
        raise TimeoutError

    earlier = signal.signal(signal.SIGALRM, hang)
    yield {
        "SET": str(folder / "set"),
        "CSV": str(folder / "cells.csv"),
        "SCRIPT": str(ROOT / "tests/standins/gm/main.py"),
    }
    signal.signal(signal.SIGALRM, earlier)


def check(
    which: list[Try], places: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> Counter[str]:
    found = {one: outcome(one, places, capsys) for one in which}
    counts = Counter(what for what, _ in found.values())
    wrong = {k: v for k, v in found.items() if v[0] not in ("accepted", "sentence")}
    assert not wrong, "\n".join(f"{k}: {v}" for k, v in wrong.items())
    for (_, option, value), (_, sentence) in found.items():
        assert not re.search(r"`\w+`", sentence), (option, value, sentence)
    return counts


def test_a_sample_of_absurd_values(
    places: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    sample = random.Random(0).sample(list(tries()), 60)
    counts = check(sample, places, capsys)
    assert counts["sentence"] > 40


@pytest.mark.slow
def test_all_absurd_values(places: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    every = list(tries())
    counts = check(every, places, capsys)
    options = {(command, option) for command, option, _ in every}
    with capsys.disabled():
        print(f"\n{len(options)} options, {len(every)} values: {dict(counts)}")
