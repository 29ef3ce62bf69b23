# %% [markdown]
# # Add your own method
#
# A method is a loop and a page of choices. This tutorial gives the library's gradient-matching loop
# a matching loss of its own, registers it, and uses it like any other method: the correction,
# evaluation and comparison come with it. It takes about half a minute on two cores.

# %%
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F

import sdc_ext
from sdc_ext.adapters import Method, option
from sdc_ext.adapters.loops import GradientMatching

runs = Path(tempfile.mkdtemp())

# %% [markdown]
# ## A loop with another loss
#
# DC compares gradients by their angles. Huber's loss compares their entries, and large differences
# do not dominate it. The loop stays; only the loss and one setting are new. `option` makes the
# setting known to `distill`, to the command line and to the description of the set.


# %%
@dataclass(frozen=True)
class HuberMatching(GradientMatching):
    delta: float = option(0.1, "difference from which on the loss is linear")

    def matching_loss(self):
        def distance(gw_syn, gw_real):
            pairs = zip(gw_syn, gw_real, strict=True)
            losses = [F.huber_loss(s, r, reduction="sum", delta=self.delta) for s, r in pairs]
            return torch.stack(losses).sum()

        return distance


# %% [markdown]
# The loop wraps whatever `matching_loss` returns in `with_sdc`, so the method never mentions the
# correction.
#
# ## A name and its choices

# %%
sdc_ext.register_method(
    Method(
        "gradient-huber",
        "none: an example",
        HuberMatching,
        choices={"init": "real", "lr_img": 1.0},
        source="this tutorial",
        matches="gradients per class",
    )
)

# %% [markdown]
# ## Use it

# %%
small = {"network": "convnet:width=32:depth=2", "num_eval": 2, "epoch_eval_train": 60}
synthetic = sdc_ext.distill(
    "gradient-huber",
    ipc=1,
    lam=0.02,
    delta=0.05,
    iterations=10,
    out=runs / "huber",
    progress=False,
    **small,
)
synthetic

# %% [markdown]
# Every setting is stored with its source, yours included.

# %%
for name in ("delta", "init", "lr_net", "lam"):
    print(name, synthetic.info.settings[name])

# %% [markdown]
# ## Compare it with and without the correction

# %%
sdc_ext.compare(
    "gradient-huber",
    lams=(0, 0.02),
    seeds=3,
    iterations=8,
    out=runs / "compared",
    progress=False,
    **small,
)

# %% [markdown]
# To bring a loop of your own, and to offer methods to the command line by installing a package, see
# [Your own method](../guides/own-method.md).
