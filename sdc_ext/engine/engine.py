"""The outer loop: any method, on any device, with evaluations, checkpoints and callbacks."""

from __future__ import annotations

import copy
import math
import platform
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from sdc_ext._options import YOUR_CHOICE
from sdc_ext._seeds import seed_torch
from sdc_ext.adapters.base import Method, State
from sdc_ext.adapters.settings import Settings
from sdc_ext.adapters.task import Task
from sdc_ext.augment.parse import check_augmentation
from sdc_ext.engine.callbacks import Callback, Calls
from sdc_ext.engine.checkpoint import Checkpoint
from sdc_ext.engine.record import Record
from sdc_ext.engine.run_folder import RunFolder, run_identity
from sdc_ext.errors import DivergenceError
from sdc_ext.evaluation.evaluator import evaluate
from sdc_ext.networks.create import check_network
from sdc_ext.regularizer import SDCLoss, with_sdc
from sdc_ext.sets.info import Evaluation, SetInfo
from sdc_ext.sets.synthetic_set import Distilled, SyntheticSet

# Divergences in a row after which skipping them is hopeless.
_MOST_SKIPPED = 100


def check_run(settings: Settings, task: Task) -> None:
    """Raises InputError if a network or an augmentation of a run cannot take the images."""
    data, run = task.data, settings.run
    for network in (task.network, run.eval_network):
        check_network(network, *data.network_shape)
    for augmentation in (settings.loop.augmentation, run.eval_augmentation):
        check_augmentation(augmentation, data.channels, data.image_size)


