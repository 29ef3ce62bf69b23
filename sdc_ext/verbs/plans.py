"""The verb that carries out a plan: comparisons of the same arms in several settings."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
import yaml
from accelerate import Accelerator
from rich.console import Console, RenderableType

from sdc_ext._files import Writer, as_table, as_text, write_files, write_whole
from sdc_ext._reading import content_of
from sdc_ext._schemas import as_kind
from sdc_ext._values import CountOrZero, check_value, checked
from sdc_ext.adapters import Method, get_method
from sdc_ext.data.real import RealData
from sdc_ext.engine.run_folder import held
from sdc_ext.errors import DivergenceError, InputError
from sdc_ext.evaluation.across import ArmAcross, across_settings
from sdc_ext.evaluation.arms import Arm
from sdc_ext.evaluation.comparison import GAIN, Comparison
from sdc_ext.report.across import across_sentence, across_table, draw_forest
from sdc_ext.report.shown import Shown
from sdc_ext.strength import STRENGTHS
from sdc_ext.verbs.arms import check_arms, read_texts
from sdc_ext.verbs.comparison import Compared, Points, compare
from sdc_ext.verbs.session import (
    check_start,
    chosen_settings,
    make_accelerator,
    make_console,
    open_data,
    refuse,
    resolve_for,
)
from sdc_ext.workers import Workers, choose_workers

_ADVICE = "correct the plan"

# No plan has as many characters.
_MOST_CHARACTERS = 10**6


class PlannedRun(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One comparison of a plan: the method, the data and what differs from the other ones.

    Attributes:
        method: The method's name.
        ipc: The number of images per class.
        dataset: The name of a data set or a folder; in Python anything that
            [`load_data`][sdc_ext.load_data] takes.
        data_dir: The folder of the data set with this name.
        image_size: The size to which the images of a folder are resized.
        download: Whether torchvision may download what is missing.
        experts: A folder of expert trajectories.
        settings: Settings of the method by name, which take precedence over those of the plan.
    """

    method: str
    ipc: int = 1
    dataset: Any = "digits"
    data_dir: str | None = None
    image_size: int | tuple[int, int] | None = None
    download: bool = False
    experts: str | None = None
    settings: dict[str, Any] = {}


