"""Registers networks: the library's own with timm, and users' networks by name."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any, TypeAlias

from timm import create_model, list_models
from timm.models import register_model
from torch import nn

from sdc_ext._registry import Registry
from sdc_ext.errors import InputError
from sdc_ext.networks.architectures import MLP, VGG11, AlexNet, ConvNet, ImageSize, LeNet, ResNet18


def _build(
    cls: Callable[..., nn.Module],
    pretrained: bool = False,
    in_chans: int = 3,
    num_classes: int = 10,
    img_size: int | ImageSize = (32, 32),
    **options: Any,
) -> nn.Module:
    if pretrained:
        raise InputError("the dd_ networks have no pretrained weights: pass pretrained=False")
    # timm passes these to every entry point.
    for name in ("pretrained_cfg", "pretrained_cfg_overlay", "cache_dir"):
        options.pop(name, None)
    size = (img_size, img_size) if isinstance(img_size, int) else (img_size[0], img_size[1])
    return cls(in_chans, num_classes, size, **options)


# timm's decorator registers a function under its own name.
@register_model
def dd_convnet(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Returns a [`ConvNet`][sdc_ext.networks.ConvNet]."""
    return _build(ConvNet, pretrained, **kwargs)


@register_model
def dd_mlp(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Returns an ``MLP``."""
    return _build(MLP, pretrained, **kwargs)


@register_model
def dd_lenet(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Returns a ``LeNet``."""
    return _build(LeNet, pretrained, **kwargs)


@register_model
def dd_alexnet(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Returns an ``AlexNet``."""
    return _build(AlexNet, pretrained, **kwargs)


@register_model
def dd_vgg11(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Returns a ``VGG11``."""
    return _build(VGG11, pretrained, **kwargs)


@register_model
def dd_resnet18(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Returns a ``ResNet18``."""
    return _build(ResNet18, pretrained, **kwargs)


_OURS: dict[str, type[nn.Module]] = {
    "convnet": ConvNet,
    "mlp": MLP,
    "lenet": LeNet,
    "alexnet": AlexNet,
    "vgg11": VGG11,
    "resnet18": ResNet18,
}


def options_of(name: str) -> list[str] | None:
    """Returns the options that a network takes in its name; None for a network of others."""
    if name not in _OURS:
        return None
    parameters = inspect.signature(_OURS[name]).parameters.values()
    return [one.name for one in parameters if one.kind is inspect.Parameter.KEYWORD_ONLY]


def dd_networks() -> list[str]:
    """Returns the names of the built-in networks, as ``create_network`` takes them."""
    return [name.removeprefix("dd_") for name in list_models("dd_*")]


# Takes channels, number of classes and image size, and options as keywords.
NetworkMaker: TypeAlias = Callable[..., nn.Module]


def _maker(name: str) -> NetworkMaker:
    def make(in_chans: int, num_classes: int, img_size: ImageSize, **options: Any) -> nn.Module:
        model: nn.Module = create_model(
            f"dd_{name}", in_chans=in_chans, num_classes=num_classes, img_size=img_size, **options
        )
        return model

    return make


NETWORKS: Registry[NetworkMaker] = Registry(
    "network", "sdc_ext.networks", {name: _maker(name) for name in dd_networks()}
)


def register_network(name: str, make: NetworkMaker) -> None:
    """Registers a network under a name, for every command and function that takes such names.

    If timm has the name, too, ``timm:NAME`` still selects timm's. Packages can register networks
    without being imported, by an entry point of the group ``sdc_ext.networks`` whose value is
    ``make``.

    Args:
        name: The name: letters, digits, and any of ``_``, ``-`` and ``.``.
        make: Called as ``make(in_chans, num_classes, img_size)``, with ``img_size`` as (height,
            width) in pixels, it returns a freshly initialised network. Options in a name, as in
            ``name:width=64``, are passed as keywords.

    Raises:
        InputError: If a built-in network has the name, or it contains other characters.
    """
    if re.fullmatch(r"[\w.-]+", name) is None:
        raise InputError(f"{name!r} cannot name a network: use letters, digits, and any of _ - .")
    NETWORKS.register(name, make)


def network_name(source: str | NetworkMaker) -> str:
    """Returns the name of a network that is given by name or as a function that makes it.

    Args:
        source: A name, which is returned as it is; or a function or class as ``register_network``
            takes it, which is registered under its own name.

    Raises:
        InputError: If the function has no name, a built-in network has its name, or ``source`` is
            a network rather than a function.
    """
    if isinstance(source, str):
        return source
    if isinstance(source, nn.Module) or not callable(source):
        raise InputError(
            f"a {type(source).__name__} does not make networks: pass the name of a network, or a "
            "function of (in_chans, num_classes, img_size)"
        )
    name = getattr(source, "__name__", "<unnamed>")
    if name.startswith("<"):
        raise InputError(
            f"{source!r} has no name of its own: register it with register_network, and pass the "
            "name that you choose"
        )
    register_network(name, source)
    return str(name)
