"""How a training example moves the loss on another: Hessian-vector products, after training."""

import torch
from torch import nn
from torch.nn.functional import cross_entropy

model = nn.Linear(4, 3)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.01)
inputs, targets = torch.randn(30, 4), torch.randint(3, (30,))
for _ in range(5):
    optimizer.zero_grad()
    cross_entropy(model(inputs), targets).backward()
    optimizer.step()

params = [p for p in model.parameters() if p.requires_grad]


def hessian_times(vectors):
    first = torch.autograd.grad(cross_entropy(model(inputs), targets), params, create_graph=True)
    product = sum((g * v).sum() for g, v in zip(first, vectors, strict=True))
    return torch.autograd.grad(product, params)


test = torch.autograd.grad(cross_entropy(model(inputs[:1]), targets[:1]), params)
estimate = list(test)
for _ in range(5):
    estimate = [
        v + e - 0.1 * h for v, e, h in zip(test, estimate, hessian_times(estimate), strict=True)
    ]
print([float(e.norm()) for e in estimate])
