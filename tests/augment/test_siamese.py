"""Augmentations: the originals' pixels, one draw on any batch, derivatives, and refusals."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from helpers import Golden, relative_error
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sdc_ext.augment.base import Replay
from sdc_ext.augment.dc import DCAugmentation
from sdc_ext.augment.kornia_plugin import KorniaAugmentation
from sdc_ext.augment.parse import parse_augmentation
from sdc_ext.augment.siamese import DSA_OPERATIONS, SiameseAugmentation
from sdc_ext.errors import InputError

GOLDEN_CASES = (
    *(f"dsa_dc_{operation}_3x16" for operation in DSA_OPERATIONS),
    "dsa_mtt_rotate_3x16",
    "dsa_mtt_scale_3x16",
)
KORNIA = ("RandomAffine(degrees=15)", "RandomHorizontalFlip(p=0.5)", "RandomErasing(p=1.0)")
MANY = 2000


def replay_of(case: Golden, parameters: dict[str, Tensor]) -> Replay:
    dsa = SiameseAugmentation(case.meta["op"], align_corners=case.meta["align_corners"])
    return dsa.replay(case.meta["op"], parameters)


def siamese_replay(case: Golden, seed_index: int) -> Replay:
    """The originals draw an image each and then give every image the first one's parameters."""
    return replay_of(case, {n: p[seed_index, :1] for n, p in case.group("param").items()})


@pytest.mark.parametrize("name", GOLDEN_CASES)
def test_operation_equals_the_original(golden: Callable[[str], Golden], name: str) -> None:
    case = golden(name)
    for s in range(len(case["seeds"])):
        assert relative_error(siamese_replay(case, s)(case["x"]), case["out"][s]) < 1e-5


@pytest.mark.parametrize("name", GOLDEN_CASES)
def test_draw_on_another_batch_equals_the_original(
    golden: Callable[[str], Golden], name: str
) -> None:
    case = golden(name)
    out = siamese_replay(case, 0)(case["x_other"])
    assert relative_error(out, case["out_other_seed0"]) < 1e-5


@pytest.mark.parametrize("name", GOLDEN_CASES)
def test_image_gradient_equals_the_original(golden: Callable[[str], Golden], name: str) -> None:
    case = golden(name)
    x = case["x"].requires_grad_()
    siamese_replay(case, 0)(x).backward(case["cotangent"])
    assert relative_error(x.grad, case["grad_x_seed0"]) < 1e-5


