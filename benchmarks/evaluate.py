"""Times evaluation against the original code's, in one run: epochs, tests, and many networks.

    python benchmarks/evaluate.py --upstream DIR --data-dir DATA [--rounds 5]

The setting is the original's: ConvNet of 3 blocks of 128 on MNIST, epochs over 100 training
images under plain DC's and DSA's augmentation, tests on 1,000 images. Then 20 networks are trained
on 10 images under DSA's augmentation for 100 epochs, of the original's 1,000, and tested, by its
``evaluate_synset`` and by ours with one process and with two. DIR is a checkout of
VICO-UoE/DatasetCondensation; DATA is a folder that torchvision reads as MNIST.

Three cases run in processes of their own and take turns: the original, ours in float32, and ours
compiled in bfloat16. Afterwards all train from the same weights and their accuracies are compared;
this is done without augmentation, since they draw it differently. Run it on an idle machine.
"""

from __future__ import annotations

import multiprocessing
import platform
import statistics
import sys
import time
import warnings
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD
from torch.utils.data import DataLoader, TensorDataset

PER_CLASS, TESTED = 10, 1000
DSA = "color_crop_cutout_scale_rotate"
AUGMENTATIONS = {"DC": "dc:crop_scale_rotate", "DSA": DSA}
AT_ONCE = 5  # epochs a turn, so that caches are warm
CASES = (
    *(f"{AT_ONCE} epochs, {name} augmentation" for name in AUGMENTATIONS),
    f"test of {TESTED} images",
)
EPOCHS, SEEDS = 30, 2
NETWORKS, EPOCHS_OF_NETWORKS, PROCESSES = 20, 100, 2
ONE_BY_ONE, SIDE_BY_SIDE = (
    f"{NETWORKS} networks, {n}" for n in ("one by one", f"{PROCESSES} processes")
)
SIDES = ("original", "ours", "ours, bf16, compiled")

Job = Callable[[], object]


def make_inputs(data_dir: Path) -> tuple[Tensor, Tensor, list[tuple[Tensor, Tensor]], Any]:
    """100 training images with labels, the test images in our batches, and the data."""
    from dataclasses import replace

    from sdc_ext.data.load import load_data
    from sdc_ext.data.real import Split
    from sdc_ext.training.epochs import normalized_batches

    data = load_data("mnist", data_dir)
    index = torch.cat([of_class[:PER_CLASS] for of_class in data.indices_by_class()])
    test = Split(data.test.images[:TESTED], data.test.labels[:TESTED])
    batches = normalized_batches(data, test, torch.device("cpu"))
    images = data.normalize(data.train.images[index])
    return images, data.train.labels[index], batches, replace(data, test=test)


def make_network(seed: int) -> nn.Module:
    """The network that both sides start from."""
    from sdc_ext.networks.create import create_network

    torch.manual_seed(seed)
    return create_network("convnet", 1, 10, (28, 28))


def make_ours(data_dir: Path, fast: bool) -> Mapping[str, Job]:
    """The library's epoch, test and evaluation."""
    from accelerate import Accelerator

    from sdc_ext._memory import keep_freed_memory
    from sdc_ext.augment.parse import parse_augmentation
    from sdc_ext.evaluation import evaluate as library_evaluate
    from sdc_ext.training.epochs import accuracy, train_epoch
    from sdc_ext.training.gradients import BatchLoss
    from sdc_ext.training.recipe import TrainingRecipe, train_from_scratch
    from sdc_ext.workers import choose_workers

    keep_freed_memory()
    images, labels, batches, data = make_inputs(data_dir)
    network = make_network(0)
    optimizer = SGD(network.parameters(), lr=0.01, momentum=0.9, weight_decay=0.0005)
    batch_loss = BatchLoss(bf16=fast, compile=fast)

    def train(augmentation: str) -> Job:
        drawn = parse_augmentation(augmentation)
        return lambda: [
            train_epoch(
                network.train(), optimizer, images, labels,
                batch_size=256, augmentation=drawn, batch_loss=batch_loss,
            )
            for _ in range(AT_ONCE)
        ]  # fmt: skip

    def evaluate(seed: int) -> float:
        fresh = make_network(seed)
        train_from_scratch(fresh, images, labels, TrainingRecipe(EPOCHS), batch_loss)
        return accuracy(fresh, batches, batch_loss)

    def many(processes: int) -> Job:
        recipe = TrainingRecipe(EPOCHS_OF_NETWORKS, augmentation=DSA)
        precision = "bf16" if fast else "no"
        return lambda: library_evaluate(
            *(images[::PER_CLASS], labels[::PER_CLASS], data, recipe),
            network="convnet",
            num_eval=NETWORKS,
            seed=0,
            accelerator=Accelerator(cpu=True, mixed_precision=precision),
            compile=fast,
            workers=choose_workers(processes),
        )

    jobs = [train(spec) for spec in AUGMENTATIONS.values()]
    jobs.append(lambda: accuracy(network, batches, batch_loss))
    several = {ONE_BY_ONE: many(1), SIDE_BY_SIDE: many(PROCESSES)}
    return {**dict(zip(CASES, jobs, strict=True)), "evaluate": evaluations(evaluate), **several}


