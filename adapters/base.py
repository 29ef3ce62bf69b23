"""The interface between the engine and the methods: loops, their states, and methods.

A run is the following loop, whose steps a method fills in::

    state = loop.start(task)                     # synthetic images, their optimiser
    for iteration in range(iterations):
        seed_torch(seed, "iteration", iteration)
        loss_fn.iteration = iteration            # for schedules of lam
        log = loop.step(state, task, loss_fn, iteration)
        every eval_every: evaluate(state.candidates()); save a checkpoint

A loop is a frozen dataclass of hyper-parameters; everything that changes lives in its state.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor

from sdc_ext.adapters.run_settings import Setting, evaluation_as_distillation
from sdc_ext.adapters.task import Task
from sdc_ext.evaluation.results import Selects, select_evaluation
from sdc_ext.experts.recipe import ExpertRecipe
from sdc_ext.sdc_loss import SDCLoss
from sdc_ext.sets.decoding import Decoder
from sdc_ext.sets.info import EvaluationRow
from sdc_ext.sets.synthetic_set import Distilled


class State(Protocol):
    """Everything that a loop changes; the engine evaluates, saves and restores it.

    Attributes:
        images: The synthetic images being optimised (N, C, H, W), normalised, as they are stored.
    """

    images: Tensor

    def candidates(self) -> dict[str, Distilled]:
        """Returns the sets that may be evaluated and kept, by name.

        The first one is the set being optimised; others may be, for example, its moving average.
        """
        ...

    def state_dict(self) -> dict[str, Any]:
        """Returns everything a checkpoint needs, as tensors, numbers, lists and dictionaries."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what ``state_dict`` returned, in place."""
        ...


@dataclass(frozen=True)
class Loop(ABC):
    """The outer loop of one method or of several.

    A subclass is a frozen dataclass of hyper-parameters. Each field is declared with
    [`option`][sdc_ext.adapters.option], so that the command line offers it and the set's
    ``meta.json`` records it. A subclass implements ``matching_loss``, ``start`` and ``step``;
    everything else has a default.
    """

    @abstractmethod
    def matching_loss(self) -> Callable[..., Tensor]:
        """Returns the loss that the correction wraps."""

    @abstractmethod
    def start(self, task: Task) -> Any:
        """Returns the initial [`State`][sdc_ext.adapters.State].

        Random numbers come from torch's global generator, which the engine has seeded.
        """

    @abstractmethod
    def step(self, state: Any, task: Task, loss_fn: SDCLoss, iteration: int) -> dict[str, float]:
        """Performs one outer iteration and updates the state in place.

        Args:
            state: The state that ``start`` returned.
            task: The real data, network, experts and accelerator.
            loss_fn: The matching loss with the correction added.
            iteration: The index of the outer iteration, from 0.

        Returns:
            The values to log: at least ``loss``, ``matching`` and ``difficulty`` (GraDN).

        Raises:
            DivergenceError: If the loss is not finite; it is raised before the images change.
        """

    def note(self, state: Any, task: Task) -> str | None:
        """Returns a sentence to print before the first iteration; None if there is none.

        Args:
            state: The state with which the run begins.
            task: The real data, network, experts and accelerator.
        """
        del state, task
        return None

    @classmethod
    def derived(cls, origin: Mapping[str, Setting], chosen: Container[str]) -> dict[str, Setting]:
        """Returns the settings that follow from other settings.

        Args:
            origin: Every setting by name, with its source.
            chosen: The names of the settings that the user has chosen; their values stay.
        """
        return evaluation_as_distillation(origin, chosen)

    @property
    def augmentation(self) -> str:
        """The augmentation of the synthetic images, spelled as on the command line.

        A loop that augments names this setting ``dsa_strategy``, as the original repositories do;
        by default, evaluation networks are trained with the same augmentation.
        """
        return str(getattr(self, "dsa_strategy", "none"))

    @property
    def align_corners(self) -> bool:
        """The ``align_corners`` of ``grid_sample`` when the augmentation scales or rotates."""
        return False

    @property
    def decoder(self) -> Decoder:
        """Decodes the stored images to those that networks see.

        A loop whose stored images hold several has the setting ``factor``; by default networks see
        what is stored.
        """
        return Decoder(getattr(self, "factor", 1))

    @property
    def epochs_needed(self) -> int:
        """The number of epochs that experts must have been trained for; 0 without experts."""
        return 0

    @property
    def unused(self) -> dict[str, str]:
        """The settings that have no effect, given the others, and which of these is the reason."""
        return {}

    @property
    def compiles(self) -> bool:
        """Whether anything that the loop computes can be compiled, given the settings."""
        return True

    def images_per_iteration(self, classes: int, ipc: int) -> int | None:
        """How many images, real and synthetic, an outer iteration takes through networks.

        Each is an image that goes forward and back once, which is a measure of cost that does not
        depend on the machine; None if the loop does not say.
        """
        del classes, ipc
        return None


def no_rules(dataset: str, ipc: int) -> dict[str, tuple[Any, str]]:
    """Returns no rules, for a method whose settings suit all data sets and sizes."""
    del dataset, ipc
    return {}


@dataclass(frozen=True)
class Method:
    """A distillation method: a loop and the choices that turn it into this method.

    Attributes:
        name: The name by which verbs and commands refer to the method.
        reference: The paper to cite.
        loop: The class of the loop, a dataclass.
        choices: Values of the loop's fields, and of ``RunSettings``, that differ from their
            defaults.
        source: The origin of the choices, e.g. a script of the original repository.
        rules: A function of data set and ipc that returns further values, each with its source.
        few_images: Values for data of the user with few training images, which replace the rules'.
        small_images: Values for data of the user with images of fewer than 16 pixels per side,
            which replace the rules' as well.
        selects: The evaluation that counts: ``"last"``, or ``"best"`` for the highest mean
            accuracy.
        experts: A function of data set and ipc that returns the recipe for training expert
            trajectories; None if the method matches no trajectories. Its batches are halved
            where the data are small.
        matches: The thing that it matches, in a few words, for tables.
    """

    name: str
    reference: str
    loop: type[Loop]
    choices: Mapping[str, Any] = field(default_factory=dict)
    source: str = "the method's defaults"
    rules: Callable[[str, int], Mapping[str, tuple[Any, str]]] = no_rules
    few_images: Mapping[str, Any] = field(default_factory=dict)
    small_images: Mapping[str, Any] = field(default_factory=dict)
    selects: Selects = "last"
    experts: Callable[[str, int], ExpertRecipe] | None = None
    matches: str = ""

    def pick(self, evaluations: Sequence[EvaluationRow]) -> EvaluationRow:
        """Returns the evaluation that counts; of several equally good ones, the first.

        Args:
            evaluations: At least one evaluation, in order.
        """
        return select_evaluation(evaluations, self.selects)
