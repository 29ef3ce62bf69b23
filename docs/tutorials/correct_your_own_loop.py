# %% [markdown]
# # Correct your own loop
#
# You have a distillation loop and want to know what Sample Difficulty Correction does to it. This
# tutorial writes the smallest gradient-matching loop that works, in torch alone, adds the
# correction in one line, and looks at how hard the synthetic images are. It takes about twenty
# seconds on two cores.

# %%
import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn

from sdc_ext import gradient_norm, with_sdc

digits = load_digits()
images = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16
labels = torch.tensor(digits.target)
images = (images - images.mean()) / images.std()
print(images.shape)


def make_network():
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1),
        nn.InstanceNorm2d(32, affine=True),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * 16, 10),
    )


# %% [markdown]
# ## The loop
#
# In every iteration a fresh network meets a batch of real images of one class and the synthetic
# images of that class. The matching loss is the distance of the two gradients; the images move so
# that it falls. Any loss of your own would do.


# %%
def matching_loss(gw_syn, gw_real):
    return sum(
        1 - F.cosine_similarity(s.flatten(), r.flatten(), 0) for s, r in zip(gw_syn, gw_real)
    )


def distil(loss_fn, iterations=60, per_class=64, seed=0):
    """Returns ten synthetic images and the mean gradient norm of each iteration."""
    torch.manual_seed(seed)
    synthetic = torch.randn(10, 1, 8, 8, requires_grad=True)
    optimizer = torch.optim.SGD([synthetic], lr=1.0, momentum=0.5)
    difficulty = []
    for _ in range(iterations):
        network = make_network()
        parameters = list(network.parameters())
        total, norms = 0.0, []
        for c in range(10):
            among = torch.nonzero(labels == c)[:, 0]
            real = images[among[torch.randperm(len(among))[:per_class]]]
            real_loss = F.cross_entropy(network(real), torch.full((len(real),), c))
            gw_real = torch.autograd.grad(real_loss, parameters)
            syn_loss = F.cross_entropy(network(synthetic[c : c + 1]), torch.tensor([c]))
            gw_syn = torch.autograd.grad(syn_loss, parameters, create_graph=True)
            total = total + loss_fn(gw_syn, gw_real)  # the line that the correction changes
            norms.append(float(gradient_norm(gw_syn).detach()))
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        difficulty.append(sum(norms) / 10)
    return synthetic.detach(), difficulty


# %% [markdown]
# ## The correction
#
# `with_sdc` returns a loss with the same arguments. Its first argument is the synthetic gradient;
# the norm of that gradient (GraDN, the difficulty of the synthetic batch) is added to the loss with
# the weight `lam`. With `lam=0` the loss returns exactly what yours returns.

# %%
results = {lam: distil(with_sdc(matching_loss, lam=lam)) for lam in (0, 0.02, 0.2)}

figure, axes = plt.subplots()
for lam, (_, difficulty) in results.items():
    axes.plot(difficulty, label=f"lam {lam}")
axes.set(xlabel="iteration", ylabel="GraDN of the synthetic images")
axes.legend()
plt.show()

# %% [markdown]
# The larger `lam`, the easier the images: their gradients become smaller. The paper's 0.002 would
# hardly show in a run as short as this one, so two larger weights are drawn here.
#
# ## What came out

# %%
figure, rows = plt.subplots(3, 10, figsize=(8, 2.6))
for row, (lam, (synthetic, _)) in zip(rows, results.items(), strict=True):
    row[0].set_title(f"lam {lam}", loc="left", fontsize=9)
    for axes, image in zip(row, synthetic, strict=True):
        axes.imshow(image[0].numpy(), cmap="gray")
        axes.axis("off")
plt.show()

# %% [markdown]
# ## Is it useful?
#
# Train a fresh network on each set of ten images, and test it on the real ones.


# %%
def accuracy(synthetic, seed, epochs=200):
    torch.manual_seed(1000 + seed)
    network = make_network()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)
    for _ in range(epochs):
        optimizer.zero_grad()
        F.cross_entropy(network(synthetic), torch.arange(10)).backward()
        optimizer.step()
    with torch.no_grad():
        return (network(images).argmax(1) == labels).float().mean().item()


for lam, (synthetic, _) in results.items():
    found = torch.tensor([accuracy(synthetic, seed) for seed in range(5)])
    print(f"lam {lam}: {100 * found.mean():.1f} ± {100 * found.std():.1f} %")

# %% [markdown]
# One set per `lam` says little: another seed of the distillation can differ by more than `lam`
# does. [Is it signal?](is_it_signal.py) compares properly. For loops that meet their gradients one
# at a time, and for schedules of `lam`, see [One line in your fork](../ways/fork.md);
# [Recipes](../ways/recipes.md) has a whole loop of each family of methods.
