"""Matching easy real samples alone: the direct way, whose cost the correction saves."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from sdc_ext.evaluation.difficulty import score_samples


@dataclass
class EasySamples:
    """Chooses the real samples of a batch that are easy for the network as it is.

    ``{(x, y) : ||grad_theta L(x, y; theta_t)||_2 <= tau}``

    Needs the gradient of every single sample. All synthetic images of the class are matched with
    the chosen ones, as they are with all: both gradients are means.

    Attributes:
        tau: the largest gradient norm.
        quantile: of the batch's norms that bounds them, too, in (0, 1].
        chunk_size: How many samples to differentiate at once; see
            [`score_samples`][sdc_ext.evaluation.score_samples].
        seen: samples it chose from so far.
        chosen: samples it chose.

    Reference: SDC paper, Eq. 9 and 10.
    """

    tau: float = math.inf
    quantile: float = 1.0
    chunk_size: int | None = None
    seen: int = field(default=0, init=False)
    chosen: int = field(default=0, init=False)

    def __call__(self, network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        """Positions of the easy ones in a batch; of the easiest one, if all are too hard.

        Args:
            network: parameters theta_t; batch norm, if any, frozen.
            images: (B, C, H, W), as they are to be matched.
            labels: (B,) int64.
        """
        norms = score_samples(network, images, labels, chunk_size=self.chunk_size).gradn
        tau = torch.quantile(norms, self.quantile).clamp(max=self.tau)
        index = torch.nonzero(norms <= tau)[:, 0]
        if len(index) == 0:
            index = norms.argmin()[None]
        self.seen += len(norms)
        self.chosen += len(index)
        return index.to(images.device)
