"""Implements the networks of dataset distillation for small images.

Their parameters are in the order of the original repositories, so that expert trajectories can be
exchanged with them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sdc_ext.errors import InputError, check_choice

ImageSize = tuple[int, int]


_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": lambda: nn.ReLU(inplace=True),
    "leakyrelu": lambda: nn.LeakyReLU(0.01),
    "sigmoid": nn.Sigmoid,
    "swish": nn.SiLU,
}

_POOLINGS: dict[str, Callable[[], nn.Module]] = {
    "avg": lambda: HalvingPool(),
    "max": lambda: nn.MaxPool2d(2),
    "none": nn.Identity,
}

_NORMS: dict[str, Callable[[int, ImageSize], nn.Module]] = {
    "instance": lambda channels, size: nn.GroupNorm(channels, channels),
    "batch": lambda channels, size: nn.BatchNorm2d(channels),
    "layer": lambda channels, size: nn.LayerNorm([channels, *size]),
    "group": lambda channels, size: nn.GroupNorm(4, channels),
    "none": lambda channels, size: nn.Identity(),
}


class HalvingPool(nn.Module):
    """Average pooling by 2, equal to ``nn.AvgPool2d(2)`` up to the order of the four sums.

    On CPUs torch's kernel is not vectorised and took a sixth of a training step and a quarter of
    a test; sums of slices take a quarter of its time or less, also when differentiated twice.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Returns the means (B, C, H // 2, W // 2) of 2x2 pixels of images (B, C, H, W)."""
        if x.device.type != "cpu":
            return F.avg_pool2d(x, 2)
        height, breadth = x.shape[-2] // 2 * 2, x.shape[-1] // 2 * 2
        top, bottom = torch.unflatten(x[..., :height, :breadth], -2, (-1, 2)).unbind(-2)
        left, right = torch.unflatten(top + bottom, -1, (-1, 2)).unbind(-1)
        return (left + right) * 0.25


class ConvNet(nn.Module):
    """``depth`` blocks of [3x3 convolution, norm, activation, pooling], then a linear layer.

    The default network of dataset distillation. With one input channel the first convolution pads
    by 3, which enlarges 28x28 pixels to 32x32, as in the original repositories.

    Args:
        in_chans: The number of channels of the images.
        num_classes: The number of classes.
        img_size: (height, width) in pixels, not necessarily equal.
        width: The number of channels of each block.
        depth: The number of blocks.
        norm: ``instance``, ``batch``, ``layer``, ``group`` or ``none``.
        act: ``relu``, ``leakyrelu``, ``sigmoid`` or ``swish``.
        pool: ``avg``, ``max`` or ``none``.

    Raises:
        InputError: If an option is unknown, or the images are too small for the poolings.

    Reference: Gidaris and Komodakis, 2018; Zhao et al., "Dataset Condensation with Gradient
    Matching", Section 3.
    """

    def __init__(
        self,
        in_chans: int = 3,
        num_classes: int = 10,
        img_size: ImageSize = (32, 32),
        *,
        width: int = 128,
        depth: int = 3,
        norm: str = "instance",
        act: str = "relu",
        pool: str = "avg",
    ) -> None:
        super().__init__()
        if not (isinstance(width, int) and isinstance(depth, int) and min(width, depth) > 0):
            raise InputError(
                f"convnet needs a width and a depth that are integers above 0, got {width} and "
                f"{depth}"
            )
        make_norm = _NORMS[check_choice("norm", norm, _NORMS)]
        make_act = _ACTIVATIONS[check_choice("act", act, _ACTIVATIONS)]
        make_pool = _POOLINGS[check_choice("pool", pool, _POOLINGS)]
        widen = 4 if in_chans == 1 else 0
        height, breadth = img_size[0] + widen, img_size[1] + widen
        layers: list[nn.Module] = []
        channels = in_chans
        for block in range(depth):
            padding = 3 if block == 0 and in_chans == 1 else 1
            layers += [
                nn.Conv2d(channels, width, 3, padding=padding),
                make_norm(width, (height, breadth)),
                make_act(),
                make_pool(),
            ]
            channels = width
            if pool != "none":
                height, breadth = height // 2, breadth // 2
        if min(height, breadth) < 1:
            raise InputError(
                f"convnet depth={depth} pools {img_size[0]}x{img_size[1]} images to nothing: "
                "use a smaller depth, e.g. convnet:depth=2"
            )
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(channels * height * breadth, num_classes)

    def embed(self, x: Tensor) -> Tensor:
        """Returns the features (B, features) of images (B, C, H, W) before the linear layer."""
        return cast(Tensor, self.features(x).flatten(1))

    def forward(self, x: Tensor) -> Tensor:
        """Returns the logits (B, num_classes) of images (B, C, H, W)."""
        return cast(Tensor, self.classifier(self.embed(x)))


class MLP(nn.Module):
    """Three linear layers with ReLU between them; the hidden layers have 128 units."""

    def __init__(self, in_chans: int, num_classes: int, img_size: ImageSize) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(),
            nn.Linear(in_chans * img_size[0] * img_size[1], 128),
            nn.ReLU(inplace=True),
            nn.Linear(128, 128),
            nn.ReLU(inplace=True),
            nn.Linear(128, num_classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Returns the logits (B, num_classes) of images (B, C, H, W)."""
        return cast(Tensor, self.layers(x))


class LeNet(nn.Module):
    """LeNet-5 with ReLU and max pooling; one-channel images are padded by 2 pixels."""

    def __init__(self, in_chans: int, num_classes: int, img_size: ImageSize) -> None:
        super().__init__()
        widen = 4 if in_chans == 1 else 0
        height, breadth = (((side + widen - 4) // 2 - 4) // 2 for side in img_size)
        _check_room("lenet", img_size, height, breadth)
        self.layers = nn.Sequential(
            nn.Conv2d(in_chans, 6, 5, padding=widen // 2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Conv2d(6, 16, 5),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(16 * height * breadth, 120),
            nn.ReLU(inplace=True),
            nn.Linear(120, 84),
            nn.ReLU(inplace=True),
            nn.Linear(84, num_classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Returns the logits (B, num_classes) of images (B, C, H, W)."""
        return cast(Tensor, self.layers(x))


class AlexNet(nn.Module):
    """AlexNet for images of 32x32 pixels: five convolutions and one linear layer."""

    def __init__(self, in_chans: int, num_classes: int, img_size: ImageSize) -> None:
        super().__init__()
        widen = 4 if in_chans == 1 else 0
        height, breadth = ((side + widen) // 8 for side in img_size)
        _check_room("alexnet", img_size, height, breadth)
        self.layers = nn.Sequential(
            nn.Conv2d(in_chans, 128, 5, padding=2 + widen // 2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Conv2d(128, 192, 5, padding=2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Conv2d(192, 256, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(256, 192, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(192, 192, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(192 * height * breadth, num_classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Returns the logits (B, num_classes) of images (B, C, H, W)."""
        return cast(Tensor, self.layers(x))


class VGG11(nn.Module):
    """VGG-11 for small images, with instance norm by default and one linear layer."""

    _STAGES = ((64,), (128,), (256, 256), (512, 512), (512, 512))

    def __init__(
        self, in_chans: int, num_classes: int, img_size: ImageSize, *, norm: str = "instance"
    ) -> None:
        super().__init__()
        make_norm = _NORMS[check_choice("norm", norm, ("instance", "batch"))]
        widen = 4 if in_chans == 1 else 0
        height, breadth = ((side + widen) // 32 for side in img_size)
        _check_room("vgg11", img_size, height, breadth)
        layers: list[nn.Module] = []
        channels, padding = in_chans, 1 + widen // 2
        for stage in self._STAGES:
            for width in stage:
                layers += [
                    nn.Conv2d(channels, width, 3, padding=padding),
                    make_norm(width, img_size),
                    nn.ReLU(inplace=True),
                ]
                channels, padding = width, 1
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(512 * height * breadth, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Returns the logits (B, num_classes) of images (B, C, H, W)."""
        return cast(Tensor, self.classifier(self.features(x).flatten(1)))


class _BasicBlock(nn.Module):
    def __init__(
        self, channels: int, width: int, stride: int, make_norm: Callable[[int], nn.Module]
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride=stride, padding=1, bias=False)
        self.norm1 = make_norm(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm2 = make_norm(width)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels != width:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels, width, 1, stride=stride, bias=False), make_norm(width)
            )

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(out)) + self.shortcut(x))


class ResNet18(nn.Module):
    """ResNet-18 for small images: a 3x3 stem, no first pooling, instance norm by default."""

    def __init__(
        self, in_chans: int, num_classes: int, img_size: ImageSize, *, norm: str = "instance"
    ) -> None:
        super().__init__()
        norms = _NORMS[check_choice("norm", norm, ("instance", "batch"))]

        def make_norm(width: int) -> nn.Module:
            return norms(width, img_size)

        self.conv1 = nn.Conv2d(in_chans, 64, 3, padding=1, bias=False)
        self.norm1 = make_norm(64)
        blocks: list[nn.Module] = []
        channels = 64
        for stage, width in enumerate((64, 128, 256, 512)):
            for stride in (1 if stage == 0 else 2, 1):
                blocks.append(_BasicBlock(channels, width, stride, make_norm))
                channels = width
        self.blocks = nn.Sequential(*blocks)
        height, breadth = ((side + 7) // 8 for side in img_size)
        self.pool = nn.AvgPool2d((min(4, height), min(4, breadth)))
        features = 512 * max(height // 4, 1) * max(breadth // 4, 1)
        self.classifier = nn.Linear(features, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Returns the logits (B, num_classes) of images (B, C, H, W)."""
        out = self.blocks(F.relu(self.norm1(self.conv1(x))))
        return cast(Tensor, self.classifier(self.pool(out).flatten(1)))


def _check_room(name: str, img_size: ImageSize, height: int, breadth: int) -> None:
    if min(height, breadth) < 1:
        raise InputError(
            f"{name} pools {img_size[0]}x{img_size[1]} images to nothing: choose a smaller "
            "network (convnet:depth=2, mlp), or enlarge the images with `image_size`"
        )
