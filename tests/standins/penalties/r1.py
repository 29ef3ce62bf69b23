"""A discriminator with R1: the squared gradient at real images is penalised."""

import torch
from torch import nn
from torch.nn.functional import softplus


class Discriminator(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(1, 4, 3), nn.SiLU(), nn.Flatten(), nn.Linear(144, 1))

    def forward(self, images):
        return self.layers(images)


class Trainer:
    def __init__(self):
        self.net = Discriminator()
        self.optim = torch.optim.RMSprop(self.net.parameters(), lr=1e-3)

    def step(self, images, fakes, gamma=10.0):
        images.requires_grad_()
        scores = self.net(images)
        (slopes,) = torch.autograd.grad(scores.sum(), [images], create_graph=True)
        loss = softplus(-scores).mean() + softplus(self.net(fakes)).mean()
        loss = loss + gamma / 2 * slopes.flatten(1).square().sum(1).mean()
        self.optim.zero_grad(set_to_none=True)
        loss.backward()
        self.optim.step()


trainer = Trainer()
for _ in range(2):
    trainer.step(torch.rand(4, 1, 8, 8), torch.rand(4, 1, 8, 8))
