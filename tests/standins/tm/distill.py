"""A stand-in for trajectory matching: an unrolled inner loop, wandb and .cuda()."""

import argparse

import torch
import wandb
from torch.nn.functional import cross_entropy, mse_loss

CLASSES = 3


def network(x, params):
    weight, bias = params[: 16 * CLASSES].reshape(CLASSES, 16), params[16 * CLASSES :]
    return torch.tanh(x.flatten(1)) @ weight.T + bias


def main(argv=None):
    parser = argparse.ArgumentParser()
    parser.add_argument("--Iteration", type=int, default=2)
    parser.add_argument("--syn_steps", type=int, default=4)
    parser.add_argument("--lr_img", type=float, default=1.0)
    parser.add_argument("--save", default="")
    args = parser.parse_args(argv)
    wandb.init(project="stand-in", config=args)
    args = type("", (), dict(wandb.config._items))()

    image_syn = torch.randn(CLASSES, 1, 4, 4).requires_grad_(True)
    label_syn = torch.arange(CLASSES)
    syn_lr = torch.tensor(0.1, requires_grad=True)
    optimizer_img = torch.optim.SGD([image_syn], lr=args.lr_img, momentum=0.5)
    optimizer_lr = torch.optim.SGD([syn_lr], lr=1e-3, momentum=0.5)
    seen = []
    for it in range(args.Iteration):
        starting_params = torch.randn(17 * CLASSES)
        target_params = starting_params + 0.1 * torch.randn(17 * CLASSES)
        student_params = [starting_params.clone().requires_grad_(True)]
        for _ in range(args.syn_steps):
            ce_loss = cross_entropy(network(image_syn, student_params[-1]), label_syn)
            grad = torch.autograd.grad(ce_loss, student_params[-1], create_graph=True)[0]
            student_params.append(student_params[-1] - syn_lr * grad)
        grand_loss = mse_loss(student_params[-1], target_params, reduction="sum")
        grand_loss = grand_loss / mse_loss(starting_params, target_params, reduction="sum")
        optimizer_img.zero_grad()
        optimizer_lr.zero_grad()
        grand_loss.backward()
        seen.append((starting_params, image_syn.detach().clone(), image_syn.grad.clone()))
        optimizer_img.step()
        optimizer_lr.step()
        print(f"iter = {it:04d}, loss = {grand_loss.item():.6f}")
        wandb.log({"Grand_Loss": grand_loss.detach().cpu(), "run": wandb.run.name}, step=it)
    if args.save:
        torch.save(image_syn.detach().cuda(), args.save)
    wandb.finish()
    return image_syn.detach(), seen


if __name__ == "__main__":
    main()
