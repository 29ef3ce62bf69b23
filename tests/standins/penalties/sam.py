"""Sharpness-aware minimisation that differentiates through its own ascent step."""

import torch
from torch import nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy


def ascended(network, images, labels, rho):
    names, values = zip(*network.named_parameters(), strict=True)
    loss = cross_entropy(network(images), labels)
    slopes = torch.autograd.grad(loss, values, None, None, True)
    norm = torch.stack([g.norm() for g in slopes]).norm()
    return {n: v + rho * g / norm for n, v, g in zip(names, values, slopes, strict=True)}


def main():
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.Tanh(), nn.Linear(8, 3))
    decayed = [p for p in network.parameters() if p.ndim > 1]
    others = [p for p in network.parameters() if p.ndim == 1]
    groups = [{"params": decayed, "weight_decay": 1e-4}, {"params": others}]
    optimizer = torch.optim.AdamW(groups, lr=1e-3)
    for _ in range(3):
        images, labels = torch.rand(8, 1, 4, 4), torch.randint(3, (8,))
        weights = ascended(network, images, labels, 0.05)
        loss = cross_entropy(functional_call(network, weights, (images,)), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


if __name__ == "__main__":
    main()
