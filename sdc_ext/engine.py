"""The outer loop: any adapter, on any device, with progress, evaluations and checkpoints."""

from __future__ import annotations

import csv
import json
import math
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from sdc_ext.adapters.base import Method, State, Task
from sdc_ext.adapters.settings import Settings
from sdc_ext.errors import DivergenceError, InputError
from sdc_ext.evaluate import Evaluation, evaluate
from sdc_ext.files import write_whole
from sdc_ext.regularizer import LogRamp, with_sdc
from sdc_ext.seeds import seed_torch
from sdc_ext.synthetic import SetInfo, SyntheticSet, TrainingRecipe

CHECKPOINT = "checkpoint.pt"
HISTORY = "history.csv"
RUN = "run.json"
_SECONDS_BETWEEN_CHECKPOINTS = 60.0


@dataclass
class Record:
    """What a run has done so far; it is what a checkpoint holds.

    Attributes:
        state: the loop's state.
        counts: which evaluation counts, ``"last"`` or ``"best"``.
        iteration: outer iterations done.
        history: a row of logged values an iteration.
        evaluations: iteration, network and accuracies of each evaluation.
        kept: the images (N, C, H, W) of the evaluation that counts.
    """

    state: State
    counts: str
    iteration: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    evaluations: list[dict[str, Any]] = field(default_factory=list)
    kept: Tensor | None = None

    def add(self, evaluation: Evaluation) -> None:
        """Notes an evaluation of the present images, and keeps them if it counts."""
        earlier = [e["mean"] for e in self.evaluations]
        self.evaluations.append(
            {
                "iteration": self.iteration,
                "network": evaluation.network,
                "mean": evaluation.mean,
                "std": evaluation.std,
                "accuracies": list(evaluation.accuracies),
            }
        )
        if self.counts == "last" or all(evaluation.mean > mean for mean in earlier):
            self.kept = self.state.images.detach().clone()

    def state_dict(self) -> dict[str, Any]:
        return {
            "state": self.state.state_dict(),
            "iteration": self.iteration,
            "history": self.history,
            "evaluations": self.evaluations,
            "kept": self.kept,
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        self.state.load_state_dict(saved["state"])
        self.iteration = saved["iteration"]
        self.history = saved["history"]
        self.evaluations = saved["evaluations"]
        self.kept = saved["kept"]


@dataclass(frozen=True)
class Engine:
    """Distils one task with one method.

    Attributes:
        method: which loop, and which evaluation counts.
        settings: resolved hyper-parameters.
        task: the real data, ipc, network and accelerator.
        seed: of everything random; the same seed gives the same bits on one machine.
        out: folder for the distilled set, its history and checkpoints.
        console: where to report; only the main process's speaks.
    """

    method: Method
    settings: Settings
    task: Task
    seed: int
    out: Path
    console: Console

    @property
    def recipe(self) -> TrainingRecipe:
        """How networks are trained on the set."""
        run = self.settings.run
        lr_net = self.settings.origin["lr_net"].value
        return TrainingRecipe(
            epochs=run.epoch_eval_train, lr=lr_net, augmentation=run.eval_augmentation
        )

    def distill(self, *, resume: bool = False) -> SyntheticSet:
        """Runs all iterations and writes the distilled set to ``out``.

        Args:
            resume: continue a run that was stopped; it ends as if it had not been.

        Returns:
            The set that counts: the last for gradient matching.

        Raises:
            InputError: if ``out`` exists and is not to be resumed, or holds another run.
            DivergenceError: if a loss is not finite; the last good set is saved first.
        """
        self._claim_folder(resume)
        loop, run = self.settings.loop, self.settings.run
        seed_torch(self.seed, "start")
        record = Record(loop.start(self.task), self.method.counts)
        if resume:
            self._restore(record)
        lam = LogRamp(*run.lam_ramp) if run.lam_ramp else run.lam
        loss_fn = with_sdc(loop.matching_loss(), lam, norm=run.norm)
        good = record.state.images.detach().clone()
        saved_at = time.monotonic()

        with self._progress(record.iteration) as show:
            for iteration in range(record.iteration, run.iterations):
                before = record.state.images.detach().clone()
                seed_torch(self.seed, "iteration", iteration)
                loss_fn.iteration = iteration
                try:
                    log = loop.step(record.state, self.task, loss_fn, iteration)
                except DivergenceError as error:
                    self._save(record, good)
                    raise DivergenceError(
                        f"iteration {iteration}: {error}; the last good set is in {self.out}"
                    ) from None
                # A step proves the images it began with: those after it may have no finite loss.
                good = before
                log["lam"] = loss_fn.lam
                record.iteration = iteration + 1
                record.history.append({"iteration": iteration, **log})
                self.task.accelerator.log(log, step=iteration)
                show(record.iteration, log)
                if record.iteration % run.eval_every == 0 or record.iteration == run.iterations:
                    self._evaluate(record)
                    self._save(record, record.kept)
                    saved_at = -math.inf
                if time.monotonic() - saved_at > _SECONDS_BETWEEN_CHECKPOINTS:
                    self._checkpoint(record)
                    saved_at = time.monotonic()
        return self._save(record, record.kept)

    def _claim_folder(self, resume: bool) -> None:
        """Takes ``out`` for this run, or checks that it is this run's."""
        identity = {
            "method": self.method.name,
            "dataset": self.task.data.name,
            "ipc": self.task.ipc,
            "seed": self.seed,
            **{name: setting.value for name, setting in self.settings.origin.items()},
        }
        # As JSON has it: tuples become lists.
        identity = json.loads(json.dumps(identity))
        path = self.out / RUN
        if resume and path.is_file():
            earlier = json.loads(path.read_text())
            for name in identity:
                if earlier.get(name) != identity[name]:
                    raise InputError(
                        f"{self.out} holds a run with {name} {earlier.get(name)}, not "
                        f"{identity[name]}: resume with the same settings, or choose another --out"
                    )
        elif self.out.exists():
            problem = "holds no run to resume" if resume else "exists (--resume continues a run)"
            raise InputError(f"{self.out} {problem}: choose another --out")
        self.task.accelerator.wait_for_everyone()
        if self.task.accelerator.is_main_process:
            write_whole(path, lambda p: p.write_text(json.dumps(identity, indent=1)))

    def _checkpoint(self, record: Record) -> None:
        # Not accelerator.save_state: it loads by unpickling, and there are no random states to
        # keep, since every iteration is seeded on its own.
        if self.task.accelerator.is_main_process:
            write_whole(self.out / CHECKPOINT, lambda path: torch.save(record.state_dict(), path))

    def _restore(self, record: Record) -> None:
        path = self.out / CHECKPOINT
        if path.is_file():
            device = self.task.accelerator.device
            record.load_state_dict(torch.load(path, map_location=device, weights_only=True))
            self.console.print(f"resumed at iteration {record.iteration}")

    def _evaluate(self, record: Record) -> None:
        run = self.settings.run
        evaluation = evaluate(
            record.state.images,
            record.state.labels,
            self.task.data,
            self.recipe,
            network=run.eval_network,
            num_eval=run.num_eval,
            seed=self.seed,
            accelerator=self.task.accelerator,
        )
        record.add(evaluation)
        self.console.print(
            f"iteration {record.iteration}: {evaluation} ({run.num_eval} {evaluation.network})"
        )

    def _save(self, record: Record, images: Tensor | None) -> SyntheticSet:
        """Writes the set with its history; nothing if the images are not finite."""
        images = record.state.images if images is None else images
        synthetic = SyntheticSet(
            images.detach().float().cpu(), record.state.labels.cpu(), self._info(record)
        )
        if self.task.accelerator.is_main_process and bool(images.isfinite().all()):
            write_whole(self.out / HISTORY, lambda path: _write_csv(path, record.history))
            synthetic.save(self.out)
        return synthetic

    def _info(self, record: Record) -> SetInfo:
        data = self.task.data
        settings = {name: asdict(setting) for name, setting in self.settings.origin.items()}
        settings["seed"] = {"value": self.seed, "source": "your choice"}
        return SetInfo(
            method=self.method.name,
            dataset=data.name,
            classes=data.classes,
            mean=data.mean,
            std=data.std,
            ipc=self.task.ipc,
            network=self.task.network,
            evaluation=self.recipe,
            settings=settings,
            accuracies=tuple(record.evaluations),
            versions={
                "python": platform.python_version(),
                **{name: version(name) for name in ("sdc-ext", "torch", "timm")},
            },
        )

    @contextmanager
    def _progress(self, done: int) -> Iterator[Callable[[int, Mapping[str, float]], None]]:
        """A progress bar on the main process; yields what updates it."""
        progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[log]}"),
            TimeRemainingColumn(),
            console=self.console,
            disable=not self.task.accelerator.is_main_process,
        )
        bar = progress.add_task("distilling", total=self.settings.run.iterations, log="")
        progress.update(bar, completed=done)

        def show(iteration: int, log: Mapping[str, float]) -> None:
            text = f"loss {log['matching']:.4g}  GraDN {log['difficulty']:.3g}"
            progress.update(bar, completed=iteration, log=text)

        with progress:
            yield show


def _write_csv(path: Path, rows: list[dict[str, float]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]) if rows else ["iteration"])
        writer.writeheader()
        writer.writerows(rows)
