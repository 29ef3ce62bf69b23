"""What the commands evaluate, score and select can be called from Python."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from accelerate import Accelerator

from sdc_ext.data.load import load_data
from sdc_ext.data.real import RealData
from sdc_ext.errors import InputError
from sdc_ext.evaluation import Results, evaluate_sets, evaluation_jobs, measure_scores, selected_set
from sdc_ext.report.tables import cross_table
from sdc_ext.sets.synthetic_set import SyntheticSet
from sdc_ext.training.probe import Probe
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


@pytest.mark.parametrize("number", ["epoch_eval_train", "lr_eval", "real_epochs"])
def test_numbers_that_are_not_above_zero_are_refused(data: RealData, number: str) -> None:
    with pytest.raises(InputError, match=f"`{number}` must be above 0, got 0"):
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
    with pytest.raises(InputError, match="`num_eval` must be above 0, got 0"):
        evaluate_sets(jobs, num_eval=0, accelerator=Accelerator(cpu=True))


def test_a_set_is_scored_by_four_trainings(data: RealData) -> None:
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
    assert trained == ["own", "random", "full"]
    assert list(scored.accuracies) == ["own", "hard", "random", "full"]
    assert scored.recipe == RECIPE and {e.network for e in scored.accuracies.values()} == {"mlp"}
    full, hard = scored.accuracies["full"].mean, scored.accuracies["hard"].mean
    assert scored.scores.hlr == pytest.approx(full - hard)
    assert str(scored).startswith(f"HLR {scored.scores.hlr:.4f}, IOR ")
    with pytest.raises(InputError, match="`full_epochs` must be above 0, got 0"):
        measure_scores(select(data), data, full_epochs=0, accelerator=Accelerator(cpu=True))
