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

from abc import ABC, abstractmethod
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor

from sdc_ext.adapters.run_settings import Setting, evaluation_as_distillation
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


@dataclass(frozen=True)
class Loop(ABC):
    """A loop that serves one method or several.

    A subclass is a frozen dataclass of hyper-parameters, each made by
    [`option`][sdc_ext.adapters.option], which the command line offers and the set's ``meta.json``
    keeps. It has to say how it matches, starts and steps; the rest has defaults.
    """

    @abstractmethod
    def matching_loss(self) -> Callable[..., Tensor]:
        """The loss that the correction wraps."""

    @abstractmethod
    def start(self, task: Task) -> Any:
        """The initial [`State`][sdc_ext.adapters.State]; draws from torch's global generator."""

    @abstractmethod
    def step(self, state: Any, task: Task, loss_fn: SDCLoss, iteration: int) -> dict[str, float]:
        """One outer iteration, in place.

        Returns:
            What to log: at least ``loss``, ``matching`` and ``difficulty`` (GraDN).

        Raises:
            DivergenceError: Before it would change the images, if the loss is not finite.
        """

    @classmethod
    def derived(cls, origin: Mapping[str, Setting], chosen: Container[str]) -> dict[str, Setting]:
        """Settings that follow from others; those that the user has chosen are left alone."""
        return evaluation_as_distillation(origin, chosen)

    @property
    def augmentation(self) -> str:
        """The augmentation of the synthetic images, as options spell it.

        A loop that augments calls the setting ``dsa_strategy``, as the originals do, since networks
        are evaluated with the same by default.
        """
        return str(getattr(self, "dsa_strategy", "none"))

    @property
    def align_corners(self) -> bool:
        """How the augmentation scales and rotates; see ``torch.nn.functional.grid_sample``."""
        return False

    @property
    def epochs_needed(self) -> int:
        """For how many epochs experts must have been trained; 0 if the loop matches none."""
        return 0

    @property
    def unused(self) -> set[str]:
        """Settings that other settings make meaningless."""
        return set()

    def images_per_iteration(self, classes: int, ipc: int) -> int | None:
        """How many images, real and synthetic, an outer iteration takes through networks.

        Each is an image that goes forward and back once, which is a measure of cost that does not
        depend on the machine; None if the loop does not say.
        """
        del classes, ipc
        return None


def no_rules(dataset: str, ipc: int) -> dict[str, tuple[Any, str]]:
    """The rules of a method whose settings are the same for all data sets and sizes."""
    del dataset, ipc
    return {}


@dataclass(frozen=True)
class Method:
    """A distillation method: a loop and the choices that make it this method.

    Attributes:
        name: The name under which it is asked for.
        reference: The paper.
        loop: The loop's class, a dataclass.
        choices: Values of its fields, and of ``RunSettings``, that differ from their
            defaults.
        source: Where the choices come from, e.g. a script of the original repository.
        rules: Further values for a data set and ipc, each with its source.
        selects: Which evaluation counts: ``"last"`` or ``"best"``.
        experts: How its expert trajectories are trained for a data set and ipc, if it matches
            any.
        matches: What it matches, in a few words, for tables.
    """

    name: str
    reference: str
    loop: type[Loop]
    choices: Mapping[str, Any] = field(default_factory=dict)
    source: str = "the method's defaults"
    rules: Callable[[str, int], Mapping[str, tuple[Any, str]]] = no_rules
    selects: Selects = "last"
    experts: Callable[[str, int], ExpertRecipe] | None = None
    matches: str = ""

    def pick(self, evaluations: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
        """The evaluation that counts, of at least one; of equally good ones, the first."""
        return counted(evaluations, self.selects)
