"""Who takes part in a round: samplers that run inside the compiled program."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_edu.core.errors import ArgumentError, check_integer, check_positive
from fedjax_edu.core.keys import permute
from fedjax_edu.data.validation import as_array


class Draw(NamedTuple):
    """A drawn cohort: `clients` int32 [capacity], `present` bool [capacity]; `overflow` makes the round a no-op."""

    clients: jax.Array
    present: jax.Array
    overflow: jax.Array


class Bound(NamedTuple):
    """A sampler bound to a population: its static `capacity` and ``draw(key, round) -> Draw``."""

    capacity: int
    draw: Callable[[jax.Array, jax.Array], Draw]


class Cohort(NamedTuple):
    """A sampler.

    Args:
        name: how errors and reports call it.
        bind: ``(ids uint32 [N], attributes) -> Bound``; checks its arguments against the population.
        independent: whether one client's participation does not depend on the others (exact unlearning needs it).
    """

    name: str
    bind: Callable[[np.ndarray, dict[str, np.ndarray]], Bound]
    independent: bool


def _no_overflow(clients: jax.Array, present: jax.Array) -> Draw:
    return Draw(clients, present, jnp.array(False))


def _check_fits(size: int, clients: int) -> None:
    if size > clients:
        raise ArgumentError("cohort", size, f"use at most the population's {clients} clients, or everyone()")


def uniform(size: int) -> Cohort:
    """A fixed number of clients, uniformly without replacement, in O(size) whatever the population.

    Args:
        size: clients a round.

    Raises:
        ArgumentError: below 1, or (when the engine is built) above the population.

    >>> uniform(32).name
    'uniform(32)'
    """
    size = check_integer("size", size)

    def bind(ids: np.ndarray, attributes: dict[str, np.ndarray]) -> Bound:
        _check_fits(size, len(ids))
        total = jnp.int32(len(ids))

        def draw(key: jax.Array, round_: jax.Array) -> Draw:
            return _no_overflow(permute(key, jnp.arange(size, dtype=jnp.int32), total), jnp.ones(size, bool))

        return Bound(size, draw)

    return Cohort(f"uniform({size})", bind, independent=False)


def everyone() -> Cohort:
    """All clients, every round.

    >>> everyone().independent
    True
    """

    def bind(ids: np.ndarray, attributes: dict[str, np.ndarray]) -> Bound:
        clients = jnp.arange(len(ids), dtype=jnp.int32)
        return Bound(len(ids), lambda key, round_: _no_overflow(clients, jnp.ones(len(ids), bool)))

    return Cohort("everyone()", bind, independent=True)


def poisson(rate: float) -> Cohort:
    r"""Each client by itself with probability `rate`: the sampling that privacy amplification is proved for.

    The compiled program has a static capacity that the binomial number of clients exceeds with a probability below
    1e-12; should it happen, the round is a no-op: a truncated cohort would not be a Poisson sample.

    Args:
        rate: probability q of taking part, in (0, 1].

    Raises:
        ArgumentError: `rate` outside (0, 1].

    >>> poisson(0.1).independent
    True
    """
    rate = check_positive("rate", rate, at_most=1.0, remedy="use a probability in (0, 1]")

    def bind(ids: np.ndarray, attributes: dict[str, np.ndarray]) -> Bound:
        capacity, identity = poisson_capacity(len(ids), rate), jnp.asarray(ids)
        last = jnp.uint32(max(round(rate * 2**32), 1) - 1)  # integers, not floats: a tiny rate keeps its digits

        def draw(key: jax.Array, round_: jax.Array) -> Draw:
            drawn = jax.vmap(lambda client: jax.random.bits(jax.random.fold_in(key, client), (), jnp.uint32))(identity) <= last
            (clients,) = jnp.nonzero(drawn, size=capacity, fill_value=0)
            total = jnp.sum(drawn)
            return Draw(clients.astype(jnp.int32), jnp.arange(capacity) < total, total > capacity)

        return Bound(capacity, draw)

    return Cohort(f"poisson({rate})", bind, independent=True)


def poisson_capacity(clients: int, rate: float, overflow: float = 1e-12) -> int:
    """Smallest capacity that a binomial(clients, rate) number exceeds with probability below `overflow`.

    >>> poisson_capacity(1000, 1.0)
    1000
    """
    from scipy.stats import binom

    capacity = min(clients, max(1, int(binom.isf(overflow, clients, rate))))
    while capacity < clients and binom.sf(capacity, clients, rate) >= overflow:
        capacity += 1
    return capacity


def weighted(size: int, by: str | np.ndarray) -> Cohort:
    r"""A fixed number of clients without replacement, each next one with probability proportional to its weight.

    The Gumbel-top-k form of successive sampling: the `size` largest of :math:`\log w_k + G_k`. Inclusion is biased
    towards heavy clients, so it neither amplifies privacy like :func:`poisson` nor gives unbiased example-weighted
    means; combine it with ``weighting="uniform"`` when the weights are the examples.

    Args:
        size: clients a round.
        by: weights, an array [clients] or the name of a client attribute; finite, not negative; 0 is never drawn.

    Raises:
        ArgumentError: bad weights, or fewer positive ones than `size`.

    >>> weighted(8, by="pupils").name
    'weighted(8)'

    Reference: Efraimidis, Spirakis (2006), "Weighted random sampling with a reservoir".
    """
    size = check_integer("size", size)

    def bind(ids: np.ndarray, attributes: dict[str, np.ndarray]) -> Bound:
        _check_fits(size, len(ids))
        weights = _per_client("by", by, len(ids), attributes)
        if weights.ndim != 1 or weights.dtype.kind not in "biuf":
            raise ArgumentError("by", weights, "use one number for each client")
        weights = weights.astype(np.float64)
        if not np.isfinite(weights).all() or (weights < 0).any():
            raise ArgumentError("by", weights[~(weights >= 0) | ~np.isfinite(weights)][:3], "use finite weights that are not negative")
        if (weights > 0).sum() < size:
            raise ArgumentError("by", f"{(weights > 0).sum()} positive weights", f"give at least {size} clients a positive weight")
        with np.errstate(divide="ignore"):
            logits, identity = jnp.asarray(np.log(weights), jnp.float32), jnp.asarray(ids)

        def draw(key: jax.Array, round_: jax.Array) -> Draw:
            noise = jax.vmap(lambda client: jax.random.gumbel(jax.random.fold_in(key, client), dtype=jnp.float32))(identity)
            return _no_overflow(jax.lax.top_k(logits + noise, size)[1].astype(jnp.int32), jnp.ones(size, bool))

        return Bound(size, draw)

    return Cohort(f"weighted({size})", bind, independent=False)


def available(cohort: Cohort, mask: str | np.ndarray) -> Cohort:
    """Drops drawn clients that are away; nobody is drawn in their place.

    The others' participation does not change, so a run with a client away equals the run that rejected its updates.

    Args:
        cohort: who would take part.
        mask: bool [clients], bool [rounds, clients] (a trace, repeated from its start when it ends), or the name of a
            client attribute.

    Raises:
        ArgumentError: a mask of another shape or dtype.

    >>> available(everyone(), np.array([True, False])).name
    'available(everyone())'
    """
    if not isinstance(cohort, Cohort):
        raise ArgumentError("cohort", cohort, "pass a sampler, for instance fe.cohorts.uniform(32)")

    def bind(ids: np.ndarray, attributes: dict[str, np.ndarray]) -> Bound:
        bound = cohort.bind(ids, attributes)
        given = _per_client("mask", mask, len(ids), attributes)
        if given.dtype != bool or given.ndim > 2 or not len(given):
            raise ArgumentError("mask", given, f"use bool[{len(ids)}] or bool[rounds, {len(ids)}]")
        trace = np.atleast_2d(given)
        table = jnp.asarray(trace)

        def draw(key: jax.Array, round_: jax.Array) -> Draw:
            drawn = bound.draw(key, round_)
            return drawn._replace(present=drawn.present & table[round_ % len(trace), drawn.clients])

        return Bound(bound.capacity, draw)

    return Cohort(f"available({cohort.name})", bind, cohort.independent)


def _per_client(argument: str, value: str | np.ndarray, clients: int, attributes: dict[str, np.ndarray]) -> np.ndarray:
    if isinstance(value, str):
        if value not in attributes:
            raise ArgumentError(argument, value, f"name one of the population's attributes: {sorted(attributes)}")
        return attributes[value]
    array = as_array(argument, value)
    if array.ndim == 0:
        raise ArgumentError(argument, value, f"use an array with one entry for each of the {clients} clients, or the name of an attribute")
    if array.shape[-1] != clients:
        raise ArgumentError(argument, array, f"use one entry for each of the {clients} clients")
    return array