@pytest.mark.parametrize("name", GOLDEN_CASES)
def test_parameters_per_image_equal_the_original(
    golden: Callable[[str], Golden], name: str
) -> None:
    case = golden(name)
    out = replay_of(case, case.group("indep_param"))(case["x"])
    assert relative_error(out, case["indep_out"]) < 1e-5


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    operation=st.sampled_from(DSA_OPERATIONS),
    channels=st.sampled_from([1, 3]),
    size=st.tuples(st.integers(2, 13), st.integers(2, 13)),
    batches=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    align_corners=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_draw_is_the_same_for_an_image_in_any_batch(
    operation: str,
    channels: int,
    size: tuple[int, int],
    batches: tuple[int, int],
    align_corners: bool,
    seed: int,
) -> None:
    torch.manual_seed(seed)
    replay = SiameseAugmentation(operation, align_corners).draw(size)
    images = torch.randn(sum(batches), channels, *size, dtype=torch.float64)
    together = replay(images)
    assert together.shape == images.shape
    apart = torch.cat([replay(part) for part in images.split(list(batches))])
    alone = torch.cat([replay(image[None]) for image in images])
    torch.testing.assert_close(apart, together, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(alone, together, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "spec",
    ["_".join(DSA_OPERATIONS), "dc:crop_scale_rotate_noise", *(f"kornia:{k}" for k in KORNIA)],
)
@pytest.mark.parametrize("n", [1, 5])
def test_draws_come_from_the_global_generator(spec: str, n: int) -> None:
    augmentation = parse_augmentation(spec)
    images = torch.rand(5, 3, 12, 10)

    def draws(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return torch.stack([augmentation.draw((12, 10), n)(images) for _ in range(6)])

    assert torch.equal(draws(1), draws(1))
    assert not torch.equal(draws(1), draws(2))
    drawn = draws(1)
    assert not all(torch.equal(one, drawn[0]) for one in drawn)


@pytest.mark.parametrize("n", [1, 16])
@pytest.mark.parametrize("operation", ["color", "crop", "cutout", "scale", "rotate"])
def test_images_share_a_draw_only_in_siamese_mode(operation: str, n: int) -> None:
    images = torch.rand(1, 3, 12, 10).expand(16, -1, -1, -1)
    out = SiameseAugmentation(operation).draw((12, 10), n)(images)
    assert torch.allclose(out, out[:1].expand_as(out)) == (n == 1)


def test_each_draw_is_one_operation_of_the_strategy() -> None:
    augmentation = SiameseAugmentation("flip_cutout")
    images = torch.rand(1, 1, 8, 8) + 1  # nothing is zero but what cutout erases
    seen = set()
    for _ in range(40):
        out = augmentation.draw((8, 8))(images)
        if torch.equal(out, images):
            seen.add("flip, not done")
        elif torch.equal(out, images.flip(3)):
            seen.add("flip, done")
        else:
            assert (out == 0).any() and torch.equal(out[out != 0], images[out != 0])
            seen.add("cutout")
    assert seen == {"flip, not done", "flip, done", "cutout"}


def ramps(height: int, width: int) -> Tensor:
    """Two channels that hold the row and the column of each pixel, counted from the centre."""
    rows = torch.arange(height, dtype=torch.float64) - (height - 1) / 2
    columns = torch.arange(width, dtype=torch.float64) - (width - 1) / 2
    return torch.stack(torch.meshgrid(rows, columns, indexing="ij"))[None].expand(MANY, -1, -1, -1)


def test_crop_shifts_by_up_to_an_eighth_of_each_side() -> None:
    size = (16, 24)
    images = ramps(*size)
    out = SiameseAugmentation("crop").draw(size, MANY)(images)
    shifts = (out - images)[:, :, 8, 12].round()
    assert shifts[:, 0].unique().tolist() == [-2, -1, 0, 1, 2]
    assert shifts[:, 1].unique().tolist() == [-3, -2, -1, 0, 1, 2, 3]


@pytest.mark.parametrize(("length", "centers"), [(8, 9), (9, 9), (10, 10)])
def test_cutout_erases_half_a_side_around_any_pixel(length: int, centers: int) -> None:
    # Where half the side is even, the centre lies between pixels and has one more place.
    erased = (
        SiameseAugmentation("cutout").draw((length, length), MANY)(
            torch.ones(MANY, 1, length, length)
        )
        == 0
    )
    rows = erased.any(dim=3)[:, 0]
    assert int(rows.sum(1).max()) == int(length * 0.5 + 0.5)
    assert bool(rows.any(0).all())
    assert len(rows.unique(dim=0)) == centers


def test_scale_factors_of_both_axes_are_drawn_within_a_fifth() -> None:
    size = (20, 30)
    out = SiameseAugmentation("scale", align_corners=True).draw(size, MANY)(ramps(*size))
    factor_h = out[:, 0, 10, 15] - out[:, 0, 9, 15]
    factor_w = out[:, 1, 10, 15] - out[:, 1, 10, 14]
    for factor in (factor_h, factor_w):
        assert 1 / 1.2 - 1e-9 <= factor.min() < 0.84 and 1.19 < factor.max() <= 1.2 + 1e-9
    assert abs(torch.corrcoef(torch.stack([factor_h, factor_w]))[0, 1]) < 0.1


def test_rotation_angles_are_drawn_within_15_degrees() -> None:
    size = (20, 20)
    out = SiameseAugmentation("rotate", align_corners=True).draw(size, MANY)(ramps(*size))
    degrees = torch.rad2deg(torch.asin(out[:, 0, 10, 10] - out[:, 0, 10, 9]))
    assert -15.01 < degrees.min() < -14.8 and 14.8 < degrees.max() < 15.01
    assert abs(degrees.mean()) < 1


def test_half_of_the_images_are_flipped() -> None:
    out = SiameseAugmentation("flip").draw((4, 4), MANY)(ramps(4, 4))
    assert abs((out[:, 1, 0, 0] > 0).double().mean() - 0.5) < 0.05


def test_color_draws_brightness_saturation_and_contrast() -> None:
    grey = SiameseAugmentation("color").draw((2, 2), MANY)(torch.zeros(MANY, 3, 2, 2))
    assert -0.5 <= grey.min() < -0.49 and 0.49 < grey.max() < 0.5
    # One channel has no saturation, one pixel no contrast.
    spread = SiameseAugmentation("color").draw((2, 2), MANY)(ramps(2, 2)[:, :1])
    contrast = spread[:, 0, 1, 0] - spread[:, 0, 0, 0]
    assert 0.5 <= contrast.min() < 0.51 and 1.49 < contrast.max() < 1.5
    pixel = torch.tensor([0.0, 1.0]).reshape(1, 2, 1, 1).expand(MANY, -1, -1, -1)
    color = SiameseAugmentation("color").draw((1, 1), MANY)(pixel)
    combined = color[:, 1, 0, 0] - color[:, 0, 0, 0]  # saturation times contrast
    assert 0 <= combined.min() < 0.05 and 2.5 < combined.max() < 3


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("operation", DSA_OPERATIONS)
def test_gradient_of_weights_can_be_differentiated_by_images(
    operation: str, align_corners: bool
) -> None:
    replay = SiameseAugmentation(operation, align_corners).draw((4, 5))
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(3, 4, 5, dtype=torch.float64, requires_grad=True)

    def gradient(x: torch.Tensor) -> torch.Tensor:
        loss = (replay(x) * weight).sum((1, 2, 3)).pow(2).sum()
        return torch.autograd.grad(loss, weight, create_graph=True)[0]

    assert torch.autograd.gradcheck(replay, x)
    assert torch.autograd.gradcheck(gradient, x)


def test_no_augmentation_returns_the_images_themselves() -> None:
    images = torch.rand(2, 3, 4, 4)
    assert parse_augmentation("none").draw((4, 4))(images) is images


def test_spec_names_the_augmentation() -> None:
    assert parse_augmentation("color_crop") == SiameseAugmentation(
        "color_crop", align_corners=False
    )
    assert parse_augmentation("scale", align_corners=True) == SiameseAugmentation(
        "scale", align_corners=True
    )
    assert parse_augmentation("dc:crop_rotate") == DCAugmentation("crop_rotate")
    kornia = KorniaAugmentation("RandomAffine(degrees=15)")
    assert parse_augmentation("kornia:RandomAffine(degrees=15)") == kornia


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("color_flipp", "unknown DSA operation 'flipp': did you mean 'flip'. choose from color, "),
        ("Crop", "unknown DSA operation 'Crop': did you mean 'crop'"),
        ("color_none", "unknown DSA operation 'none'"),
        ("color__crop", "unknown DSA operation ''"),
        ("korna:RandomAffine", "unknown DSA operation 'korna:RandomAffine'"),
        ("dc:rotates", "unknown DC augmentation 'rotates': did you mean 'rotate'"),
        (
            "kornia:RandomAfine",
            "unknown kornia augmentation 'RandomAfine': did you mean 'RandomAff",
        ),
        ("kornia:RandomAffine", "kornia:RandomAffine does not take these arguments: .*'degrees'"),
        ("kornia:RandomAffine(turn=1)", "RandomAffine does not take these arguments: .*'turn'"),
        ("kornia:RandomAffine(15)", r"cannot read .* e.g. kornia:RandomAffine\(degrees=15\)"),
        ("kornia:RandomAffine(degrees=", "cannot read the augmentation 'RandomAffine.degrees='"),
        ("kornia:RandomAffine(degrees=open('x'))", "cannot read the augmentation"),
        ("kornia:RandomAffine(degrees={[1]: 2})", "cannot read the augmentation"),
        pytest.param(
            f"kornia:RandomAffine(degrees={'-' * 5_000}1)",
            "cannot read the augmentation",
            id="deep",
        ),
        pytest.param(
            f"kornia:RandomAffine(degrees={'-' * 100_000}1)",
            "cannot read the augmentation",
            id="deeper",
        ),
        ("kornia:", "cannot read the augmentation ''"),
        ("kornia:RandomAffine(degrees=-5)", "RandomAffine does not take these arguments"),
    ],
)
def test_unknown_augmentation_is_refused(spec: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_augmentation(spec)


@pytest.mark.parametrize("size", [(12, 12), (10, 15)])
@pytest.mark.parametrize("expression", KORNIA)
def test_kornia_draw_is_the_same_for_an_image_in_any_batch(
    expression: str, size: tuple[int, int]
) -> None:
    augmentation = KorniaAugmentation(expression)
    images = torch.rand(7, 3, *size)
    changed = []
    for _ in range(8):
        replay = augmentation.draw(size)
        together = replay(images)
        apart = torch.cat([replay(part) for part in images.split([1, 4, 2])])
        torch.testing.assert_close(apart, together, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(replay(images), together)
        changed.append(not torch.allclose(together, images, atol=1e-3))
    assert any(changed)
    assert all(changed) == ("p=1.0" in expression)  # kornia applies the others half the time


def test_kornia_draws_an_image_each_where_asked() -> None:
    images = torch.rand(1, 3, 8, 8).expand(32, -1, -1, -1)
    out = KorniaAugmentation("RandomHorizontalFlip(p=0.5)").draw((8, 8), n=32)(images)
    flipped = [torch.equal(one, images[0].flip(2)) for one in out]
    kept = [torch.equal(one, images[0]) for one in out]
    assert sum(flipped) + sum(kept) == 32 and sum(flipped) > 4 and sum(kept) > 4


def test_kornia_replay_leaves_the_global_generator_alone() -> None:
    replay = KorniaAugmentation("RandomAffine(degrees=15)").draw((8, 8))
    before = torch.get_rng_state()
    replay(torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(torch.get_rng_state(), before)


def test_kornia_replay_passes_gradients_to_the_images() -> None:
    images = torch.rand(2, 3, 8, 8, requires_grad=True)
    replay = KorniaAugmentation("RandomAffine(degrees=15)").draw((8, 8))
    replay(images).square().sum().backward()
    assert images.grad is not None and bool((images.grad != 0).any(dim=(1, 2, 3)).all())


def test_kornia_augmentation_that_changes_the_shape_is_refused() -> None:
    replay = KorniaAugmentation("RandomCrop(size=(8, 6))").draw((12, 12))
    message = r"RandomCrop.* turned images of shape \(2, 3, 12, 12\) into \(2, 3, 8, 6\): use an"
    with pytest.raises(InputError, match=message):
        replay(torch.rand(2, 3, 12, 12))
