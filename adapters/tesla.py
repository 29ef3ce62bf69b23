"""TESLA: MTT whose image gradient treats the parameters of every inner step as constants.

TESLA's script computes half of this image gradient, because ``2 * grads`` repeats a tuple there.
The gradient here is the correct one, and the recipe halves the image rates that were tuned for the
script. At equal lam this also halves the correction's share of an update. A ``--lr-img`` of your
own is used unchanged.
"""

from sdc_ext.adapters.base import Method
from sdc_ext.adapters.loops.trajectory import TrajectoryMatching
from sdc_ext.adapters.recipes.trajectory import FEW_IMAGES, SMALL_IMAGES, sgd_experts, tesla_rules

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
    few_images=FEW_IMAGES,
    small_images=SMALL_IMAGES,
    selects="best",
    experts=sgd_experts,
    matches="trajectories",
)
