"""The field's networks for small images, registered with timm."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from timm import list_models
from timm.models import register_model
from torch import nn

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
    # timm hands these to every entry point.
    for name in ("pretrained_cfg", "pretrained_cfg_overlay", "cache_dir"):
        options.pop(name, None)
    size = (img_size, img_size) if isinstance(img_size, int) else (img_size[0], img_size[1])
    return cls(in_chans, num_classes, size, **options)


# timm's decorator registers a function under its own name.
@register_model
def dd_convnet(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """See :class:`ConvNet`."""
    return _build(ConvNet, pretrained, **kwargs)


@register_model
def dd_mlp(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """See :class:`MLP`."""
    return _build(MLP, pretrained, **kwargs)


@register_model
def dd_lenet(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """See :class:`LeNet`."""
    return _build(LeNet, pretrained, **kwargs)


@register_model
def dd_alexnet(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """See :class:`AlexNet`."""
    return _build(AlexNet, pretrained, **kwargs)


@register_model
def dd_vgg11(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """See :class:`VGG11`."""
    return _build(VGG11, pretrained, **kwargs)


@register_model
def dd_resnet18(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """See :class:`ResNet18`."""
    return _build(ResNet18, pretrained, **kwargs)


def dd_networks() -> list[str]:
    """Our networks, by the short names that the command line takes."""
    return [name.removeprefix("dd_") for name in list_models("dd_*")]
