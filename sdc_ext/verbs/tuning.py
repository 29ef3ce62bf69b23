"""The verb that searches for the strength of the correction on held-out training images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from optuna.trial import FrozenTrial
from rich.console import RenderableType

from sdc_ext._files import as_table, temporary_folder, write_files, write_whole
from sdc_ext._values import Count, Rate, Seed, checked
from sdc_ext._words import number_of
from sdc_ext.adapters import get_method
from sdc_ext.adapters.settings import resolve
from sdc_ext.engine.callbacks import Callback
from sdc_ext.engine.engine import Engine, check_run
from sdc_ext.engine.experts import with_experts
from sdc_ext.engine.run_folder import run_identity
from sdc_ext.engine.tuning import Report, SearchSpace, Tuning, rows, rungs
from sdc_ext.errors import DivergenceError, InputError
from sdc_ext.report.figures import draw_search
from sdc_ext.report.shown import Shown
from sdc_ext.report.tables import search_table
from sdc_ext.sets.info import Evaluation
from sdc_ext.strength import STRENGTHS, lam_or_share
from sdc_ext.verbs.session import (
    check_start,
    chosen_settings,
    make_accelerator,
    make_console,
    refuse,
    set_up,
)
from sdc_ext.workers import choose_workers

# The range of lam by default.
_LAMS = (1e-4, 0.1)

# Settings that the search chooses, and what to pass instead.
_INSTEAD = {
    "eval_every": "the search chooses it",
    "lam": "pass `lams`",
    "share": "pass `shares`",
    "lam_ramp": "pass `ramp=True`",
    "share_ramp": "pass `shares` and `ramp=True`",
}


@dataclass(frozen=True, repr=False)
class Tuned(Shown):
    """The result of a search for lam or a share; it prints as a table.

    Attributes:
        trials: One row per trial that ended, the best first.
        baseline: The accuracy without correction in [0, 1], if it is known.
        out: The folder with ``trials.csv`` and ``trials.png``.
    """

    trials: Sequence[Mapping[str, Any]]
    baseline: float | None
    out: Path

    def tables(self) -> Sequence[RenderableType]:
        """Returns the table of trials, with the run without correction at the top."""
        return (search_table(self.trials, self.baseline),)

    @property
    def advice(self) -> str:
        """The best strength and the command that checks it, in one or two sentences."""
        best = self.trials[0]
        of = lam_or_share(best)
        if best["state"] != "complete":
            return f"no trial was completed: search smaller {of}, or run more trials"
        if self.baseline is not None and best["accuracy"] <= self.baseline:
            return f"no {of} did better than --lam 0 here"
        found = f"best: {best['schedule']}; one seed on held-out images is no proof of a gain."
        if not best["schedule"].startswith(f"--{of} "):
            return found
        return (
            f"{found}\nTo check it, add the other options of this search to: sdc-ext compare ... "
            f"--{of} 0 {best[of]:.3g} --seeds 10"
        )

    def draw(self, path: str | Path) -> None:
        """Draws the accuracy of every trial over its lam or share into a file."""
        write_whole(Path(path), lambda file: draw_search(self.trials, self.baseline, file))


class _Reporter(Callback):
    """Reports the best accuracy of every evaluation to a study."""

    def __init__(self, report: Report) -> None:
        self._report = report

    def on_evaluation(self, iteration: int, evaluations: Mapping[str, Evaluation]) -> None:
        self._report(iteration, max(evaluation.mean for evaluation in evaluations.values()))


@checked
def tune(
    method: str,
    data: Any = "digits",
    *,
    lams: tuple[Rate, Rate] | None = None,
    shares: tuple[Rate, Rate] | None = None,
    ramp: bool = False,
    trials: Count = 20,
    ipc: Count = 1,
    out: str | Path | None = None,
    storage: str | None = None,
    study: str | None = None,
    seed: Seed = 0,
    compile: bool = False,
    workers: Any = 1,
    accelerator: Accelerator | None = None,
    progress: bool = True,
    **settings: Any,
) -> Tuned:
    """Searches for lam or a share by successive halving, on held-out training images.

    A quarter of the training images is held out; the test images are not used.

    Args:
        method: The method's name; see [`distill`][sdc_ext.distill].
        data: The data to distil; see [`distill`][sdc_ext.distill].
        lams: The smallest and the largest lam, both above 0; by default 0.0001 and 0.1.
        shares: The smallest and the largest share to search instead, e.g. 0.01 and 1.
        ramp: Search ramps, too.
        trials: The total number of trials of the study over all processes that share it.
        ipc: The number of images per class.
        out: The folder of the study; by default ``runs/tune-STUDY``.
        storage: The URL of a database, as optuna takes it; by default ``study.db`` in ``out``.
        study: The name of the study; by default ``METHOD-DATA-ipcN``.
        seed: Seeds the search and all of its runs.
        compile: Compile the networks, which needs a C++ compiler.
        workers: The number of processes that run trials side by side, each with one thread, or an
            executor; see [`choose_workers`][sdc_ext.workers.choose_workers].
        accelerator: The Accelerator to run with, which has a single process.
        progress: Print a line for every trial.
        **settings: Settings that all runs share; see [`distill`][sdc_ext.distill].

    Returns:
        The trials, which print as a table.

    Raises:
        InputError: If both ranges are given, the Accelerator has several processes, the storage
            holds another study, also one of another range, or [`distill`][sdc_ext.distill] would
            raise it.
    """
    refuse(settings, "tune", **_INSTEAD)
    space = _space(lams, shares, ramp)
    chosen = get_method(method)
    check_start(chosen, out)
    accelerator = accelerator or make_accelerator()
    if accelerator.num_processes > 1:
        raise InputError(
            f"tune runs in one process, got {accelerator.num_processes}: start it several times "
            "with the same `storage`"
        )
    side_by_side = choose_workers(workers)
    console = make_console(accelerator, progress)
    shared = chosen_settings(settings)
    resolved, task = set_up(chosen, data, ipc, {**shared, "lam": 0.0}, accelerator, compile)
    name = study or f"{chosen.name}-{task.data.label}-ipc{ipc}"
    folder = Path(out) if out else Path("runs") / f"tune-{name}"
    images, held_out = len(task.data.train), task.data.held_out()
    task = replace(task, data=held_out)
    check_run(resolved, task)
    iterations = resolved.run.iterations
    engine = Engine(chosen, resolved, task, seed, folder, evaluate_at=rungs(iterations))
    tuning = _open(engine, space, storage, name)
    console.print(f"{held_out}; testing on a quarter of the training images")
    if len(tuning.finished()) < trials or tuning.baseline is None:
        root = folder / "experts"  # experts in the usual folder have seen the held-out images
        task = with_experts(
            chosen, resolved, task, seed=seed, console=console, root=root, workers=side_by_side
        )
        engine = replace(engine, task=task)

    def say(trial: FrozenTrial) -> None:
        console.print(*map(_line, rows([trial], iterations)))

    runs = _Runs(engine, held_out.name, images, shared)
    tuning.search(runs, trials, say, side_by_side, console.print)
    return _keep(Tuned(rows(tuning.finished(), iterations), tuning.baseline, folder))


def _line(row: Mapping[str, Any]) -> str:
    """Returns what is said of a trial when it ends."""
    accuracy = "" if row["accuracy"] is None else f"{100 * row['accuracy']:.2f} % "
    return (
        f"trial {row['trial']}: {row['schedule']}, {accuracy}after "
        f"{number_of(row['iterations'], 'iteration')} ({row['state']})"
    )


def _space(
    lams: tuple[float, float] | None, shares: tuple[float, float] | None, ramp: bool
) -> SearchSpace:
    if shares is None:
        return SearchSpace(*(lams or _LAMS), ramp)
    if lams is not None:
        raise InputError("`lams` and `shares` exclude each other in a search: pass one of them")
    return SearchSpace(*shares, ramp, "share")


@dataclass(frozen=True)
class _Runs:
    """Distils with the settings of a trial, and returns the accuracy that counts."""

    engine: Engine
    dataset: str
    images: int
    shared: Mapping[str, Any]

    def __call__(self, tried: Mapping[str, Any], report: Report) -> float:
        method, ipc = self.engine.method, self.engine.task.ipc
        given = {**self.shared, **tried}
        settings = resolve(
            method,
            self.dataset,
            ipc,
            given,
            images=self.images,
            image_size=self.engine.task.data.image_size,
        )
        with temporary_folder(self.engine.out) as temporary:
            trial = replace(
                self.engine,
                settings=settings,
                out=temporary / "run",
                callbacks=(_Reporter(report),),
            )
            evaluations = trial.distill().info.accuracies
        return float(method.pick(evaluations)["mean"])


def _open(engine: Engine, space: SearchSpace, storage: str | None, name: str) -> Tuning:
    if not storage:
        engine.out.mkdir(parents=True, exist_ok=True)
        storage = _database(engine.out / "study.db")
    identity = run_identity(engine.method, engine.settings, engine.task, engine.seed)
    return Tuning.open(
        storage,
        name,
        space,
        {key: value for key, value in identity.items() if key not in STRENGTHS},
        iterations=engine.settings.run.iterations,
        seed=engine.seed,
    )


def _database(path: Path) -> str:
    """Returns the URL of a database in a file, as optuna takes it."""
    from sqlalchemy.engine import URL, make_url

    try:
        url = URL.create("sqlite", database=str(path)).render_as_string()
        is_its_own = make_url(url).database == str(path) and "{" not in url  # optuna's templates
    except UnicodeEncodeError:
        is_its_own = False
    if not is_its_own:
        raise InputError(
            f"SQLAlchemy cannot open a database in {path}: choose an `out` in UTF-8 without ?, # "
            "and braces, or upgrade SQLAlchemy to 2.1"
        )
    return url


def _keep(tuned: Tuned) -> Tuned:
    write_files(tuned.out, {"trials.csv": as_table(tuned.trials), "trials.png": tuned.draw})
    if all(row["state"] == "diverged" for row in tuned.trials):
        raise DivergenceError(
            f"all {len(tuned.trials)} trials diverged: search smaller "
            f"`{lam_or_share(tuned.trials[0])}`, or lower the learning rate of the images"
        )
    return tuned
