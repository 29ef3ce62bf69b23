"""What the scripts of this folder share: the original flags, and the calls that they become."""

from __future__ import annotations

import sys
import time
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torchvision

import sdc_ext
from sdc_ext import InputError, distill, load_data
from sdc_ext.cli import run_program
from sdc_ext.data import RealData
from sdc_ext.sets import SyntheticSet
from sdc_ext.sets.formats.best import write_best
from sdc_ext.sets.formats.original_names import original_name, our_network
from sdc_ext.sets.formats.res import write_res
from sdc_ext.verbs.session import make_accelerator, open_data

STRATEGY = "color_crop_cutout_flip_scale_rotate"

# Flags of which only one value is to be had here, and what to do instead.
ONLY = {
    "eval_mode": (
        ("S", "SS"),
        "test other networks by: sdc-ext evaluate FOLDER --networks resnet18,vgg11",
    ),
    "subset": ("imagenette", "ImageNet is not supported"),
    "texture": (False, "textures are not distilled"),
    "random_trajectory": (False, "experts are needed"),
    "max_files": (None, "all experts in --buffer_path are used"),
    "max_experts": (None, "all experts in --buffer_path are used"),
    "mom": (0.0, "experts are trained without momentum"),
    "l2": (0.0, "experts are trained without weight decay"),
    "decay": (False, "experts are trained at a constant rate"),
    "Initialize_Label_With_Another_Model": (False, "labels come from the experts themselves"),
}

# Flags that need no counterpart: all experts are read when they are needed, all sets are saved.
WITHOUT_EFFECT = ("lr_init", "load_all", "force_save", "save_interval", "canvas_size")
WITHOUT_EFFECT += ("canvas_samples", "res")

# What main.py of DC, its main_DM.py and main.py of DCC have in common.
GRADIENT = {
    "method": "DC",
    "dataset": "CIFAR10",
    "model": "ConvNet",
    "ipc": 1,
    "eval_mode": "S",
    "num_exp": 5,
    "num_eval": 20,
    "epoch_eval_train": 300,
    "lr_img": 0.1,
    "lr_net": 0.01,
    "batch_real": 256,
    "batch_train": 256,
    "data_path": "data",
    "save_path": "result",
    "dis_metric": "ours",
}

# What distill.py of MTT, TESLA and FTD have in common.
TRAJECTORY = {
    "dataset": "CIFAR10",
    "subset": "imagenette",
    "model": "ConvNet",
    "ipc": 1,
    "eval_mode": "S",
    "num_eval": 5,
    "eval_it": 100,
    "epoch_eval_train": 1000,
    "Iteration": 5000,
    "lr_img": 1000.0,
    "lr_lr": 1e-5,
    "lr_teacher": 0.01,
    "lr_init": 0.01,
    "batch_real": 256,
    "batch_syn": None,
    "batch_train": 256,
    "pix_init": "real",
    "dsa": "True",
    "dsa_strategy": STRATEGY,
    "data_path": "data",
    "buffer_path": "./buffers",
    "expert_epochs": 3,
    "syn_steps": 20,
    "max_start_epoch": 25,
    "zca": False,
    "load_all": False,
    "no_aug": "False",
    "texture": False,
    "canvas_size": 2,
    "canvas_samples": 1,
    "max_files": None,
    "max_experts": None,
    "force_save": False,
}

# What buffer.py of MTT and buffer_FTD.py have in common.
BUFFER = {
    "dataset": "CIFAR10",
    "subset": "imagenette",
    "model": "ConvNet",
    "num_experts": 100,
    "lr_teacher": 0.01,
    "batch_train": 256,
    "batch_real": 256,
    "dsa": "True",
    "dsa_strategy": STRATEGY,
    "data_path": "data",
    "buffer_path": "./buffers",
    "train_epochs": 50,
    "zca": False,
    "decay": False,
    "mom": 0.0,
    "l2": 0.0,
    "save_interval": 10,
}


