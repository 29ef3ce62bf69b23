"""Plugs in kornia's augmentations, so that a draw can be replayed on batches of any size."""

from __future__ import annotations

import ast
from dataclasses import dataclass

import torch
from torch import Tensor

from sdc_ext.augment.base import Normalisation, Replay, seeded
from sdc_ext.errors import InputError, check_choice

# What kornia counts among the augmentations that mix images although it treats each by itself.
_WITHIN_IMAGES = ("RandomJigsaw",)


@dataclass(frozen=True)
class KorniaAugmentation:
    """A kornia augmentation, given by the Python expression that makes it.

    kornia's own replay (``params=``) fails if batches differ in size. A draw is therefore a seed,
    which is set before each call; the whole batch then shares one set of parameters.

    kornia's augmentations are made for pixels in [0, 1], to which many of them clamp. Normalised or
    whitened images are therefore turned into pixels first and normalised afterwards.

    Args:
        expression: The augmentation with its arguments as in Python, e.g.
            ``"RandomAffine(degrees=15, scale=(0.9, 1.1))"``.
        normalisation: The normalisation of the images; None if they are pixels.
        always: Apply it in every draw, whatever its probability ``p``.

    Raises:
        InputError: If kornia has no such augmentation or rejects the arguments, or if it combines
            several images.
    """

    expression: str
    normalisation: Normalisation | None = None
    always: bool = False

    def __post_init__(self) -> None:
        self._module(same_on_batch=True)

    def draw(self, image_size: tuple[int, int], n: int = 1) -> Replay:
        """Draws as [`Augmentation.draw`][sdc_ext.augment.Augmentation.draw] says."""
        del image_size
        module = self._module(same_on_batch=n == 1)

        def replay(images: Tensor) -> Tensor:
            if self.normalisation is None:
                return augment(images)
            pixels = self.normalisation.pixels(images)
            return self.normalisation.normalize(augment(pixels)).to(images.dtype)

        def augment(images: Tensor) -> Tensor:
            try:
                augmented: Tensor = module(images)
            except Exception as error:
                shape = "x".join(map(str, images.shape[1:]))
                reason = " ".join(str(error).split()).rstrip(".")
                raise InputError(
                    f"kornia:{self.expression} cannot augment images of {shape}: {reason}; "
                    "choose another augmentation"
                ) from None
            if augmented.shape != images.shape:
                raise InputError(
                    f"kornia:{self.expression} turned images of shape {tuple(images.shape)} into "
                    f"{tuple(augmented.shape)}: use an augmentation that keeps the shape"
                )
            return augmented

        return seeded(replay)

    def _module(self, same_on_batch: bool) -> torch.nn.Module:
        import kornia.augmentation
        from kornia.augmentation import MixAugmentationBaseV2

        name, arguments = _parse_call(self.expression)
        if self.always:
            arguments["p"] = 1.0
        known = [n for n in dir(kornia.augmentation) if n.startswith(("Random", "Color"))]
        cls = getattr(kornia.augmentation, check_choice("kornia augmentation", name, known))
        if issubclass(cls, MixAugmentationBaseV2) and name not in _WITHIN_IMAGES:
            raise InputError(
                f"kornia:{name} combines several images, so that no label fits the result: choose "
                "an augmentation that changes each image by itself"
            )
        try:
            module: torch.nn.Module = cls(**arguments, same_on_batch=same_on_batch)
        except Exception as error:  # kornia raises several kinds of exceptions for bad arguments
            raise InputError(f"kornia:{name} does not take these arguments: {error}") from None
        return module


def _parse_call(expression: str) -> tuple[str, dict[str, object]]:
    try:
        call = ast.parse(expression, mode="eval").body
        if isinstance(call, ast.Name):
            return call.id, {}
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and not call.args:
            return call.func.id, {str(k.arg): ast.literal_eval(k.value) for k in call.keywords}
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        pass  # the latter two come from deep nesting
    raise InputError(
        f"cannot read the augmentation {expression!r}: write kornia:Name(key=value, ...), "
        "e.g. kornia:RandomAffine(degrees=15)"
    )
