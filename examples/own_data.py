"""Distils your own data with your own network by two methods, compares two lam, and draws both."""

import torch
from torch import nn
from torch.utils.data import Dataset

from sdc_ext import compare, distill, load_data


class Bars(Dataset):
    """Three classes of 1x20x30 images: a bright column at one of three places, in noise."""

    classes = ("left", "middle", "right")

    def __len__(self):
        return 300

    def __getitem__(self, index):
        if index >= len(self):
            raise IndexError(index)
        image = 0.5 * torch.rand(1, 20, 30, generator=torch.Generator().manual_seed(index))
        image[:, :, 10 * (index % 3) + 3 : 10 * (index % 3) + 7] += 0.08
        return image, index % 3


def small_net(in_chans, num_classes, img_size):
    conv = nn.Sequential(nn.Conv2d(in_chans, 16, 3, padding=1), nn.Tanh(), nn.AvgPool2d(5))
    return nn.Sequential(conv, nn.Flatten(), nn.Linear(16 * 24, num_classes))


data = load_data(Bars(), name="bars")
run = {"network": small_net, "iterations": 10, "num_eval": 2, "epoch_eval_train": 50}
for method in ("dc", "dm"):
    print(distill(method, data, ipc=2, out=f"runs/bars-{method}", **run))  # and a grid.png there
compared = compare("dc", data, lams=(0, 5), seeds=3, out="runs/bars-compare", **run)
print(compared)
compared.draw("bars.png")
