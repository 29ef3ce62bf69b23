"""The field's networks against the originals', and any timm network beside them."""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
from helpers import GOLDEN, Golden, relative_error
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from sdc_ext.errors import InputError
from sdc_ext.networks import network_name
from sdc_ext.networks.architectures import HalvingPool
from sdc_ext.networks.create import check_network, create_network
from sdc_ext.networks.registry import dd_networks

FULL_SIZE: dict[str, dict[str, Any]] = json.loads((GOLDEN / "networks_fullsize.json").read_text())[
    "networks"
]
FORMULA_CASES = (
    "net_formula_ConvNet_3x32",
    "net_formula_LeNet_1x28",
    "net_formula_LeNet_3x32",
    "net_formula_AlexNet_3x32",
    "net_formula_VGG11_3x32",
    "net_formula_ResNet18_3x32",
    "net_formula_MLP_1x28",
)
CONVNET_CASES = ("net_convnet_1x28_w8_d3", "net_convnet_3x16_w12_d2", "net_convnet_3x32_w8_d3")


def fill_by_formula(network: nn.Module, one_dimensional_weights: list[bool]) -> None:
    """The integer formula of the golden files; ours may name a parameter differently."""
    with torch.no_grad():
        for k, (parameter, is_weight) in enumerate(
            zip(network.parameters(), one_dimensional_weights, strict=True)
        ):
            i = torch.arange(parameter.numel())
            u = ((i * 1103515245 + 12345 + k * 2654435) % 2**31).double() / 2**31 - 0.5
            if parameter.ndim > 1:
                u = u * math.sqrt(12 / math.prod(parameter.shape[1:]))
            else:
                u = 1 + 0.2 * u if is_weight else 0.2 * u
            parameter.copy_(u.reshape(parameter.shape))


def image_gradient_through_a_weight_gradient(network: nn.Module, images: Tensor) -> Tensor:
    """What matching needs of a network: its loss differentiated twice."""
    images = images.clone().requires_grad_()
    loss = F.cross_entropy(network(images), torch.arange(len(images)))
    gradients = torch.autograd.grad(
        loss, list(network.parameters()), create_graph=True, materialize_grads=True
    )
    norm = torch.cat([g.flatten() for g in gradients]).norm()
    return torch.autograd.grad(norm, images)[0]


@pytest.mark.parametrize("case", FULL_SIZE)
def test_parameters_have_the_originals_shapes_and_order(case: str) -> None:
    model, size, *classes = case.split("_")
    channels, height, width = (int(n) for n in size.split("x"))
    spec = "convnet:depth=4" if model == "ConvNetD4" else model.lower()
    num_classes = int(classes[0].removesuffix("classes")) if classes else 10
    network = create_network(spec, channels, num_classes, (height, width))
    shapes = [list(p.shape) for p in network.parameters()]
    assert shapes == [shape for _, shape in FULL_SIZE[case]["params"]]
    assert sum(p.numel() for p in network.parameters()) == FULL_SIZE[case]["total"]
    assert not list(network.buffers())


@pytest.mark.parametrize("name", FORMULA_CASES)
def test_logits_equal_the_originals(golden: Callable[[str], Golden], name: str) -> None:
    case = golden(name)
    meta = case.meta
    network = create_network(
        meta["model"].lower(), meta["channel"], meta["num_classes"], tuple(meta["im_size"])
    ).double()
    fill_by_formula(network, [n.endswith("weight") for n in meta["param_names"]])
    with torch.no_grad():
        logits = network(case["input"])
    assert relative_error(logits, case["logits"]) < 1e-10


@pytest.mark.parametrize("name", CONVNET_CASES)
def test_convnet_logits_and_features_equal_the_originals(
    golden: Callable[[str], Golden], name: str
) -> None:
    case = golden(name)
    network: Any = case.network()
    with torch.no_grad():
        assert relative_error(network(case["input"]), case["logits"]) < 1e-10
        assert relative_error(network.embed(case["input"]), case["embed"]) < 1e-10