def run(main: Callable[[], None]) -> None:
    """Runs a script; bad input and divergence end it as they end ``sdc-ext``."""
    status = run_program(Path(sys.argv[0]).name, main)
    if status:
        sys.exit(status)


def parse(description: str, flags: Mapping[str, Any], *, corrected: bool = True) -> Namespace:
    """Parses the command line of an original.

    Args:
        description: The text for ``--help``.
        flags: The flags with their defaults; False is a switch, ``"True"`` takes True or False.
        corrected: Whether there is ``--sdc_lambda``.

    Raises:
        InputError: If a flag asks for something that is not supported.
    """
    parser = ArgumentParser(description=description)
    for name, default in flags.items():
        if default is False:
            parser.add_argument(f"--{name}", action="store_true")
        else:
            kind: Any = int if default is None else type(default)
            kind = _truth if default in ("True", "False") else kind
            parser.add_argument(f"--{name}", type=kind, default=default, help=f"default: {default}")
    if corrected:
        parser.add_argument("--sdc_lambda", type=float, help="default: the SDC paper's, or 0.002")
    args = parser.parse_args()
    check_only(vars(args))
    given = [n for n in WITHOUT_EFFECT if n in flags and getattr(args, n) != flags[n]]
    if given:
        print(f"no effect here: --{', --'.join(given)}")
    return args


def check_only(values: Mapping[str, Any]) -> None:
    """Raises InputError if a flag asks for something that is not supported."""
    for name, (allowed, instead) in ONLY.items():
        choices = allowed if isinstance(allowed, tuple) else (allowed,)
        if name in values and values[name] not in choices:
            only = " and ".join(map(str, choices))
            raise InputError(f"--{name} {values[name]} is not supported, only {only}: {instead}")


def data(args: Any) -> RealData:
    """The real data, downloaded if need be; digits are bundled and have no folder."""
    name = {"tiny": "tinyimagenet"}.get(args.dataset.lower(), args.dataset.lower())
    if name == "digits":
        return load_data(name)
    folder = Path(args.data_path)
    folder.mkdir(parents=True, exist_ok=True)
    return open_data(name, make_accelerator(), data_dir=folder, download=name != "tinyimagenet")


def augmentation(args: Any) -> str:
    """The augmentation of experts and evaluation networks."""
    return args.dsa_strategy if args.dsa in (True, "True") else "none"


def gradient_settings(args: Any) -> dict[str, Any]:
    """Settings of the loops that train networks between updates of the images."""
    settings = {name: getattr(args, name) for name in ("lr_net", "dis_metric")}
    # The originals set the epochs by the augmentation, and train no networks at ipc 1; where a flag
    # has its default, the method decides.
    for name in ("epoch_eval_train", "batch_train"):
        value = getattr(args, name)
        settings[name] = None if value == GRADIENT[name] else value
    return settings


def distill_runs(args: Any, methods: Mapping[str, str], **settings: Any) -> None:
    """Distils ``--num_exp`` times, and leaves ``res_*.pt`` and ``vis_*.png`` in ``--save_path``.

    Args:
        args: The parsed command line.
        methods: Our name of each ``--method``.
        settings: Settings in which the scripts differ; None leaves a setting to the method.

    Raises:
        InputError: For another method.
    """
    if args.method not in methods:
        raise InputError(f"--method {args.method} is not {' or '.join(methods)}")
    run = Path(args.save_path) / f"run-{time.strftime('%Y%m%d-%H%M%S')}"
    network, real = our_network(args.model), data(args)
    chosen = {name: value for name, value in settings.items() if value is not None}
    sets: list[SyntheticSet] = []
    for exp in range(args.num_exp):
        synthetic = distill(
            methods[args.method],
            real,
            ipc=args.ipc,
            lam=args.sdc_lambda,
            network=network,
            lr_img=args.lr_img,
            lr_eval=args.lr_net,
            batch_real=args.batch_real,
            batch_eval=args.batch_train,
            num_eval=args.num_eval,
            seed=exp,
            out=run / f"exp{exp}",
            **chosen,
        )
        sets.append(synthetic)
        keep_runs(sets, Path(args.save_path))