def make_original(data_dir: Path, upstream: Path) -> Mapping[str, Job]:
    """The original's functions on the same images, with the repairs that today's torch wants."""
    from sdc_ext.injection.patches import Patches
    from sdc_ext.injection.repairs import needed_repairs
    from sdc_ext.injection.sources import Project

    for needed in needed_repairs(Project.read(upstream / "utils.py")):
        needed.install(Patches(), print)
    sys.path.insert(0, str(upstream))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import networks  # type: ignore[import-not-found]
        import utils  # type: ignore[import-not-found]

    images, labels, batches, _ = make_inputs(data_dir)
    test = TensorDataset(*(torch.cat(parts) for parts in zip(*batches, strict=True)))
    train_loader = DataLoader(TensorDataset(images, labels), batch_size=256, shuffle=True)
    test_loader = DataLoader(test, batch_size=256)
    options = Namespace(
        device="cpu", dsa_strategy=DSA, dsa_param=utils.ParamDiffAug(), lr_net=0.01,
        epoch_eval_train=EPOCHS, batch_train=256,
        dc_aug_param=utils.get_daparam("MNIST", "ConvNet", "ConvNet", PER_CLASS),
    )  # fmt: skip
    criterion = nn.CrossEntropyLoss()

    def new_network(seed: int) -> nn.Module:
        theirs = networks.ConvNet(1, 10, 128, 3, "relu", "instancenorm", "avgpooling", (28, 28))
        with torch.no_grad():
            pairs = zip(theirs.parameters(), make_network(seed).parameters(), strict=True)
            for target, source in pairs:
                target.copy_(source)
        return theirs

    network = new_network(0)
    optimizer = SGD(network.parameters(), lr=0.01, momentum=0.9, weight_decay=0.0005)

    def epoch(mode: str, dsa: bool) -> object:
        options.dsa = dsa
        loader = train_loader if mode == "train" else test_loader
        augmented = mode == "train"
        return [
            utils.epoch(mode, loader, network, optimizer, criterion, options, augmented)
            for _ in range(AT_ONCE if augmented else 1)
        ]

    def evaluate(seed: int) -> float:
        plain = Namespace(**{**vars(options), "dsa": False, "dc_aug_param": None})
        result = utils.evaluate_synset(0, new_network(seed), images, labels, test_loader, plain)
        return float(result[2])

    def many() -> object:
        chosen = Namespace(**{**vars(options), "dsa": True, "dc_aug_param": None})
        chosen.epoch_eval_train = EPOCHS_OF_NETWORKS
        few = images[::PER_CLASS], labels[::PER_CLASS]
        return [
            utils.evaluate_synset(k, new_network(k), *few, test_loader, chosen)[2]
            for k in range(NETWORKS)
        ]

    jobs = [lambda: epoch("train", False), lambda: epoch("train", True)]
    jobs.append(lambda: epoch("test", False))
    several = {ONE_BY_ONE: many, SIDE_BY_SIDE: many}
    return {**dict(zip(CASES, jobs, strict=True)), "evaluate": evaluations(evaluate), **several}


def evaluations(evaluate: Callable[[int], float]) -> Job:
    return lambda: [evaluate(seed) for seed in range(SEEDS)]


def work(connection: Connection, side: str, options: Namespace) -> None:
    """Does each job that it is asked for by name, and answers with its seconds and result."""
    if side == "original":
        jobs = make_original(options.data_dir, options.upstream.resolve())
    else:
        jobs = make_ours(options.data_dir, fast=side != "ours")
    while name := connection.recv():
        started = time.perf_counter()
        result = jobs[name]()
        connection.send((time.perf_counter() - started, result if name == "evaluate" else None))


def main() -> None:
    parser = ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--upstream", type=Path, required=True, help="DatasetCondensation")
    parser.add_argument("--data-dir", type=Path, required=True, help="torchvision's MNIST folder")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()

    from rich.console import Console
    from rich.table import Table

    context = multiprocessing.get_context("spawn")
    workers = []
    for side in SIDES:
        here, there = context.Pipe()
        context.Process(target=work, args=(there, side, options)).start()
        workers.append(here)

    def run(name: str) -> list[tuple[float, Any]]:
        answers = []
        for connection in workers:
            connection.send(name)
            answers.append(connection.recv())
        return answers

    console = Console(highlight=False)
    console.print(
        f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, "
        f"python {platform.python_version()}, torch {torch.__version__}"
    )
    table = Table(title=f"evaluation, {options.rounds} rounds", title_justify="left")
    for column in (
        "what",
        *(f"{side}, s" for side in SIDES),
        *(f"{side}, speed" for side in SIDES[1:]),
    ):
        table.add_column(column)
    for name in (*CASES, ONE_BY_ONE, SIDE_BY_SIDE):
        if name in CASES:
            run(name)  # warms up, and compiles
        number = options.rounds if name in CASES else 1  # many networks take minutes
        rounds = [[seconds for seconds, _ in run(name)] for _ in range(number)]
        medians = [statistics.median(column) for column in zip(*rounds, strict=True)]
        speeds = [statistics.median(r[0] / r[k] for r in rounds) for k in range(1, len(SIDES))]
        table.add_row(name, *(f"{m:.3f}" for m in medians), *(f"{s:.2f}x" for s in speeds))
    console.print(table)
    results = [result for _, result in run("evaluate")]
    for seed, accuracies in enumerate(zip(*results, strict=True)):
        each = ", ".join(f"{side} {a:.4f}" for side, a in zip(SIDES, accuracies, strict=True))
        console.print(f"weights {seed}, {EPOCHS} epochs: {each}")
    for connection in workers:
        connection.send("")


if __name__ == "__main__":
    main()
