"""Choosing the easy real samples of a batch, so that only these are matched.

This is the direct way to match easy samples; the correction avoids its cost.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from sdc_ext.evaluation.difficulty import score_samples


@dataclass
class EasySamples:
    """Chooses the real samples of a batch that are easy for the current network.

    ``{(x, y) : ||grad_theta L(x, y; theta_t)||_2 <= tau}``

    The choice needs the gradient of every single sample. All synthetic images of the class are
    matched to the chosen samples; both gradients are means, so their numbers need not agree.

    Attributes:
        tau: The largest gradient norm that counts as easy, above 0.
        quantile: A further bound: the quantile of the batch's norms, in (0, 1].
        chunk_size: The number of samples to differentiate at once; see
            [`score_samples`][sdc_ext.evaluation.score_samples].
        seen: The number of samples that it has been given so far.
        chosen: The number of samples that it has chosen so far.
        matched: The positions that were last matched of each class's batch, by its index.

    Reference: SDC paper, Eq. 9 and 10.
    """

    tau: float = math.inf
    quantile: float = 1.0
    chunk_size: int | None = None
    seen: int = field(default=0, init=False)
    chosen: int = field(default=0, init=False)
    matched: dict[int, Tensor] = field(default_factory=dict, init=False)

    def __call__(self, network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        """Returns the positions of the easy samples in a batch.

        Args:
            network: The network with parameters theta_t; batch norm, if any, is frozen.
            images: Real images (B, C, H, W), normalised and augmented, as they will be matched.
            labels: Their labels (B,) int64.

        Returns:
            Positions (b,) with 1 <= b <= B: if all samples are too hard, the easiest one.
        """
        norms = score_samples(network, images, labels, chunk_size=self.chunk_size).gradn
        index = self.within(norms)
        self.seen += len(norms)
        self.chosen += len(index)
        return index.to(images.device)

    def within(self, norms: Tensor) -> Tensor:
        """Returns the positions of the easy ones among samples with these norms (B,)."""
        tau = torch.quantile(norms, self.quantile).clamp(max=self.tau)
        index = torch.nonzero(norms <= tau)[:, 0]
        return index if len(index) > 0 else norms.argmin()[None]
