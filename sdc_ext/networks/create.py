"""Creates networks by name, and checks that they fit the data.

The library's own networks are registered with timm, so once this module is imported,
``timm.create_model("dd_convnet", in_chans=1, num_classes=10, img_size=28)`` works, too.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

import torch
from timm import create_model, is_model, list_models
from timm.layers.config import set_fused_attn
from torch import Tensor, nn

from sdc_ext._kinds import Flag, Number, Whole
from sdc_ext.errors import InputError, check_choice
from sdc_ext.networks.architectures import ImageSize
from sdc_ext.networks.registry import NETWORKS, options_of

# What shapes timm's networks, by one number or word. Names of networks also come from strangers'
# files, and others of timm's options load files or download weights.
_TIMM_OPTIONS = [
    "act_layer",
    "attn_drop_rate",
    "base_width",
    "cardinality",
    "class_token",
    "depth",
    "drop_block_rate",
    "drop_path_rate",
    "drop_rate",
    "dynamic_img_size",
    "embed_dim",
    "expand_ratio",
    "global_pool",
    "head_dim",
    "init_values",
    "kernel_size",
    "mlp_ratio",
    "norm_eps",
    "norm_layer",
    "num_features",
    "num_heads",
    "output_stride",
    "patch_drop_rate",
    "patch_size",
    "pos_drop_rate",
    "proj_drop_rate",
    "qk_norm",
    "qkv_bias",
    "stem_size",
    "stem_type",
    "width",
    "window_size",
]

# Numbers in names of networks are widths and rates, and depths, which take time to build.
_LARGEST, _DEEPEST = 10_000, 300

_MOST_PARAMETERS = 10**9

_BUILDING_FAILS = (TypeError, ValueError, ArithmeticError, AssertionError, RuntimeError)

# The image sizes in pixels that are tried in order to suggest one that a network takes.
_SIZES = (8, 16, 32, 64, 96, 128, 224, 299)


def create_network(spec: str, in_chans: int, num_classes: int, img_size: ImageSize) -> nn.Module:
    """Returns a freshly initialised network, drawn from torch's global generator.

    Args:
        spec: A built-in network (``convnet``, ``lenet``, ``alexnet``, ``vgg11``, ``resnet18``,
            ``mlp``), a registered one, or any timm name; ``timm:resnet18`` selects timm's where
            both have the name. Options follow as ``:key=value``, e.g.
            ``convnet:depth=4:norm=batch``; for timm's networks only those that shape them.
        in_chans: The number of channels of the images.
        num_classes: The number of classes.
        img_size: (height, width) in pixels.

    Raises:
        InputError: If there is no such network, or it does not take the options or the size.
    """
    foreign = spec.startswith("timm:")
    name, *given = spec.removeprefix("timm:").split(":")
    options: dict[str, Any] = {}
    for key, value in (_parse_option(spec, text) for text in given):
        if key in options:
            raise InputError(f"network {spec!r} has the option {key} twice: leave one out")
        options[key] = value
    for taken in {"in_chans", "num_classes", "img_size"} & set(options):
        raise InputError(
            f"network {spec!r} sets {taken}, which is determined by the data: leave it out"
        )
    is_known = not foreign and name in NETWORKS
    if not (is_known or is_model(name)):
        ours = [] if foreign else NETWORKS.names()
        known = [*ours, *list_models(exclude_filters="dd_*")]
        check_choice("network", name, known, listed=[*ours, "any timm name"])
    takes = options_of(name) if is_known else _TIMM_OPTIONS
    for option in options if takes is not None else ():
        whose = name if is_known else "timm's networks"
        if not takes:
            raise InputError(f"network {spec!r} has options, but {name} takes none: leave them out")
        check_choice(f"option of {whose} in {spec!r}:", option, takes)
    # timm's fused attention has no double backward, which matching needs.
    set_fused_attn(False)
    make = NETWORKS.get(name) if is_known else functools.partial(_create_timm, name)

    def build() -> nn.Module:
        return make(in_chans, num_classes, img_size, **options)

    try:
        if options and takes is not None:
            _check_parameters(spec, build)
        network = build()
    except InputError:
        raise
    except _BUILDING_FAILS as error:
        raise InputError(f"network {spec!r} does not take these options: {error}") from None
    if not isinstance(network, nn.Module):
        raise InputError(
            f"network {spec!r} made a {type(network).__name__}: its function must return an "
            "nn.Module"
        )
    return network


def check_network(spec: str, in_chans: int, num_classes: int, img_size: ImageSize) -> None:
    """Builds a network and runs it once, so that a bad choice fails before the work starts.

    The arguments are those of [`create_network`][sdc_ext.networks.create_network].

    Raises:
        InputError: If ``create_network`` raises it, if the network does not take images of this
            size (the message suggests one that it takes), if it does not return logits, or if
            these are the same for all images.
    """
    shape = "x".join(map(str, (in_chans, *img_size)))
    try:
        network = _try_network(spec, in_chans, num_classes, img_size)
    except InputError as error:
        theirs = spec.startswith("timm:") or not is_model(f"dd_{spec.partition(':')[0]}")
        larger_first = sorted(_SIZES, key=lambda side: (side < max(img_size), side))
        fitting = (side for side in larger_first if _takes(spec, in_chans, num_classes, side))
        wanted = next(fitting, None) if theirs else None
        if wanted is None:
            raise
        raise InputError(
            f"network {spec!r} cannot take images of {shape}: it takes {wanted}x{wanted} pixels; "
            "choose another network, or data of that size"
        ) from error
    if _answers_alike(network, in_chans, img_size):
        raise InputError(
            f"network {spec!r} gives all images of {shape} the same answer, as instance norm does "
            "on maps of one pixel: choose another network or norm, or larger images"
        )


def _try_network(spec: str, in_chans: int, num_classes: int, img_size: ImageSize) -> nn.Module:
    network = create_network(spec, in_chans, num_classes, img_size).eval()
    try:
        with torch.no_grad():
            logits = network(torch.zeros(2, in_chans, *img_size))
    except (RuntimeError, ArithmeticError, AssertionError, ValueError, IndexError) as error:
        shape = "x".join(map(str, (in_chans, *img_size)))
        raise InputError(f"network {spec!r} cannot take images of {shape}: {error}") from None
    is_tensor = isinstance(logits, Tensor)
    if not is_tensor or logits.shape != (2, num_classes):
        found = f"the shape {tuple(logits.shape)}" if is_tensor else f"a {type(logits).__name__}"
        raise InputError(
            f"network {spec!r} returns {found} for 2 images of {num_classes} classes: it must "
            f"return logits (2, {num_classes})"
        )
    return network


@torch.no_grad()
def _answers_alike(network: nn.Module, in_chans: int, img_size: ImageSize) -> bool:
    """Returns whether a network cannot tell images apart, whatever it learns."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        images = torch.randn(2, in_chans, *img_size)
        if not _alike(network.eval(), images, within=1e-2):
            return False
        # Last layers are often zero at first, batch norm may hide differences in evaluation, and
        # instance norm blows up rounding in float32.
        network, images = network.double(), images.double()
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
        try:
            return all(_alike(network.train(mode), images, within=1e-6) for mode in (False, True))
        except (RuntimeError, ValueError):  # it does not train on two images, or in float64
            return False


