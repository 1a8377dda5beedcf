"""Any modAL query strategy by name."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
from pydantic import Field, field_validator

from activeph.errors import InputError
from activeph.records import IntArray, Prediction
from activeph.section import wrong_value
from activeph.select.base import FeatureArray, Known, ScoredSelector

STRATEGIES: dict[str, str] = {
    "max_std_sampling": "modAL.disagreement",
    "vote_entropy_sampling": "modAL.disagreement",
    "consensus_entropy_sampling": "modAL.disagreement",
    "max_disagreement_sampling": "modAL.disagreement",
    "uncertainty_sampling": "modAL.uncertainty",
    "margin_sampling": "modAL.uncertainty",
    "entropy_sampling": "modAL.uncertainty",
    "uncertainty_batch_sampling": "modAL.batch",
    "max_UCB": "modAL.acquisition",
}
"""modAL's strategies that an ensemble of regressors can answer, by short name."""
OF_ONE = ("uncertainty_batch_sampling", "max_UCB")  # those that choose by distances or means where there is no spread


class ModalSelector(ScoredSelector):
    """Hands the pool to a query strategy of modAL, or to one written for modAL.

    How the ensemble answers a strategy's questions is told by
    :class:`activeph.select.modal_learner.EnsembleLearner`. Ranked batches (``uncertainty_batch_sampling``) cost
    O(pool x labelled) per pick.
    """

    kind: Literal["modal"] = "modal"
    strategy: str = "uncertainty_batch_sampling"
    """Name of a modAL strategy, or ``package.module:function`` called as f(learner, features, n_instances=n)."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Further keyword arguments of the strategy, such as ``metric`` of the ranked batch or ``beta`` of max_UCB."""

    @field_validator("strategy")
    @classmethod
    def _known(cls, strategy: str) -> str:
        if strategy not in STRATEGIES and ":" not in strategy:
            close = difflib.get_close_matches(strategy, STRATEGIES, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"use one of {', '.join(sorted(STRATEGIES))}."
            raise ValueError(
                f"strategy must name a modAL query strategy or be package.module:function but got {strategy!r}; {hint}"
            )
        return strategy

    @property
    def needs_spread(self) -> bool:
        """Whether the strategy compares nothing but what members differ by."""
        return self.strategy in STRATEGIES and self.strategy not in OF_ONE

    def check(self, known: Known) -> None:
        """Raise ``wrong_value`` where the strategy's path leads nowhere: here, and not after the first labels."""
        if ":" not in self.strategy:
            return
        try:
            load_strategy(self.strategy)
        except InputError as error:
            raise wrong_value(
                "must be a function that can be imported, as package.module:function",
                "install its package or correct the path",
                f"{self.strategy!r} ({error.__cause__ or 'not a function'})",
                ("strategy",),
            ) from None

    def _choose(self, pool: Prediction, labelled: FeatureArray, n: int, rng: np.random.Generator) -> IntArray:
        from activeph.select.modal_learner import EnsembleLearner

        query = load_strategy(self.strategy)
        with _legacy_random(rng):
            try:
                answer = query(EnsembleLearner(pool, labelled), pool.features, n_instances=n, **self.options)
            except (AttributeError, TypeError) as error:
                raise InputError(
                    f"strategy must be one that an ensemble of regressors can answer but got {self.strategy!r}, "
                    f"which stopped with {error}; use one of {', '.join(sorted(STRATEGIES))}."
                ) from error
        chosen = np.asarray(answer[0] if isinstance(answer, tuple) else answer, dtype=np.int64).reshape(-1)
        if len(np.unique(chosen)) != n or chosen.min() < 0 or chosen.max() >= len(pool.features):
            raise InputError(
                f"strategy must return {n} distinct indices below {len(pool.features)} but got {chosen.tolist()} "
                f"from {self.strategy!r}; mend the strategy."
            )
        return chosen


def load_strategy(name: str) -> Callable[..., Any]:
    """Return the function behind a strategy's name or import path. Raises InputError where there is none."""
    module, _, attribute = name.partition(":") if ":" in name else (STRATEGIES[name], "", name)
    try:
        function = getattr(importlib.import_module(module), attribute)
    except Exception as error:  # a user's module may fail in any way
        raise InputError(
            f"strategy must be importable but got {name!r} ({type(error).__name__}: {error}); install its package or "
            "correct the path."
        ) from error
    if not callable(function):
        raise InputError(f"strategy must be a function but got {name!r}, a {type(function).__name__}.")
    return function  # type: ignore[no-any-return]


@contextmanager
def _legacy_random(rng: np.random.Generator) -> Iterator[None]:
    """Seed numpy's global stream, which modAL draws from, for the time of one query and put it back after."""
    before = np.random.get_state()
    np.random.seed(int(rng.integers(2**32)))
    try:
        yield
    finally:
        np.random.set_state(before)
