"""Evaluating several sets on several networks, and all real images as the reference."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from accelerate import Accelerator
from torch import Tensor, nn

from sdc_ext._values import Count, Rate, checked
from sdc_ext.augment.parse import check_augmentation
from sdc_ext.data.real import RealData
from sdc_ext.evaluation.configurations import (
    TEACHER_EPOCHS,
    Training,
    configuration_of,
    rate_of_real,
)
from sdc_ext.evaluation.divergence import divergence
from sdc_ext.evaluation.evaluator import (
    NetworkGroup,
    Networks,
    TrainedOn,
    network_groups,
    tested_only,
)
from sdc_ext.evaluation.results import REAL, Result, Results, check_names
from sdc_ext.evaluation.selection import soft_labels, train_teacher
from sdc_ext.networks.create import check_network
from sdc_ext.sets.info import Evaluation, SetInfo
from sdc_ext.sets.synthetic_set import SyntheticSet
from sdc_ext.training.recipe import TrainingRecipe
from sdc_ext.workers.launch import map_in_launch
from sdc_ext.workers.pool import SERIAL, Workers

_ALL = "all real images"

AS_THE_SETS_SAY = Training()


@dataclass(frozen=True)
class Teacher:
    """A network that is trained on all real images and labels others.

    Attributes:
        network: The architecture.
        recipe: The recipe of its training.
    """

    network: str
    recipe: TrainingRecipe


@dataclass(frozen=True)
class Job:
    """One set to be evaluated on one architecture.

    Attributes:
        name: The user's name for the set.
        synthetic: The set, or all real images in the form of a set.
        data: The real data, normalised as the set is.
        network: The architecture.
        recipe: The recipe by which networks are trained on the set.
        teacher: What labels the set's images in place of the set; None if it keeps its labels.
    """

    name: str
    synthetic: SyntheticSet
    data: RealData
    network: str
    recipe: TrainingRecipe
    teacher: Teacher | None = None

    def __str__(self) -> str:
        return f"{self.name}: {self.network}"


@checked
def evaluation_jobs(
    sets: Iterable[tuple[str, SyntheticSet, RealData]],
    *,
    networks: Sequence[str] | None = None,
    epoch_eval_train: Count | None = None,
    lr_eval: Rate | None = None,
    real_epochs: Count | None = None,
    training: Training = AS_THE_SETS_SAY,
) -> list[Job]:
    """Lists everything to be evaluated, and checks it before anything is trained.

    Args:
        sets: Triples of a name, a set and its real data, which are normalised as the set is.
        networks: The networks to train on each set; by default the one that the set was
            evaluated with.
        epoch_eval_train: The number of training epochs; by default that of the set's own recipe.
        lr_eval: The learning rate; by default that of the set's own recipe.
        real_epochs: The number of epochs for which networks are also trained on all real images,
            once per data set, network and recipe; by default they are not.
        training: What the user chooses of the training besides.

    Returns:
        The jobs of all sets in order, followed by those of all real images.

    Raises:
        InputError: If a network or an augmentation is unknown or does not fit the images, a
            number is not above 0, a choice applies to soft labels and no set has any, or a set is
            called what real images are.
    """
    jobs: list[Job] = []
    real: dict[tuple[object, ...], SyntheticSet] = {}
    of_real: dict[tuple[object, ...], Job] = {}
    for name, synthetic, data in sets:
        teacher = _teacher(synthetic, data, training, real_epochs)
        for network in networks or [synthetic.info.eval_network]:
            check_network(network, *data.network_shape)
            for recipe in training.recipes(synthetic, network, epoch_eval_train, lr_eval):
                jobs.append(Job(name, synthetic, data, network, recipe, teacher))
                if real_epochs is not None:
                    usual = _recipe_of_real(synthetic, recipe, real_epochs, lr_eval)
                    if data.identity not in real:
                        real[data.identity] = _all_real_images(data, usual)
                    job = Job(name, real[data.identity], data, network, usual)
                    of_real.setdefault((*data.identity, network, usual), job)
    training.check_labels([job.synthetic for job in jobs])
    _check_augmentations(jobs)
    references = _named(list(of_real.values()))
    check_names([job.name for job in jobs], {job.name for job in references})
    return [*jobs, *references]


def _named(of_real: Sequence[Job]) -> list[Job]:
    """Returns jobs of all real images under names that tell them apart within a configuration.

    Args:
        of_real: The jobs, each under the name of the first set that it is the reference of.
    """
    alone = len({configuration_of(j.network, j.recipe) for j in of_real}) == len(of_real)
    return [replace(j, name=_ALL if alone else f"{_ALL}, as for {j.name}") for j in of_real]


def _check_augmentations(jobs: Sequence[Job]) -> None:
    seen: set[tuple[object, ...]] = set()
    for job in jobs:
        name, data = job.recipe.augmentation, job.data
        if (name, *data.identity) not in seen:
            check_augmentation(name, data.few_images(), data.preprocessing, differentiable=False)
            seen.add((name, *data.identity))


def _teacher(
    synthetic: SyntheticSet, data: RealData, training: Training, real_epochs: int | None
) -> Teacher | None:
    """Returns the teacher, which learns by the set's own recipe for real images."""
    if training.teacher is None:
        return None
    check_network(training.teacher, *data.network_shape)
    own, epochs = synthetic.info.evaluation, real_epochs or TEACHER_EPOCHS
    return Teacher(training.teacher, _recipe_of_real(synthetic, own, epochs, None))


