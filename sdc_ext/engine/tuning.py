"""Searching for lam or a share by successive halving, with accuracies on held-out training images.

The SDC paper sets lam by hand (Section 4.3). Here optuna chooses lam, the share from which lam
follows, or the ramp of one of them (adaptive SDC), and stops runs that fall behind. Several
processes or machines can share a study by its storage.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from sdc_ext._text import first_line
from sdc_ext.engine.run_folder import FINGERPRINTS
from sdc_ext.errors import DivergenceError, InputError
from sdc_ext.strength import lam_or_share
from sdc_ext.workers.pool import SERIAL, Workers

# One of this many runs survives a rung, and gets this many times the iterations.
FACTOR = 3


Report = Callable[[int, float], None]

# Maps settings to override, and a function to call after every evaluation, to the final accuracy.
Run = Callable[[Mapping[str, Any], Report], float]


_TASK, _BASELINE, _DIVERGED = "task", "baseline", "diverged"

# Studies of earlier versions may not have these keys.
_LATER = (*FINGERPRINTS, "range", "ramp")

_ATTEMPTS = 6

_ENDED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)


@dataclass(frozen=True)
class SearchSpace:
    """The strengths to search, and whether to search ramps.

    Attributes:
        low: The smallest strength.
        high: The largest one; values are drawn log-uniformly between the two.
        ramp: Search the adaptive correction, too: the strength grows up to tenfold, over a tenth
            to all of the iterations.
        of: The setting that is searched: ``"lam"`` or ``"share"``.

    Raises:
        InputError: Unless 0 < low < high.
    """

    low: float
    high: float
    ramp: bool = False
    of: Literal["lam", "share"] = "lam"

    def __post_init__(self) -> None:
        if not 0 < self.low < self.high < float("inf"):
            raise InputError(
                f"{self.of} is searched between two numbers above 0, the smaller one first, got "
                f"{self.low:g} and {self.high:g}"
            )

    def suggest(self, trial: optuna.Trial, iterations: int) -> dict[str, Any]:
        """Draws the settings of a trial: ``lam``, ``share``, or the ramp of one of them."""
        value = trial.suggest_float(self.of, self.low, self.high, log=True)
        if not self.ramp or trial.suggest_categorical("schedule", ["constant", "ramp"]) != "ramp":
            return {self.of: value}
        growth = trial.suggest_float("growth", 1.5, 10.0, log=True)
        length = trial.suggest_float("length", 0.1, 1.0)
        return {f"{self.of}_ramp": _ramp(value, growth, length, iterations)}


@dataclass(frozen=True)
class Tuning:
    """A study of lam.

    Attributes:
        study: The study of optuna.
        space: The search space.
        iterations: The number of iterations of a complete run.
        seed: Seeds the search; the lam of trial k does not depend on the process that runs it.
    """

    study: optuna.Study
    space: SearchSpace
    iterations: int
    seed: int

    @classmethod
    def open(
        cls,
        storage: str,
        name: str,
        space: SearchSpace,
        task: Mapping[str, Any],
        *,
        iterations: int,
        seed: int,
    ) -> Tuning:
        """Opens a study, and creates it if it does not exist.

        Args:
            storage: The URL of a database, as optuna takes it.
            name: The name of the study.
            space: The search space.
            task: Everything that the runs of the study share; on reopening, it must be the same.
            iterations: The number of iterations of a complete run.
            seed: Seeds the search.

        Raises:
            InputError: If the storage cannot be used, or holds a study of another task or range.
        """
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        study = _open_study(storage, name, rungs(iterations)[0])
        searched = {"searched": space.of, "range": (space.low, space.high), "ramp": space.ramp}
        ours = json.loads(json.dumps({**task, **searched}))
        theirs = study.user_attrs.get(_TASK)
        if theirs is None:
            study.set_user_attr(_TASK, ours)
        for key in ours:
            if theirs is None or (key in _LATER and key not in theirs):
                continue
            if theirs.get(key) != ours[key]:
                raise InputError(
                    f"study {name!r} has {key} {theirs.get(key)}, not {ours[key]}: use the same "
                    "settings, or choose another `study` or `out`"
                )
        return cls(study, space, iterations, seed)

    def search(
        self,
        run: Run,
        trials: int,
        on_trial: Callable[[FrozenTrial], None],
        workers: Workers = SERIAL,
        say: Callable[[str], object] = lambda line: None,
    ) -> None:
        """Runs trials until the study has enough of them, and one run without correction.

        Args:
            run: Distils with the given settings and returns the accuracy on held-out images.
            trials: The total number of trials of the study over all processes.
            on_trial: Called after each trial that this process or its workers have run.
            workers: The workers that run trials side by side.
            say: Called with a line about workers that were lost.
        """

        def note(index: int, trial: FrozenTrial | None) -> None:
            if trial is not None:
                on_trial(trial)

        while (missing := trials - len(self.finished())) > 0 or self.baseline is None:
            searching = _Searching(self, run, trials)
            cells = [True] * (self.baseline is None) + [False] * max(0, missing)
            workers.map(_Searching.take, searching, cells, on_done=note, say=say)

    def objective(self, trial: optuna.Trial, run: Run) -> float:
        """Runs a trial of optuna's, and returns its accuracy."""
        # Random search is good enough for so few numbers. Seeded by k, trial k draws the same
        # settings whatever the number of processes and the order in which they finish.
        (seed,) = np.random.SeedSequence([self.seed, trial.number]).generate_state(1)
        self.study.sampler = optuna.samplers.RandomSampler(int(seed))
        settings = self.space.suggest(trial, self.iterations)

        def report(iteration: int, accuracy: float) -> None:
            trial.report(accuracy, iteration)
            if iteration < self.iterations and trial.should_prune():
                raise optuna.TrialPruned

        try:
            return run(settings, report)
        except DivergenceError:
            trial.set_user_attr(_DIVERGED, True)
            raise

    @property
    def baseline(self) -> float | None:
        """The accuracy without correction in [0, 1]; None until it is known."""
        return self.study.user_attrs.get(_BASELINE)

    def finished(self) -> list[FrozenTrial]:
        """Returns the completed trials, best first, then those that were stopped or diverged.

        Interrupted trials do not count, and their schedules are not tried again.
        """
        ended = [
            trial
            for trial in self.study.get_trials(deepcopy=False, states=_ENDED)
            if trial.state != TrialState.FAIL or _DIVERGED in trial.user_attrs
        ]
        return sorted(ended, key=lambda t: (_ENDED.index(t.state), -(reached(t)[1] or 0)))


