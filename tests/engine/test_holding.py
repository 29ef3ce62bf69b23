"""One command at a time writes to a folder of runs, and a kill leaves nothing in the way."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from helpers import PROGRAM, launched, spawn

from sdc_ext import InputError
from sdc_ext._files import hold
from sdc_ext.cli import main
from sdc_ext.sets import SyntheticSet

ONCE = "--iterations 1 --num-eval 1 --epoch-eval-train 1 --network mlp"
RUN = f"distill dc {ONCE} --out out"

PLAN = """\
arms: [{lam: 0}, {lam: 1}]
seeds: 2
settings: {iterations: 1, num_eval: 1, epoch_eval_train: 1, network: mlp}
runs: [{method: dc}]
"""

COMMANDS = {
    "distill": RUN,
    "distill, resumed": f"{RUN} --resume",
    "compare": f"compare dc {ONCE} --seeds 2 --out out",
    "plan": "compare --plan plan.yaml --out out",
    "reproduce": "reproduce fig14 --budget 1 --width 4 --out out",
}

REFUSED = "another command is writing to out: wait until it has ended, or choose another --out"

# Without torch, whose import takes seconds.
HOLDER = """
import sys
from filelock import FileLock
with FileLock(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def held_by_another(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Another program holds a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-c", HOLDER, folder / ".sdc-ext-lock"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    process = subprocess.Popen(command, text=True, **pipes)
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    yield process
    process.communicate()


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("plan.yaml").write_text(PLAN)


def test_a_folder_is_held_by_one_program_and_left_as_it_was() -> None:
    out = Path("a/b/out")
    with hold(out):
        assert out.is_dir()
    assert not Path("a").exists()
    with held_by_another(out), pytest.raises(InputError, match="another command is writing to a/b"):
        hold(out).__enter__()
    with hold(out), hold(out.absolute()):  # the same program may hold it again
        out.joinpath("set.txt").write_text("made")
    with hold(out):
        pass
    assert [path.name for path in out.iterdir()] == ["set.txt"]


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_refused_while_another_writes(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with held_by_another(Path("out")):
        assert main(COMMANDS[name].split()) == 2
        assert capsys.readouterr().err.strip().endswith(REFUSED)
        assert [path.name for path in Path("out").iterdir()] == [".sdc-ext-lock"]


def test_a_run_of_a_comparison_may_be_in_the_hands_of_another(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with held_by_another(Path("out/lam-0/seed-0")):
        assert main(COMMANDS["compare"].split()) == 2
    assert "another command is writing to out/lam-0/seed-0" in capsys.readouterr().err
    assert main(COMMANDS["compare"].split()) == 0


def test_a_killed_command_is_not_in_the_way() -> None:
    with held_by_another(Path("out")) as process:
        process.kill()
        process.wait()
        assert Path("out/.sdc-ext-lock").exists()
        assert main(RUN.split()) == 0
    assert not Path("out/.sdc-ext-lock").exists()


def test_a_lock_that_a_kill_left_on_a_finished_run_goes() -> None:
    assert main(COMMANDS["compare"].split()) == 0
    lock = Path("out/lam-0/seed-0/.sdc-ext-lock")
    lock.touch()
    assert main(COMMANDS["compare"].split()) == 0
    assert not lock.exists()


def test_all_processes_of_a_command_are_refused(tmp_path: Path) -> None:
    with held_by_another(Path("out")):
        done = launched(2, tmp_path, *RUN.split())
    assert 0 not in [one.returncode for one in done]
    assert any(REFUSED in one.stderr for one in done)


def test_of_two_commands_at_once_one_distils(tmp_path: Path) -> None:
    """The other one is refused, be it that the first still writes or that it has ended."""
    commands = [f"{RUN} --seed {seed}".split() for seed in (1, 2)]
    started = [spawn(sys.executable, "-c", PROGRAM, *c, cwd=tmp_path) for c in commands]
    said = [process.communicate()[1] for process in started]
    statuses = [process.returncode for process in started]
    assert sorted(statuses) == [0, 2], said
    made = SyntheticSet.load("out")
    assert made.info.value("seed") == 1 + statuses.index(0)


def test_a_place_that_cannot_be_held_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    refused = pytest.raises(InputError, match=r"cannot write to .*: choose another `out`")
    with refused, hold(tmp_path / "file"):
        pass
