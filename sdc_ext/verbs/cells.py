"""The runs of one cell of the paper's tables: what they take, and making them."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any, TypeAlias

import msgspec
from accelerate import Accelerator

from sdc_ext.adapters import Method, Settings, get_method, resolve
from sdc_ext.data.real import RealData
from sdc_ext.errors import InputError
from sdc_ext.evaluation.arms import Arm
from sdc_ext.evaluation.tracking import Action, Drift
from sdc_ext.networks.create import check_network
from sdc_ext.report.kept_tables import ACCURACIES, read_accuracies
from sdc_ext.reproduction.items import PAPER_DATA, Cell, Item
from sdc_ext.reproduction.rows import CellResult
from sdc_ext.verbs.comparison import Compared, compare, run_folder
from sdc_ext.verbs.evaluation import evaluate_set
from sdc_ext.verbs.experts import train_experts
from sdc_ext.verbs.session import resolve_for
from sdc_ext.workers import SERIAL, Workers

# How many networks are trained on each set, instead of the paper's 5 to 20.
_NETWORKS = 2

EXPERTS = 2

# As the buffers of the original repositories.
_PAPER_EXPERTS = "100 of 50 to 100 epochs"

AtLeastOne: TypeAlias = Annotated[int, msgspec.Meta(ge=1)]


@dataclass(frozen=True)
class CellPlan:
    """What a budget allows for a cell.

    Attributes:
        iterations: The number of iterations of its runs.
        settings: Further settings that shorten its runs, by name.
        other_epochs: The number of epochs of the networks of other architectures.
        seconds: How long one seed of all its arms is expected to take.
        experts: The number that names the folder of its expert trajectories; 0 without.
        expert_epochs: The number of epochs of these.
    """

    iterations: AtLeastOne
    settings: dict[str, Any]
    other_epochs: int
    seconds: Annotated[float, msgspec.Meta(gt=0)]
    experts: int = 0
    expert_epochs: int = 0

    @property
    def changed(self) -> dict[str, Any]:
        """All settings that shorten its runs, by name."""
        return {**self.settings, "iterations": self.iterations}


@dataclass(frozen=True)
class CellRuns:
    """A cell on the data that there are.

    Attributes:
        item: The table or figure.
        cell: The setting.
        data: The data: the paper's, or those that stand in for them.
        out: The folder of the table or figure.
        width: The number of channels of the ConvNet.
        accelerator: The Accelerator to run with.
        workers: The workers that make runs and train experts side by side.
        progress: Print a line for every run.
    """

    item: Item
    cell: Cell
    data: RealData
    out: Path
    width: int
    accelerator: Accelerator
    workers: Workers = SERIAL
    progress: bool = True

    @property
    def method(self) -> Method:
        """The method of the cell."""
        return get_method(self.cell.method)

    @cached_property
    def original(self) -> Settings:
        """The paper's settings of the cell."""
        return resolve(self.method, self.cell.dataset, self.cell.ipc, {})

    def chosen(self, changes: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the settings to choose for a run with some of them changed.

        Data in the shape of the paper's have its settings, as far as they have an effect with the
        changes.
        """
        chosen: dict[str, Any] = {}
        if self.data.name != self.cell.dataset and self._is_like_paper:
            loop = self.original.loop
            loop = replace(loop, **{n: v for n, v in changes.items() if hasattr(loop, n)})
            rules = self.method.rules(self.cell.dataset, self.cell.ipc)
            without = {"lam", *loop.unused}
            chosen = {name: value for name, (value, _) in rules.items() if name not in without}
        network = resolve_for(self.method, self.data, self.cell.ipc, chosen).run.network
        narrow = f"{network}:width={self.width}"
        return {**chosen, "network": narrow, "num_eval": _NETWORKS, **changes}

    @cached_property
    def settings(self) -> Settings:
        """The settings of a run that no budget shortens."""
        return self.shortened({})

    def shortened(self, changes: Mapping[str, Any]) -> Settings:
        """Returns the settings of a run with some of them changed."""
        return resolve_for(self.method, self.data, self.cell.ipc, self.chosen(changes))

    def further(self, plan: CellPlan) -> dict[str, str]:
        """Returns what differs beside the settings, each as ``ours (the paper's)``."""
        number, _ = PAPER_DATA[self.cell.dataset]
        here = f"{self.data.label}, {len(self.data.train)}"
        found = {"training images": f"{here} ({self.cell.dataset}, {number})"}
        if plan.experts:
            found["experts"] = f"{EXPERTS} of {plan.expert_epochs} epochs ({_PAPER_EXPERTS})"
        if self.networks:
            epochs = self.original.run.epoch_eval_train
            found["epochs of other networks"] = f"{plan.other_epochs} ({epochs})"
        return found

    @cached_property
    def networks(self) -> tuple[str, ...]:
        """The other networks of the item that fit the images."""
        return tuple(network for network in self.item.networks if self._fits(network))

    def _fits(self, network: str) -> bool:
        try:
            check_network(network, *self.data.network_shape)
        except InputError:
            return False
        return True

    @property
    def expert_settings(self) -> dict[str, Any]:
        """The settings of its experts: the paper's optimiser, and what experts share with runs."""
        if self.method.experts is None:
            return {}
        name = self.cell.dataset if self._is_like_paper else self.data.name
        recipe, run = self.method.experts(name, self.cell.ipc), self.settings.run
        of_paper = {"optimizer": recipe.optimizer, "alpha": recipe.alpha}
        return {"network": run.network, "zca": run.zca, **of_paper}

    @property
    def _is_like_paper(self) -> bool:
        """Whether the data have the shape of the paper's, so that its settings suit them."""
        _, shape = PAPER_DATA[self.cell.dataset]
        return self.data.network_shape == shape

    @property
    def store(self) -> tuple[Any, ...] | None:
        """What cells with the same experts have in common; None for methods without experts."""
        if self.method.experts is None:
            return None
        return self.data.label, self.settings.run.statistics, *self.expert_settings.values()

    def experts(self, number: int) -> Path:
        """Returns the folder of the experts with a number."""
        return self.out / "experts" / str(number)

    def train_experts(self, number: int, epochs: int) -> None:
        """Trains the experts with a number."""
        train_experts(
            self.method.name,
            self.data,
            num_experts=EXPERTS,
            ipc=self.cell.ipc,
            out=self.experts(number),
            workers=self.workers,
            accelerator=self.accelerator,
            progress=self.progress,
            **self.expert_settings,
            train_epochs=epochs,
        )

    def clear(self, folder: Path) -> None:
        """Removes what a trial has left."""
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            shutil.rmtree(folder, ignore_errors=True)
        self.accelerator.wait_for_everyone()

    def run(self, plan: CellPlan, seeds: int) -> CellResult:
        """Makes the runs that are missing, and returns what came out of all of them.

        Raises:
            DivergenceError: If the loss of a run without correction, or of all others, is not
                finite.
        """
        folder = self.out / self.cell.folder
        compared = compare(
            self.method.name,
            self.data,
            arms=self.item.arms(self.cell, plan.iterations),
            seeds=seeds,
            ipc=self.cell.ipc,
            out=folder,
            experts=self.experts(plan.experts) if plan.experts else None,
            workers=self.workers,
            accelerator=self.accelerator,
            progress=self.progress,
            **self.chosen(plan.changed),
        )
        self.accelerator.wait_for_everyone()  # the main process has written the histories
        found = {arm: compared.histories()[arm.name] for arm in compared.comparison.arms}
        skip = compared.warm_ups
        return CellResult(
            compared.comparison,
            shares={arm: fmean(Action.of(h).share for h in hs) for arm, hs in found.items()},
            drifts={
                arm: [Drift.of(h["difficulty"], skip[arm.name]) for h in hs]
                for arm, hs in found.items()
            },
            others=self._others(compared, plan, seeds),
        )

    def _others(
        self, compared: Compared, plan: CellPlan, seeds: int
    ) -> dict[str, dict[Arm, list[float]]]:
        """Returns the accuracies of other networks by network and arm, one per seed."""
        arms = compared.comparison.arms
        found: dict[str, dict[Arm, list[float]]] = {n: {a: [] for a in arms} for n in self.networks}
        for seed in range(seeds) if found else ():
            for network, of_arm in self._evaluate_others(compared, plan, seed).items():
                for arm in arms:
                    found[network][arm].append(of_arm[arm.name])
        return found

    def _evaluate_others(
        self, compared: Compared, plan: CellPlan, seed: int
    ) -> dict[str, dict[str, float]]:
        """Returns the accuracies of other networks by network and arm; kept ones are read."""
        arms = compared.comparison.arms
        folder = compared.out / f"networks-{seed}"
        rows = _kept(folder)
        if len(rows) < len(arms) * len(self.networks):
            self.clear(folder)
            evaluate_set(
                {arm.name: run_folder(compared.out, arm, seed) for arm in arms},
                self.data,
                networks=self.networks,
                num_eval=1,
                epoch_eval_train=plan.other_epochs,
                seed=seed,
                out=folder,
                workers=self.workers,
                accelerator=self.accelerator,
                progress=False,
            )
            self.accelerator.wait_for_everyone()
            rows = _kept(folder)
        found: dict[str, dict[str, float]] = {}
        for row in rows:
            found.setdefault(row["network"], {})[row["set"]] = row["mean"]
        return found


def _kept(folder: Path) -> list[dict[str, Any]]:
    path = folder / ACCURACIES
    advice = "delete its folder, and repeat the command"
    return read_accuracies(path, advice) if path.is_file() else []
