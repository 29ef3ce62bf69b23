"""The verb that audits sets for robustness and for fairness across groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from rich.console import RenderableType

from sdc_ext._console import make_progress
from sdc_ext._files import as_table, write_files, write_whole
from sdc_ext._values import Count, Names, Rate, Seed, checked
from sdc_ext.evaluation.audit import Answers, audit, conditions_of, groups_of
from sdc_ext.evaluation.evaluator import TrainedOn, tested_only
from sdc_ext.networks.create import check_network
from sdc_ext.report.audits import audit_table, draw_audit, group_table
from sdc_ext.report.shown import Shown
from sdc_ext.verbs.opening import OpenedSet, Sets, open_sets
from sdc_ext.verbs.session import check_free, make_accelerator, make_console, network_names
from sdc_ext.workers import choose_workers

CONDITIONS = (
    *(f"gaussian-noise:{severity}" for severity in (1, 3, 5)),
    *("gaussian-blur:3", "brightness:3", "contrast:3", "pixelate:3", "jpeg:3"),
    *("fgsm:8", "pgd:8"),
)
"""The conditions of an audit by default, besides clean test images."""


@dataclass(frozen=True, repr=False)
class Audited(Shown):
    """The accuracies under each condition, overall and by group; they print as tables.

    Attributes:
        answers: What the networks of each set answered, by the name of the set.
        network: The architecture by the name of the set.
        seed: The seed of the networks.
    """

    answers: Mapping[str, Answers]
    network: Mapping[str, str]
    seed: int

    def tables(self) -> Sequence[RenderableType]:
        """Returns the table of conditions, that of groups, and how they were measured."""
        networks = len(next(iter(self.answers.values())).correct)
        counts = dict.fromkeys(str(found.correct.shape[-1]) for found in self.answers.values())
        return (
            audit_table(self.answers),
            group_table(self.answers),
            f"{networks} networks per set, {' or '.join(counts)} test images; ± is half of a 95 % "
            "interval over networks; attacks change a pixel by up to so many 255ths",
        )

    def rows(self) -> list[dict[str, Any]]:
        """Returns one row per set, condition and group, and one for all groups together."""
        return [
            {
                "set": name,
                "network": self.network[name],
                "seed": self.seed,
                "networks": len(found.correct),
                "condition": condition,
                "group": group,
                "accuracy": mean.mean,
                "half_width": mean.half_width,
            }
            for name, found in self.answers.items()
            for condition in found.conditions
            for group, mean in {
                "": found.accuracy(condition),
                **found.accuracies_by_group(condition),
            }.items()
        ]

    def draw(self, path: str | Path) -> None:
        """Draws the accuracy and that of the worst group by condition into a file."""
        write_whole(Path(path), lambda file: draw_audit(self.answers, file))

    def save(self, folder: str | Path) -> None:
        """Writes ``audit.csv`` and ``audit.png`` to a folder."""
        write_files(Path(folder), {"audit.csv": as_table(self.rows()), "audit.png": self.draw})


@checked
def audit_set(
    sets: Sets,
    data: Any = None,
    *,
    conditions: Names = CONDITIONS,
    groups: Sequence[Any] | None = None,
    network: str | None = None,
    num_eval: Count = 5,
    epoch_eval_train: Count | None = None,
    lr: Rate | None = None,
    seed: Seed = 0,
    out: str | Path | None = None,
    workers: Any = 1,
    accelerator: Accelerator | None = None,
    progress: bool = True,
) -> Audited:
    """Tests networks trained on sets under corruptions and attacks, and by group of images.

    Args:
        sets: One distilled set or several; see [`evaluate_set`][sdc_ext.evaluate_set].
        data: The real data; see [`evaluate_set`][sdc_ext.evaluate_set].
        conditions: Changes of the test images: a corruption and its severity from 1 to 5, e.g.
            ``"jpeg:3"``, or an attack and the largest change of a pixel in 255ths, ``"fgsm:8"`` or
            ``"pgd:8"``. The corruptions are ``"gaussian-noise"``, ``"gaussian-blur"``,
            ``"brightness"``, ``"contrast"``, ``"pixelate"`` and ``"jpeg"``. Clean images always
            belong to them.
        groups: The group of each test image, in the order of the data; by default its class.
        network: The network to train; by default the one that each set was evaluated with.
        num_eval: The number of networks to train per set.
        epoch_eval_train: The number of training epochs; by default that of the set's own recipe.
        lr: The learning rate for training on the sets; by default the one that each names.
        seed: Seeds the networks, which are those of [`evaluate_set`][sdc_ext.evaluate_set], and
            the noise, which is the same for all sets.
        out: A folder for the table and the picture; by default nothing is written.
        workers: The number of processes that train networks side by side, each with one thread, or
            an executor; see [`choose_workers`][sdc_ext.workers.choose_workers].
        accelerator: The Accelerator to run with; by default one that uses the machine's devices.
        progress: Show a progress bar.

    Returns:
        The accuracies, which print as tables.

    Raises:
        InputError: If a set cannot be read or does not fit the data, a condition is unknown, the
            number of groups is not that of the test images, the network does not fit the images, or
            ``out`` exists.

    Reference: Selvan and Chen, "A Discrepancy-Based Perspective on Dataset Condensation" (2025), on
        objectives beyond accuracy; Hendrycks and Dietterich (2019) on corruptions; Sagawa et al.,
        "Distributionally Robust Neural Networks" (2020), on the worst group.
    """
    check_free(out)
    chosen = conditions_of(conditions)
    accelerator = accelerator or make_accelerator()
    side_by_side = choose_workers(workers, launched=accelerator.num_processes)
    console = make_console(accelerator, progress)
    opened = open_sets(sets, data, accelerator, lr=lr)
    trained = {one.name: _trained_on(one, network, epoch_eval_train) for one in opened}
    of_data = {
        one.name: groups_of(groups, one.data.test.labels, one.data.classes) for one in opened
    }
    found: dict[str, Answers] = {}
    with make_progress(console) as bar:
        task = bar.add_task("", total=len(trained) * num_eval)
        for name, how in trained.items():
            bar.update(task, description=name)
            found[name] = audit(
                how,
                chosen,
                of_data[name],
                num_eval=num_eval,
                seed=seed,
                accelerator=accelerator,
                workers=side_by_side,
                on_network=lambda: bar.advance(task, accelerator.num_processes),
                say=console.print,
            )
    audited = Audited(found, {name: how.network for name, how in trained.items()}, seed)
    if out is not None and accelerator.is_main_process:
        audited.save(out)
    return audited


def _trained_on(one: OpenedSet, network: str | None, epochs: int | None) -> TrainedOn:
    info = one.synthetic.info
    chosen = network_names(network)
    name = info.eval_network if chosen is None else chosen[0]
    check_network(name, *one.data.network_shape)
    recipe = info.evaluation if epochs is None else replace(info.evaluation, epochs=epochs)
    data = tested_only(one.data)
    return TrainedOn(one.synthetic.images, one.synthetic.labels, data, recipe, name)
