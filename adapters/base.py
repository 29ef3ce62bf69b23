"""The interface that the engine drives, and what a method is given to work with.

A run is this loop, and an adapter is what stands in it::

    state = loop.start(task)                     # synthetic images, their optimiser
    for iteration in range(iterations):
        seed_torch(seed, "iteration", iteration)
        loss_fn.iteration = iteration            # for schedules of lam
        log = loop.step(state, task, loss_fn, iteration)
        every eval_every: evaluate(state.candidates()); save a checkpoint

A loop is a frozen dataclass of hyper-parameters; everything that changes is in its state.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from sdc_ext.adapters.run_settings import Setting
from sdc_ext.adapters.task import Task
from sdc_ext.evaluation.results import Selects, counted
from sdc_ext.experts.train import ExpertRecipe
from sdc_ext.regularizer import SDCLoss
from sdc_ext.sets.synthetic_set import Distilled


class State(Protocol):
    """What a loop changes: the engine evaluates, saves and restores it."""

    images: Tensor

    def candidates(self) -> dict[str, Distilled]:
        """What may be evaluated and kept, by name; the first is what is being optimised."""
        ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class Loop(Protocol):
    """A loop that serves several methods.

    Attributes:
        align_corners: of its augmentation's scale and rotate.
        epochs_needed: how long experts must have been trained; 0 if it matches none.
        unused: settings that other settings make meaningless.
    """

    @property
    def align_corners(self) -> bool: ...

    @property
    def epochs_needed(self) -> int: ...

    @property
    def unused(self) -> set[str]: ...

    @classmethod
    def derived(cls, origin: Mapping[str, Setting], chosen: Container[str]) -> dict[str, Setting]:
        """Settings that follow from others; those that the user has chosen are left alone."""
        ...

    def matching_loss(self) -> Callable[..., Tensor]:
        """The loss that the correction wraps."""
        ...

    def start(self, task: Task) -> Any:
        """The initial state; draws from torch's global generator."""
        ...

    def step(self, state: Any, task: Task, loss_fn: SDCLoss, iteration: int) -> dict[str, float]:
        """One outer iteration, in place.

        Returns:
            What to log: at least ``loss``, ``matching`` and ``difficulty`` (GraDN).

        Raises:
            DivergenceError: before it would change the images, if the loss is not finite.
        """
        ...


@dataclass(frozen=True)
class Method:
    """A distillation method: a loop and the choices that make it this method.

    Attributes:
        name: what the command line calls it.
        reference: the paper.
        loop: the loop's class, a dataclass.
        choices: values of its fields, and of :class:`RunSettings`, that differ from their
            defaults.
        source: where the choices come from, e.g. a script of the original repository.
        rules: further values for a data set and ipc, each with its source.
        selects: which evaluation counts: ``"last"`` or ``"best"``.
        experts: how its expert trajectories are trained for a data set and ipc, if it matches
            any.
    """

    name: str
    reference: str
    loop: type[Any]
    choices: Mapping[str, Any]
    source: str
    rules: Callable[[str, int], Mapping[str, tuple[Any, str]]]
    selects: Selects
    experts: Callable[[str, int], ExpertRecipe] | None = None

    def pick(self, evaluations: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
        """The evaluation that counts, of at least one; see :func:`~sdc_ext.evaluation.counted`."""
        return counted(evaluations, self.selects)
