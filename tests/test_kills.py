"""Commands that are killed: what was finished is there, and the same command goes on.

A command is killed before its n-th change of the file system, started again, and must leave what it
leaves when nobody kills it.
"""

from __future__ import annotations

import itertools
import json
import random
import shutil
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
import torch
from helpers import fork, launch, launched

from sdc_ext.sets import SyntheticSet

KILLED = 137

# Ends the program, without a word, before the n-th change in the current folder. Some changes,
# such as those of SQLite and of matplotlib's cache, are not in it or are not told to the hook.
PROGRAM = """
import os, sys
from sdc_ext.cli import main

left, folder = int(sys.argv[1]), os.getcwd()
changes = {"os.rename", "os.mkdir", "os.remove", "os.rmdir"}
writing = os.O_WRONLY | os.O_RDWR | os.O_CREAT

def kill(event, args):
    global left
    if event in changes or (event == "open" and (args[2] or 0) & writing):
        named = isinstance(args[0], (str, bytes, os.PathLike))
        if named and os.path.abspath(os.fsdecode(args[0])).startswith(folder + os.sep):
            left -= 1
            if left == 0:
                os._exit(137)

sys.addaudithook(kill)
sys.exit(main(sys.argv[2:]))
"""

# Ends the program, without a word, at the n-th call of a function of ours; prints their number.
AT_CALL = """
import os, sys
from sdc_ext.cli import main

left, calls = int(sys.argv[1]), 0

def kill(frame, event, argument):
    global calls
    if event == "call" and frame.f_globals.get("__name__", "").startswith("sdc_ext"):
        calls += 1
        if calls == left:
            os._exit(137)

sys.setprofile(kill)
status = main(sys.argv[2:])
sys.setprofile(None)
print(f"{calls} calls")
sys.exit(status)
"""

SHORT = "--iterations 2 --num-eval 1 --epoch-eval-train 1"
TINY = f"{SHORT} --eval-every 1"
SMALL = f"{TINY} --network mlp"
STUDENT = "--network convnet:width=4:depth=1"
ONCE = "--iterations 1 --num-eval 1 --epoch-eval-train 1 --network mlp"
SET = f"distill dc {ONCE} --out set"

# What comes first, if anything; the command; and what it needs to go on.
COMMANDS = {
    "distill": ("", f"distill dc {SMALL} --out run", "--resume"),
    "compare": ("", f"compare dc {ONCE} --lam 0 1 --seeds 2 --out run", ""),
    "export pictures": (SET, "export set out --format pictures", ""),
    "export best": (SET, "export set out --format best", ""),
    "evaluate": (SET, "evaluate set --num-eval 1 --epoch-eval-train 1 --out run", ""),
    "experts": (
        "",
        f"experts mtt {STUDENT} --train-epochs 2 --num-experts 2 --out run --export buffers",
        "",
    ),
    "distill mtt": (
        "",
        f"distill mtt {TINY} {STUDENT} --syn-steps 2 --expert-epochs 1 --max-start-epoch 1 "
        "--out run",
        "--resume",
    ),
    "tune": ("", f"tune dc {SHORT} --network mlp --trials 2 --out run", ""),
    "select": ("", "select random --out run", ""),
    "score": (SET, "score set --num-eval 1 --full-epochs 1 --out scores.json", ""),
    "discrepancy": (
        SET,
        "discrepancy set --measures mmd-linear --spaces pixels --draws 2 --out run",
        "",
    ),
    "difficulty": (SET, "difficulty set --num-networks 2 --train-epochs 1 --out run", ""),
    "show": (SET, "show set", ""),
    "report": (SET, "report set --out report.html", ""),
    "export res": (SET, "export set res.pt", ""),
    "theory": ("", "theory perceptron --trials 0 --out run", ""),
}


def run(folder: Path, command: str, kill_at: int = 0, code: str = PROGRAM) -> CompletedProcess[str]:
    (done,) = fork((kill_at, *command.split()), folder=folder, code=code)
    return done


def run_whole(folder: Path, command: str, code: str = PROGRAM) -> str:
    done = run(folder, command, code=code)
    assert done.returncode == 0, (command, done.stderr)
    return done.stdout


def left_by(folder: Path) -> dict[str, Any]:
    """The files below a folder, without what differs from run to run; pictures by their names."""
    found: dict[str, Any] = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = str(path.relative_to(folder))
        content: Any = path.read_bytes()
        # These hold times, names, or both; a search does not try again what was interrupted.
        if path.suffix in (".png", ".html", ".db", ".pt") or path.name == "trials.csv":
            content = None
        found[name] = content
    return found


