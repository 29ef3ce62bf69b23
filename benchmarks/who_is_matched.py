"""Who makes up the real gradient that gradient matching matches: easy or hard samples?

    python benchmarks/who_is_matched.py [--seeds 10]

A network is trained on the real digits for some epochs. For each class, the gradient of every real
image is projected onto the class's mean gradient g, which is what gradient matching matches: the
weight of image i is ``<g_i, g> / (n |g|^2)``, and the weights of a class sum to 1. Images are
ranked by GraDN, the norm of g_i. Printed are means over the classes, with 95 % intervals by
Student's t over the seeds.
"""

from __future__ import annotations

from argparse import ArgumentParser
from collections import defaultdict

import numpy as np
import torch
import torch.nn.functional as F
from scipy import stats
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from sdc_ext._seeds import seed_torch
from sdc_ext.augment import parse_augmentation
from sdc_ext.data import load_data
from sdc_ext.networks import create_network
from sdc_ext.training import train_epoch

EPOCHS = (0, 1, 5, 20)
COLUMNS = (
    *("easiest half", "hardest half", "hardest 10 %", "cosine, easy half", "cosine, hard half"),
    *("mean GraDN", "weighted GraDN"),
)


def gradients(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Returns the gradient of every sample's loss (n, P)."""
    parameters = {name: p.detach() for name, p in network.named_parameters()}

    def loss(parameters: dict[str, Tensor], image: Tensor, label: Tensor) -> Tensor:
        output = functional_call(network, parameters, (image[None],))
        return F.cross_entropy(output, label[None])

    found = vmap(grad(loss), in_dims=(None, 0, 0), chunk_size=64)(parameters, images, labels)
    return torch.cat([part.flatten(1) for part in found.values()], 1)


def contributions(of_samples: Tensor) -> list[float]:
    """Returns the columns of the table for the gradients (n, P) of one class."""
    norms, mean = of_samples.norm(dim=1), of_samples.mean(0)
    weights = of_samples @ mean / (len(norms) * mean @ mean)
    order = norms.argsort()
    half, tenth = len(order) // 2, len(order) // 10
    easy, hard = order[:half], order[-half:]
    cosines = [float(F.cosine_similarity(of_samples[k].mean(0), mean, dim=0)) for k in (easy, hard)]
    shares = [float(weights[k].sum()) for k in (easy, hard, order[-tenth:])]
    return [*shares, *cosines, float(norms.mean()), float(weights @ norms)]


def measure(seed: int) -> dict[int, list[float]]:
    """Returns the columns, as means over classes, by the number of epochs trained."""
    data = load_data("digits")
    images, labels = data.normalize(data.train.images), data.train.labels
    seed_torch(seed, "probe")
    network = create_network("convnet:width=32:depth=2", *data.network_shape)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9)
    found = {}
    for epoch in range(max(EPOCHS) + 1):
        if epoch in EPOCHS:
            by_class = [
                contributions(gradients(network, images[index], labels[index]))
                for index in data.indices_by_class()
            ]
            found[epoch] = np.mean(by_class, axis=0).tolist()
        train_epoch(
            *(network, optimizer, images, labels),
            batch_size=256,
            augmentation=parse_augmentation("none"),
        )
    return found


def main() -> None:
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10)
    seeds = parser.parse_args().seeds
    rows: defaultdict[int, list[list[float]]] = defaultdict(list)
    for seed in range(seeds):
        for epoch, values in measure(seed).items():
            rows[epoch].append(values)
    print(f"| epochs | {' | '.join(COLUMNS)} |")
    print("| --- " * (len(COLUMNS) + 1) + "|")
    quantile = stats.t.ppf(0.975, seeds - 1)
    for epoch, values in rows.items():
        mean = np.mean(values, axis=0)
        half = quantile * np.std(values, axis=0, ddof=1) / seeds**0.5
        cells = (f"{m:.3g} ± {h:.2g}" for m, h in zip(mean, half, strict=True))
        print(f"| {epoch} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
