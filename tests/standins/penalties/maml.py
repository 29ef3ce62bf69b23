"""A start for networks from which one step on a new task helps, learnt through that step."""

import torch
from torch import nn
from torch.func import functional_call
from torch.nn.functional import mse_loss

model = nn.Sequential(nn.Linear(1, 16), nn.ReLU(), nn.Linear(16, 1))
outer = torch.optim.Adam(model.parameters(), lr=1e-3)


def adapted(x, y, rate=0.01):
    weights = dict(model.named_parameters())
    loss = mse_loss(functional_call(model, weights, x), y)
    slopes = torch.autograd.grad(loss, tuple(weights.values()), create_graph=True)
    return {name: w - rate * g for (name, w), g in zip(weights.items(), slopes, strict=True)}


for _ in range(3):
    outer.zero_grad()
    for phase in torch.rand(4):
        x, new = torch.rand(10, 1), torch.rand(10, 1)
        weights = adapted(x, torch.sin(x + phase))
        mse_loss(functional_call(model, weights, new), torch.sin(new + phase)).backward()
    outer.step()
