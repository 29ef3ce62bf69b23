"""``sdc-ext score``: what of a set's accuracy is its images', not its labels' or chance's."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from sdc_ext._files import write_whole
from sdc_ext.cli.options import parse_seed
from sdc_ext.cli.sets import SET_HELP, add_set_data, open_with_data
from sdc_ext.errors import InputError, check_positive
from sdc_ext.verbs.session import make_accelerator, make_console

if TYPE_CHECKING:
    from accelerate import Accelerator
    from torch import Tensor

    from sdc_ext.data.real import RealData
    from sdc_ext.sets.info import Evaluation
    from sdc_ext.sets.synthetic_set import SyntheticSet
    from sdc_ext.training.recipe import TrainingRecipe


_TRAINED_ON = {
    "own": "the set",
    "hard": "the set, hard labels",
    "random": "random real images",
    "full": "all real images",
}


def add_options(parser: ArgumentParser) -> None:
    """Adds the options of the command to its parser."""
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
    from sdc_ext.evaluation.scores import Scores
    from sdc_ext.networks.create import check_network
    from sdc_ext.report.tables import evaluation_table, score_table

    check_positive(options, "num_eval", "full_epochs")
    if options.out is not None and options.out.exists():
        raise InputError(f"{options.out} exists: name another file")
    accelerator = make_accelerator("no", None, Path())
    console = make_console(accelerator)
    synthetic, data = open_with_data(options.set, options, accelerator)
    network = options.network or synthetic.info.eval_network
    check_network(network, data.channels, len(data.classes), data.image_size)
    with console.status("") as status:
        trainer = _Trainer(
            data,
            network,
            options.num_eval,
            options.seed,
            accelerator,
            lambda what: status.update(f"training {options.num_eval} {network} on {what}"),
        )
        accuracies = _accuracies(synthetic, trainer, options.full_epochs)
    scores = Scores.of(**{name: evaluation.mean for name, evaluation in accuracies.items()})
    named = {_TRAINED_ON[name]: evaluation for name, evaluation in accuracies.items()}
    console.print(evaluation_table(f"{network} on {data.name}", named))
    console.print(score_table(scores))
    if options.out is not None and accelerator.is_main_process:
        content = {
            "set": str(options.set),
            "network": network,
            "seed": options.seed,
            "full_epochs": options.full_epochs,
            "evaluation": asdict(synthetic.info.evaluation),
            "accuracies": {name: list(e.accuracies) for name, e in accuracies.items()},
            **asdict(scores),
        }
        text = json.dumps(content, indent=1)
        write_whole(options.out, lambda path: path.write_text(text))


@dataclass(frozen=True)
class _Trainer:
    """Trains and tests networks on this and that."""

    data: RealData
    network: str
    num_eval: int
    seed: int
    accelerator: Accelerator
    say: Callable[[str], object]

    def __call__(
        self, name: str, images: Tensor, labels: Tensor, recipe: TrainingRecipe
    ) -> Evaluation:
        from sdc_ext.evaluation.evaluator import evaluate

        self.say(_TRAINED_ON[name])
        return evaluate(
            *(images, labels, self.data, recipe),
            network=self.network,
            num_eval=self.num_eval,
            seed=self.seed,
            accelerator=self.accelerator,
        )


def _accuracies(
    synthetic: SyntheticSet, train: _Trainer, full_epochs: int
) -> dict[str, Evaluation]:
    """The four that scores are made of; real images and hard labels at the originals' rate."""
    from sdc_ext.evaluation.selection import label_softly, random_like
    from sdc_ext.training.recipe import TrainingRecipe

    data, own = train.data, synthetic.info.evaluation
    usual = replace(own, lr=TrainingRecipe(own.epochs).lr)
    full = replace(usual, epochs=full_epochs)
    hard = synthetic.hard_labels
    chosen = random_like(hard, data, train.seed)
    random, labels = data.normalize(data.train.images[chosen]), data.train.labels[chosen]
    tested = {"own": train("own", synthetic.images, synthetic.labels, own)}
    if synthetic.labels.ndim == 1:
        tested["hard"] = tested["own"]
    else:
        tested["hard"] = train("hard", synthetic.images, hard, usual)
        device = train.accelerator.device
        labels = label_softly(random, data, train.network, full, seed=train.seed, device=device)
    tested["random"] = train("random", random, labels, usual)
    everything = data.normalize(data.train.images)
    tested["full"] = train("full", everything, data.train.labels, full)
    return tested