@dataclass(frozen=True)
class _Searching:
    """A search in progress, of which any worker can take a part.

    Attributes:
        tuning: The study.
        run: Distils with the given settings and returns the accuracy on held-out images.
        trials: The total number of trials of the study.
    """

    tuning: Tuning
    run: Run
    trials: int

    def take(self, baseline: bool) -> FrozenTrial | None:
        """Makes the run without correction, or a trial unless there are enough by now."""
        optuna.logging.set_verbosity(optuna.logging.ERROR)  # the process may be a worker's
        study = self.tuning.study
        if baseline:
            study.set_user_attr(_BASELINE, self.run({"lam": 0.0}, lambda *_: None))
            return None
        if len(self.tuning.finished()) >= self.trials:  # by other processes
            return None
        ended: list[FrozenTrial] = []
        study.optimize(
            lambda trial: self.tuning.objective(trial, self.run),
            n_trials=1,
            callbacks=[lambda _, trial: ended.append(trial)],
            catch=(DivergenceError,),
        )
        return ended[0]


def rungs(iterations: int) -> list[int]:
    """Returns the iterations after which runs are tested: a ninth, a third and all of them."""
    first = -(-iterations // FACTOR**2)
    return sorted({first, min(FACTOR * first, iterations), iterations})


def _open_study(storage: str, name: str, first_rung: int) -> optuna.Study:
    for attempt in range(_ATTEMPTS):
        try:
            return optuna.create_study(
                storage=storage,
                study_name=name,
                direction="maximize",
                pruner=optuna.pruners.SuccessiveHalvingPruner(first_rung, FACTOR),
                load_if_exists=True,
            )
        except Exception as error:  # each database has its own types of exception
            # Several processes that create a database at once disturb each other.
            if attempt == _ATTEMPTS - 1 or isinstance(error, (ImportError, ValueError)):
                raise InputError(
                    f"cannot use the storage for study {name!r} ({first_line(error)}): check "
                    "`storage`"
                ) from None
            time.sleep(random.uniform(0.1, 0.5) * 2**attempt)
    raise AssertionError("the last attempt returns or raises")


def schedule_of(params: Mapping[str, Any], iterations: int) -> str:
    """Returns the strength or the ramp of a trial as options of the command line."""
    of = lam_or_share(params)
    if "growth" not in params:
        return f"--{of} {params[of]:.3g}"
    start, end, steps = _ramp(params[of], params["growth"], params["length"], iterations)
    return f"--{of}-ramp {start:.3g} {end:.3g} {steps}"


def _ramp(start: float, growth: float, length: float, iterations: int) -> tuple[float, float, int]:
    return start, start * growth, max(1, round(iterations * length))


def reached(trial: FrozenTrial) -> tuple[int, float | None]:
    """Returns the last iteration that a trial reached, and its accuracy there, if it has one."""
    values = trial.intermediate_values
    last = max(values, default=0)
    return last, trial.value if trial.state == TrialState.COMPLETE else values.get(last)


def rows(trials: Sequence[FrozenTrial], iterations: int) -> list[dict[str, Any]]:
    """Returns trials as rows: number, schedule, strength, state, iterations, accuracy in [0, 1]."""
    return [
        {
            "trial": trial.number,
            "schedule": schedule_of(trial.params, iterations),
            (of := lam_or_share(trial.params)): trial.params[of],
            "state": "diverged" if _DIVERGED in trial.user_attrs else trial.state.name.lower(),
            "iterations": reached(trial)[0],
            "accuracy": reached(trial)[1],
        }
        for trial in trials
    ]
