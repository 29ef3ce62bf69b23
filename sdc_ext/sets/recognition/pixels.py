"""Recognises how images are stored: as pixels, normalised, or ZCA-whitened."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from sdc_ext.data.known import STATISTICS
from sdc_ext.data.preprocessing import Preprocessing
from sdc_ext.data.real import RealData
from sdc_ext.sets.recognition.conclusions import Certainty, Conclusion
from sdc_ext.sets.recognition.spectra import Reference, score_of_noise

PIXELS = "pixels"
STATISTICS_OF = "statistics"
WHITENED_BY = "whitening"

BYTES = "whole numbers from 0 to 255"
UNIT = "pixels in [0, 1]"
NORMALISED = "normalised"
WHITENED = "ZCA-whitened"
UNKNOWN = "unknown"

OWN = "the data's own"

# Pixels are never below 0, and learnt pixels without a bound in places. Normalised real images are
# below 0 where they are darker than their mean: 61 % of the values of digits, 83 % of MNIST's and
# 54 % of CIFAR-10's; whitened ones in 50 to 60 %. What lies between the bounds is neither.
_FEW_BELOW = 0.05
_MANY_BELOW = 0.25

# The margin in log likelihood per value, and in all, by which one explanation has to beat the other
# and noise. Of digits, MNIST and CIFAR-10, with one and ten images per class, as they are, learnt,
# or under noise of up to twice their own deviation, the right one beats the other by 0.021 to 0.8
# (photographs under whitening and noise have the least), and noise around 0 with a tenth of image
# in it beats noise by less than 0.004. The total keeps ten digits of 64 values from being sure.
_SURE = (0.01, 100.0)
_LIKELY = (0.005, 20.0)

# Pixels that were bytes are whole numbers of 1/255, which only the right statistics show.
_BYTE_ERROR = 0.05
_MOST_BYTES = 0.98

# Shares of un-whitened values outside of [0, 1]. Real images have none if these training images
# whitened them, at most 0.2 % if nine tenths of them did, 1.6 to 4.5 % if half of them did, and
# over 75 % if they were normalised. What was learnt under whitening leaves [0, 1] as well, so that
# more than the first bound says little.
_SLACK = 0.02
_FEW_OUTSIDE = 0.01
_MANY_OUTSIDE = 0.2


@dataclass(frozen=True)
class PixelStudy:
    """The conclusions about the pixels of a set, with what others need of them.

    Attributes:
        conclusion: How the images are stored.
        noise: The share of noise in their power, 1 where they are like noise; None if there are
            no real images to compare with.
    """

    conclusion: Conclusion
    noise: float | None = None


def study_pixels(images: Tensor, reference: Reference | None, own: Preprocessing) -> PixelStudy:
    """Concludes how images (N, C, H, W) are stored.

    Args:
        images: The images.
        reference: Real images; None if there are none, in which case normalised images and
            whitened ones are not distinguished.
        own: The statistics of the real data.
    """
    values = images.float()
    low, high = float(values.min()), float(values.max())
    below = float((values < 0).float().mean())
    seen = f"values lie in [{low:.3g}, {high:.3g}], and {100 * below:.1f} % of them are below 0"
    whole = low >= 0 and high <= 255 and bool((values == values.round()).all())
    if whole and high > 1:
        return PixelStudy(Conclusion(PIXELS, BYTES, "sure", f"{seen}, all of them whole numbers"))
    if below <= _FEW_BELOW:
        return _of_unit(values, seen, reference)
    if below < _MANY_BELOW:
        odd = f"{seen}, more than of pixels and less than of normalised images"
        return PixelStudy(Conclusion(PIXELS, UNKNOWN, "unknown", odd))
    if reference is None:
        unseen = f"{seen}, as of normalised and of whitened images"
        return PixelStudy(Conclusion(PIXELS, f"{NORMALISED} or {WHITENED}", "unknown", unseen))
    return _of_centred(values, seen, reference, own)


def _of_unit(values: Tensor, seen: str, reference: Reference | None) -> PixelStudy:
    inside = float(((values >= -_SLACK) & (values <= 1 + _SLACK)).float().mean())
    evidence = f"{seen}; {100 * inside:.1f} % are in [0, 1]"
    noise = None
    if reference is not None:
        identity = Preprocessing((0.0,) * values.shape[1], (1.0,) * values.shape[1])
        noise = reference.fit_normalised(values, identity).noise
    # All values of real pixels are inside; a learnt set without a bound leaves it in places.
    if inside > 0.95:
        return PixelStudy(Conclusion(PIXELS, UNIT, "sure", evidence), noise)
    return PixelStudy(Conclusion(PIXELS, UNIT, "likely", evidence), noise)


def _of_centred(values: Tensor, seen: str, reference: Reference, own: Preprocessing) -> PixelStudy:
    # A grid of smaller pictures has more of high frequencies, as whitened images have.
    fits = [reference.fit_normalised(values, own, factor) for factor in reference.factors(2)]
    normalised = max(fits, key=lambda fit: fit.score)
    whitened = reference.fit_whitened(values)
    noise = score_of_noise(values)
    best, name = (
        (whitened, WHITENED)
        if whitened.score > normalised.score
        else (
            normalised,
            NORMALISED,
        )
    )
    margin = abs(whitened.score - normalised.score)
    gain = best.score - noise
    evidence = (
        f"{seen}; their spectrum is that of {name} real images rather than of "
        f"{NORMALISED if name == WHITENED else WHITENED} ones (log likelihood per value "
        f"{best.score:.3f}, {margin:.3f} more) or noise ({gain:.3f} more)"
    )
    worst, count = min(margin, gain), values.numel()
    certainty: Certainty | None = None
    if worst >= _LIKELY[0] and worst * count >= _LIKELY[1]:
        certainty = "likely"
    if worst >= _SURE[0] and worst * count >= _SURE[1]:
        certainty = "sure"
    if certainty is not None:
        return PixelStudy(Conclusion(PIXELS, name, certainty, evidence), best.noise)
    vague = (
        f"{seen}; their spectrum fits normalised real images with log likelihood "
        f"{normalised.score:.3f} per value, whitened ones with {whitened.score:.3f}, and noise "
        f"with {noise:.3f}"
    )
    like_noise = 1.0 if gain < _LIKELY[0] else best.noise
    conclusion = Conclusion(PIXELS, f"{NORMALISED} or {WHITENED}", "unknown", vague)
    return PixelStudy(conclusion, like_noise)


def known_statistics(own: Preprocessing) -> dict[str, Preprocessing]:
    """Returns the channel statistics by which images may have been normalised, by name.

    They are those of the data, those of CIFAR-10 (which some projects use for CIFAR-100), those of
    ImageNet, and 0.5.
    """
    channels = len(own.mean)
    found = {OWN: own}
    if channels == 3:
        found["CIFAR-10's"] = Preprocessing(*STATISTICS["cifar10"])
        found["ImageNet's"] = Preprocessing(*STATISTICS["tinyimagenet"])
    found["0.5"] = Preprocessing((0.5,) * channels, (0.5,) * channels)
    return {
        name: one
        for name, one in found.items()
        if name == OWN or (one.mean, one.std) != (own.mean, own.std)
    }


def recognise_statistics(
    images: Tensor, reference: Reference, own: Preprocessing
) -> tuple[Conclusion, Preprocessing]:
    """Concludes by which channel statistics images (N, C, H, W) were normalised.

    Only images whose pixels were bytes show it for sure. Learnt images have a contrast of their
    own, which no statistics explain better than the others.
    """
    known = known_statistics(own)
    whole = {name: _share_of_bytes(one.pixels(images)) for name, one in known.items()}
    name = max(whole, key=lambda key: whole[key])
    if whole[name] > _MOST_BYTES and sum(v > _MOST_BYTES for v in whole.values()) == 1:
        evidence = (
            f"undoing them makes {100 * whole[name]:.1f} % of the values whole numbers of 1/255"
        )
        return Conclusion(STATISTICS_OF, name, "sure", evidence), known[name]
    scores = {name: reference.fit_normalised(images, one).score for name, one in known.items()}
    best = max(scores, key=lambda key: scores[key])
    listed = ", ".join(f"{name} {score:.3f}" for name, score in scores.items())
    clear = best != OWN and scores[best] - scores[OWN] >= _SURE[0]
    evidence = f"log likelihoods per value are {listed}; no value shows that it was a byte"
    return (
        Conclusion(STATISTICS_OF, best if clear else OWN, "likely", evidence),
        known[best if clear else OWN],
    )


def recognise_whitening(images: Tensor, whitened: RealData) -> Conclusion:
    """Concludes whether the training images of ``whitened`` whitened images (N, C, H, W)."""
    pixels = whitened.preprocessing.pixels(images)
    outside = float(((pixels < -_SLACK) | (pixels > 1 + _SLACK)).float().mean())
    evidence = (
        f"un-whitened by the training images of {whitened.name}, {100 * outside:.1f} % of the "
        "values are outside of [0, 1]"
    )
    certainty: Certainty = "likely" if outside < _MANY_OUTSIDE else "unknown"
    if outside < _FEW_OUTSIDE:
        certainty = "sure"
    return Conclusion(WHITENED_BY, f"by {whitened.name}", certainty, evidence)


def _share_of_bytes(pixels: Tensor) -> float:
    scaled = 255 * pixels
    inside = (scaled > -_BYTE_ERROR) & (scaled < 255 + _BYTE_ERROR)
    return float(((scaled - scaled.round()).abs().lt(_BYTE_ERROR) & inside).float().mean())
