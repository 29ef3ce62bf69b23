"""A critic whose gradient at points between real and generated ones is kept near norm 1."""

import torch
from torch import nn

critic = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1))
generator = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2))
critic_steps = torch.optim.Adam(critic.parameters(), lr=1e-3, betas=(0.0, 0.9))
generator_steps = torch.optim.Adam(generator.parameters(), lr=1e-3, betas=(0.0, 0.9))


def penalty(real, fake):
    share = torch.rand(len(real), 1)
    between = (share * real + (1 - share) * fake).requires_grad_()
    slope = torch.autograd.grad(
        outputs=critic(between).sum(), inputs=between, create_graph=True, retain_graph=True
    )[0]
    return (slope.norm(dim=1) - 1).square().mean()


for _ in range(3):
    real, fake = torch.randn(16, 2) + 3, generator(torch.randn(16, 3))
    loss = critic(fake.detach()).mean() - critic(real).mean() + 10 * penalty(real, fake.detach())
    critic_steps.zero_grad()
    loss.backward()
    critic_steps.step()
    generator_steps.zero_grad()
    (-critic(fake).mean()).backward()
    generator_steps.step()
