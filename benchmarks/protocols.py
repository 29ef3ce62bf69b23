"""Compares protocols with the evaluators that they are named after, under paired initial weights.

    python benchmarks/protocols.py dc CHECKOUT SET [--data-dir FOLDER] [--num-eval 16]
        [--epochs 100] [--network convnet:width=32] [--method dsa]

CHECKOUT is the original repository (for ``ddranking`` the unpacked package), whose evaluator runs
as it is, on CPUs. Both sides train copies of the same networks on the same images and test them on
the same real images; batches and augmentations are drawn independently. ``--epochs`` shortens both
sides alike.

For ``ddranking`` the formulas of LRS and ARS are compared, too.
"""

from __future__ import annotations

import importlib
import sys
import types
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import sdc_ext
from sdc_ext._seeds import seed_torch
from sdc_ext.evaluation import PairedDifference, evaluate
from sdc_ext.evaluation.scores import Scores
from sdc_ext.networks.create import create_network
from sdc_ext.training import Subject, TrainingRecipe, protocol

CPU = torch.device("cpu")

# Trains a network on images and labels, and returns its test accuracy in [0, 1].
Original = Callable[[nn.Module, Tensor, Tensor], float]


def of_dc(options: Namespace, recipe: TrainingRecipe, test: TensorDataset) -> Original:
    """``evaluate_synset`` of DC's and MTT's ``utils.py``."""
    utils = importlib.import_module("utils")
    args = Namespace(
        device="cpu",
        dataset=options.original_name,
        lr_net=recipe.lr,
        epoch_eval_train=recipe.epochs,
        batch_train=256,
        dsa=not recipe.augmentation.startswith(("dc:", "none")),
        dsa_strategy=recipe.augmentation,
        dsa_param=utils.ParamDiffAug(),
        dc_aug_param=utils.get_daparam(options.original_name, "ConvNet", "ConvNet", 10),
    )
    if not args.dsa:
        args.dc_aug_param["strategy"] = recipe.augmentation.removeprefix("dc:")

    def run(network: nn.Module, images: Tensor, labels: Tensor) -> float:
        loader = DataLoader(test, 256)
        return float(utils.evaluate_synset(0, network, images, labels, loader, args)[-1])

    return run


def of_idc(options: Namespace, recipe: TrainingRecipe, test: TensorDataset) -> Original:
    """``train`` of IDC's ``train.py``, whose calls of CUDA are left out."""
    train, data = importlib.import_module("train"), importlib.import_module("data")
    args = Namespace(
        lr=0.01,
        momentum=0.9,
        weight_decay=5e-4,
        epochs=recipe.epochs,
        epoch_print_freq=recipe.epochs,
        print_freq=10,
        pretrained=False,
        dsa=True,
        dsa_strategy=recipe.augmentation.removeprefix("idc:"),
        mixup="cut" if recipe.mix != "none" else "vanilla",
        mix_p=0.5,
        beta=1.0,
        nclass=10,
        verbose=False,
        save_ckpt=False,
    )

    def run(network: nn.Module, images: Tensor, labels: Tensor) -> float:
        dataset = data.TensorDataset(images, labels)
        loader = data.MultiEpochsDataLoader(dataset, batch_size=64, shuffle=True)
        _, last = train.train(args, network, loader, DataLoader(test, 256), logger=lambda _: None)
        return last / 100

    return run


def of_ddranking(options: Namespace, recipe: TrainingRecipe, test: TensorDataset) -> Original:
    """``LabelRobustScoreHard._compute_hard_label_metrics``, which tests every tenth epoch."""
    module = importlib.import_module("ddranking.metrics.hard_label")
    dsa = {"flip": 0.5, "rotate": 15.0, "saturation": 2.0, "brightness": 1.0}
    dsa |= {"contrast": 0.5, "scale": 1.2, "crop": 0.125, "cutout": 0.5}
    metric = object.__new__(module.LabelRobustScoreHard)
    metric.__dict__ |= {
        "use_dist": False,
        "syn_batch_size": 256,
        "num_workers": 0,
        "optimizer": "sgd",
        "weight_decay": 0.0005,
        "momentum": 0.9,
        "lr_scheduler": "step",
        "num_epochs": recipe.epochs,
        "step_size": recipe.epochs // 2,
        "aug_func": None if recipe.augmentation == "none" else module.DSA(dsa),
        "test_interval": 10,
        "test_loader_syn": DataLoader(test, 256),
        "class_map": None,
        "device": "cpu",
    }
    validate, seen = module.validate, []
    module.validate = lambda **given: seen.append(validate(**given)) or seen[-1]

    def run(network: nn.Module, images: Tensor, labels: Tensor) -> float:
        best = metric._compute_hard_label_metrics(network, images, None, recipe.lr, labels, "syn")
        options.best.append(best / 100)
        return seen[-1] / 100

    return run


ORIGINALS = {"dc": of_dc, "mtt": of_dc, "idc": of_idc, "ddranking": of_ddranking}


