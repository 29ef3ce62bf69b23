"""Training for flat minima: the norm of the loss's own gradient is part of the loss."""

import torch
from torch import nn
from torch.nn.functional import cross_entropy

net = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3))
net_parameters = list(net.parameters())
optimizer = torch.optim.SGD(net_parameters, lr=0.1, momentum=0.9)
for _ in range(3):
    images, labels = torch.rand(8, 1, 4, 4), torch.randint(3, (8,))
    loss = cross_entropy(net(images), labels)
    slopes = torch.autograd.grad(loss, net_parameters, create_graph=True)
    norm = torch.sqrt(sum(g.square().sum() for g in slopes))
    optimizer.zero_grad()
    (loss + 0.01 * norm).backward()
    optimizer.step()
