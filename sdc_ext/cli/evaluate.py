"""``sdc-ext evaluate``: distilled sets on several networks, beside all real images."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from sdc_ext._files import write_table, write_whole
from sdc_ext.cli.folders import check_free, claim_folder
from sdc_ext.cli.options import listed, parse_seed
from sdc_ext.cli.sets import SET_HELP, add_set_data, open_all
from sdc_ext.errors import check_positive
from sdc_ext.verbs.session import make_accelerator, make_console

if TYPE_CHECKING:
    from accelerate import Accelerator

    from sdc_ext.data.real import RealData
    from sdc_ext.evaluation.results import Result
    from sdc_ext.sets.synthetic_set import SyntheticSet
    from sdc_ext.training.recipe import TrainingRecipe


def add_options(parser: ArgumentParser) -> None:
    """Adds the options of the command to its parser."""
    parser.add_argument("sets", type=Path, nargs="+", metavar="SET", help=SET_HELP)
    add_set_data(parser)
    parser.add_argument(
        "--networks", help="comma-separated, ours or timm's (default: the set's own)"
    )
    parser.add_argument("--num-eval", type=int, default=5, help="networks of each (default 5)")
    parser.add_argument("--epoch-eval-train", type=int, help="epochs (default: the set's own)")
    parser.add_argument("--seed", type=parse_seed, default=0, help="of the networks (default 0)")
    parser.add_argument(
        "--mixed-precision", choices=("no", "bf16"), default="no", help="of the networks"
    )
    parser.add_argument("--compile", action="store_true", help="compile (needs a C++ compiler)")
    parser.add_argument(
        "--real-epochs", type=int, help="also train on all real images, for so many epochs"
    )
    parser.add_argument("--out", type=Path, help="folder of the table and the chart")
    parser.set_defaults(run=_evaluate)


_ALL = "all real images"


@dataclass(frozen=True)
class _Job:
    """One set to be evaluated on one architecture."""

    name: str
    synthetic: SyntheticSet
    data: RealData
    network: str
    recipe: TrainingRecipe


def _evaluate(options: Namespace) -> None:
    from rich.progress import Progress

    from sdc_ext.evaluation.evaluator import evaluate
    from sdc_ext.evaluation.results import Result
    from sdc_ext.report.tables import cross_table

    check_positive(options, "num_eval")
    check_free(options.out)
    accelerator = make_accelerator(options.mixed_precision, None, Path())
    console = make_console(accelerator)
    jobs = list(_jobs(options, accelerator))
    out = Path()
    if accelerator.is_main_process:
        out = claim_folder(options.out, "evaluation", options.sets)
    results: list[Result] = []
    with Progress(console=console, disable=not accelerator.is_main_process) as progress:
        bar = progress.add_task("", total=len(jobs) * options.num_eval)
        for job in jobs:
            progress.update(bar, description=f"{job.name}: {job.network}")
            evaluation = evaluate(
                job.synthetic.images,
                job.synthetic.labels,
                job.data,
                job.recipe,
                network=job.network,
                num_eval=options.num_eval,
                seed=options.seed,
                accelerator=accelerator,
                compile=options.compile,
                on_network=lambda: progress.advance(bar, accelerator.num_processes),
            )
            results.append(Result(job.name, job.synthetic, job.recipe, options.seed, evaluation))
            if accelerator.is_main_process:
                _write_results(results, out)  # hours of work are not lost to an interruption
    console.print(cross_table(results))
    console.print(f"accuracies.csv, accuracies.json and accuracies.png in {out}")


def _jobs(options: Namespace, accelerator: Accelerator) -> Iterator[_Job]:
    """Everything to evaluate, checked; all real images, if wanted, once a network and recipe."""
    from sdc_ext.networks.create import check_network

    real: dict[tuple[object, ...], SyntheticSet] = {}
    of_real: dict[tuple[object, ...], _Job] = {}
    for name, synthetic, data in open_all(options, accelerator):
        named = options.networks or synthetic.info.eval_network
        own = synthetic.info.evaluation
        for network in listed(named):
            check_network(network, data.channels, len(data.classes), data.image_size)
            yield _Job(name, synthetic, data, network, _recipe(own, options))
            if options.real_epochs is not None:
                recipe = _recipe_of_real(synthetic, options)
                if data.identity not in real:
                    real[data.identity] = _all_real_images(data, recipe)
                job = _Job(_ALL, real[data.identity], data, network, recipe)
                of_real.setdefault((*data.identity, network, recipe), job)
    yield from of_real.values()


def _all_real_images(data: RealData, recipe: TrainingRecipe) -> SyntheticSet:
    """The training images, as if they were a distilled set."""
    from sdc_ext.evaluation.results import REAL
    from sdc_ext.sets.info import told_by_data
    from sdc_ext.sets.synthetic_set import SyntheticSet

    info = replace(told_by_data(data, data.train.labels, recipe), method=REAL)
    return SyntheticSet(data.normalize(data.train.images), data.train.labels, info)


def _recipe_of_real(synthetic: SyntheticSet, options: Namespace) -> TrainingRecipe:
    """A set's recipe but for what is right for it alone: epochs, and a rate that it learnt."""
    check_positive(options, "real_epochs")
    own = synthetic.info.evaluation
    usual = synthetic.info.value("lr_eval") or type(own)(own.epochs).lr
    return replace(own, lr=options.lr_eval or usual, epochs=options.real_epochs)


def _recipe(own: TrainingRecipe, options: Namespace) -> TrainingRecipe:
    """How to train, where the user says otherwise than the set."""
    for name, field in (("epoch_eval_train", "epochs"), ("lr_eval", "lr")):
        if getattr(options, name) is not None:
            check_positive(options, name)
            own = replace(own, **{field: getattr(options, name)})
    return own


def _write_results(results: Sequence[Result], out: Path) -> None:
    from sdc_ext.evaluation.results import as_json, as_rows
    from sdc_ext.report.figures import draw_accuracies

    text = json.dumps(as_json(results), indent=1)
    write_table(as_rows(results), out / "accuracies.csv")
    write_whole(out / "accuracies.json", lambda path: path.write_text(text))
    write_whole(out / "accuracies.png", lambda path: draw_accuracies(results, path))
