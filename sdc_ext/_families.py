"""Families of distillation loops, and what each of them passes to ``with_sdc``.

Messages name the family that a call belongs to, rather than the call that was made.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import Enum

from torch import Tensor

# The page with a whole loop of each family, in a section of its own.
PAGE = "docs/ways/recipes.md"


class Family(Enum):
    """A family of loops: its section of the page, and what its loops do."""

    BY_CLASS = (
        "class-by-class",
        "pass the gradient on the synthetic images, with its graph, as "
        "torch.autograd.grad(..., create_graph=True) returns it",
    )
    ALL_CLASSES = (
        "all-classes-at-once",
        "pass one list of tensors per call, the gradient of the summed loss of all classes",
    )
    UNROLLED = (
        "unrolled-steps",
        "show the gradient of every inner step, with its graph, to .observe() before the loss is "
        "called",
    )
    GENERATED = (
        "codes-factors-and-decoders",
        "pass what is learnt and the loss depends on, such as images or codes, as "
        "with_sdc(..., images=...)",
    )
    FUNCTIONAL = (
        "functional-gradients",
        "pass the dictionary that torch.func.grad returns for images that require a gradient",
    )
    FEATURES = (
        "features",
        "show the gradient of a training loss of the synthetic images, with its graph, to "
        ".observe() before the loss is called",
    )
    INLINE = (
        "a-loss-computed-in-place",
        "make sdc = with_sdc(lambda loss: loss) once, call sdc.observe(g_syn) on the synthetic "
        "gradient, and sdc(loss) on the scalar tensor that is differentiated",
    )

    @classmethod
    def of_first(cls, argument: object) -> Family:
        """Returns the family whose losses take an argument of this kind first."""
        if isinstance(argument, Mapping):
            return cls.FUNCTIONAL
        if isinstance(argument, list | tuple | Iterator):
            return cls.BY_CLASS
        if not isinstance(argument, Tensor) or argument.ndim == 0:
            return cls.INLINE
        return cls.UNROLLED if argument.ndim == 1 else cls.FEATURES

    @property
    def what(self) -> str:
        """What its loops do, as advice."""
        return self.value[1]

    def advise(self, problem: str, advice: str | None = None) -> str:
        """Returns a sentence on a problem, with advice and the section that shows a whole loop.

        Args:
            problem: What is wrong with the call.
            advice: What to do; by default what the family's loops do.
        """
        return f"{problem}: {self.what if advice is None else advice} ({PAGE}#{self.value[0]})"
