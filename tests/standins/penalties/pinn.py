"""A network that solves u'' = -u: the loss contains its derivatives by its input."""

import torch
from torch import nn


class Solution(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(1, 16), nn.Tanh(), nn.Linear(16, 1))

    def forward(self, time):
        return self.layers(time)


solution = Solution()
optimizer = torch.optim.LBFGS(params=solution.parameters(), max_iter=3)


def closure():
    time = torch.linspace(0, 3, 20)[:, None].requires_grad_()
    u = solution(time)
    speed = torch.autograd.grad(u.sum(), time, create_graph=True)[0]
    force = torch.autograd.grad(speed.sum(), time, create_graph=True)[0]
    loss = (force + u).square().mean() + (u[0] - 1).square().sum()
    optimizer.zero_grad()
    loss.backward()
    return loss


optimizer.step(closure)
