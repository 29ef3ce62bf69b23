"""Recognises whether stored images are grids of smaller ones, by their edges at the seams."""

from __future__ import annotations

import torch
from torch import Tensor

from sdc_ext.sets.recognition.conclusions import Certainty, Conclusion
from sdc_ext.sets.recognition.spectra import Reference

FACTOR = "factor"

# Released sets have 2, and 3 for large images.
_MOST = 3

# How many standard errors two factors have to be apart to be told from each other.
_SURE_APART = 6.0
_LIKELY_APART = 3.0

# The way from the mean edge of whole images to that of grids. Up to the bound, images are like the
# ones, and from 1 minus the bound on like the others; the third between them is left open, since
# learning weakens edges.
_NEAR = 1 / 3

# Where noise is more than this share of an image, its edges hardly show.
_TOO_NOISY = 0.8


def recognise_factor(pixels: Tensor, reference: Reference, noise: float) -> Conclusion:
    """Concludes how many smaller pictures per side a stored image consists of.

    The mean squared step across the seams of a grid, minus that elsewhere, is compared with what
    real images have, and grids of them. White noise adds the same to both steps.

    Args:
        pixels: The images as pixels (N, C, H, W), on the scale of the real ones or any other.
        reference: Real images of the same size.
        noise: The share of noise in the power of the images, by which edges are weaker.
    """
    factors = reference.factors(_MOST)[1:]
    if noise > _TOO_NOISY or not factors:
        reason = f"{100 * noise:.0f} % of the images' power is noise, which hides edges"
        if not factors:
            reason = f"no factor divides {pixels.shape[2]}x{pixels.shape[3]}"
        return Conclusion(FACTOR, "1", "unknown" if factors else "sure", reason)
    found = [_compare(pixels, reference, factor, noise) for factor in factors]
    grids = [one for one in found if one.conclusion != "1"]
    return (grids or found)[0]


def _compare(pixels: Tensor, reference: Reference, factor: int, noise: float) -> Conclusion:
    whole = _edges(reference.pixels, factor)
    grids = _edges(reference.grids(factor), factor)
    here = _edges(pixels, factor)
    apart = float(grids.mean() - whole.mean()) * (1 - noise)
    place = float(here.mean() - whole.mean()) / apart if apart else 0.5
    error = float(torch.stack([whole.std(), grids.std(), here.std()]).max()) / len(here) ** 0.5
    evidence = (
        f"steps across the seams of a grid of {factor}x{factor} exceed those elsewhere by "
        f"{float(here.mean()):.2f} of the variance; by {float(whole.mean()):.2f} in real images, "
        f"and by {float(grids.mean()):.2f} in grids of them"
    )
    certainty: Certainty = "unknown"
    if not _NEAR < place < 1 - _NEAR:
        errors = abs(apart) / max(error, 1e-9)
        certainty = "sure" if errors > _SURE_APART else "unknown"
        certainty = "likely" if _LIKELY_APART < errors <= _SURE_APART else certainty
    return Conclusion(FACTOR, str(factor if place > 0.5 else 1), certainty, evidence)


def _edges(images: Tensor, factor: int) -> Tensor:
    """Returns by how much the squared steps at the seams exceed the others (N,)."""
    spread = images.flatten(1).var(1).clamp(min=1e-9)
    excess = []
    for axis in (2, 3):
        steps = images.diff(dim=axis).square().mean((1, 5 - axis))  # (N, size - 1)
        seams = torch.arange(1, factor) * (images.shape[axis] // factor) - 1
        others = torch.ones(steps.shape[1], dtype=torch.bool)
        others[seams] = False
        excess.append(steps[:, seams].mean(1) - steps[:, others].mean(1))
    return (excess[0] + excess[1]) / 2 / spread
