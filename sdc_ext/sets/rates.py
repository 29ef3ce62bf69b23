"""Warns of learning rates that are far from those that a set was made for."""

from __future__ import annotations

from sdc_ext.training.recipe import TrainingRecipe

# A rate that is so many times another is a slip of the decimal point, or another project's.
_FAR = 10.0

# What most projects train with where no rate was learnt.
_USUAL = TrainingRecipe.lr


def warning_about(lr: float, own: float | None) -> list[str]:
    """Returns a warning if a declared learning rate is far off.

    Args:
        lr: The declared rate.
        own: The rate in the files of the set, or of its project; None if there is none.
    """
    usual = _USUAL if own is None else own
    if usual / _FAR < lr < usual * _FAR:
        return []
    whose = "projects of its kind start from" if own is None else "its files or project use"
    return [f"trained with a learning rate of {lr:g}, as you say, although {whose} {usual:g}"]
