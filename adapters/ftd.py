"""FTD: MTT with experts trained towards flat minima (GSAM) and a moving average of the images."""

from sdc_ext.adapters.base import Method
from sdc_ext.adapters.loops.trajectory import TrajectoryMatching
from sdc_ext.adapters.recipes.trajectory import FEW_IMAGES, SMALL_IMAGES, ftd_experts, ftd_rules

FTD = Method(
    name="ftd",
    reference=(
        "Du, Jiang, Tan, Zhou, Li: Minimizing the Accumulated Trajectory Error to Improve "
        "Dataset Distillation, CVPR 2023"
    ),
    loop=TrajectoryMatching,
    choices={
        "iterations": 5000,
        "eval_every": 100,
        "num_eval": 5,
        "epoch_eval_train": 1000,
        "ema_decay": 0.999,
    },
    source="FTD-distillation distill_FTD.py",
    rules=ftd_rules,
    few_images=FEW_IMAGES,
    small_images=SMALL_IMAGES,
    selects="best",
    experts=ftd_experts,
    matches="flat trajectories",
)
