"""Imports the modules that it is given, which takes seconds, and forks processes from then on.

An order is a line of JSON on the standard input: a list of processes, each with the ``code`` and
the ``arguments`` of a ``python -c``, its ``folder``, ``environment``, ``output`` and ``errors``,
and the ``seconds`` after which it is stuck. The answer is a line with their exit statuses, as
``subprocess`` gives them. If a process fails, the others of its order are killed.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import signal
import sys
import tempfile
from types import ModuleType
from typing import Any


def serve() -> dict[str, Any] | None:
    """Answers orders; returns one in a forked process, and nothing when there are no more."""
    for line in sys.stdin:
        orders = json.loads(line)
        running: dict[int, int] = {}
        for index, order in enumerate(orders):
            process = os.fork()
            if process == 0:
                return order
            running[process] = index
        statuses = [0] * len(orders)
        while running:
            process, status = os.wait()
            index = running.pop(process)
            statuses[index] = os.waitstatus_to_exitcode(status)
            if statuses[index] != 0:
                for other in running:
                    os.kill(other, signal.SIGKILL)
        print(json.dumps(statuses), flush=True)
    return None


def become(order: dict[str, Any]) -> None:
    """Makes this forked process like one that ``python -c`` has started."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.alarm(order["seconds"])
    writing = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    for number, path in enumerate((os.devnull, order["output"], order["errors"])):
        os.dup2(os.open(path, writing if number else os.O_RDONLY), number)
    os.chdir(order["folder"])
    os.environ.clear()
    os.environ.update(order["environment"])
    tempfile.tempdir = None  # found in the environment
    sys.argv = ["-c", *order["arguments"]]
    sys.path[0] = ""
    sys.modules["__main__"] = ModuleType("__main__")


if __name__ == "__main__":
    for name in sys.argv[1:]:
        importlib.import_module(name)
    gc.freeze()
    if ordered := serve():
        become(ordered)
        # At the outermost level, so that the interpreter ends as it would have done.
        exec(compile(ordered["code"], "<string>", "exec"), vars(sys.modules["__main__"]))
