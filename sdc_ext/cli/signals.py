"""What a program does when it is terminated."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn


@contextmanager
def terminated_by(end: Callable[[int], NoReturn]) -> Iterator[None]:
    """Lets SIGTERM, which schedulers send, end the program in order.

    Args:
        end: Called with the number of the signal, it raises what ends the program. In a worker
            that the program has forked the signal ends the worker, as by default.
    """
    own = os.getpid()

    def stop(number: int, _: object) -> None:
        if os.getpid() == own:
            end(number)
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    try:
        earlier = signal.signal(signal.SIGTERM, stop)
    except ValueError:  # only the main thread of a program handles signals
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, earlier)
