"""Hyper-parameters of gradient and distribution matching: the paper's Table 4, the scripts.

A rule maps a data set and ipc to values of settings, each with its source. The user may override
any of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from sdc_ext.training.protocols import dsa_strategy

Rule = Mapping[str, tuple[Any, str]]


# The SDC paper, Table 4: lam by method and data set, for ipc 1, 10 and 50.
TABLE_4: dict[str, dict[str, dict[int, float]]] = {
    "dc": {
        "mnist": {1: 0.001, 10: 0.0005, 50: 0.001},
        "fashionmnist": {1: 0.0002, 10: 0.001, 50: 0.01},
        "svhn": {1: 0.001, 10: 0.0005, 50: 0.0002},
    },
    "dsa": {
        "mnist": {1: 0.001, 10: 0.00002, 50: 0.001},
        "fashionmnist": {1: 0.0002, 10: 0.002, 50: 0.001},
        "svhn": {1: 0.005, 10: 0.0005, 50: 0.01},
    },
    "dsac": {
        "mnist": {1: 0.001, 10: 0.02, 50: 0.02},
        "fashionmnist": {1: 0.002, 10: 0.02, 50: 0.02},
        "svhn": {1: 0.005, 10: 0.02, 50: 0.02},
    },
}


# What suits images that three blocks pool to a single pixel.
SHALLOW = {"network": "convnet:depth=2"}

# Loop counts of DC's and DCC's get_loops, which know these ipc only, by ipc. The image updates of
# DC equal the ipc.
_KNOWN_IPC = (1, 10, 20, 30, 40, 50)

_DC_INNER = (1, 50, 25, 20, 15, 10)

_DCC_UPDATES = (10, 10, 20, 30, 40, 50)

_DCC_EPOCHS = (5, 50, 25, 20, 15, 10)


def dc_rules(dataset: str, ipc: int) -> Rule:
    """Returns DC's values: loop counts by ipc, and augmented evaluation on MNIST."""
    loops = _loops(ipc, _KNOWN_IPC, _DC_INNER, "DC")
    return {**_common("dc", dataset, ipc), **loops, **_evaluation(dataset)}


def dsa_rules(dataset: str, ipc: int) -> Rule:
    """Returns DSA's values: the loop counts of DC, and a strategy that does not mirror digits."""
    loops = _loops(ipc, _KNOWN_IPC, _DC_INNER, "DC")
    return {**_common("dsa", dataset, ipc), **loops, **strategy_rule(dataset)}


def dcc_rules(dataset: str, ipc: int) -> Rule:
    """Returns DCC's values: those of DC, with more image updates at low ipc."""
    return {**_contrast("dcc", dataset, ipc), **_evaluation(dataset)}


def dsac_rules(dataset: str, ipc: int) -> Rule:
    """Returns DSAC's values: the loop counts of DCC with the strategy of DSA."""
    return {**_contrast("dsac", dataset, ipc), **strategy_rule(dataset)}


def dm_rules(dataset: str, ipc: int) -> Rule:
    """Returns DM's values: the strategy of DSA, and a larger image rate for large sets."""
    rule = network_rule(dataset) | strategy_rule(dataset)
    if ipc >= 100 and dataset != "cifar100":
        rule["lr_img"] = (10.0, "DatasetCondensation README, DM from ipc 100 on")
    return rule


def _contrast(method: str, dataset: str, ipc: int) -> dict[str, tuple[Any, str]]:
    rule = _common(method, dataset, ipc) | _loops(ipc, _DCC_UPDATES, _DCC_EPOCHS, "DCC")
    if dataset == "cifar100":
        rule["statistics"] = ("cifar10", "DCC get_dataset")
    return rule


def _evaluation(dataset: str) -> dict[str, tuple[Any, str]]:
    if dataset == "mnist":
        return {"eval_augmentation": ("dc:crop_scale_rotate", "DC and DCC get_daparam")}
    return {}


def _common(method: str, dataset: str, ipc: int) -> dict[str, tuple[Any, str]]:
    rule: dict[str, tuple[Any, str]] = {}
    lam = TABLE_4.get(method, {}).get(dataset, {}).get(ipc)
    if lam is not None:
        rule["lam"] = (lam, "SDC paper, Table 4")
    return rule | network_rule(dataset)


def network_rule(dataset: str) -> dict[str, tuple[Any, str]]:
    """Returns the network for a data set whose image size does not suit a depth of three."""
    if dataset == "tinyimagenet":
        return {"network": ("convnet:depth=4", "SDC paper, Section 4.1")}
    if dataset == "digits":
        return {"network": (SHALLOW["network"], "sdc-ext, for 8x8 images")}
    return {}


def strategy_rule(dataset: str) -> dict[str, tuple[Any, str]]:
    """Returns DSA's strategy for a data set; digits are not mirrored."""
    strategy = dsa_strategy(dataset)
    unless = "" if "flip" in strategy else ", digits are not mirrored"
    return {"dsa_strategy": (strategy, f"DSA README{unless}")}


def _loops(
    ipc: int, updates: tuple[int, ...], epochs: tuple[int, ...], origin: str
) -> dict[str, tuple[Any, str]]:
    known = ipc in _KNOWN_IPC
    source = f"{origin} get_loops" + ("" if known else ", interpolated over ipc")
    outer = np.interp(ipc, _KNOWN_IPC, updates) if ipc <= _KNOWN_IPC[-1] else ipc
    return {
        "outer_loop": (round(float(outer)), source),
        "inner_loop": (round(float(np.interp(ipc, _KNOWN_IPC, epochs))), source),
    }