def test_the_fields_networks_are_there() -> None:
    assert set(dd_networks()) == {"alexnet", "convnet", "lenet", "mlp", "resnet18", "vgg11"}


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (3, 32, 48), (1, 36, 28)])
@pytest.mark.parametrize("name", dd_networks())
def test_network_runs_on_any_image_shape(name: str, shape: tuple[int, int, int]) -> None:
    network = create_network(name, shape[0], 7, shape[1:])
    with torch.no_grad():
        logits = network(torch.randn(2, *shape))
    assert logits.shape == (2, 7)
    assert bool(logits.isfinite().all()) and not torch.equal(logits[0], logits[1])


@pytest.mark.parametrize("name", dd_networks())
def test_network_can_be_differentiated_twice(name: str) -> None:
    side = 32 if name == "vgg11" else 16  # small, for time
    network = create_network(name, 3, 4, (side, side))
    gradient = image_gradient_through_a_weight_gradient(network, torch.randn(1, 3, side, side))
    assert bool(gradient.isfinite().all()) and bool(gradient.any())


def test_timm_creates_our_networks() -> None:
    network = timm.create_model("dd_convnet", in_chans=1, num_classes=10, img_size=28)
    assert sum(p.numel() for p in network.parameters()) == FULL_SIZE["ConvNet_1x28x28"]["total"]
    assert network(torch.zeros(2, 1, 28, 28)).shape == (2, 10)
    oblong = timm.create_model("dd_convnet", in_chans=3, num_classes=5, img_size=(16, 32), depth=2)
    assert oblong(torch.zeros(2, 3, 16, 32)).shape == (2, 5)


def test_initialisation_follows_the_global_generator() -> None:
    def first_weight(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return next(create_network("convnet:width=4", 3, 10, (16, 16)).parameters())

    assert torch.equal(first_weight(0), first_weight(0))
    assert not torch.equal(first_weight(0), first_weight(1))


REFERENCE_NORMS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "instance": lambda x, w, b: F.instance_norm(x, weight=w, bias=b),
    "batch": lambda x, w, b: F.batch_norm(x, None, None, w, b, training=True),
    "layer": lambda x, w, b: F.layer_norm(x, x.shape[1:], w, b),
    "group": lambda x, w, b: F.group_norm(x, 4, w, b),
}
REFERENCE_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "leakyrelu": lambda x: F.leaky_relu(x, 0.01),
    "sigmoid": torch.sigmoid,
    "swish": lambda x: x * torch.sigmoid(x),
}
REFERENCE_POOLINGS: dict[str, Callable[[Tensor], Tensor]] = {
    "avg": lambda x: F.avg_pool2d(x, 2),
    "max": lambda x: F.max_pool2d(x, 2),
    "none": lambda x: x,
}


def reference_convnet(x: Tensor, network: nn.Module, norm: str, act: str, pool: str) -> Tensor:
    parameters = list(network.parameters())
    padding = 3 if x.shape[1] == 1 else 1
    while len(parameters) > 2:
        weight, bias, *parameters = parameters
        x = F.conv2d(x, weight, bias, padding=padding)
        if norm != "none":
            weight, bias, *parameters = parameters
            x = REFERENCE_NORMS[norm](x, weight, bias)
        x = REFERENCE_POOLINGS[pool](REFERENCE_ACTIVATIONS[act](x))
        padding = 1
    return F.linear(x.flatten(1), *parameters)


@given(height=st.integers(2, 9), breadth=st.integers(2, 9), batch=st.integers(1, 3))
def test_halving_pool_is_average_pooling_however_often_it_is_differentiated(
    height: int, breadth: int, batch: int
) -> None:
    x = torch.randn(batch, 2, height, breadth, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(batch, 2, height // 2, breadth // 2, dtype=torch.float64)

    def derivatives(pool: Callable[[Tensor], Tensor]) -> tuple[Tensor, ...]:
        (first,) = torch.autograd.grad((weights * pool(x) ** 3).sum(), x, create_graph=True)
        (second,) = torch.autograd.grad((first**2).sum(), x)
        return pool(x), first, second

    torch.testing.assert_close(
        derivatives(HalvingPool()), derivatives(lambda x: F.avg_pool2d(x, 2))
    )


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("norm", "act", "pool"),
    [
        *itertools.product([*REFERENCE_NORMS, "none"], ["relu"], ["avg"]),
        *itertools.product(["instance"], [*REFERENCE_ACTIVATIONS], ["max"]),
        ("layer", "swish", "none"),
    ],
)
def test_convnet_options_do_what_they_name(norm: str, act: str, pool: str, channels: int) -> None:
    spec = f"convnet:width=8:depth=2:norm={norm}:act={act}:pool={pool}"
    network = create_network(spec, channels, 5, (9, 14)).double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)  # norms start at 1 and 0
        images = torch.randn(3, channels, 9, 14, dtype=torch.float64)
        ours = network(images)
        torch.testing.assert_close(ours, reference_convnet(images, network, norm, act, pool))


