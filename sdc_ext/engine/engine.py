"""The outer loop: any adapter, on any device, with progress, evaluations and checkpoints."""

from __future__ import annotations

import copy
import json
import math
import platform
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from sdc_ext._files import write_whole
from sdc_ext._seeds import seed_torch
from sdc_ext.adapters.base import Method, State
from sdc_ext.adapters.settings import YOUR_CHOICE, Settings
from sdc_ext.adapters.task import Task
from sdc_ext.augment.parse import check_augmentation
from sdc_ext.engine.checkpoint import Checkpoint
from sdc_ext.engine.record import Record
from sdc_ext.errors import DivergenceError, InputError
from sdc_ext.evaluation.evaluator import evaluate
from sdc_ext.networks.create import check_network
from sdc_ext.regularizer import SDCLoss, with_sdc
from sdc_ext.sets.info import SetInfo
from sdc_ext.sets.synthetic_set import Distilled, SyntheticSet

RUN = "run.json"


# Divergences in a row after which skipping them is hopeless.
_MOST_SKIPPED = 100


@dataclass(frozen=True)
class Engine:
    """Distils one task with one method.

    Attributes:
        method: which loop, and which evaluation counts.
        settings: resolved hyper-parameters.
        task: the real data, ipc, network and accelerator.
        seed: of everything random; the same seed gives the same bits on one machine's CPU.
        out: folder for the distilled set, its history and checkpoints.
        console: where to report; only the main process's speaks.
        on_evaluation: called after every evaluation with the iteration and the test accuracy, of
            the best candidate; what it raises ends the run.
        evaluate_at: the iterations after which it is evaluated, instead of every ``eval_every``.
    """

    method: Method
    settings: Settings
    task: Task
    seed: int
    out: Path
    console: Console
    on_evaluation: Callable[[int, float], object] = lambda iteration, accuracy: None
    evaluate_at: Container[int] | None = None

    def __post_init__(self) -> None:
        data = self.task.data
        run, origin = self.settings.run, self.settings.origin
        for network in (self.task.network, run.eval_network):
            check_network(network, data.channels, len(data.classes), data.image_size)
        for augmentation in (origin["dsa_strategy"].value, run.eval_augmentation):
            check_augmentation(augmentation, data.channels, data.image_size)

    def distill(self, *, resume: bool = False) -> SyntheticSet:
        """Runs all iterations and writes the distilled set to ``out``.

        Args:
            resume: continue the run in ``out``, if there is one; it ends as if it had not been
                stopped.

        Returns:
            The set that counts: the last for gradient matching, the best for trajectories.

        Raises:
            InputError: if ``out`` exists and is not to be resumed, or holds another run.
            DivergenceError: if a loss is not finite; the last good set is saved first.
        """
        self.check_folder(resume)
        accelerator = self.task.accelerator
        accelerator.init_trackers("sdc-ext")
        try:
            return self._run(resume)
        finally:
            # Not end_training, which ends the processes' group: further runs may follow.
            for tracker in accelerator.trackers:
                tracker.finish()

    def _run(self, resume: bool) -> SyntheticSet:
        run = self.settings.run
        seed_torch(self.seed, "start")
        record = Record(self.settings.loop.start(self.task), self.method.counts)
        self._write_identity()  # now that the run can begin
        checkpoint = Checkpoint(record, self.out, self.task.accelerator.device)
        if resume and checkpoint.restore():
            self.console.print(f"resumed at iteration {record.iteration}")
        loss_fn = with_sdc(self.settings.loop.matching_loss(), run.schedule, norm=run.norm)

        proved = copy.deepcopy(record.state.state_dict())
        skipped = 0
        with self._progress(record.iteration) as show:
            while record.iteration < run.iterations:
                before = copy.deepcopy(record.state.state_dict())
                try:
                    log = self._step(record, loss_fn)
                    skipped = 0
                    # A step proves what it began with: what is after it may have no finite loss.
                    proved = before
                except DivergenceError as error:
                    skipped += 1
                    if run.on_divergence == "stop" or skipped > _MOST_SKIPPED:
                        record.state.load_state_dict(proved)
                        self._save(record, record.kept if self.method.counts == "best" else None)
                        raise DivergenceError(
                            f"iteration {record.iteration}: {error}; the last good set is in "
                            f"{self.out}"
                        ) from None
                    record.state.load_state_dict(before)
                    log = self._skip(record, error)
                except KeyboardInterrupt:
                    record.state.load_state_dict(before)
                    if self.task.accelerator.is_main_process:
                        checkpoint.save()
                    raise
                show(record.iteration, log)
                due = self._is_due(record.iteration)
                if due:
                    self._evaluate(record)
                if self.task.accelerator.is_main_process:
                    checkpoint.save() if due else checkpoint.save_now_and_then()
                if due and record.iteration < run.iterations:
                    self._save(record, record.kept)
        self._warn_of_skips(record)
        return self._save(record, record.kept)

    def synthetic_set(
        self, distilled: Distilled, evaluations: Sequence[dict[str, Any]] = ()
    ) -> SyntheticSet:
        """What this run has distilled with all that is known of it."""
        data = self.task.data
        settings = {name: asdict(setting) for name, setting in self.settings.origin.items()}
        settings["seed"] = {"value": self.seed, "source": YOUR_CHOICE}
        if self.task.experts is not None:
            settings["experts"] = {"value": self.task.experts.identity, "source": "their folder"}
        info = SetInfo(
            method=self.method.name,
            dataset=data.name,
            classes=data.classes,
            mean=data.mean,
            std=data.std,
            ipc=self.task.ipc,
            network=self.task.network,
            evaluation=self.settings.recipe(distilled.lr),
            settings=settings,
            accuracies=tuple(evaluations),
            whitening=data.whitened_by,
            versions={
                "python": platform.python_version(),
                **{name: version(name) for name in ("sdc-ext", "torch", "timm")},
            },
        )
        images = distilled.images.detach().float().cpu()
        pixels = None if data.whitening is None else data.whitening.undo(images)
        return SyntheticSet(images, distilled.labels.detach().cpu(), info, pixels)

    def _is_due(self, iteration: int) -> bool:
        """Whether an evaluation comes after so many iterations."""
        run = self.settings.run
        if self.evaluate_at is not None and iteration < run.iterations:
            return iteration in self.evaluate_at
        return iteration % run.eval_every == 0 or iteration == run.iterations

    def _step(self, record: Record, loss_fn: SDCLoss) -> dict[str, float]:
        iteration = record.iteration
        seed_torch(self.seed, "iteration", iteration)
        loss_fn.iteration = iteration
        log = self.settings.loop.step(record.state, self.task, loss_fn, iteration)
        log["lam"] = loss_fn.lam
        self._note(record, log)
        return log

    def _skip(self, record: Record, error: DivergenceError) -> dict[str, float]:
        """Goes on without the update, as DATM does above its threshold."""
        self.console.print(f"iteration {record.iteration} skipped: {error}")
        log = {"loss": math.nan, "matching": math.nan, "difficulty": math.nan, "skipped": 1}
        self._note(record, log)
        return log

    def _warn_of_skips(self, record: Record) -> None:
        skipped = sum(row.get("skipped", 0) for row in record.history)
        if skipped > len(record.history) / 2:
            self.console.print(
                f"warning: {skipped:.0f} of {len(record.history)} updates were skipped, since the "
                "loss was above --threshold or not finite: lower --lr-img or --lr-lr"
            )

    def _write_identity(self) -> None:
        self.task.accelerator.wait_for_everyone()  # nobody may still be checking the folder
        if self.task.accelerator.is_main_process:
            identity = json.dumps(self.identity(), indent=1)
            write_whole(self.out / RUN, lambda path: path.write_text(identity))

    def _note(self, record: Record, log: dict[str, float]) -> None:
        self.task.accelerator.log(log, step=record.iteration)
        record.history.append({"iteration": record.iteration, **log})
        record.iteration += 1

    def check_folder(self, resume: bool) -> None:
        """Raises InputError unless ``out`` is free, or this run's and to be resumed.

        What is not known yet (experts, before they are trained) is not compared.
        """
        identity = self.identity()
        path = self.out / RUN
        if resume and path.is_file():
            try:
                earlier = dict(json.loads(path.read_text()))
            except ValueError:
                raise InputError(f"{path} is damaged: choose another --out") from None
            for name in identity:
                if name not in earlier:
                    raise InputError(f"{self.out} holds a run of another version of sdc-ext")
                if identity[name] is not None and earlier[name] != identity[name]:
                    raise InputError(
                        f"{self.out} holds a run with {name} {earlier[name]}, not "
                        f"{identity[name]}: resume with the same settings, or choose another --out"
                    )
        elif self.out.exists():
            problem = "holds no run to resume" if resume else "exists (--resume continues a run)"
            raise InputError(f"{self.out} {problem}: choose another --out")

    def identity(self) -> dict[str, Any]:
        """What must be equal for a run to be resumed, as JSON has it."""
        data, accelerator, experts = self.task.data, self.task.accelerator, self.task.experts
        identity = {
            "method": self.method.name,
            "dataset": data.name,
            "images": data.train.images.shape,
            "mean": data.mean,
            "std": data.std,
            "classes": data.classes,
            "ipc": self.task.ipc,
            "seed": self.seed,
            "mixed_precision": accelerator.mixed_precision,
            "compile": self.task.compile,
            "whitening": data.whitened_by,
            "experts": None if experts is None else experts.identity,
            **{name: setting.value for name, setting in self.settings.origin.items()},
        }
        return dict(json.loads(json.dumps(identity)))

    def _evaluate(self, record: Record) -> None:
        run = self.settings.run
        candidates = record.state.candidates()
        best = 0.0
        for name, distilled in candidates.items():
            evaluation = evaluate(
                distilled.images,
                distilled.labels,
                self.task.data,
                self.settings.recipe(distilled.lr),
                network=run.eval_network,
                num_eval=run.num_eval,
                seed=self.seed,
                accelerator=self.task.accelerator,
            )
            record.add(evaluation, name)
            best = max(best, evaluation.mean)
            suffix = "" if name == next(iter(candidates)) else f"_{name}"
            log = {f"accuracy{suffix}": evaluation.mean, f"accuracy_std{suffix}": evaluation.std}
            self.task.accelerator.log(log, step=record.iteration - 1)
            of = f", {name}" if len(candidates) > 1 else ""
            self.console.print(
                f"iteration {record.iteration}{of}: {evaluation} "
                f"({run.num_eval} {evaluation.network})"
            )
        self.on_evaluation(record.iteration, best)

    def _save(self, record: Record, distilled: Distilled | None) -> SyntheticSet:
        """Writes the set with its history."""
        distilled = _present(record.state) if distilled is None else distilled
        synthetic = self.synthetic_set(distilled, record.evaluations)
        if self.task.accelerator.is_main_process:
            record.write_history(self.out)
            synthetic.save(self.out)
        return synthetic

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
            text += "  (skipped)" if log.get("skipped") else ""
            progress.update(bar, completed=iteration, log=text)

        with progress:
            yield show


def _present(state: State) -> Distilled:
    """What is being optimised, as it is now."""
    return next(iter(state.candidates().values()))
