"""The verb that audits a method for what its sets reveal about the images they were made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, TypeAlias

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from rich.console import RenderableType
from torch import Tensor

from sdc_ext._console import make_progress
from sdc_ext._files import as_table, write_files, write_whole
from sdc_ext._seeds import derived_seed, seed_torch
from sdc_ext._values import Count, Seed, checked
from sdc_ext.adapters.methods import METHODS, known_methods
from sdc_ext.data.real import RealData, Split
from sdc_ext.errors import InputError, check_choice
from sdc_ext.evaluation.evaluator import TrainedOn, trained_network
from sdc_ext.evaluation.membership import (
    LOW_RATE,
    Attacks,
    check_audited,
    confidence,
    draw_halves,
)
from sdc_ext.evaluation.selection import BASELINES
from sdc_ext.networks.features import outputs_of
from sdc_ext.report.audits import draw_attacks, membership_table
from sdc_ext.report.shown import Shown
from sdc_ext.sets.synthetic_set import SyntheticSet
from sdc_ext.training.gradients import BatchLoss
from sdc_ext.verbs.distillation import distill
from sdc_ext.verbs.selection import select_set
from sdc_ext.verbs.session import check_free, make_accelerator, make_console, open_data, refuse
from sdc_ext.workers import choose_workers

Control: TypeAlias = Literal["none", "planted", "null"]


@dataclass(frozen=True, repr=False)
class MembershipAudit(Shown):
    """The attacks on the networks of shadow sets; they print as a table.

    Attributes:
        attacks: The attack on each network.
        method: The method that made the sets.
        control: ``"none"``, ``"planted"`` or ``"null"``; see
            [`membership_of`][sdc_ext.membership_of].
        images: The number of audited images.
    """

    attacks: Attacks
    method: str
    control: Control
    images: int

    def tables(self) -> Sequence[RenderableType]:
        """Returns the table of the areas and the true-positive rate, and how it was measured."""
        return membership_table(self.method, self.control, self.attacks), (
            f"{len(self.attacks.each)} shadow sets, {self.images} audited images; 95 % intervals "
            "over pairs of complementary halves and over images"
        )

    def rows(self) -> list[dict[str, Any]]:
        """Returns one row per attacked network."""
        return [
            {
                "method": self.method,
                "control": self.control,
                "shadow": k,
                "images": self.images,
                "auc": attack.auc,
                "true_positive": attack.true_positive_at(LOW_RATE),
                "at_false_positive": LOW_RATE,
            }
            for k, attack in enumerate(self.attacks.each)
        ]

    def draw(self, path: str | Path) -> None:
        """Draws the curve of every attack and that of a guess into a file."""
        write_whole(Path(path), lambda file: draw_attacks(self.attacks, file))

    def save(self, folder: str | Path) -> None:
        """Writes ``membership.csv`` and ``membership.png`` to a folder."""
        files = {"membership.csv": as_table(self.rows()), "membership.png": self.draw}
        write_files(Path(folder), files)


@checked
def membership_of(
    method: str,
    data: Any = "digits",
    *,
    ipc: Count = 1,
    shadows: Count = 16,
    images: Count = 200,
    control: Control = "none",
    epoch_eval_train: Count | None = None,
    seed: Seed = 0,
    out: str | Path | None = None,
    workers: Any = 1,
    accelerator: Accelerator | None = None,
    progress: bool = True,
    **settings: Any,
) -> MembershipAudit:
    """Attacks networks trained on sets of a method: which images were the sets made from?

    Shadow sets are made from random halves of the training images. The likelihood-ratio attack
    then says of each audited image whether it was in a half, from a network's confidence alone.

    Args:
        method: A method of [`distill`][sdc_ext.distill], or a baseline of
            [`select_set`][sdc_ext.select_set].
        data: The real data, as [`distill`][sdc_ext.distill] takes them.
        ipc: The number of images per class.
        shadows: The number of sets, which is even and at least 6. Every one of them is attacked
            with the others as its shadows.
        images: The largest number of audited training images, which are drawn at random.
        control: Shows what the attack is able to find: with ``"planted"`` the audited images of
            its half are part of each set, so that the attack should succeed, and with ``"null"``
            no set is made from audited images, so that no attack can.
        epoch_eval_train: The number of epochs for which the attacked networks are trained; by
            default that of the sets' own recipe.
        seed: Seeds the halves, the sets and the networks.
        out: A folder for the table and the picture; by default nothing is written.
        workers: The number of processes that make sets side by side, each with one thread, or an
            executor; see [`choose_workers`][sdc_ext.workers.choose_workers].
        accelerator: The Accelerator to run with; by default one that uses the machine's devices.
        progress: Show a progress bar.
        **settings: Settings of the method, as [`distill`][sdc_ext.distill] takes them; for
            baselines those of the training of their network, as
            [`select_set`][sdc_ext.select_set] takes them.

    Returns:
        The attacks, which print as a table.

    Raises:
        InputError: If the method or a setting is unknown, the method matches experts, the number of
            shadows is odd or too low, a half has too few images, or ``out`` exists.
        DivergenceError: If an attacked network diverges.

    Reference: Carlini et al., "Membership Inference Attacks From First Principles" (2022).
    """
    _check_method(method, settings)
    check_free(out)
    accelerator = accelerator or make_accelerator()
    side_by_side = choose_workers(workers, launched=accelerator.num_processes)
    console = make_console(accelerator, progress)
    loaded = open_data(data, accelerator)
    halves = draw_halves(loaded.train.labels, shadows, seed)
    seed_torch(seed, "audited")
    audited = torch.randperm(len(loaded.train))[:images].sort().values
    check_audited(halves[:, audited])
    if epoch_eval_train is not None and method not in BASELINES:
        settings["epoch_eval_train"] = epoch_eval_train
    shared = _Shadows(
        method=method,
        data=loaded,
        ipc=ipc,
        settings=settings,
        halves=halves,
        audited=audited,
        control=control,
        epochs=epoch_eval_train,
        seed=seed,
        accelerator=accelerator,
    )
    with make_progress(console) as bar:
        task = bar.add_task(f"shadow sets of {method}", total=shadows)
        found = side_by_side.map(
            _Shadows.confidences,
            shared,
            range(shadows),
            on_done=lambda index, result: bar.advance(task),
            say=console.print,
        )
    attacks = Attacks.of(torch.tensor(found, dtype=torch.float64), halves[:, audited])
    audit = MembershipAudit(attacks, method, control, len(audited))
    if out is not None and accelerator.is_main_process:
        audit.save(out)
    return audit


def _check_method(method: str, settings: Mapping[str, Any]) -> None:
    """Raises InputError if a method cannot be audited, or has no such settings."""
    allowed = _auditable()
    if method in METHODS.names() and method not in allowed:
        raise InputError(f"{method} matches experts, which saw all images: audit another one")
    check_choice("method", method, allowed)
    refuse(settings, "membership_of", experts="experts have seen all images")
    if method in BASELINES:
        verb = f"membership_of of {method}"
        refuse(settings, verb, iterations="`iterations` are those of a method that distils")


def _auditable() -> list[str]:
    """Returns the methods that see no image outside of their half, and the baselines."""
    return [*(m.name for m in known_methods() if m.experts is None), *BASELINES]


@dataclass(frozen=True)
class _Shadows:
    method: str
    data: RealData
    ipc: int
    settings: Mapping[str, Any]
    halves: Tensor
    audited: Tensor
    control: Control
    epochs: int | None
    seed: int
    accelerator: Accelerator

    def confidences(self, k: int) -> list[float]:
        """Makes set k, and returns the confidence of its network in each audited image."""
        half = self._half(k)
        made = self._set(k, half)
        images, labels = made.images, made.labels
        # A whitening is fitted to the half, since the set has seen no other image.
        real = replace(self.data, preprocessing=made.adopt(half).preprocessing)
        if self.control == "planted":
            members = self.audited[self.halves[k, self.audited]]
            images = torch.cat([images, real.normalize(real.train.images[members])])
            planted = real.train.labels[members]
            if labels.ndim == 2:
                planted = F.one_hot(planted, labels.shape[1]).to(labels)
            labels = torch.cat([labels, planted])
        recipe = made.info.evaluation
        if self.epochs is not None:
            recipe = replace(recipe, epochs=self.epochs)
        trained = TrainedOn(images, labels, real, recipe, made.info.eval_network)
        loss = BatchLoss.of(self.accelerator)
        network = trained_network(trained, self.seed, k, loss, self.accelerator.device)
        logits = outputs_of(network, real.normalize(real.train.images[self.audited]))
        of_each: list[float] = confidence(logits, real.train.labels[self.audited]).tolist()
        return of_each

    def _half(self, k: int) -> RealData:
        chosen = self.halves[k].clone()
        if self.control == "null":
            chosen[self.audited] = False
        split = self.data.train
        return replace(self.data, train=Split(split.images[chosen], split.labels[chosen]))

    def _set(self, k: int, half: RealData) -> SyntheticSet:
        common: dict[str, Any] = {"ipc": self.ipc, "progress": False}
        common["seed"] = derived_seed(self.seed, "shadow", k)
        common["accelerator"] = self.accelerator
        if self.method in BASELINES:
            return select_set(self.method, half, **common, **self.settings)
        with TemporaryDirectory(prefix="sdc-membership-") as own:
            # The processes of a launch distil together, into the folder of the first.
            (folder,) = broadcast_object_list([own])
            once = {"num_eval": 1, "eval_every": 10**9}  # its accuracy is of no interest here
            common |= once | dict(self.settings)
            made = distill(self.method, half, out=Path(folder) / "set", **common)
            self.accelerator.wait_for_everyone()
        return made