def check_moment(folder: Path) -> None:
    """Sets that can be seen are complete, and nothing visible is half written."""
    for meta in folder.rglob("meta.json"):
        hidden = any(part.startswith(".") for part in meta.relative_to(folder).parts)
        if not hidden and (meta.parent / "synthetic.safetensors").exists():
            SyntheticSet.load(meta.parent)
    for path in folder.rglob("*.json"):
        json.loads(path.read_text())


def goes_on(name: str, folder: Path, kills: list[int] | None) -> int:
    """Kills a command at each of some changes, or at every one; returns how often it was killed."""
    expected = prepare(name, folder)
    killed = 0
    for at in itertools.count(1) if kills is None else kills:
        status = kill_once(name, folder, at, expected)
        if status == 0 and kills is None:
            break
        killed += status == KILLED
    return killed


def prepare(name: str, folder: Path) -> dict[str, Any]:
    """Makes what a command needs in ``start``; returns what it leaves if nobody kills it."""
    before, command, _ = COMMANDS[name]
    start, clean = folder / "start", folder / "clean"
    start.mkdir()
    if before:
        run_whole(start, before)
    shutil.copytree(start, clean)
    run_whole(clean, command)
    return left_by(clean)


def kill_once(
    name: str, folder: Path, at: int, expected: dict[str, Any], code: str = PROGRAM
) -> int:
    """Kills a command, runs it again and compares what it leaves; returns its first status."""
    _, command, on = COMMANDS[name]
    place = folder / f"killed-{at}"
    shutil.copytree(folder / "start", place)
    status = run(place, command, at, code).returncode
    if status != 0:
        assert status == KILLED
        check_moment(place)
        again = run(place, f"{command} {on}")
        assert left_by(place) == expected, (command, at, again.stderr)
        # Killed when all was done, it may say that its results exist.
        assert again.returncode == 0 or "exists" in again.stderr or "holds" in again.stderr
    shutil.rmtree(place)
    return status


def at_moments(name: str, folder: Path, count: int) -> int:
    """Kills a command at seeded moments, wherever it is; returns how often it was killed."""
    expected = prepare(name, folder)
    counted = folder / "counted"
    shutil.copytree(folder / "start", counted)
    *_, last = run_whole(counted, COMMANDS[name][1], AT_CALL).splitlines()
    moments = random.Random(name).sample(range(1, int(last.split()[0])), count)
    return sum(kill_once(name, folder, at, expected, AT_CALL) == KILLED for at in moments)


@pytest.mark.parametrize("name", ["distill", "export best", "select"])
def test_killed_at_some_changes_it_goes_on(name: str, tmp_path: Path) -> None:
    draw = random.Random(name)
    assert goes_on(name, tmp_path, sorted(draw.sample(range(1, 14), 4))) > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_killed_at_every_change_it_goes_on(name: str, tmp_path: Path) -> None:
    killed = goes_on(name, tmp_path, None)
    print(f"{name}: killed {killed} times, went on {killed} times")
    assert killed > 0


@pytest.mark.parametrize("name", ["distill"])
def test_killed_at_some_moments_it_goes_on(name: str, tmp_path: Path) -> None:
    assert at_moments(name, tmp_path, 2) == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [name for name in COMMANDS if name != "theory"]
)  # millions of calls
def test_killed_at_many_moments_it_goes_on(name: str, tmp_path: Path) -> None:
    killed = at_moments(name, tmp_path, 10)
    print(f"{name}: killed {killed} times, went on {killed} times")
    assert killed > 0


# One of two processes ends in the third iteration.
ONE_ENDS = """
import os, sys
from sdc_ext.adapters.loops import GradientMatching
from sdc_ext.cli import main
step = GradientMatching.step

def ended(self, *args):
    if args[-1] == 2 and os.environ["RANK"] == "{rank}":
        {what}
    return step(self, *args)

GradientMatching.step = ended
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("what", ["os._exit(137)", "raise MemoryError"])
def test_one_of_two_processes_ends_and_both_go_on(rank: int, what: str, tmp_path: Path) -> None:
    command = f"distill dsa {SHORT} {STUDENT}".replace("--iterations 2", "--iterations 4")
    arguments = [*command.split(), "--eval-every", "2", "--out"]
    launch(2, tmp_path, *arguments, "whole")
    code = ONE_ENDS.format(rank=rank, what=what)
    statuses = [done.returncode for done in launched(2, tmp_path, *arguments, "run", code=code)]
    assert 0 not in statuses
    check_moment(tmp_path)
    launch(2, tmp_path, *arguments, "run", "--resume")
    assert torch.equal(*(SyntheticSet.load(tmp_path / n).images for n in ("whole", "run")))
