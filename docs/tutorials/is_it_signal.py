# %% [markdown]
# # Is it signal?
#
# Two runs with different seeds differ, so the difference between one run with the correction and
# one without says nothing. This tutorial compares several `lam` under the same seeds and reads the
# tables. It takes less than a minute on two cores.

# %%
import tempfile
from pathlib import Path

import sdc_ext

compared = sdc_ext.compare(
    "dc",
    "digits",
    lams=(0, 0.02, 2),
    seeds=4,
    out=Path(tempfile.mkdtemp()) / "compared",
    network="convnet:width=32:depth=2",
    iterations=15,
    num_eval=2,
    epoch_eval_train=60,
    progress=False,
)
compared

# %% [markdown]
# Runs of one seed share initial images, the order of the data and the evaluation networks.
# Therefore the difference within a seed is that of `lam`, and its spread over seeds is far smaller
# than that of the accuracies themselves. Compare the column `std` of the second table with the
# width of the intervals in the third.
#
# How to read a row of the third table:
#
# * **gain** is the mean difference to the first `lam`, in points.
# * **95 %, t** is the interval that holds the true gain in 95 of 100 such comparisons. If it
#   contains zero, the gain is statistically indistinguishable from zero.
# * **p, Holm** is the p-value of the t-test, adjusted for testing two values of `lam`.
# * **p, sign** is the p-value of the sign test, which counts only how many seeds went up and down.
#   With four seeds it cannot be below 0.125, so that test says nothing here.
# * **p, ±0.5** is the test of equivalence: below 0.05, gains and losses of half a point or more are
#   ruled out. Without it, "no gain" means "not looked closely enough".
# * **95 %, any look** is an interval that stays valid if you look at the table, add seeds and look
#   again. It needs at least five seeds.
# * **to go** is the number of further seeds after which a gain of half a point would be seen four
#   times in five.

# %%
import matplotlib.pyplot as plt
from matplotlib import image

compared.draw(compared.out / "gains.png")
figure, axes = plt.subplots(figsize=(9, 4))
axes.imshow(image.imread(compared.out / "gains.png"))
axes.axis("off")
plt.show()

# %% [markdown]
# ## Does the correction act at all?
#
# The first table says how GraDN went over the distillation. If it hardly depends on `lam`, the
# correction is too weak to change the images, and equal accuracies are no surprise. With `lam=2`,
# a thousand times the paper's value, it should.

# %%
for arm, histories in compared.histories().items():
    last = sum(history["difficulty"][-1] for history in histories) / len(histories)
    print(f"{arm}: GraDN of the last iteration {last:.2f}")

# %% [markdown]
# ## What next?
#
# * Finished runs are kept. Calling `compare` with more seeds and the same folder adds the missing
#   ones only. Then trust the interval for any look, since you have looked.
# * `arms=[{"lam": 0}, {"lam": 0.02, "norm": "l2_squared"}]` compares any settings, not `lam` alone.
# * `sdc_ext.tune` searches for `lam` on held-out training images. Compare its winner again, under
#   fresh seeds.
# * [Comparing and tuning](../guides/compare.md) has the details, and [Results](../results.md) what
#   larger comparisons found.
