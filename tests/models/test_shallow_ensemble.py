"""The loss of a shallow ensemble against its definition, and what heads learn from it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from activeph.models.shallow_ensemble import LEAST_VARIANCE, ShallowEnsemble


def ensemble(n_targets: int = 2, n_heads: int = 8, hidden: int = 8) -> ShallowEnsemble:
    torch.manual_seed(0)
    return ShallowEnsemble(n_targets, torch.tensor([11, 17]), 4.0, 6, (hidden, 1, 1), n_heads)


def test_loss_is_the_likelihood_of_the_labels() -> None:
    from scipy.stats import norm

    net = ensemble()
    features, scaled, targets = torch.randn(50, 16), torch.randn(50, 2), torch.randn(50, 2)
    with torch.no_grad():
        loss = net.loss(scaled, features, targets, torch.ones(2)).item()
        deviations = (net.heads(features).std(dim=1) ** 2 + LEAST_VARIANCE).sqrt().numpy()
    expected = -norm.logpdf(targets.numpy(), scaled.numpy(), deviations).mean() - 0.5 * np.log(2 * np.pi)
    assert loss == pytest.approx(expected, rel=1e-5)


def test_heads_differ_around_the_networks_output() -> None:
    net = ensemble()
    features = torch.randn(5, 16)
    heads = net.heads(features)
    assert heads.shape == (5, 8, 2)
    torch.testing.assert_close(heads.mean(dim=1), torch.zeros(5, 2), atol=1e-6, rtol=0)
    assert torch.all(heads.std(dim=1) > 0)


def test_heads_learn_where_errors_are_large() -> None:
    """Errors are ten times as large where the first feature is positive."""
    net = ensemble(1, hidden=4)
    generator = torch.Generator().manual_seed(1)
    side = torch.sign(torch.randn(600, generator=generator))
    features = torch.stack([(side > 0).float(), (side < 0).float(), *torch.zeros(6, 600)], dim=1)
    sizes = torch.where(side > 0, 1.0, 0.1)
    targets = (sizes * torch.randn(600, generator=generator))[:, None]
    optimiser = torch.optim.Adam(net.deviations.parameters(), lr=0.02)
    for _ in range(400):
        optimiser.zero_grad()
        torch.autograd.backward(net.loss(torch.zeros(600, 1), features, targets, torch.ones(1)))
        optimiser.step()
    with torch.no_grad():
        found = net.heads(features).std(dim=1)[:, 0]
    assert float(found[side > 0].mean()) == pytest.approx(1.0, rel=0.2)
    assert float(found[side < 0].mean()) == pytest.approx(0.1, rel=0.3)


def test_weights_count_targets_in_their_units() -> None:
    net = ensemble()
    scaled, features, targets = torch.zeros(4, 2), torch.randn(4, 16), torch.ones(4, 2)
    both, first, second = (
        net.loss(scaled, features, targets, torch.tensor(weights)).item()
        for weights in ([1.0, 4.0], [1.0, 0.0], [0.0, 1.0])
    )
    assert both == pytest.approx(first + 2 * second, rel=1e-5)


def test_the_likelihood_reaches_the_trunk_in_the_second_half_alone() -> None:
    net = ensemble().train()
    targets, weights = torch.randn(6, 2), torch.ones(2)
    slopes = []
    for done in (0.2, 0.7):
        net.begin_step(done)
        scaled, features = torch.zeros(6, 2, requires_grad=True), torch.randn(6, 16, requires_grad=True)
        torch.autograd.backward(net.loss(scaled, features, targets, weights))
        slopes.append((scaled.grad, features.grad))
        assert net.deviations.weight.grad is not None  # the heads learn all the time
    torch.testing.assert_close(slopes[0][0], -2 * targets / targets.numel())
    assert slopes[0][1] is None
    assert torch.all(slopes[1][1].abs().sum(dim=1) > 0)


def test_held_out_labels_are_always_judged_by_the_likelihood() -> None:
    net = ensemble().eval()
    data = torch.zeros(6, 2), torch.randn(6, 16), torch.randn(6, 2), torch.ones(2)
    losses = []
    for done in (0.2, 0.7):
        net.begin_step(done)
        losses.append(net.loss(*data).item())
    assert losses[0] == losses[1]
