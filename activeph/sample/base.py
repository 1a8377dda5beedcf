"""The seam between the loop and everything that proposes configurations."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from activeph.records import Block, Candidate, System


class Pool(Protocol):
    """Candidates computed when asked for, never stored: a pure function of (system, sampler, seed, index)."""

    @property
    def size(self) -> int:
        """Number of candidates."""
        ...

    def block(self, start: int, stop: int) -> Block:
        """Return candidates start..stop-1. Candidate i is the same whatever block it is asked for in."""
        ...

    def ids(self, indices: Sequence[int]) -> list[str]:
        """Return a name for each candidate that no other candidate has (same name = same configuration)."""
        ...


class Sampler(Protocol):
    """Proposes configurations of one system. Implementations are :class:`activeph.section.Section` classes.

    A sampler of configurations with other atoms than the campaign's crystals have (defects) also has a method
    ``systems(host) -> tuple[System, ...]``: the systems it makes of a crystal, whose pools it is asked for instead.
    """

    kind: str

    def pool(self, system: System, n: int, seed: int) -> Pool:
        """Return a pool of ``n`` candidates (a finite source may give fewer). Raises InputError where it cannot."""
        ...


def systems_of(sampler: Sampler, host: System) -> tuple[System, ...]:
    """Return the systems that a sampler proposes configurations of, given a crystal of the campaign.

    Raises:
        InputError: the crystal does not have what the sampler changes in it.
    """
    made: Callable[[System], tuple[System, ...]] | None = getattr(sampler, "systems", None)
    return (host,) if made is None else made(host)


def within(sampler: Any) -> Iterator[Any]:
    """Yield a sampler and all samplers inside it."""
    yield sampler
    inner = [part.sample for part in getattr(sampler, "parts", ())]
    for one in [*inner, sampler.sample] if hasattr(sampler, "sample") else inner:
        yield from within(one)


def brought(sampler: Any) -> tuple[str, ...]:
    """Return the elements that a sampler, or one inside it, puts in the place of a crystal's own: its ``brings``."""
    return tuple(sorted({symbol for one in within(sampler) for symbol in getattr(one, "brings", ())}))


def refused_share(pool: Pool) -> float | None:
    """Return the share of a pool's draws that guards refuse, None where a pool has no guards or does not know yet."""
    measure: Callable[[], float | None] | None = getattr(pool, "refused_share", None)
    return None if measure is None or pool.size == 0 else measure()


def informed(sampler: Any, temperatures: tuple[float, ...] | None) -> Sampler:
    """Return a sampler inside another one with that one's temperatures, where it names none itself."""
    if "temperatures" in type(sampler).model_fields and sampler.temperatures is None:
        sampler = sampler.model_copy(update={"temperatures": temperatures})
    known: Sampler = sampler
    return known


DRAWN_TOGETHER = 256  # candidates


def pick(pool: Pool, indices: Sequence[int]) -> list[Candidate]:
    """Return the chosen candidates of a pool as records, in the order of ``indices``.

    Neighbours are drawn together: many pools draw a whole block for a single candidate.
    """
    spans: dict[int, list[int]] = {}
    for index in indices:
        spans.setdefault(index // DRAWN_TOGETHER, []).append(index)
    names, found = dict(zip(indices, pool.ids(indices), strict=True)), {}
    for span in spans.values():
        first = min(span)
        block = pool.block(first, max(span) + 1)
        for index in span:
            row = index - first
            temperature = float(block.temperatures[row])
            found[index] = Candidate(names[index], block.system, temperature, block.configuration(row))
    return [found[index] for index in indices]
