# %% [markdown]
# # Distil and look
#
# This tutorial distils the bundled digits to one image per class, looks at the images and at how
# the run went, and evaluates the set on networks that it was not made with. It takes about half a
# minute on two cores.

# %%
import tempfile
from pathlib import Path

import sdc_ext

runs = Path(tempfile.mkdtemp())
data = sdc_ext.load_data("digits")
data

# %% [markdown]
# `distill` takes the name of a method, the data, and any setting of that method. What is not given
# comes from the original repository's script or from the paper's tables; `sdc-ext methods dsac`
# lists all values with their sources. Here the run is much shorter than the original's.

# %%
settings = {"network": "convnet:width=32:depth=2", "num_eval": 2, "epoch_eval_train": 100}
synthetic = sdc_ext.distill(
    "dsac", data, ipc=1, lam=0.02, out=runs / "dsac", iterations=8, progress=False, **settings
)
synthetic

# %% [markdown]
# The folder holds everything that another person needs to evaluate the set: the images as
# safetensors, a description with every setting, a picture and the history.

# %%
for file in sorted((runs / "dsac").iterdir()):
    print(file.name, file.stat().st_size)

# %% [markdown]
# ## How did the run go?
#
# The history has one row per iteration: the loss, the matching loss without the correction, and
# GraDN, the norm of the gradient that the synthetic images produce.

# %%
import csv

import matplotlib.pyplot as plt

with open(runs / "dsac" / "history.csv") as file:
    history = list(csv.DictReader(file))
figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3))
left.plot([float(row["matching"]) for row in history])
left.set(xlabel="iteration", ylabel="matching loss")
right.plot([float(row["difficulty"]) for row in history])
right.set(xlabel="iteration", ylabel="GraDN")
figure.tight_layout()
plt.show()

# %% [markdown]
# Both curves have a step after a quarter of the iterations. It comes from the method: DCC and DSAC
# match class by class at first, and the gradient of all classes at once afterwards.
#
# ## Evaluate it on other networks
#
# Each network is trained from scratch on the ten images and tested on the real test images.

# %%
evaluated = sdc_ext.evaluate_set(
    synthetic, data, networks=["convnet:width=32:depth=1", "mlp"], num_eval=2, progress=False
)
evaluated

# %% [markdown]
# Is that good? Compare it with ten real images that were chosen at random, under the same
# evaluation.

# %%
random = sdc_ext.select_set("random", data, ipc=1, like="dsac", out=runs / "random", progress=False)
sdc_ext.evaluate_set([synthetic, random], data, networks=["mlp"], num_eval=2, progress=False)

# %% [markdown]
# `sdc-ext report FOLDER ...` writes the same as one HTML page, `sdc-ext export` writes the set in
# the formats of other repositories ([File formats](../guides/formats.md)). Whether the correction
# helped is another question: [Is it signal?](is_it_signal.py)
