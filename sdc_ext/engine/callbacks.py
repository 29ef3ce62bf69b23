"""What a run calls as it goes on: for logging, stopping and drawing of one's own."""

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
    """A callback raises this to end the run where it is.

    The images are evaluated and saved as if the iterations were done, and the same run can be
    resumed later.
    """


class Callback:
    """What a run calls; override the methods that you need.

    A run in several processes calls each method in every process. Whatever a method raises ends
    the run; ``StopRun`` ends it in good order, and every process has to raise it at the same
    place.
    """

    def on_start(self, iteration: int, iterations: int) -> None:
        """The run begins.

        Args:
            iteration: The outer iterations that are done already; above 0 if the run is resumed.
            iterations: All outer iterations of the run.
        """

    def on_step(self, iteration: int, log: Mapping[str, float], state: State) -> None:
        """An outer iteration is done.

        Args:
            iteration: The outer iterations that are done, from 1.
            log: What was measured: ``loss``, ``matching``, ``difficulty`` (GraDN), ``lam`` and
                what else the loop logs. ``skipped`` is 1 where the update was left out.
            state: What is learned, with ``state.images`` (N, C, H, W); do not change it.
        """

    def on_skip(self, iteration: int, error: Exception) -> None:
        """The update of an outer iteration was left out, since its loss was not finite.

        Args:
            iteration: The index of the iteration, from 0; ``on_step`` follows with a log whose
                losses are NaN and which has no ``lam``.
            error: What was wrong.
        """

    def on_evaluation(self, iteration: int, evaluations: Mapping[str, Evaluation]) -> None:
        """Networks were trained on the images and tested.

        Args:
            iteration: The outer iterations that are done.
            evaluations: The accuracies of each of the state's candidates, by its name; the first
                is what is being optimised.
        """

    def on_save(self, iteration: int, synthetic: SyntheticSet, folder: Path) -> None:
        """The distilled set was written to ``folder`` by the main process."""

    def on_end(self, history: Sequence[Mapping[str, float]], completed: bool) -> None:
        """The run ends.

        Args:
            history: The log of every iteration that is done.
            completed: Whether it ended in good order; False after a divergence, an interruption
                or any other error.
        """


class Trackers(Callback):
    """Logs to the trackers of an Accelerator, e.g. TensorBoard."""

    def __init__(self, accelerator: Accelerator) -> None:
        self._accelerator = accelerator
        self._own: list[GeneralTracker] = []

    def on_start(self, iteration: int, iterations: int) -> None:
        del iteration, iterations
        if not self._accelerator.trackers:  # or the caller has started them, and ends them
            self._accelerator.init_trackers("sdc-ext")
            self._own = list(self._accelerator.trackers)

    def on_step(self, iteration: int, log: Mapping[str, float], state: State) -> None:
        del state
        self._accelerator.log(dict(log), step=iteration - 1)

    def on_evaluation(self, iteration: int, evaluations: Mapping[str, Evaluation]) -> None:
        for name, evaluation in evaluations.items():
            suffix = "" if name == next(iter(evaluations)) else f"_{name}"
            log = {f"accuracy{suffix}": evaluation.mean, f"accuracy_std{suffix}": evaluation.std}
            self._accelerator.log(log, step=iteration - 1)

    def on_end(self, history: Sequence[Mapping[str, float]], completed: bool) -> None:
        del history, completed
        # Not end_training, which ends the processes' group: further runs may follow.
        for tracker in self._own:
            tracker.finish()
            self._accelerator.trackers.remove(tracker)


class Calls:
    """Calls several callbacks in turn, and remembers whether one of them has stopped the run."""

    def __init__(self, callbacks: Sequence[Callback]) -> None:
        for callback in callbacks:
            if not isinstance(callback, Callback):
                raise InputError(
                    f"a callback must be an instance of sdc_ext.engine.Callback, got {callback!r}"
                )
        self._callbacks = callbacks
        self.stopped = False

    def each(self, call: Callable[[Callback], None]) -> None:
        """Makes one call to every callback, also after one that stops the run."""
        for callback in self._callbacks:
            try:
                call(callback)
            except StopRun:
                self.stopped = True
