"""The outer loop of a run: iterations, evaluations, checkpoints and callbacks, for any method."""

from __future__ import annotations

import math
import platform
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from sdc_ext._files import as_table, clear_lock, write_files
from sdc_ext._options import YOUR_CHOICE
from sdc_ext._seeds import seed_torch
from sdc_ext.adapters.base import Method, State
from sdc_ext.adapters.settings import Settings
from sdc_ext.adapters.task import Task
from sdc_ext.augment.parse import check_augmentation
from sdc_ext.engine.callbacks import Callback, Calls
from sdc_ext.engine.checkpoint import Checkpoint
from sdc_ext.engine.record import Moment, Record
from sdc_ext.engine.run_folder import RunFolder, held, run_identity
from sdc_ext.errors import DivergenceError, InputError
from sdc_ext.evaluation.evaluator import evaluate
from sdc_ext.networks.create import check_network
from sdc_ext.sets.history import HISTORY
from sdc_ext.sets.info import Evaluation, EvaluationRow, SetInfo, SettingRow
from sdc_ext.sets.synthetic_set import META, RUN, Distilled, SyntheticSet
from sdc_ext.workers.pool import SERIAL, Workers

# A run with more divergences in a row ends, even if it is to skip them.
_MOST_SKIPPED = 100


def check_run(settings: Settings, task: Task) -> None:
    """Raises InputError if a network, an augmentation or the factor does not fit the data."""
    data, run = task.data, settings.run
    for network in (*task.pool, run.eval_network):
        check_network(network, *data.network_shape)
    images, normalisation = data.few_images(), data.preprocessing
    check_augmentation(settings.loop.augmentation, images, normalisation)
    check_augmentation(run.eval_augmentation, images, normalisation, differentiable=False)
    settings.loop.decoder.check(data, task.ipc)


