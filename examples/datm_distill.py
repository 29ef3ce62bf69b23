"""Runs DATM from the configuration files of its ``DATM.py``, with SDC.

    python examples/datm_distill.py --cfg configs/CIFAR-10/ConvIN/IPC1.yaml --sdc_lambda 0.002

It matches the experts that ``ftd_buffer.py`` trains for 100 epochs with alpha 0.3.
"""

import math
import reprlib
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

import yaml
from _originals import TRAJECTORY, check_only, distill_logged, run

from sdc_ext import InputError

# What its cfg.py has beside, or instead of, the flags of MTT.
DEFAULTS = {
    **TRAJECTORY,
    "pix_init": "samples_predicted_correctly",
    "dsa": True,
    "no_aug": False,
    "data_path": "../dataset/",
    "buffer_path": "../buffer_storage/",
    "expert_epochs": 2,
    "syn_steps": 80,
    "min_start_epoch": 0,
    "zca": True,
    "ema_decay": 0.999,
    "lr_y": 2.0,
    "Momentum_y": 0.9,
    "project": "TEST",
    "threshold": 1.0,
    "record_loss": False,
    "Sequential_Generation": True,
    "expansion_end_epoch": 3000,
    "current_max_start_epoch": 20,
    "skip_first_eva": False,
    "parall_eva": False,
    "res": 32,
    "device": [0],
    "Initialize_Label_With_Another_Model": False,
    "Initialize_Label_Model": "",
    "Initialize_Label_Model_Dir": "",
    "Label_Model_Timestamp": -1,
}


def configuration(path: Path) -> dict[str, Any]:
    """All settings: the file's, and the defaults of those that it leaves out.

    Raises:
        InputError: if the file cannot be read, or a setting or a value is unknown.
    """
    if not path.is_file():
        raise InputError(f"cannot read {path}: it is no file")
    try:
        chosen = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise InputError(f"cannot read {path}: {' '.join(str(error).split())}") from None
    if not isinstance(chosen, dict):
        raise InputError(f"{path} holds no settings: write one per line, as in `ipc: 1`")
    for name, value in chosen.items():
        if name not in DEFAULTS:
            raise InputError(f"{path}: unknown setting {name!r}, known are {', '.join(DEFAULTS)}")
        chosen[name] = _typed(f"{path}: {name}", value, type(DEFAULTS[name]))
    return {**DEFAULTS, **chosen}


def _typed(name: str, value: Any, kind: type) -> Any:
    """The value of a setting, of the type of its default."""
    if kind in (int, float):
        try:
            number = kind(value)  # YAML takes 1e-5 for a text
            if number == float(value) and math.isfinite(number):
                return number
        except (TypeError, ValueError, OverflowError):
            pass
        whole = "a whole number" if kind is int else "a number"
        raise InputError(f"{name} must be {whole}, got {reprlib.repr(value)}")
    if kind is not type(None) and not isinstance(value, kind):
        what = {bool: "true or false", str: "a text", list: "a list"}[kind]
        raise InputError(f"{name} must be {what}, got {reprlib.repr(value)}")
    return value


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--cfg", type=Path, required=True, help="a YAML file")
    parser.add_argument("--sdc_lambda", type=float, help="default: the SDC paper's, or 0.002")
    given = parser.parse_args()
    values = configuration(given.cfg)
    check_only(values)
    args = Namespace(**values, sdc_lambda=given.sdc_lambda)
    growth = {
        "current_max_start_epoch": args.current_max_start_epoch,
        "expansion_end_epoch": args.expansion_end_epoch,
    }
    distill_logged(
        args,
        "datm",
        **(growth if args.Sequential_Generation else {"expansion_end_epoch": 0}),
        min_start_epoch=args.min_start_epoch,
        threshold=args.threshold,
        lr_y=args.lr_y,
        momentum_y=args.Momentum_y,
    )


if __name__ == "__main__":
    run(main)