class Plan(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Comparisons of the same arms in several settings.

    Attributes:
        arms: The settings to compare, by name; all others are compared with the first.
        runs: The settings in which they are compared: methods, ipc, data sets.
        seeds: The number of runs per arm and setting.
        first_seed: The seed of the first run; the others count up from it.
        margin: The smallest difference that matters, in percentage points of accuracy.
        settings: Settings of the methods that all runs share, by name.
    """

    arms: list[dict[str, Any]]
    runs: list[PlannedRun]
    seeds: int = 6
    first_seed: int = 0
    margin: float = 100 * GAIN
    settings: dict[str, Any] = {}


@dataclass(frozen=True, repr=False)
class ComparedPlan(Shown):
    """The result of a plan; it prints as a table with one row per arm and setting.

    Attributes:
        comparisons: The comparisons by the name of their setting.
        out: The folder with one folder per comparison, ``plan.json``, ``plan.csv`` and
            ``forest.png``.
        diverged: Why each setting that has no comparison was left out, by its name.
    """

    comparisons: Mapping[str, Comparison]
    out: Path
    diverged: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def arms(self) -> list[ArmAcross]:
        """The arms with their gains in all settings and the random-effects summaries."""
        return across_settings(self.comparisons)

    def tables(self) -> Sequence[RenderableType]:
        """Returns the table of gains, a sentence per arm, and what diverged."""
        diverged = {
            f"{name}: {arm}": why
            for name, comparison in self.comparisons.items()
            for arm, why in comparison.diverged.items()
        }
        return (
            across_table(self.arms),
            *(across_sentence(arm) for arm in self.arms),
            *(
                f"{what} diverged and is left out: {why}"
                for what, why in {**diverged, **self.diverged}.items()
            ),
        )

    def draw(self, path: str | Path) -> None:
        """Draws the gains in all settings, and their summaries, into a file: a forest plot."""
        write_whole(Path(path), lambda file: draw_forest(self.arms, file))

    def save(self) -> None:
        """Writes the tables and the picture to ``out``."""
        content = {
            "settings": {name: c.summary() for name, c in self.comparisons.items()},
            "arms": [arm.row() for arm in self.arms],
            "diverged": self.diverged,
        }
        rows = [
            {"setting": name, **row} for name, c in self.comparisons.items() for row in c.rows()
        ]
        files: dict[str, Writer] = {
            "plan.json": as_text(json.dumps(content, indent=1)),
            "plan.csv": as_table(rows),
            "forest.png": self.draw,
        }
        write_files(self.out, files)


def read_plan(plan: Plan | Mapping[str, Any] | str | Path) -> Plan:
    """Returns a plan: as it is, from its content by name, or from a YAML file.

    Raises:
        InputError: If it is not a plan; the message names the field and what was expected.
    """
    if isinstance(plan, Plan):
        return plan
    if isinstance(plan, Mapping):
        return as_kind(dict(plan), Plan, "the plan", _ADVICE)
    path: Path = check_value("plan", plan, str | Path)
    try:
        return as_kind(_read_yaml(path), Plan, str(path), _ADVICE)
    except UnicodeDecodeError:
        raise InputError(f"{path} is not a text in UTF-8: {_ADVICE}") from None


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """Refuses names that are given twice, of which YAML would drop the first."""

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        names = [key.value for key, _ in node.value]
        for name in (name for name in names if names.count(name) > 1):
            raise yaml.YAMLError(f"{name} is given twice")
        return super().construct_mapping(node, deep)


def _read_yaml(path: Path) -> Any:
    text = content_of(path).decode()
    try:
        if len(text) > _MOST_CHARACTERS:
            raise yaml.YAMLError("it is too long")
        # References may stand for exponentially long content.
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text)):
            raise yaml.YAMLError("it has a reference, *NAME")
        return yaml.load(text, _Loader)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        problem = " ".join(str(error).split())
        raise InputError(
            f"{path} is not YAML that plans are written in ({problem}): {_ADVICE}"
        ) from None


@checked
def compare_plan(
    plan: Plan | Mapping[str, Any] | str | Path,
    *,
    out: str | Path = "runs/plan",
    workers: Any = 1,
    accelerator: Accelerator | None = None,
    progress: bool = True,
) -> ComparedPlan:
    """Compares the same arms in several settings, and summarises the gains over the settings.

    Each setting is one comparison as [`compare`][sdc_ext.compare] makes it, in a folder of its own
    in ``out``. Runs that ``out`` already holds are kept, so the same call continues a stopped plan,
    and more seeds, arms or settings may be added.

    Args:
        plan: The plan: a YAML file, its content as a dictionary, or a
            [`Plan`][sdc_ext.verbs.Plan].
        out: The folder of the comparisons.
        workers: The number of processes that make runs side by side, each with one thread, or an
            executor; see [`choose_workers`][sdc_ext.workers.choose_workers].
        accelerator: The Accelerator to run with; by default one that uses the machine's devices.
        progress: Print a line for every run.

    Returns:
        The gains in all settings with their random-effects summaries, which print as a table.

    Raises:
        InputError: If it is not a plan, two of its settings have the same name, or
            [`compare`][sdc_ext.compare] would raise it for one of them.
        DivergenceError: If every comparison diverges; those that do are otherwise left out.
    """
    read = read_plan(plan)
    folder = Path(out)
    accelerator = accelerator or make_accelerator()
    console = make_console(accelerator, progress)
    side_by_side = choose_workers(workers, launched=accelerator.num_processes)
    settings = _prepared(read, folder, accelerator)
    with held(folder, accelerator):
        compared = _compared(settings, folder, side_by_side, accelerator, console)
        if accelerator.is_main_process:
            compared.save()
        accelerator.wait_for_everyone()
    return compared


def _compared(
    settings: Mapping[str, _Setting],
    folder: Path,
    workers: Workers,
    accelerator: Accelerator,
    console: Console,
) -> ComparedPlan:
    """Carries out the comparisons by the names of their settings; some may diverge."""
    comparisons: dict[str, Comparison] = {}
    diverged: dict[str, DivergenceError] = {}
    for number, (name, one) in enumerate(settings.items(), 1):
        console.print(f"comparison {number} of {len(settings)}: {name}")
        try:
            compared = one.compare(folder / name, workers, accelerator, progress=not console.quiet)
        except DivergenceError as error:
            diverged[name] = error
            console.print(f"{name} diverged and is left out: {error}")
            continue
        comparisons[name] = compared.comparison
    if not comparisons:
        raise next(iter(diverged.values()))
    why = {name: str(error) for name, error in diverged.items()}
    return ComparedPlan(comparisons, folder, why)


@dataclass(frozen=True)
class _Setting:
    """A comparison of a plan that has been checked."""

    method: Method
    data: RealData
    arms: Sequence[Mapping[str, Any]]
    shared: Mapping[str, Any]
    own: Mapping[str, Any]
    planned: PlannedRun
    plan: Plan

    @property
    def name(self) -> str:
        """The name of its folder, which other data or experts of the same names may share."""
        name = f"{self.method.name}-{self.data.label}-ipc{self.planned.ipc}"
        return f"{name}-{Arm.of(chosen_settings(self.own)).folder}" if self.own else name

    @property
    def sources(self) -> tuple[object, ...]:
        """The data and the experts."""
        experts = self.planned.experts
        return (*self.data.identity, *([] if experts is None else [experts]))

    def compare(
        self, out: Path, workers: Workers, accelerator: Accelerator, progress: bool
    ) -> Compared:
        return compare(
            self.method.name,
            self.data,
            arms=self.arms,
            seeds=self.plan.seeds,
            first_seed=self.plan.first_seed,
            ipc=self.planned.ipc,
            margin=self.plan.margin,
            out=out,
            experts=self.planned.experts,
            workers=workers,
            accelerator=accelerator,
            progress=progress,
            **self.shared,
        )


def _prepared(plan: Plan, out: Path, accelerator: Accelerator) -> dict[str, _Setting]:
    """Checks all that can be checked before the first run, and loads the data."""
    if not plan.runs:
        raise InputError("a plan needs at least one run, got none: list the settings in runs")
    check_value("margin", plan.margin, Points)
    check_value("first_seed", plan.first_seed, CountOrZero)
    found: dict[str, _Setting] = {}
    loaded: dict[tuple[object, ...], RealData] = {}
    for number, planned in enumerate(plan.runs, 1):
        # Data in Python may have no equality; the plan keeps them, so that no other has their id.
        source = planned.dataset if isinstance(planned.dataset, str) else id(planned.dataset)
        key = source, planned.data_dir, planned.image_size, planned.download
        try:
            method = get_method(planned.method)
            check_start(method, out, planned.experts)
            if key not in loaded:
                loaded[key] = _load(planned, accelerator)
            setting = _checked(plan, planned, method, loaded[key])
        except InputError as error:
            raise InputError(f"run {number} of the plan ({planned.method}): {error}") from None
        name = setting.name
        # The first of a name has it alone, so that more may follow.
        if name in found and found[name].sources != setting.sources:
            sources = json.dumps(setting.sources).encode()
            name += f"+{hashlib.sha256(sources).hexdigest()[:8]}"
        if name in found:
            raise InputError(f"two runs of the plan are the same ({name}): leave one out")
        found[name] = setting
    return found


def _load(planned: PlannedRun, accelerator: Accelerator) -> RealData:
    given = {
        "data_dir": planned.data_dir,
        "image_size": planned.image_size,
        "download": planned.download,
    }
    options = {name: value for name, value in given.items() if value is not None}
    return open_data(planned.dataset, accelerator, **options)


def _checked(plan: Plan, planned: PlannedRun, method: Method, data: RealData) -> _Setting:
    """Returns a comparison whose arms and settings fit its method."""
    arms = [read_texts(arm, method, "an arm") for arm in plan.arms]
    own = read_texts(planned.settings, method, "the settings")
    shared = {**read_texts(plan.settings, method, "the settings"), **own}
    where = "put it into the arms"
    strengths = dict.fromkeys(STRENGTHS, where)
    refuse(shared, "a plan", seed="set seeds", ipc="set it in a run", **strengths)
    chosen = chosen_settings(shared)
    for arm in check_arms(plan.seeds, arms=arms):
        resolve_for(method, data, planned.ipc, chosen | arm.values)
    return _Setting(method, data, arms, shared, own, planned, plan)
