"""Evaluating one set: fresh networks are trained on it and tested on real images."""

from __future__ import annotations

from collections.abc import Callable

from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor

from sdc_ext._seeds import seed_torch
from sdc_ext.data.real import RealData
from sdc_ext.networks.create import create_network
from sdc_ext.sets.info import Evaluation
from sdc_ext.training.epochs import accuracy, normalized_batches
from sdc_ext.training.gradients import BatchLoss
from sdc_ext.training.recipe import TrainingRecipe, train_from_scratch


def evaluate(
    images: Tensor,
    labels: Tensor,
    data: RealData,
    recipe: TrainingRecipe,
    *,
    network: str,
    num_eval: int,
    seed: int,
    accelerator: Accelerator,
    compile: bool = False,
    on_network: Callable[[], object] = lambda: None,
) -> Evaluation:
    """Trains ``num_eval`` networks on a set and tests them on the real test images.

    Network k starts from the same weights for every set and iteration, so that comparisons
    under one seed are paired. The networks are divided among processes.

    Args:
        images: Synthetic images (N, C, H, W), normalised as ``data`` normalises.
        labels: Their labels (N,) int64, or probabilities (N, classes).
        data: The real data, whose test images are used.
        recipe: The recipe by which the networks are trained.
        network: The architecture; see [`create_network`][sdc_ext.networks.create_network].
        num_eval: The number of networks.
        seed: Seeds the initialisations, batches and augmentations.
        accelerator: The device, processes and precision to run with.
        compile: Compile training and testing, which pays if ``num_eval`` or the test set is large.
        on_network: Called after every network that this process has tested.

    Returns:
        The test accuracy of every network, in [0, 1], in the order of k.
    """
    device = accelerator.device
    images, labels = images.detach().to(device), labels.to(device)
    test = normalized_batches(data, data.test, device)
    batch_loss = BatchLoss(bf16=accelerator.mixed_precision == "bf16", compile=compile)
    tested = []
    for k in range(num_eval)[accelerator.process_index :: accelerator.num_processes]:
        seed_torch(seed, "evaluation", k)
        model = create_network(network, *data.network_shape)
        model.to(device)
        train_from_scratch(model, images, labels, recipe, batch_loss, data.preprocessing)
        tested.append((k, accuracy(model, test, batch_loss)))
        on_network()
    return Evaluation(network, tuple(a for _, a in sorted(gather_object(tested))))