def on_cpus() -> None:
    """Lets code that names CUDA, and older NumPy and SciPy, run on CPUs and current releases."""
    moved, made = Tensor.to, torch.tensor

    def to(self: Tensor, *places: Any, **named: Any) -> Tensor:
        return self if places[:1] == ("cuda",) else moved(self, *places, **named)

    def tensor(*values: Any, **named: Any) -> Tensor:
        return made(*values, **({**named, "device": "cpu"} if "device" in named else named))

    Tensor.to, torch.tensor = to, tensor  # type: ignore[assignment, method-assign]
    Tensor.cuda = nn.Module.cuda = lambda self, *_: self  # type: ignore[method-assign, assignment]
    np.int = int  # type: ignore[attr-defined]
    for name in ("scipy.ndimage.interpolation", "efficientnet_pytorch", "pandas"):
        sys.modules[name] = types.ModuleType(name)
    scipy_ndimage = importlib.import_module("scipy.ndimage")
    sys.modules["scipy.ndimage.interpolation"].rotate = scipy_ndimage.rotate  # type: ignore[attr-defined]
    sys.modules["efficientnet_pytorch"].EfficientNet = None  # type: ignore[attr-defined]


def compare_scores() -> None:
    """Prints the largest difference between our LRS and ARS and the package's, on fractions."""
    names = ("own", "random", "full", "own_augmented", "random_augmented")
    names += ("own_plain", "random_plain")
    random = np.random.default_rng(0)
    differences: list[float] = []
    for _ in range(100):
        found = {name: float(random.random()) for name in names}
        ours = Scores.of(hard=found["own"], **found)
        lrs = _their_lrs(found["own"], found["full"], found["random"])
        ars = _their_ars(*(found[name] for name in names[3:]))
        differences += [abs(ours.lrs - lrs), abs(ours.ars - ars)]
    print(f"LRS and ARS on 100 random fractions: at most {max(differences):.1e} apart")


def _their_lrs(synthetic: float, full: float, random: float) -> float:
    module = importlib.import_module("ddranking.metrics.hard_label")
    found = iter([synthetic, full, random])
    metric = _stub(module, module.LabelRobustScoreHard)
    metric.eval_full_data = True
    metric._compute_hard_label_metrics_helper = lambda **_: (next(found), 0.01)
    metric._get_random_data_helper = lambda eval_iter: (None, None, None)
    return float(metric.compute_metrics(torch.zeros(1))["label_robust_score_mean"])


def _their_ars(own: float, random: float, own_plain: float, random_plain: float) -> float:
    module = importlib.import_module("ddranking.metrics.aug_robust")
    augmented, plain = iter([own, random]), iter([own_plain, random_plain])
    metric = _stub(module, module.AugmentationRobustScore)
    metric.label_type = "hard"
    metric._compute_with_aug_metrics_helper = lambda **_: (next(augmented), 0.01)
    metric._compute_without_aug_metrics_helper = lambda **_: (next(plain), 0.01)
    metric._get_random_data_helper = lambda eval_iter: (None, None, None, None)
    return float(metric.compute_metrics(torch.zeros(1))["augmentation_robust_score_mean"])


def _stub(module: types.ModuleType, kind: type[Any]) -> Any:
    """An object of the package whose accuracies are given instead of measured."""
    for name in ("save_results", "logging"):
        setattr(module, name, lambda *_: None)
    metric = object.__new__(kind)
    metric.__dict__ |= {"num_eval": 1, "num_classes": 1, "ipc": 1, "use_dist": False}
    metric.__dict__ |= {"rank": 0, "save_path": "", "random_data_format": "tensor"}
    return metric


def read_options() -> Namespace:
    """Reads the command line."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("protocol", choices=tuple(ORIGINALS))
    parser.add_argument("checkout", type=Path)
    parser.add_argument("set", type=Path)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--method", help="method that the protocol takes the set for")
    parser.add_argument("--network", default="convnet:width=32")
    parser.add_argument("--num-eval", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--tested", type=int, default=10**9, help="number of test images")
    return parser.parse_args()


def main() -> None:
    """Prints the mean difference in points with its interval."""
    options = read_options()
    options.best = []
    synthetic = sdc_ext.load_set(options.set)
    name = synthetic.info.dataset
    data = synthetic.adopt(sdc_ext.load_data(name, options.data_dir))
    chosen = slice(0, options.tested)
    test = replace(data.test, images=data.test.images[chosen], labels=data.test.labels[chosen])
    data = replace(data, test=test)
    options.original_name = {"mnist": "MNIST"}.get(name, "CIFAR10")
    subject = Subject(name, options.method or synthetic.info.method, synthetic.info.ipc)
    recipe = replace(protocol(options.protocol, subject), epochs=options.epochs)

    ours = evaluate(
        *(synthetic.images, synthetic.labels, data, recipe),
        network=options.network,
        num_eval=options.num_eval,
        seed=0,
        accelerator=Accelerator(cpu=True),
    ).accuracies
    on_cpus()
    sys.path.insert(0, str(options.checkout))
    tested = TensorDataset(data.normalize(data.test.images), data.test.labels)
    original = ORIGINALS[options.protocol](options, recipe, tested)
    theirs = []
    for k in range(options.num_eval):
        seed_torch(0, "evaluation", k)
        network = create_network(options.network, *data.network_shape)
        np.random.seed(k)
        theirs.append(original(network, synthetic.images.clone(), synthetic.labels.clone()))
    found = PairedDifference.of(ours, theirs)
    low, high = (100 * bound for bound in found.t_interval)
    print(f"{options.protocol} on {synthetic.info.method} of {name}: {recipe.words}")
    print(
        f"ours {100 * np.mean(ours):.2f} %, original {100 * np.mean(theirs):.2f} %, difference "
        f"{100 * found.mean:+.2f} points [{low:+.2f}, {high:+.2f}], {found.n} {options.network}"
    )
    if options.best:
        best = 100 * (np.mean(options.best) - np.mean(theirs))
        print(f"the best of every tenth epoch, which it reports, is {best:.2f} points higher")
        compare_scores()


if __name__ == "__main__":
    main()