def _alike(network: nn.Module, images: Tensor, within: float) -> bool:
    first, second = network(images)
    return bool((first - second).abs().max() <= within * first.abs().max())


def _takes(spec: str, in_chans: int, num_classes: int, side: int) -> bool:
    try:
        _try_network(spec, in_chans, num_classes, (side, side))
    except InputError:
        return False
    return True


def _check_parameters(spec: str, build: Callable[[], nn.Module]) -> None:
    """Raises InputError if a network is too large, before memory is allocated for it."""
    try:
        with torch.device("meta"):
            parameters = sum(p.numel() for p in build().parameters())
    except InputError:
        raise
    except _BUILDING_FAILS as error:
        if "overflow" not in str(error):  # a network may need numbers where meta tensors have none
            return
        parameters = sys.maxsize
    if parameters > _MOST_PARAMETERS:
        raise InputError(
            f"network {spec!r} would have {parameters:.2g} parameters, more than "
            f"{_MOST_PARAMETERS:.0e}: choose smaller options"
        )


def _create_timm(
    name: str, in_chans: int, num_classes: int, img_size: ImageSize, **options: Any
) -> nn.Module:
    create = functools.partial(create_model, name, in_chans=in_chans, num_classes=num_classes)
    try:
        return create(img_size=img_size, **options)
    except TypeError:  # convolutional networks take any size and therefore no img_size
        return create(**options)


def _parse_option(spec: str, text: str) -> tuple[str, int | float | bool | str]:
    key, equals, value = text.partition("=")
    if not (key and equals and value):
        raise InputError(f"cannot read {text!r} in network {spec!r}: write options as key=value")
    most = _DEEPEST if key == "depth" else _LARGEST
    number = Number(-most, most)
    for kind in (Whole(), number, Flag()):
        found = kind.parse(value)
        if isinstance(found, bool):
            return key, found
        if not isinstance(found, str):
            return key, number.check(f"option {key} of network {spec!r}", found)
    return key, value
