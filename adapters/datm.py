"""DATM: MTT on progressively later parts of the trajectories, with learned soft labels."""

from sdc_ext.adapters.base import Method
from sdc_ext.adapters.loops.trajectory import TrajectoryMatching
from sdc_ext.adapters.recipes.trajectory import FEW_IMAGES, SMALL_IMAGES, datm_experts, datm_rules

DATM = Method(
    name="datm",
    reference=(
        "Guo, Wang, Cazenavette, Li, Zhang, You: Towards Lossless Dataset Distillation via "
        "Difficulty-Aligned Trajectory Matching, ICLR 2024"
    ),
    loop=TrajectoryMatching,
    choices={
        "iterations": 10_000,
        "eval_every": 500,
        "num_eval": 1,
        "epoch_eval_train": 1000,
        "batch_eval": 128,
        "labels": "learned",
        "pix_init": "samples_predicted_correctly",
        "syn_steps": 80,
        "expert_epochs": 2,
        "threshold": 1.0,
        "on_divergence": "skip",
        "current_max_start_epoch": 20,
        "expansion_end_epoch": 3000,
    },
    source="DATM configs and cfg.py",
    rules=datm_rules,
    few_images=FEW_IMAGES,
    small_images=SMALL_IMAGES,
    selects="best",
    experts=datm_experts,
    matches="progressively later trajectories",
)
