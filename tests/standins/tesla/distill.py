"""A stand-in for TESLA: two passes of inner steps, image gradients by hand, no backward."""

import argparse

import torch
from torch.nn.functional import cross_entropy

CLASSES = 3


def network(x, params):
    weight, bias = params[: 16 * CLASSES].reshape(CLASSES, 16), params[16 * CLASSES :]
    return torch.tanh(x.flatten(1)) @ weight.T + bias


def main(argv=None):
    parser = argparse.ArgumentParser()
    parser.add_argument("--Iteration", type=int, default=2)
    parser.add_argument("--syn_steps", type=int, default=4)
    parser.add_argument("--threshold", type=float, default=1e9)
    parser.add_argument("--save", default="")
    args = parser.parse_args(argv)

    image_syn = torch.randn(CLASSES, 1, 4, 4).requires_grad_(True)
    label_syn = torch.arange(CLASSES)
    syn_lr = torch.tensor(0.1, requires_grad=True)
    optimizer_img = torch.optim.SGD([image_syn], lr=1.0, momentum=0.5)
    optimizer_lr = torch.optim.SGD([syn_lr], lr=1e-3, momentum=0.5)
    seen = []
    for _it in range(args.Iteration):
        starting_params = torch.randn(17 * CLASSES)
        target_params = starting_params + 0.1 * torch.randn(17 * CLASSES)
        param_dist = (starting_params - target_params).square().sum()
        student_params = [starting_params.clone().requires_grad_(True)]
        gradient_sum = torch.zeros_like(starting_params)
        for _ in range(args.syn_steps):
            ce_loss = cross_entropy(network(image_syn, student_params[-1]), label_syn)
            grad = torch.autograd.grad(ce_loss, student_params[-1], create_graph=True)[0]
            detached_grad = grad.detach().clone()
            student_params.append(student_params[-1] - syn_lr.item() * detached_grad)
            gradient_sum += detached_grad
        image_grads = torch.zeros_like(image_syn)
        for i in range(args.syn_steps):
            w_i, x_i = student_params[i], image_syn[torch.arange(CLASSES)]
            ce_loss_i = cross_entropy(network(x_i, w_i), label_syn)
            grad_i = torch.autograd.grad(ce_loss_i, w_i, create_graph=True)[0]
            term = syn_lr.item() * (target_params - starting_params)
            term = 2 * (term + syn_lr.item() ** 2 * gradient_sum) @ grad_i / param_dist
            image_grads += torch.autograd.grad(term, x_i)[0]
        seen.append((starting_params, image_syn.detach().clone(), image_grads.clone()))
        image_syn.grad = image_grads
        grand_loss = starting_params - syn_lr * gradient_sum - target_params
        grand_loss = grand_loss.dot(grand_loss) / param_dist
        print(f"loss = {grand_loss.item():.6f}")
        syn_lr.grad = torch.autograd.grad(grand_loss, syn_lr)[0]
        if grand_loss <= args.threshold:
            optimizer_img.step()
            optimizer_lr.step()
    if args.save:
        torch.save(image_syn.detach(), args.save)
    return image_syn.detach(), seen


if __name__ == "__main__":
    main()
