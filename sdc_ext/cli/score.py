"""``sdc-ext score``: what of a set's accuracy is its images', not its labels' or chance's."""

from __future__ import annotations

import json
from argparse import Namespace
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdc_ext.cli.common import make_accelerator, make_console, parse_seed
from sdc_ext.cli.sets import SET_HELP, add_set_data, open_with_data
from sdc_ext.errors import InputError, check_positive
from sdc_ext.files import write_whole

if TYPE_CHECKING:
    from sdc_ext.data import RealData
    from sdc_ext.evaluate import Evaluation
    from sdc_ext.synthetic import SyntheticSet


def add_score(commands: Any) -> None:
    parser = commands.add_parser(
        "score", help="hard-label recovery, improvement over random, label-robust score"
    )
    parser.add_argument("set", type=Path, metavar="SET", help=SET_HELP)
    add_set_data(parser)
    parser.add_argument("--network", help="what is trained (default: the set's own)")
    parser.add_argument("--num-eval", type=int, default=5, help="networks of each (default 5)")
    parser.add_argument(
        "--full-epochs", type=int, default=20, help="on all real images (default 20)"
    )
    parser.add_argument("--seed", type=parse_seed, default=0, help="of all of it (default 0)")
    parser.add_argument("--out", type=Path, help="a .json file for the scores")
    parser.set_defaults(run=_score)


def _score(options: Namespace) -> None:
    from sdc_ext.evaluate import evaluate
    from sdc_ext.networks import check_network
    from sdc_ext.report import evaluation_table, score_table
    from sdc_ext.scores import Scores

    check_positive(options, "num_eval", "full_epochs")
    if options.out is not None and options.out.exists():
        raise InputError(f"{options.out} exists: name another file")
    accelerator = make_accelerator("no", None, options.set)
    console = make_console(accelerator)
    synthetic, data = open_with_data(options.set, options, accelerator)
    network = options.network or synthetic.info.eval_network
    check_network(network, data.channels, len(data.classes), data.image_size)
    recipe = synthetic.info.evaluation
    accuracies: dict[str, Evaluation] = {}
    for what, (images, labels) in _training_sets(synthetic, data, options.seed).items():
        epochs = options.full_epochs if what == "all real images" else recipe.epochs
        with console.status(f"training {options.num_eval} {network} on {what}"):
            evaluation = evaluate(
                *(images, labels, data, replace(recipe, epochs=epochs)),
                network=network,
                num_eval=options.num_eval,
                seed=options.seed,
                accelerator=accelerator,
            )
        accuracies[what] = replace(evaluation, network=what)
    own, hard, random, full = (e.mean for e in accuracies.values())
    scores = Scores.of(own=own, hard=hard, random=random, full=full)
    console.print(
        evaluation_table(f"{network} on {data.name}", list(accuracies.values()), "trained on")
    )
    console.print(score_table(scores))
    if options.out is not None and accelerator.is_main_process:
        rows = {what: e.row(0)["accuracies"] for what, e in accuracies.items()}
        text = json.dumps({"network": network, "accuracies": rows, **asdict(scores)}, indent=1)
        write_whole(options.out, lambda path: path.write_text(text))


def _training_sets(synthetic: SyntheticSet, data: RealData, seed: int) -> dict[str, Any]:
    """Images and labels by name: the set, with hard labels, as many random images, and all."""
    import torch

    from sdc_ext.baselines import Probe, select_images

    chosen = select_images(
        *("random", data, synthetic.info.ipc, Probe()), seed=seed, device=torch.device("cpu")
    )
    images, labels = data.train.images, data.train.labels
    return {
        "the set": (synthetic.images, synthetic.labels),
        "the set, hard labels": (synthetic.images, synthetic.hard_labels),
        "random real images": (data.normalize(images[chosen]), labels[chosen]),
        "all real images": (data.normalize(images), labels),
    }
