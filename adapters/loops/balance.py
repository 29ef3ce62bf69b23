"""Balance among the networks of a pool, whose image gradients differ in size by orders."""

from __future__ import annotations

from torch import Tensor

# How many of a network's gradients its mean norm is taken over, as a moving average.
_MEMORY = 10


class PoolBalance:
    """Scales image gradients so that every network moves the images as far as the first one.

    Under distribution matching, the image gradients of small ConvNets with and without pooling
    differ by a factor of 50, and those without normalisation by a factor of 4000, so that the
    images would follow one network alone, and far too fast. The learning rate of the images is
    meant for the first network. A pool of one network is left as it is.

    Attributes:
        norms: The mean norms of the gradients by the index of the network, as far as they are
            known.
        counts: How many gradients of each network there were.
    """

    def __init__(self) -> None:
        self.norms: dict[int, float] = {}
        self.counts: dict[int, int] = {}

    def scaled(self, gradient: Tensor, member: int) -> Tensor:
        """Returns the gradient of a network of the pool, scaled; the first network's stays.

        Args:
            gradient: The gradient over the images (N, C, H, W).
            member: The index of the network in the pool.
        """
        count = self.counts[member] = self.counts.get(member, 0) + 1
        norm, mean = float(gradient.norm()), self.norms.get(member, 0.0)
        self.norms[member] = mean + (norm - mean) / min(count, _MEMORY)
        if member == 0 or not (self.norms.get(0, 0) > 0 and self.norms[member] > 0):
            return gradient
        return gradient * (self.norms[0] / self.norms[member])

    def state_dict(self) -> dict[str, dict[int, float]]:
        """Returns the norms and counts."""
        return {"norms": dict(self.norms), "counts": dict(self.counts)}

    def load_state_dict(self, state: dict[str, dict[int, float]]) -> None:
        """Restores what ``state_dict`` returned."""
        self.norms = dict(state["norms"])
        self.counts = {member: int(count) for member, count in state["counts"].items()}
