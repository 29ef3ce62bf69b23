"""MTT: optimises the images so that a student trained on them follows an expert's trajectory."""

from sdc_ext.adapters.base import Method
from sdc_ext.adapters.loops.trajectory import TrajectoryMatching
from sdc_ext.adapters.recipes.trajectory import FEW_IMAGES, SMALL_IMAGES, mtt_rules, sgd_experts

MTT = Method(
    name="mtt",
    reference=(
        "Cazenavette, Wang, Torralba, Efros, Zhu: Dataset Distillation by Matching Training "
        "Trajectories, CVPR 2022"
    ),
    loop=TrajectoryMatching,
    choices={"iterations": 5000, "eval_every": 100, "num_eval": 5, "epoch_eval_train": 1000},
    source="mtt-distillation distill.py",
    rules=mtt_rules,
    few_images=FEW_IMAGES,
    small_images=SMALL_IMAGES,
    selects="best",
    experts=sgd_experts,
    matches="trajectories",
)
