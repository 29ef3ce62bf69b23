"""The same with weights in a list, which is what the optimiser of the outer loop holds."""

import torch

weights = [
    torch.randn(16, 1).requires_grad_(),
    torch.zeros(16, requires_grad=True),
    torch.randn(1, 16).requires_grad_(),
]
meta = torch.optim.SGD(weights, lr=1e-3)


def predict(x, parameters):
    first, bias, last = parameters
    return torch.relu(x @ first.T + bias) @ last.T


for _ in range(3):
    total = 0
    for phase in torch.rand(4):
        x = torch.rand(10, 1)
        fast = weights
        for _ in range(2):
            loss = (predict(x, fast) - torch.sin(x + phase)).square().mean()
            grads = torch.autograd.grad(loss, fast, create_graph=True)
            fast = [w - 0.01 * g for w, g in zip(fast, grads, strict=True)]
        total = total + (predict(x, fast) - torch.sin(x + phase)).square().mean()
    meta.zero_grad()
    total.backward()
    meta.step()
