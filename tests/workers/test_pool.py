"""Cells in other processes: order, threads, errors, lost workers, and what travels with them."""

from __future__ import annotations

import os
import pickle
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import suppress
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from helpers import PATIENCE, spawn
from torch import nn

from sdc_ext.errors import DivergenceError, InputError
from sdc_ext.networks import register_network
from sdc_ext.networks.create import create_network
from sdc_ext.workers import SERIAL, Steps, Workers, choose_workers, packing


class Losing(ThreadPoolExecutor):
    """An executor whose workers are lost, as often as asked, after they have been given a cell."""

    def __init__(self, losses: int) -> None:
        super().__init__(1)
        self.losses = losses

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        if self.losses > 0:
            self.losses -= 1
            lost: Future[Any] = Future()
            lost.set_exception(BrokenExecutor("the machine\nwent away"))
            return lost
        return super().submit(fn, *args, **kwargs)


@pytest.fixture
def threads() -> Iterator[Workers]:
    with ThreadPoolExecutor(2) as executor:
        yield choose_workers(executor)


def scaled(shared: int, cell: int) -> int:
    return shared * cell


def test_results_are_in_the_order_of_the_cells(threads: Workers) -> None:
    for workers in (SERIAL, threads):
        told: dict[int, int] = {}
        found = workers.map(scaled, 10, [3, 1, 2, 1], on_done=told.__setitem__)
        assert found == [30, 10, 20, 10] and told == dict(enumerate(found))
        assert workers.map(scaled, 10, []) == []


def two_steps(steps: Steps, cell: int) -> None:
    for _ in range(2):
        steps.take()


def test_steps_are_reported_once_wherever_they_are_taken(threads: Workers) -> None:
    for workers, in_the_cell in ((SERIAL, 2), (threads, 0)):
        reported: list[None] = []
        before: list[int] = []
        steps = Steps(lambda reported=reported: reported.append(None), 2)

        def end(
            index: int,
            result: None,
            steps: Steps = steps,
            before: list[int] = before,
            reported: list[None] = reported,
        ) -> None:
            before.append(len(reported))
            steps.end_cell(index, result)

        workers.map(two_steps, steps, [0, 1, 2], on_done=end)
        assert len(reported) == 6 and before == [in_the_cell, 2 + in_the_cell, 4 + in_the_cell]


def test_real_processes_have_one_thread_and_what_the_program_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def make(in_chans: int, num_classes: int, img_size: tuple[int, int]) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(4, num_classes))

    register_network("of_this_test", make)  # no worker could import it

    def cell(shared: torch.Tensor, number: int) -> tuple[Any, ...]:
        if number == 1 and not Path("killed").exists():
            Path("killed").touch()
            os.kill(os.getpid(), 9)
        width = create_network("of_this_test", 1, 3, (2, 2))[1].out_features
        return float(shared.sum()) + number, torch.get_num_threads(), width, os.getpid()

    said: list[str] = []
    found = choose_workers(2).map(cell, torch.ones(2), range(4), say=said.append)
    assert [row[:3] for row in found] == [(2.0 + k, 1, 3) for k in range(4)]
    assert os.getpid() not in {row[3] for row in found}
    assert all("what it did is done again" in line for line in said) and said
    assert [path.name for path in tmp_path.iterdir()] == ["killed"]