@dataclass(frozen=True)
class Engine:
    """Distils one task with one method.

    Attributes:
        method: Which loop, and which evaluation counts.
        settings: The resolved hyper-parameters.
        task: The real data, ipc, network, experts and accelerator.
        seed: The same seed gives the same bits on one machine's CPU.
        out: The folder for the distilled set, its history and checkpoints.
        callbacks: What is called after steps, evaluations and saves, in this order.
        evaluate_at: The iterations after which the images are evaluated, instead of every
            ``eval_every``.
    """

    method: Method
    settings: Settings
    task: Task
    seed: int
    out: Path
    callbacks: Sequence[Callback] = ()
    evaluate_at: Container[int] | None = None

    @property
    def folder(self) -> RunFolder:
        """Where the run writes, and what it is."""
        identity = run_identity(self.method, self.settings, self.task, self.seed)
        return RunFolder(self.out, identity)

    def check(self, *, resume: bool) -> None:
        """Raises InputError if the run cannot take the images, or its folder is taken."""
        check_run(self.settings, self.task)
        self.folder.check(resume=resume)

    def distill(self, *, resume: bool = False) -> SyntheticSet:
        """Runs all iterations and writes the distilled set to ``out``.

        Args:
            resume: Continue the run in ``out``, if there is one; it ends as if it had not been
                stopped.

        Returns:
            The set that counts: the last for gradient matching, the best for trajectories.

        Raises:
            InputError: If ``out`` exists and is not to be resumed, or holds another run; or if a
                network or augmentation cannot take the images.
            DivergenceError: If a loss is not finite; the last good set is saved first.
        """
        calls = Calls(self.callbacks)
        self.check(resume=resume)
        seed_torch(self.seed, "start")
        record = Record(self.settings.loop.start(self.task), self.method.pick)
        self._claim_folder()  # now that the run can begin
        checkpoint = Checkpoint(record, self.out, self.task.accelerator.device)
        if resume:
            checkpoint.restore()
        completed = False
        try:
            calls.each(lambda c: c.on_start(record.iteration, self.settings.run.iterations))
            self._run(record, checkpoint, calls)
            synthetic = self._save(record, record.kept, calls)
            completed = True
        finally:
            calls.each(lambda c: c.on_end(record.history, completed))
        return synthetic

    def _run(self, record: Record, checkpoint: Checkpoint, calls: Calls) -> None:
        run = self.settings.run
        loss_fn = with_sdc(self.settings.loop.matching_loss(), run.schedule, norm=run.norm)
        way_back = _WayBack.of(record.state)
        while record.iteration < run.iterations and not calls.stopped:
            way_back.before = copy.deepcopy(record.state.state_dict())
            try:
                log = self._step(record, loss_fn)
                # A step proves what it began with: what is after it may have no finite loss.
                way_back.proved, way_back.skipped = way_back.before, 0
            except DivergenceError as error:
                log = self._skip(record, error, way_back, calls)
            except KeyboardInterrupt:
                record.state.load_state_dict(way_back.before)
                self._on_main(checkpoint.save)
                raise
            self._after_step(record, log, checkpoint, calls)

    def _skip(
        self, record: Record, error: DivergenceError, way_back: _WayBack, calls: Calls
    ) -> dict[str, float]:
        """Goes on without the update, as DATM does above its threshold, or ends the run."""
        iteration = record.iteration
        way_back.skipped += 1
        if self.settings.run.on_divergence == "stop" or way_back.skipped > _MOST_SKIPPED:
            record.state.load_state_dict(way_back.proved)
            self._save(record, record.kept if self.method.selects == "best" else None, calls)
            raise DivergenceError(
                f"iteration {iteration}: {error}; the last good set is in {self.out}"
            ) from None
        record.state.load_state_dict(way_back.before)
        calls.each(lambda c: c.on_skip(iteration, error))
        log = {"loss": math.nan, "matching": math.nan, "difficulty": math.nan, "skipped": 1}
        record.note(log)
        return log

    def _after_step(
        self, record: Record, log: Mapping[str, float], checkpoint: Checkpoint, calls: Calls
    ) -> None:
        """Reports a step, and evaluates and saves where that is due."""
        calls.each(lambda c: c.on_step(record.iteration, log, record.state))
        due = self._is_due(record.iteration) or calls.stopped
        if due:
            self._evaluate(record, calls)
        self._on_main(checkpoint.save if due else checkpoint.save_now_and_then)
        if due and record.iteration < self.settings.run.iterations and not calls.stopped:
            self._save(record, record.kept, calls)

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
        return SyntheticSet.of(images, distilled.labels.detach().cpu(), info, data)

    def _is_due(self, iteration: int) -> bool:
        """Whether an evaluation comes after so many iterations."""
        run = self.settings.run
        if self.evaluate_at is not None and iteration < run.iterations:
            return iteration in self.evaluate_at
        return iteration % run.eval_every == 0 or iteration == run.iterations

    def _on_main(self, write: Callable[[], object]) -> None:
        if self.task.accelerator.is_main_process:
            write()

    def _claim_folder(self) -> None:
        self.task.accelerator.wait_for_everyone()  # nobody may still be checking the folder
        self._on_main(self.folder.claim)

    def _step(self, record: Record, loss_fn: SDCLoss) -> dict[str, float]:
        iteration = record.iteration
        seed_torch(self.seed, "iteration", iteration)
        loss_fn.iteration = iteration
        log = self.settings.loop.step(record.state, self.task, loss_fn, iteration)
        log["lam"] = loss_fn.lam
        record.note(log)
        return log

    def _evaluate(self, record: Record, calls: Calls) -> None:
        run = self.settings.run
        evaluations: dict[str, Evaluation] = {}
        for name, distilled in record.state.candidates().items():
            evaluations[name] = evaluate(
                distilled.images,
                distilled.labels,
                self.task.data,
                self.settings.recipe(distilled.lr),
                network=run.eval_network,
                num_eval=run.num_eval,
                seed=self.seed,
                accelerator=self.task.accelerator,
            )
            record.add(evaluations[name], name)
        calls.each(lambda c: c.on_evaluation(record.iteration, evaluations))

    def _save(self, record: Record, distilled: Distilled | None, calls: Calls) -> SyntheticSet:
        """Writes the set with its history."""
        distilled = _present(record.state) if distilled is None else distilled
        synthetic = self.synthetic_set(distilled, record.evaluations)
        if self.task.accelerator.is_main_process:
            record.write_history(self.out)
            synthetic.save(self.out)
        self.task.accelerator.wait_for_everyone()  # or others would look for what is not there yet
        calls.each(lambda c: c.on_save(record.iteration, synthetic, self.out))
        return synthetic


@dataclass
class _WayBack:
    """States to go back to when a step fails.

    Attributes:
        proved: The last state from which a step succeeded.
        before: The state before the present step.
        skipped: Updates that were left out in a row.
    """

    proved: dict[str, Any]
    before: dict[str, Any]
    skipped: int = 0

    @classmethod
    def of(cls, state: State) -> _WayBack:
        now = copy.deepcopy(state.state_dict())
        return cls(now, now)


def _present(state: State) -> Distilled:
    """What is being optimised, as it is now."""
    return next(iter(state.candidates().values()))