@pytest.mark.parametrize("name", ["convnet", "vgg11", "resnet18"])
def test_only_batch_norm_sees_the_rest_of_the_batch(name: str) -> None:
    side = 32 if name == "vgg11" else 8  # small, for time
    images = torch.randn(3, 3, side, side)
    for norm in ("instance", "batch"):
        network = create_network(f"{name}:norm={norm}", 3, 10, (side, side))
        with torch.no_grad():
            same = torch.allclose(network(images)[:2], network(images[:2]), atol=1e-4)
            network.eval()
            same_in_eval = torch.allclose(network(images)[:2], network(images[:2]), atol=1e-4)
        assert same == (norm == "instance")
        assert same_in_eval


@pytest.mark.parametrize(
    ("spec", "depth", "width"),
    [("convnet", 3, 128), ("convnet:depth=1", 1, 128), ("convnet:depth=2:width=5", 2, 5)],
)
def test_convnet_has_the_asked_depth_and_width(spec: str, depth: int, width: int) -> None:
    network = create_network(spec, 3, 10, (16, 16))
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    assert [c.out_channels for c in convolutions] == [width] * depth


@pytest.mark.parametrize(
    ("spec", "shape"),
    [
        ("test_resnet", (3, 32, 32)),
        ("test_resnet", (1, 28, 28)),
        ("vit_tiny_patch16_224:depth=3", (3, 32, 32)),  # less deep than its name says, for time
        ("vit_tiny_patch16_224:depth=1", (3, 32, 48)),
    ],
)
def test_any_timm_network_can_be_differentiated_twice(
    spec: str, shape: tuple[int, int, int]
) -> None:
    network = create_network(spec, shape[0], 4, shape[1:])
    images = torch.randn(2, *shape)
    assert network(images).shape == (2, 4)
    gradient = image_gradient_through_a_weight_gradient(network, images)
    assert bool(gradient.isfinite().all()) and bool(gradient.any())


