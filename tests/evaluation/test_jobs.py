"""What the commands evaluate, score and select can be called from Python."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from accelerate import Accelerator

from sdc_ext.data.load import load_data
from sdc_ext.data.real import RealData
from sdc_ext.errors import InputError
from sdc_ext.evaluation import (
    Results,
    evaluate_sets,
    evaluation_jobs,
    measure_scores,
    selected_set,
    selection,
)
from sdc_ext.evaluation.configurations import Training
from sdc_ext.evaluation.selection import label_softly
from sdc_ext.report.tables import cross_table
from sdc_ext.sets.synthetic_set import SyntheticSet
from sdc_ext.training.probe import Probe
from sdc_ext.training.protocols import Subject, protocol
from sdc_ext.training.recipe import TrainingRecipe

RECIPE = TrainingRecipe(2, lr=0.02)
SMALL = "convnet:width=4:depth=1"


@pytest.fixture(scope="module")
def data() -> RealData:
    return load_data("digits")


def select(data: RealData, seed: int = 0, baseline: str = "random") -> SyntheticSet:
    probe = Probe(network="mlp", train_epochs=1)
    device = torch.device("cpu")
    return selected_set(baseline, data, 2, probe=probe, recipe=RECIPE, seed=seed, device=device)


def test_a_selection_says_what_it_is(data: RealData) -> None:
    selected = select(data, seed=3, baseline="k-center")
    info = selected.info
    assert (info.method, info.ipc, info.network) == ("k-center", 2, "mlp")
    assert (info.value("seed"), info.evaluation) == (3, RECIPE)
    with pytest.raises(InputError, match="did you mean 'k-center'"):
        select(data, baseline="k-centre")


def test_jobs_follow_the_sets_and_what_the_caller_says(data: RealData) -> None:
    sets = [(f"set {k}", select(data, k), data) for k in range(2)]
    own = evaluation_jobs(sets)
    assert [str(job) for job in own] == ["set 0: mlp", "set 1: mlp"]
    assert {job.recipe for job in own} == {RECIPE}
    jobs = evaluation_jobs(sets, networks=["mlp", SMALL], epoch_eval_train=1, real_epochs=3)
    assert [job.name for job in jobs] == ["set 0"] * 2 + ["set 1"] * 2 + ["all real images"] * 2
    assert {job.recipe for job in jobs[:4]} == {replace(RECIPE, epochs=1)}
    # Rates are learnt for a set; all real images are trained on at the originals'.
    assert {job.recipe for job in jobs[4:]} == {TrainingRecipe(3, lr=0.01)}
    assert {job.recipe.lr for job in evaluation_jobs(sets, lr_eval=0.5, real_epochs=3)} == {0.5}


def test_choices_precede_the_protocol_which_precedes_the_set(data: RealData) -> None:
    sets = [("a", select(data), data)]
    (alone,) = evaluation_jobs(sets, training=Training(protocol="idc"))
    subject = Subject("digits", "random", 2, lr=RECIPE.lr, network="mlp")
    assert alone.recipe == protocol("idc", subject)
    training = Training("idc", schedule="cosine", mix="mixup:beta=0.5")
    (chosen,) = evaluation_jobs(sets, epoch_eval_train=7, lr_eval=0.3, training=training)
    assert chosen.recipe == replace(
        alone.recipe, epochs=7, lr=0.3, schedule="cosine", mix="mixup:beta=0.5"
    )
    assert str(training) == "protocol idc; schedule cosine; mix mixup:beta=0.5"
    assert str(Training(optimizers=("sgd", "adamw"), temperature=2)) == (
        "each set's own recipe; optimizers sgd, adamw; temperature 2"
    )


def test_grids_have_all_combinations_and_their_real_images(data: RealData) -> None:
    training = Training(optimizers=("sgd", "adamw"), augmentations=("none", "color_crop"))
    sets = [("a", select(data), data)]
    jobs = evaluation_jobs(sets, networks=["mlp", SMALL], real_epochs=1, training=training)
    combinations = [(j.network, j.recipe.optimizer, j.recipe.augmentation) for j in jobs[:8]]
    assert combinations == [
        (network, optimizer, augmentation)
        for network in ("mlp", SMALL)
        for optimizer in ("sgd", "adamw")
        for augmentation in ("none", "color_crop")
    ]
    # Rates are an optimiser's own: that of the set's recipe, or AdamW's usual one.
    rates = {(j.recipe.optimizer, j.recipe.lr, j.recipe.weight_decay) for j in jobs[:8]}
    assert rates == {("sgd", 0.02, 0.0005), ("adamw", 0.001, 0.01)}
    assert {(j.recipe.optimizer, j.recipe.lr) for j in jobs[8:]} == {
        ("sgd", 0.01),
        ("adamw", 0.001),
    }
    assert len(jobs) == 16 and {j.name for j in jobs[8:]} == {"all real images"}


def test_real_images_of_several_kinds_are_told_apart(data: RealData) -> None:
    white = data.whitened()
    sets = [("plain", select(data), data), ("white", select(white), white)]
    jobs = evaluation_jobs(sets, real_epochs=1)
    names = [job.name for job in jobs[2:]]
    assert names == ["all real images, as for plain", "all real images, as for white"]
    results = evaluate_sets(jobs, num_eval=1, accelerator=Accelerator(cpu=True))
    assert [row["whitening"] for row in results.rows()] == ["none", "zca"] * 2
    # A network has one name for them, whatever the other networks.
    alone = evaluation_jobs(sets[:1], networks=["mlp", SMALL], real_epochs=1)
    assert {job.name for job in alone[2:]} == {"all real images"}


def test_sets_are_not_called_what_real_images_are(data: RealData) -> None:
    sets = [("all real images", select(data), data)]
    assert [job.name for job in evaluation_jobs(sets)] == ["all real images"]
    with pytest.raises(InputError, match="'all real images' stands for real images here: give"):
        evaluation_jobs(sets, real_epochs=1)


def test_teachers_label_the_images_in_place_of_the_set(data: RealData) -> None:
    made = select(data)
    lines: list[str] = []
    training = Training(teacher=SMALL, temperature=2.0)
    jobs = evaluation_jobs([("a", made, data), ("b", made, data)], training=training)
    options = {"num_eval": 1, "accelerator": Accelerator(cpu=True)}
    taught = evaluate_sets(jobs, say=lines.append, **options)  # type: ignore[arg-type]
    assert lines == [f"training the teacher, {SMALL}, on all real images"]
    recipe = replace(RECIPE, lr=0.01, epochs=20)
    images, accelerator = made.images, Accelerator(cpu=True)
    labels = label_softly(images, data, SMALL, recipe, seed=0, accelerator=accelerator)
    softened = replace(made.info.evaluation, temperature=2.0)
    (job,) = evaluation_jobs([("c", SyntheticSet(images, labels, made.info), data)])
    by_hand = evaluate_sets([replace(job, recipe=softened)], **options)  # type: ignore[arg-type]
    assert taught[0].evaluation == taught[1].evaluation == by_hand[0].evaluation
    assert taught[0].row()["teacher"] == SMALL and by_hand[0].row()["teacher"] == ""


def test_teachers_are_trained_as_other_networks_are(
    data: RealData, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Reached(Exception): ...

    def stop(*given: Any) -> None:
        batch_loss = vars(given[4])
        raise Reached(batch_loss["_bf16"], batch_loss["_compile"])

    monkeypatch.setattr(selection, "train_from_scratch", stop)
    made, accelerator = select(data), Accelerator(cpu=True, mixed_precision="bf16")
    jobs = evaluation_jobs([("a", made, data)], training=Training(teacher="mlp"))
    with pytest.raises(Reached) as reached:
        evaluate_sets(jobs, num_eval=1, compile=True, accelerator=accelerator)
    assert reached.value.args == (True, True)


def test_choices_for_probabilities_need_some(data: RealData) -> None:
    for name, value in (("label_loss", "kl"), ("temperature", 3.0)):
        with pytest.raises(InputError, match=f"`{name}` concerns labels that are probabilities"):
            evaluation_jobs([("a", select(data), data)], training=Training(**{name: value}))
    with pytest.raises(InputError, match="unknown optimizers 'lion': choose from"):
        Training(optimizers=("lion",))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="mix"):
        Training(mix="cut")


@pytest.mark.parametrize("number", ["epoch_eval_train", "lr_eval", "real_epochs"])
def test_numbers_that_are_not_above_zero_are_refused(data: RealData, number: str) -> None:
    with pytest.raises(InputError, match=f"`{number}` must be .* from .* to .*, got 0"):
        evaluation_jobs([("a", select(data), data)], **{number: 0})  # type: ignore[arg-type]


def test_results_are_handed_over_as_they_come(data: RealData) -> None:
    jobs = evaluation_jobs([("a", select(data), data)], networks=["mlp", SMALL])
    seen: list[Results] = []
    networks: list[str] = []
    results = evaluate_sets(
        jobs,
        num_eval=2,
        accelerator=Accelerator(cpu=True),
        on_network=lambda job: networks.append(job.network),
        on_result=seen.append,
    )
    assert [len(so_far) for so_far in seen] == [1, 2] and networks == ["mlp", "mlp", SMALL, SMALL]
    assert seen[-1] == results and seen[0] == results[:1]
    assert len(results.rows()) == 4 and [r["network"] for r in results.summary()] == ["mlp", SMALL]
    first = results[0].evaluation
    assert str(results).splitlines()[0] == f"a, mlp: {first}"
    assert cross_table(results).row_count == 2
    with pytest.raises(InputError, match="`num_eval` must be a whole number from 1"):
        evaluate_sets(jobs, num_eval=0, accelerator=Accelerator(cpu=True))


def test_a_set_is_scored_by_its_trainings(data: RealData) -> None:
    trained: list[str] = []
    scored = measure_scores(
        select(data),
        data,
        num_eval=2,
        full_epochs=1,
        accelerator=Accelerator(cpu=True),
        on_training=trained.append,
    )
    # Hard labels are the set's own, so they are not trained on again.
    assert trained == ["own", "random", "full", "own_augmented", "random_augmented"]
    assert list(scored.accuracies)[:4] == ["own", "hard", "random", "full"]
    assert scored.accuracies["own_plain"] == scored.accuracies["own"]
    assert scored.recipe == RECIPE and {e.network for e in scored.accuracies.values()} == {"mlp"}
    full, hard = scored.accuracies["full"].mean, scored.accuracies["hard"].mean
    assert scored.scores.hlr == pytest.approx(full - hard)
    assert str(scored).startswith(f"HLR {scored.scores.hlr:.4f}, IOR ")
    with pytest.raises(InputError, match="`full_epochs` must be a whole number from 1"):
        measure_scores(select(data), data, full_epochs=0, accelerator=Accelerator(cpu=True))
