"""A stand-in for gradient matching: class by class, or with --contrast all classes at once."""

import argparse

import torch
from torch.nn.functional import cross_entropy
from utils import get_network, match_loss, train

CLASSES = 3


def main(argv=None):
    parser = argparse.ArgumentParser()
    parser.add_argument("--Iteration", type=int, default=2)
    parser.add_argument("--outer_loop", type=int, default=1)
    parser.add_argument("--num_exp", type=int, default=1)
    parser.add_argument("--contrast", action="store_true")
    parser.add_argument("--lr_img", type=float, default=0.1)
    parser.add_argument("--save", default="")
    args = parser.parse_args(argv)

    seen = []
    for _exp in range(args.num_exp):
        data = torch.randn(CLASSES, 5, 1, 4, 4)
        image_syn = torch.randn(CLASSES, 1, 4, 4, requires_grad=True)
        label_syn = torch.arange(CLASSES)
        optimizer_img = torch.optim.SGD([image_syn], lr=args.lr_img, momentum=0.5)
        for it in range(args.Iteration):
            net = get_network(CLASSES)
            net_parameters = list(net.parameters())
            for _ol in range(args.outer_loop):
                loss = torch.tensor(0.0)
                for c in range(CLASSES):
                    lab_real = torch.full((5,), c)
                    loss_real = cross_entropy(net(data[c]), lab_real)
                    gw_real = torch.autograd.grad(loss_real, net_parameters)
                    gw_real = [g.detach().clone() for g in gw_real]
                    if args.contrast:
                        continue
                    loss_syn = cross_entropy(net(image_syn[c : c + 1]), label_syn[c : c + 1])
                    gw_syn = torch.autograd.grad(loss_syn, net_parameters, create_graph=True)
                    loss = loss + match_loss(gw_syn, gw_real)
                if args.contrast:
                    loss_syn = cross_entropy(net(image_syn), label_syn)
                    gw_syn = torch.autograd.grad(loss_syn, net_parameters, create_graph=True)
                    loss = loss + match_loss(gw_syn, gw_real)
                optimizer_img.zero_grad()
                loss.backward()
                seen.append(image_syn.grad.clone())
                optimizer_img.step()
                train(net, image_syn.detach(), label_syn, lr=0.01)
            print(f"iter = {it:04d}, loss = {loss.item():.4f}")
    if args.save:
        torch.save(image_syn.detach(), args.save)
    return image_syn.detach(), seen


if __name__ == "__main__":
    main()