def keep_runs(sets: list[SyntheticSet], folder: Path) -> None:
    """Writes all sets as ``res_*.pt``, and the last one as ``vis_*.png``."""
    last = sets[-1]
    result = folder / original_name(last.info)
    write_res(sets, result)
    iteration = last.info.accuracies[-1]["iteration"]
    stem = result.stem.replace("res_", "vis_")
    picture = f"{stem}_exp{len(sets) - 1}_iter{iteration}.png"
    ipc = len(last.images) // len(last.info.classes)
    torchvision.utils.save_image(last.pixels(), folder / picture, nrow=ipc)
    print(f"{result}, {picture}")


def distill_logged(args: Any, method: str, **settings: Any) -> None:
    """Distils from the experts in ``--buffer_path`` into ``logged_files/DATASET/RUN``.

    Args:
        args: The parsed command line.
        method: Our name of the method.
        settings: Settings in which the scripts differ from each other or from MTT's.

    Raises:
        InputError: If there are no experts.
    """
    experts = expert_folder(args)
    if not any(experts.glob("replay_buffer_*.pt")):
        raise InputError(
            f"no replay_buffer_*.pt in {experts}: train experts with a buffer script here"
        )
    strategy = augmentation(args)
    shared = {
        "iterations": args.Iteration,
        "eval_every": args.eval_it,
        "num_eval": args.num_eval,
        "epoch_eval_train": args.epoch_eval_train,
        "batch_eval": args.batch_train,
        "lr_img": args.lr_img,
        "lr_lr": args.lr_lr,
        "lr_teacher": args.lr_teacher,
        "batch_syn": args.batch_syn or 0,
        "pix_init": args.pix_init,
        "dsa_strategy": "none" if args.no_aug in (True, "True") else strategy,
        "eval_augmentation": strategy,
        "expert_epochs": args.expert_epochs,
        "syn_steps": args.syn_steps,
        "max_start_epoch": args.max_start_epoch,
        "zca": args.zca,
        "network": our_network(args.model),
    }
    out = Path("logged_files") / args.dataset / f"run-{time.strftime('%Y%m%d-%H%M%S')}"
    synthetic = distill(
        method,
        data(args),
        ipc=args.ipc,
        lam=args.sdc_lambda,
        experts=experts,
        out=out,
        **{**shared, **settings},
    )
    write_best(synthetic, out)
    print(f"{out}: images_best.pt, labels_best.pt, lr_best.pt")


def train_experts(args: Any, method: str, **recipe: Any) -> None:
    """Trains experts, and leaves ``replay_buffer_*.pt`` where the originals look for them.

    Args:
        args: The parsed command line.
        method: Our name of the method that the experts are for.
        recipe: Settings that only this method's recipe has.
    """
    folder = expert_folder(args)
    sdc_ext.train_experts(
        method,
        data(args),
        network=our_network(args.model),
        num_experts=args.num_experts,
        zca=args.zca,
        out=folder / "trajectories",
        export=folder,
        lr_teacher=args.lr_teacher,
        batch_train=args.batch_train,
        train_epochs=args.train_epochs,
        augmentation=augmentation(args),
        **recipe,
    )


def expert_folder(args: Any) -> Path:
    """The folder in which the original scripts keep the experts of a data set and network."""
    name = args.dataset
    if name in ("CIFAR10", "CIFAR100") and not args.zca:
        name += "_NO_ZCA"
    return Path(args.buffer_path) / name / args.model


def _truth(text: str) -> str:
    if text not in ("True", "False"):
        raise ArgumentTypeError(f"{text!r} is neither True nor False")
    return text
