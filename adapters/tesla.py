"""TESLA: MTT with every inner weight held constant in the gradient.

The original's image gradient is half of this one, which is the true one: ``2 * grads`` repeats a
tuple there. Rates that were chosen with it are halved in the recipes, which at equal lam also
halves the correction's part of an update; your own ``--lr-img`` is taken as it is.
"""

from sdc_ext.adapters.base import Method
from sdc_ext.adapters.loops.trajectory import TrajectoryMatching
from sdc_ext.adapters.recipes.trajectory import sgd_experts, tesla_rules

TESLA = Method(
    name="tesla",
    reference=(
        "Cui, Wang, Si, Hsieh: Scaling Up Dataset Distillation to ImageNet-1K with Constant "
        "Memory, ICML 2023"
    ),
    loop=TrajectoryMatching,
    choices={
        "iterations": 10_000,
        "eval_every": 100,
        "num_eval": 3,
        "epoch_eval_train": 1000,
        "adjoint": "tesla",
    },
    source="tesla distill.py",
    rules=tesla_rules,
    selects="best",
    experts=sgd_experts,
    matches="trajectories",
)
