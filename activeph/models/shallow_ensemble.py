"""A network with many heads on one trunk, trained together on how likely they make the labels.

A shallow ensemble after M. Kellner, M. Ceriotti, Mach. Learn.: Sci. Technol. 5, 035006 (2024), arXiv:2402.16621: the
heads' mean predicts, their spread is the uncertainty, and both enter the loss, so that trunk and heads learn where
errors are large. It costs about as much as one network.

The first half of a training lowers the squared errors of the mean, while the heads follow: the likelihood counts
targets in units of their errors, and from the start on it lets those that are hard to learn starve.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from activeph.models.property_net import PropertyNet

START = 0.3  # spread of the untrained heads on features of norm one
ALONE = 0.5  # share of a training before the likelihood reaches the trunk
LEAST_VARIANCE = 1e-4  # of the heads, in squared standard deviations of the targets


class ShallowEnsemble(PropertyNet):
    """The property network; its head is the mean of K heads that differ by ``deviations``."""

    def __init__(
        self,
        n_targets: int,
        elements: Tensor,
        cutoff: float,
        n_radial: int,
        size: tuple[int, int, int],
        n_heads: int,
    ) -> None:
        """Build it; the first arguments are those of the property network."""
        super().__init__(n_targets, elements, cutoff, n_radial, size)
        self.n_heads = n_heads
        self.done = 1.0
        self.deviations = nn.Linear(2 * size[0], n_heads * n_targets)
        nn.init.normal_(self.deviations.weight, std=START)
        nn.init.zeros_(self.deviations.bias)

    def heads(self, features: Tensor) -> Tensor:
        """Return by how much each head differs from their mean [S, K, P]."""
        values: Tensor = self.deviations(features).view(len(features), self.n_heads, -1)
        return values - values.mean(dim=1, keepdim=True)

    def begin_step(self, done: float) -> None:
        """Remember which share of the training is done."""
        self.done = done

    def loss(self, scaled: Tensor, features: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
        """Return the mean negative logarithm of the likelihood of normal distributions, without its constant.

        Half the square of each error over its deviation, and the logarithm of the deviation: unlike a squared error it
        gains from knowing where errors are large.
        """
        if self.training and self.done < ALONE:
            of_mean = super().loss(scaled, features, targets, weights)
            return of_mean + self._likelihood(scaled.detach(), features.detach(), targets, weights)
        return self._likelihood(scaled, features, targets, weights)

    def _likelihood(self, scaled: Tensor, features: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
        variances = self.heads(features).square().sum(dim=1) / (self.n_heads - 1) + LEAST_VARIANCE
        return torch.mean(weights.sqrt() * ((targets - scaled) ** 2 / variances + torch.log(variances))) / 2