@dataclass(frozen=True)
class Engine:
    """A run that distils one task with one method.

    Attributes:
        method: The method, which provides the loop and says which evaluation counts.
        settings: The resolved settings.
        task: The real data, ipc, network, experts and accelerator.
        seed: Seeds everything; the same seed gives the same bits on the CPU of one machine.
        out: The folder for the distilled set, its history and its checkpoints.
        callbacks: The callbacks, in the order in which they are called.
        evaluate_at: The iterations after which the images are evaluated; by default every
            ``eval_every`` iterations.
        workers: The workers that train the networks of an evaluation side by side.
    """

    method: Method
    settings: Settings
    task: Task
    seed: int
    out: Path
    callbacks: Sequence[Callback] = ()
    evaluate_at: Container[int] | None = None
    workers: Workers = SERIAL

    @property
    def folder(self) -> RunFolder:
        """The folder of the run with the identity of the run."""
        identity = run_identity(self.method, self.settings, self.task, self.seed)
        return RunFolder(self.out, identity)

    def check(self, *, resume: bool) -> None:
        """Checks the run before anything is computed.

        Args:
            resume: Allow that ``out`` holds this run already.

        Raises:
            InputError: If a network or an augmentation does not fit the images, or ``out`` exists
                and does not hold this run.
        """
        check_run(self.settings, self.task)
        self.folder.check(resume=resume)

    def distill(self, *, resume: bool = False) -> SyntheticSet:
        """Runs all iterations and writes the distilled set to ``out``.

        Args:
            resume: Continue the run in ``out``, if there is one; the result is that of a run that
                was never stopped.

        Returns:
            The set of the evaluation that counts: the last one for gradient and distribution
            matching, the best one for trajectory matching.

        Raises:
            InputError: If ``out`` exists and is not to be resumed, or holds another run; if another
                command is writing to it; or if a network or an augmentation does not fit the
                images.
            DivergenceError: If a loss is not finite; the last good set is saved first.
        """
        calls = Calls(self.callbacks)
        self.check(resume=resume)
        with held(self.out, self.task.accelerator):
            self.folder.check(resume=resume)  # another command may have written to it meanwhile
            return self._distill(calls, resume)

    def _distill(self, calls: Calls, resume: bool) -> SyntheticSet:
        seed_torch(self.seed, "start")
        loss_fn = self.settings.run.correct(self.settings.loop.matching_loss())
        record = Record(self.settings.loop.start(self.task), loss_fn, self.method.pick)
        self._claim_folder()  # not earlier: an error in start would leave a folder behind
        checkpoint = Checkpoint(record, self.folder, self.task.accelerator.device)
        if resume:
            checkpoint.restore()
        note = self.settings.loop.note(record.state, self.task)
        if note is not None:
            calls.each(lambda c: c.on_note(note))
        completed = False
        try:
            calls.each(lambda c: c.on_start(record.iteration, self.settings.run.iterations))
            self._run(record, checkpoint, calls)
            synthetic = self._save(record, record.kept, calls)
            completed = True
        finally:
            calls.each(lambda c: c.on_end(record.history, completed))
        return synthetic

    def kept(self) -> SyntheticSet | None:
        """Returns the set of this run if ``out`` holds it finished, whose files stay untouched.

        Raises:
            InputError: If ``out`` holds another run, or something else.
        """
        self.folder.check(resume=True)
        if not all((self.out / name).is_file() for name in (META, HISTORY)):
            return None
        try:
            synthetic = SyntheticSet.load(self.out)
        except InputError:  # it can be made again, from its checkpoint
            return None
        reached = (row["iteration"] for row in synthetic.info.accuracies)
        if self.settings.run.iterations not in reached:
            return None
        self._on_main(lambda: clear_lock(self.out))
        return synthetic

    def _run(self, record: Record, checkpoint: Checkpoint, calls: Calls) -> None:
        run = self.settings.run
        while record.iteration < run.iterations and not calls.stopped:
            before = record.moment()
            try:
                log = self._step_or_skip(record, before, calls)
                self._after_step(record, log, checkpoint, calls)
            except KeyboardInterrupt:
                record.return_to(before)
                self._on_main(checkpoint.save)
                raise

    def _step_or_skip(self, record: Record, before: Moment, calls: Calls) -> dict[str, float]:
        try:
            log = self._step(record)
        except DivergenceError as error:
            return self._skip(record, error, before, calls)
        # A finite step vouches for the state before it, not for the state after it.
        record.proved, record.skipped = before.state, 0
        return log

    def _skip(
        self, record: Record, error: DivergenceError, before: Moment, calls: Calls
    ) -> dict[str, float]:
        """Skips the update, as DATM does above its threshold, or ends the run."""
        iteration = record.iteration
        skipped = before.skipped + 1
        if self.settings.run.on_divergence == "stop" or skipped > _MOST_SKIPPED:
            record.state.load_state_dict(before.state if before.proved is None else before.proved)
            self._save(record, record.kept if self.method.selects == "best" else None, calls)
            raise DivergenceError(f"iteration {iteration}: {error}", self.out) from None
        record.return_to(before)
        record.skipped = skipped
        calls.each(lambda c: c.on_skip(iteration, error))
        log = {"loss": math.nan, "matching": math.nan, "difficulty": math.nan, "skipped": 1}
        record.note(log)
        return log

    def _after_step(
        self, record: Record, log: Mapping[str, float], checkpoint: Checkpoint, calls: Calls
    ) -> None:
        """Reports a step, and evaluates and saves if that is due."""
        calls.each(lambda c: c.on_step(record.iteration, log, record.state))
        due = self._is_due(record.iteration)
        if calls.stopped and not due:
            # First the checkpoint: a run that goes on knows nothing of an evaluation at a stop.
            self._on_main(checkpoint.save)
            self._evaluate(record, calls)
            return
        if due:
            self._evaluate(record, calls)
        self._on_main(checkpoint.save if due else checkpoint.save_now_and_then)
        if due and record.iteration < self.settings.run.iterations and not calls.stopped:
            self._save(record, record.kept, calls)

    def synthetic_set(
        self, distilled: Distilled, evaluations: Sequence[EvaluationRow] = ()
    ) -> SyntheticSet:
        """Returns distilled images as a set, with the settings and versions of this run.

        Args:
            distilled: The stored images (N, C, H, W), their labels and the learnt learning rate.
            evaluations: The evaluations so far, which the set records.
        """
        data = self.task.data
        settings: dict[str, SettingRow] = {
            name: {"value": s.value, "source": s.source} for name, s in self.settings.origin.items()
        }
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
            factor=distilled.factor,
            versions={
                "python": platform.python_version(),
                **{name: version(name) for name in ("sdc-ext", "torch", "timm")},
            },
        )
        images = distilled.images.detach().float().cpu()
        return SyntheticSet.of(images, distilled.labels.detach().cpu(), info, data)

    def _is_due(self, iteration: int) -> bool:
        """Returns whether the images are evaluated after this many iterations."""
        run = self.settings.run
        if self.evaluate_at is not None and iteration < run.iterations:
            return iteration in self.evaluate_at
        return iteration % run.eval_every == 0 or iteration == run.iterations

    def _on_main(self, write: Callable[[], object]) -> None:
        if self.task.accelerator.is_main_process:
            write()

    def _claim_folder(self) -> None:
        # Another process may still be checking that the folder is free.
        self.task.accelerator.wait_for_everyone()
        self._on_main(self.folder.claim)

    def _step(self, record: Record) -> dict[str, float]:
        iteration, loss_fn = record.iteration, record.loss_fn
        seed_torch(self.seed, "iteration", iteration)
        loss_fn.iteration, before = iteration, loss_fn.updates
        log = self.settings.loop.step(record.state, self.task, loss_fn, iteration)
        if loss_fn.follows_share and loss_fn.updates == before:
            raise InputError(
                f"{self.method.name} does not measure its share, because its step calls neither "
                "loss_fn.settle nor the loss itself: pass `lam` instead of `share`"
            )
        log |= {"lam": loss_fn.lam, "share": loss_fn.share, "cosine": loss_fn.cosine}
        record.note(log)
        return log

    def _evaluate(self, record: Record, calls: Calls) -> None:
        run = self.settings.run
        evaluations: dict[str, Evaluation] = {}
        for name, distilled in record.state.candidates().items():
            evaluations[name] = evaluate(
                *distilled.for_training(),
                self.task.data,
                self.settings.recipe(distilled.lr),
                network=run.eval_network,
                num_eval=run.num_eval,
                seed=self.seed,
                accelerator=self.task.accelerator,
                workers=self.workers,
                say=lambda line: calls.each(lambda c: c.on_note(line)),
            )
            record.add(evaluations[name], name)
        calls.each(lambda c: c.on_evaluation(record.iteration, evaluations))

    def _save(self, record: Record, distilled: Distilled | None, calls: Calls) -> SyntheticSet:
        """Writes the set with its history; None stands for the current images."""
        distilled = _present(record.state) if distilled is None else distilled
        synthetic = self.synthetic_set(distilled, record.evaluations)
        if self.task.accelerator.is_main_process:
            files = {RUN: self.folder.write, HISTORY: as_table(record.history)}
            write_files(self.out, files | synthetic.files())
        # Callbacks of the other processes may read the files.
        self.task.accelerator.wait_for_everyone()
        calls.each(lambda c: c.on_save(record.iteration, synthetic, self.out))
        return synthetic


def _present(state: State) -> Distilled:
    """Returns the set being optimised in its current state."""
    return next(iter(state.candidates().values()))