@checked
def evaluate_sets(
    jobs: Sequence[Job],
    *,
    num_eval: Count = 5,
    seed: int = 0,
    accelerator: Accelerator,
    compile: bool = False,
    workers: Workers = SERIAL,
    stack: Count = 1,
    on_network: Callable[[Job], object] = lambda job: None,
    on_result: Callable[[Results], object] = lambda results: None,
    say: Callable[[str], object] = lambda line: None,
) -> Results:
    """Evaluates several sets; see [`evaluate`][sdc_ext.evaluation.evaluate].

    Args:
        jobs: The jobs from [`evaluation_jobs`][sdc_ext.evaluation.evaluation_jobs].
        num_eval: The number of networks to train per job.
        seed: Seeds the networks; network k of every job starts from the same weights.
        accelerator: The device, processes and precision to run with; the networks of a job are
            divided among processes.
        compile: Compile training and testing, also the training of teachers.
        workers: The workers that train networks side by side, also those of different jobs.
        stack: The number of networks of a job that are trained at once, with stacked parameters;
            each worker takes as many at a time.
        on_network: Called with its job after every network that this process has tested.
        on_result: Called with all results so far when a job and those before it are done, e.g. to
            save them.
        say: Called with a line if a learning rate diverges, networks cannot be stacked, or workers
            were lost.

    Raises:
        InputError: If ``num_eval`` or ``stack`` is not above 0, or a stack does not fit into
            memory.
    """
    for job in jobs:
        too_high = divergence(job.synthetic, job.network, job.recipe)
        if too_high is not None:
            say(f"{job.name}: {too_high}")
    labels = _labels(jobs, seed, accelerator, compile, say)
    sets = [
        TrainedOn(j.synthetic.images, own, tested_only(j.data), j.recipe, j.network)
        for j, own in zip(jobs, labels, strict=True)
    ]
    networks = Networks(sets, seed, accelerator, compile)
    collected = _Collected(jobs, num_eval, seed, on_result)
    launched = accelerator.num_processes > 1
    groups = network_groups(sets, num_eval, stack, say)
    # Processes of a launch exchange their accuracies job by job.
    parts = [[g for g in groups if g[0] == n] for n in range(len(jobs))] if launched else [groups]
    for part in parts:

        def note(index: int, accuracies: list[float], part: Sequence[NetworkGroup] = part) -> None:
            for _ in accuracies:
                on_network(jobs[part[index][0]])
            if not launched:
                collected.add(part[index], accuracies)

        found = map_in_launch(
            workers, accelerator, Networks.accuracies, networks, part, on_done=note, say=say
        )
        if launched:
            for group, accuracies in zip(part, found, strict=True):
                collected.add(group, accuracies)
    return collected.results


def _labels(
    jobs: Sequence[Job],
    seed: int,
    accelerator: Accelerator,
    compile: bool,
    say: Callable[[str], object],
) -> list[Tensor]:
    """Returns the labels of every job, after the training of the teachers that give them."""
    teachers: dict[tuple[object, ...], nn.Module] = {}
    found = []
    for job in jobs:
        if job.teacher is None:
            found.append(job.synthetic.labels)
            continue
        key = (*job.data.identity, job.teacher)
        if key not in teachers:
            say(f"training the teacher, {job.teacher.network}, on {_ALL}")
            network, recipe = job.teacher.network, job.teacher.recipe
            teachers[key] = train_teacher(
                job.data, network, recipe, seed=seed, accelerator=accelerator, compile=compile
            )
        found.append(soft_labels(teachers[key], job.synthetic.images))
    return found


class _Collected:
    """The accuracies so far, which become results once a job and all before it are complete."""

    def __init__(
        self,
        jobs: Sequence[Job],
        num_eval: int,
        seed: int,
        on_result: Callable[[Results], object],
    ) -> None:
        self.results = Results()
        self._jobs = jobs
        self._seed = seed
        self._on_result = on_result
        self._num_eval = num_eval
        self._found: list[dict[int, float]] = [{} for _ in jobs]

    def add(self, group: NetworkGroup, accuracies: Sequence[float]) -> None:
        """Adds the accuracies of some networks of a set."""
        number, members = group
        self._found[number].update(zip(members, accuracies, strict=True))
        while len(self.results) < len(self._jobs):
            done = len(self.results)
            if len(self._found[done]) < self._num_eval:
                return
            job, of_job = self._jobs[done], self._found[done]
            evaluation = Evaluation(job.network, tuple(of_job[k] for k in sorted(of_job)))
            teacher = "" if job.teacher is None else job.teacher.network
            result = Result(job.name, job.synthetic, job.recipe, self._seed, evaluation, teacher)
            self.results = Results((*self.results, result))
            self._on_result(self.results)


def _all_real_images(data: RealData, recipe: TrainingRecipe) -> SyntheticSet:
    """Returns the training images in the form of a distilled set."""
    info = replace(SetInfo.of_data(data, data.train.labels, recipe), method=REAL)
    return SyntheticSet(data.normalize(data.train.images), data.train.labels, info)


def _recipe_of_real(
    synthetic: SyntheticSet, recipe: TrainingRecipe, epochs: int, lr: float | None
) -> TrainingRecipe:
    """Returns a recipe without what suits its set alone: its epochs and learnt rate."""
    usual = rate_of_real(synthetic.info, recipe.optimizer)
    real = replace(recipe, lr=lr or usual, epochs=epochs)
    if recipe.mix != "none":
        return real
    # Real labels are classes, to which neither applies.
    return replace(real, label_loss="cross_entropy", temperature=1.0)
