"""Recognises what labels are: classes, probabilities or logits, and in which order."""

from __future__ import annotations

from collections import Counter

from torch import Tensor

from sdc_ext.sets.recognition.conclusions import Conclusion

LABELS = "labels"
ORDER = "order"

CLASSES = "classes"
PROBABILITIES = "probabilities"
LOGITS = "logits"

# Rows of float32 probabilities miss 1 by less; rows of half precision, or of labels that were
# written with three decimals, by no more than the second. Rows of logits come as close to 1 as that
# by accident only, and never all of them.
_ROUNDING = 1e-3
_COARSE = 2e-2


def recognise_labels(labels: Tensor) -> Conclusion:
    """Concludes whether labels (N,) or (N, classes) are classes, probabilities or logits."""
    if labels.ndim == 1:
        whole = bool((labels == labels.round()).all())
        return Conclusion(
            LABELS,
            CLASSES,
            "sure" if whole else "unknown",
            f"there is one number per image, {'all whole' if whole else 'not all whole'}, from "
            f"{labels.min().item():g} to {labels.max().item():g}",
        )
    rows = labels.double()
    off = float((rows.sum(1) - 1).abs().max())
    lowest = float(rows.min())
    evidence = (
        f"the lowest value is {lowest:.3g}, and sums of rows differ from 1 by up to {off:.2g}"
    )
    if lowest < 0 or off > _COARSE:
        # Values above 0 alone could be anything that somebody forgot to divide by its sum.
        return Conclusion(LABELS, LOGITS, "sure" if lowest < 0 else "likely", evidence)
    return Conclusion(LABELS, PROBABILITIES, "sure" if off < _ROUNDING else "likely", evidence)


def as_labels(labels: Tensor, found: Conclusion) -> Tensor:
    """Returns classes (N,) int64 or probabilities (N, classes), as they were recognised."""
    if labels.ndim == 1:
        return labels.long()
    rows = labels.float()
    if found.conclusion == LOGITS:
        return rows.softmax(1)
    return rows if found.certainty == "sure" else rows / rows.sum(1, keepdim=True)


def classes_in(labels: Tensor) -> Tensor:
    """Returns the classes (N,) int64 of labels (N,), or the most probable ones of (N, classes)."""
    return labels.long() if labels.ndim == 1 else labels.argmax(1)


def recognise_order(labels: Tensor) -> Conclusion:
    """Concludes whether images come sorted by class, and how many there are of each.

    Args:
        labels: Classes (N,), or rows of which the largest entry is the class.
    """
    hard = classes_in(labels)
    falls = int((hard.diff() < 0).sum())
    counts = Counter(hard.tolist()).values()  # `bincount` counts up to the largest label
    least, most = min(counts), max(counts)
    each = f"{least}" if least == most else f"{least} to {most}"
    kind = "" if labels.ndim == 1 else " most probable"
    return Conclusion(
        ORDER,
        "unsorted" if falls else "sorted by class",
        "sure",
        f"the{kind} class falls {falls} times from one image to the next, and "
        f"{len(counts)} classes have {each} images each",
    )


def classes_of(labels: Tensor) -> int:
    """Returns the number of classes that labels show: at least that many there must be."""
    if labels.ndim == 2:
        return labels.shape[1]
    return int(labels.max()) + 1