def test_prefix_means_timms_network_of_that_name() -> None:
    ours = create_network("resnet18", 3, 10, (32, 32))
    theirs = create_network("timm:resnet18", 3, 10, (32, 32))
    assert type(ours).__module__ == "sdc_ext.networks.architectures"
    assert type(theirs).__module__.startswith("timm.")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            "convnett",
            "unknown network 'convnett': did you mean 'convnet'? choose from alexnet, convnet, "
            "lenet, mlp, resnet18, vgg11, any timm name",
        ),
        ("ConvNet", "unknown network 'ConvNet': did you mean 'convnet'?"),
        ("resnt50", "unknown network 'resnt50': did you mean 'resnet50'?"),
        ("timm:resnt50", "unknown network 'resnt50': did you mean 'resnet50'?"),
        ("", "unknown network ''"),
        ("timm:convnet", "unknown network 'convnet'"),
        ("convnet:norm=instanc", "unknown norm 'instanc': did you mean 'instance'?"),
        ("convnet:act=gelu", "unknown act 'gelu'"),
        ("convnet:pool=mean", "unknown pool 'mean': choose from avg, max, none"),
        ("vgg11:norm=layer", "unknown norm 'layer': choose from batch, instance"),
        ("resnet18:norm=none", "unknown norm 'none': choose from batch, instance"),
        ("convnet:widht=8", "'widht': did you mean 'width'? choose from act, depth, norm, "),
        ("mlp:norm=batch", "'mlp:norm=batch' has options, but mlp takes none: leave"),
        ("test_vit:width=8", "network 'test_vit:width=8' does not take these options: "),
        ("test_vit:widht=8", "in 'test_vit:widht=8': 'widht': did you mean 'width'? choose from"),
        ("timm:resnet18:pretrained=1", "'pretrained': choose from act_layer, "),
        ("convnet:depth=999999999", "must be a number from -300 to 300, got 999999999"),
        ("convnet:width=1000000000000", "from -10000 to 10000, got 1000000000000"),
        ("convnet:width=1e308", "from -10000 to 10000, got 1e+308"),
        ("convnet:width=9999", "would have 1.8e+09 parameters, more than 1e+09: choose smaller"),
        ("timm:resnet50:base_width=9999", "parameters, more than 1e+09: choose smaller options"),
        ("convnet:depth", "cannot read 'depth' in network 'convnet:depth': write options as key"),
        ("convnet:depth=", "cannot read 'depth=' in network 'convnet:depth='"),
        ("convnet:=3", "cannot read '=3' in network 'convnet:=3'"),
        ("convnet:depth=1:width=4:depth=2", "has the option depth twice: leave one out"),
        ("convnet:depth=6", "convnet depth=6 pools 32x16 images to nothing: use a smaller depth"),
        ("vgg11", "vgg11 pools 32x16 images to nothing: choose a smaller network"),
    ],
)
def test_bad_network_is_refused(spec: str, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        create_network(spec, 3, 10, (32, 16))


@pytest.mark.parametrize(("name", "side"), [("lenet", 12), ("alexnet", 7), ("vgg11", 31)])
def test_images_too_small_for_a_network_are_refused(name: str, side: int) -> None:
    with pytest.raises(InputError, match=f"{name} pools 32x{side} images to nothing"):
        create_network(name, 3, 10, (32, side))


@pytest.mark.parametrize(
    ("spec", "side", "wanted"),
    [("test_vit", 30, 32), ("vit_tiny_patch16_224:depth=1", 8, 32), ("timm:vgg11", 8, 32)],
)
def test_network_that_cannot_take_the_images_names_the_size_it_wants(
    spec: str, side: int, wanted: int
) -> None:
    message = f"network '{spec}' cannot take images of 3x{side}x32: it takes {wanted}x{wanted} "
    with pytest.raises(InputError, match=message):
        check_network(spec, 3, 10, (side, 32))


@pytest.mark.parametrize("spec", ["convnet:norm=batch", "test_vit", "test_resnet"])
def test_network_that_can_take_the_images_passes_the_check(spec: str) -> None:
    check_network(spec, 3, 10, (32, 16))


@pytest.mark.parametrize("channels", [1, 3])
def test_network_that_answers_alike_to_all_images_is_refused(channels: int) -> None:
    with pytest.raises(InputError, match=f"all images of {channels}x8x8 the same answer, as inst"):
        check_network("resnet18", channels, 10, (8, 8))
    check_network("resnet18:norm=batch", channels, 10, (8, 8))


def test_last_layer_of_zeros_answers_alike_and_can_learn() -> None:
    def zero_at_first(in_chans: int, num_classes: int, img_size: tuple[int, int]) -> nn.Module:
        last = nn.Linear(in_chans * img_size[0] * img_size[1], num_classes)
        nn.init.zeros_(last.weight)
        return nn.Sequential(nn.Flatten(), last)

    check_network(network_name(zero_at_first), 1, 10, (8, 8))


def test_pretrained_weights_are_refused() -> None:
    with pytest.raises(InputError, match="no pretrained weights: pass pretrained=False"):
        timm.create_model("dd_mlp", pretrained=True)


def test_options_of_networks_may_be_true_or_false() -> None:
    spec = "timm:vit_tiny_patch16_224:depth=1:qkv_bias={}"
    shapes = [
        {name for name, _ in create_network(spec.format(value), 3, 10, (32, 32)).named_parameters()}
        for value in ("True", "false")
    ]
    assert shapes[0] - shapes[1] == {"blocks.0.attn.qkv.bias"}
