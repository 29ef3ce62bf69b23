"""IDC's augmentation combines DSA's operations as the class ``DiffAug`` of its repository does."""

from __future__ import annotations

import torch

from sdc_ext.augment.idc import IDCAugmentation
from sdc_ext.augment.parse import parse_augmentation
from sdc_ext.augment.siamese import color, crop, cutout, draw_parameters, flip

SIZE = (8, 8)


def test_flip_colour_one_other_and_cutout_in_this_order() -> None:
    images = torch.randn(5, 3, *SIZE)
    torch.manual_seed(3)
    ours = parse_augmentation("idc:cutout_color_crop_flip").draw(SIZE, 5)(images)
    torch.manual_seed(3)
    torch.randint(1, ())
    expected = images
    for name, operation in (("flip", flip), ("color", color), ("crop", crop), ("cutout", cutout)):
        expected = operation(expected, **draw_parameters(name, SIZE, 5))  # type: ignore[operator]
    assert torch.equal(ours, expected)


def test_one_of_the_others_is_drawn_each_time() -> None:
    torch.manual_seed(0)
    drawn = [IDCAugmentation("color_crop_scale_rotate")._drawn() for _ in range(60)]
    assert {names[0] for names in drawn} == {"color"}
    assert {names[1] for names in drawn} == {"crop", "scale", "rotate"}
    assert all(len(names) == 2 for names in drawn)


def test_a_draw_is_replayed_on_other_images() -> None:
    replay = IDCAugmentation("color_flip_cutout").draw(SIZE)
    images = torch.randn(4, 3, *SIZE)
    assert torch.equal(replay(images)[:2], replay(images[:2]))