PROGRAM = """
import os, sys, time
from pathlib import Path
from sdc_ext.workers import choose_workers

def sleep(shared, cell):
    Path(f"{cell}-{os.getpid()}").touch()
    time.sleep(600)

choose_workers(2).map(sleep, None, [0, 1])
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
def test_processes_do_not_outlive_a_program_that_is_killed(tmp_path: Path) -> None:
    program = spawn(sys.executable, "-c", PROGRAM, cwd=tmp_path)
    wait_until(lambda: program.poll() is not None or len(list(tmp_path.iterdir())) == 2)
    begun = [int(path.name.partition("-")[2]) for path in tmp_path.iterdir()]
    assert len(begun) == 2
    program.kill()
    program.communicate()
    wait_until(lambda: not any(is_alive(process) for process in begun))


def wait_until(happened: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.1)


def is_alive(process: int) -> bool:
    """Whether a process runs; one that has ended may wait for its parent as a zombie."""
    status = Path(f"/proc/{process}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"


def failing(error: Exception, cell: int) -> None:
    raise error


class Unsendable(Exception):
    def __init__(self) -> None:
        super().__init__("of its own")
        self.lock = threading.Lock()


def test_errors_of_cells_come_back_with_their_traceback(threads: Workers) -> None:
    with pytest.raises(DivergenceError, match="not finite") as raised:
        threads.map(failing, DivergenceError("not finite"), [1])
    assert "in failing" in str(raised.value.__cause__)

    def fail(shared: None, cell: int) -> None:
        raise Unsendable

    with pytest.raises(RuntimeError, match="Unsendable: of its own"):
        threads.map(fail, None, [1])


def test_a_lost_worker_costs_only_its_cell() -> None:
    said: list[str] = []
    found = choose_workers(Losing(2)).map(scaled, 2, [1, 2, 3], say=said.append)
    assert found == [2, 4, 6]
    lost = "a worker was lost (BrokenExecutor: the machine): what it did is done again"
    assert said == [lost] * 2


def test_a_cell_that_always_loses_its_worker_ends_the_work() -> None:
    with pytest.raises(InputError, match=r"lost its worker 3 times .*use fewer"):
        choose_workers(Losing(99)).map(scaled, 2, [1])


def test_what_an_executor_refuses_is_no_lost_worker() -> None:
    with ThreadPoolExecutor(1) as executor:
        executor.shutdown()
        with pytest.raises(InputError, match=r"takes no work .*after shutdown.*: pass one"):
            choose_workers(executor).map(scaled, 2, [1])


def test_an_executor_that_has_broken_down_is_said_to_have() -> None:
    with ProcessPoolExecutor(1, get_context("spawn")) as executor:
        with suppress(BrokenExecutor):
            executor.submit(os._exit, 1).result()
        with pytest.raises(InputError, match=r"has lost a worker .*: pass a new one"):
            choose_workers(executor).map(scaled, 2, [1])


def test_what_cannot_be_sent_is_refused_by_name(threads: Workers) -> None:
    lock = threading.Lock()

    def locked(in_chans: int, num_classes: int, img_size: tuple[int, int]) -> nn.Module:
        with lock:
            return nn.Linear(in_chans, num_classes)

    with pytest.raises(InputError, match=r"cannot be sent to other processes .TypeError"):
        threads.map(lambda shared, cell: locked, None, [1])
    sent = packing._sent(locked)
    assert isinstance(sent, str)
    elsewhere = packing._Shared(scaled, 2, {"locked": sent}, program=-1)
    elsewhere.register_networks()
    elsewhere = packing._Shared(scaled, 2, {"absent": b"cno_such_module\nmake\n."}, program=-1)
    elsewhere.register_networks()
    with pytest.raises(InputError, match=r"the network 'absent' cannot be sent .*no_such_module"):
        create_network("absent", 1, 3, (2, 2))
    with pytest.raises(InputError, match=r"the network 'locked' cannot be sent .*TypeError"):
        create_network("locked", 1, 3, (2, 2))


def test_nothing_stays_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with ThreadPoolExecutor(1) as executor:
        choose_workers(executor).map(scaled, 1, [1])
        with pytest.raises(KeyError):
            choose_workers(executor).map(failing, KeyError("x"), [1])
    assert not list(tmp_path.iterdir())


def test_a_worker_that_does_not_see_the_folder_says_so(tmp_path: Path) -> None:
    cell = pickle.dumps(1)
    outcome = packing.carry_out("name", str(tmp_path / "elsewhere"), str(tmp_path / "gone"), cell)
    with pytest.raises(InputError, match=r"a worker cannot read .*see the folder"):
        outcome.result()


def test_an_accelerator_travels_as_that_of_the_worker(threads: Workers) -> None:
    def describe(accelerator: Accelerator, cell: int) -> tuple[str, str, bool]:
        return accelerator.mixed_precision, accelerator.device.type, id(accelerator) == own

    given = Accelerator(cpu=True, mixed_precision="bf16")
    own = id(given)
    assert threads.map(describe, given, [0]) == [("bf16", "cpu", False)]


def test_a_worker_that_lives_on_takes_another_precision() -> None:
    elsewhere = -1  # the program's process, which is not this one
    for precision in ("no", "bf16"):
        assert packing._accelerator(precision, True, elsewhere).mixed_precision == precision
