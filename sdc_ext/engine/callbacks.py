"""Callbacks: hooks into a run, e.g. for logging, early stopping or drawing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from accelerate import Accelerator
from accelerate.tracking import GeneralTracker

from sdc_ext.adapters.base import State
from sdc_ext.errors import InputError
from sdc_ext.sets.info import Evaluation
from sdc_ext.sets.synthetic_set import SyntheticSet


class StopRun(Exception):
    """Raised by a callback to end the run after the current iteration.

    The images are evaluated and saved as at the end of a run, and the run can be resumed later.
    """


class Callback:
    """Base class of callbacks, whose methods do nothing; override those that you need.

    A run in several processes calls each method in every process. An exception ends the run.
    [`StopRun`][sdc_ext.engine.StopRun] ends it cleanly, and every process has to raise it at the
    same point.
    """

    def on_start(self, iteration: int, iterations: int) -> None:
        """Called when the run begins.

        Args:
            iteration: The number of outer iterations already done; above 0 if the run is resumed.
            iterations: The total number of outer iterations.
        """

    def on_note(self, note: str) -> None:
        """Called if there is something to say about the run.

        Args:
            note: A sentence, e.g. on how much memory the run needs, or on a worker that was lost.
        """

    def on_step(self, iteration: int, log: Mapping[str, float], state: State) -> None:
        """Called after every outer iteration.

        Args:
            iteration: The number of outer iterations done, from 1.
            log: The logged values: ``loss``, ``matching``, ``difficulty`` (GraDN), ``lam`` and
                whatever else the loop logs. ``skipped`` is 1 if the update was skipped.
            state: The state of the loop, with the stored ``state.images`` (N, C, H, W). Do not
                change it.
        """

    def on_skip(self, iteration: int, error: Exception) -> None:
        """Called when an update is skipped because a value is not finite.

        ``on_step`` follows with a log whose losses are NaN and which has no ``lam``.

        Args:
            iteration: The index of the outer iteration, from 0.
            error: The error that the loop raised.
        """

    def on_evaluation(self, iteration: int, evaluations: Mapping[str, Evaluation]) -> None:
        """Called after networks were trained on the images and tested.

        Args:
            iteration: The number of outer iterations done.
            evaluations: The accuracies by the name of the state's candidate; the first candidate
                is the set being optimised.
        """

    def on_save(self, iteration: int, synthetic: SyntheticSet, folder: Path) -> None:
        """Called after the main process wrote the distilled set.

        Args:
            iteration: The number of outer iterations done.
            synthetic: The set that was written.
            folder: The folder of the run.
        """

    def on_end(self, history: Sequence[Mapping[str, float]], completed: bool) -> None:
        """Called when the run ends, also after an error.

        Args:
            history: The log of every iteration done.
            completed: Whether the run ended cleanly; False after a divergence, an interruption or
                any other error.
        """


class Trackers(Callback):
    """Logs to the trackers of an Accelerator, e.g. TensorBoard.

    Args:
        accelerator: The Accelerator, with trackers that are running or named in ``log_with``.
    """

    def __init__(self, accelerator: Accelerator) -> None:
        self._accelerator = accelerator
        self._own: list[GeneralTracker] = []

    def on_start(self, iteration: int, iterations: int) -> None:
        """Starts the trackers, unless the caller has done so and ends them."""
        del iteration, iterations
        if not self._accelerator.trackers:
            self._accelerator.init_trackers("sdc-ext")
            self._own = list(self._accelerator.trackers)

    def on_step(self, iteration: int, log: Mapping[str, float], state: State) -> None:
        """Logs everything that the loop logged, at the index of the iteration."""
        del state
        self._accelerator.log(dict(log), step=iteration - 1)

    def on_evaluation(self, iteration: int, evaluations: Mapping[str, Evaluation]) -> None:
        """Logs the mean and standard deviation of each candidate's accuracy."""
        for name, evaluation in evaluations.items():
            suffix = "" if name == next(iter(evaluations)) else f"_{name}"
            log = {f"accuracy{suffix}": evaluation.mean, f"accuracy_std{suffix}": evaluation.std}
            self._accelerator.log(log, step=iteration - 1)

    def on_end(self, history: Sequence[Mapping[str, float]], completed: bool) -> None:
        """Finishes the trackers that ``on_start`` started."""
        del history, completed
        # Not end_training, which also ends the process group: further runs may follow.
        for tracker in self._own:
            tracker.finish()
            self._accelerator.trackers.remove(tracker)


class Calls:
    """Calls several callbacks in turn, and remembers whether one of them has stopped the run.

    Args:
        callbacks: The callbacks, in the order in which they are called.

    Raises:
        InputError: If one of them is not a callback.
    """

    def __init__(self, callbacks: Sequence[Callback]) -> None:
        for callback in callbacks:
            if not isinstance(callback, Callback):
                raise InputError(
                    f"a callback must be an instance of sdc_ext.engine.Callback, got {callback!r}: "
                    "pass an instance of a subclass"
                )
        self._callbacks = callbacks
        self.stopped = False

    def each(self, call: Callable[[Callback], None]) -> None:
        """Applies one call to every callback, including those after one that stops the run."""
        for callback in self._callbacks:
            try:
                call(callback)
            except StopRun:
                self.stopped = True
