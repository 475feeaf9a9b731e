"""Samplers that remember nothing: each round's cohort depends on its key alone."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_edu.core.errors import ArgumentError, check_integer, check_positive
from fedjax_edu.core.keys import permute
from fedjax_edu.engine.cohorts.sampler import Bound, Cohort, Draw, check_fits, memoryless, per_client, successive, synchronous


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

    def bind(ids: np.ndarray, attributes: dict[str, np.ndarray], sizes: np.ndarray) -> Bound:
        check_fits(size, len(ids))
        total = jnp.int32(len(ids))

        def draw(key: jax.Array, round_: jax.Array) -> Draw:
            return synchronous(permute(key, jnp.arange(size, dtype=jnp.int32), total))

        return memoryless(size, draw)

    return Cohort(f"uniform({size})", bind, independent=False, amplification="fixed size")


def everyone() -> Cohort:
    """All clients, every round.

    >>> everyone().independent
    True
    """

    def bind(ids: np.ndarray, attributes: dict[str, np.ndarray], sizes: np.ndarray) -> Bound:
        clients = jnp.arange(len(ids), dtype=jnp.int32)
        return memoryless(len(ids), lambda key, round_: synchronous(clients))

    return Cohort("everyone()", bind, independent=True, amplification="none")


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

    def bind(ids: np.ndarray, attributes: dict[str, np.ndarray], sizes: np.ndarray) -> Bound:
        capacity, identity = poisson_capacity(len(ids), rate), jnp.asarray(ids)
        last = jnp.uint32(max(round(rate * 2**32), 1) - 1)  # integers, not floats: a tiny rate keeps its digits

        def draw(key: jax.Array, round_: jax.Array) -> Draw:
            drawn = jax.vmap(lambda client: jax.random.bits(jax.random.fold_in(key, client), (), jnp.uint32))(identity) <= last
            (clients,) = jnp.nonzero(drawn, size=capacity, fill_value=0)
            total = jnp.sum(drawn)
            drawn = synchronous(clients.astype(jnp.int32), jnp.arange(capacity) < total)
            return drawn._replace(overflow=total > capacity)

        return memoryless(capacity, draw)

    return Cohort(f"poisson({rate})", bind, independent=True, amplification="poisson")


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

    def bind(ids: np.ndarray, attributes: dict[str, np.ndarray], sizes: np.ndarray) -> Bound:
        check_fits(size, len(ids))
        weights = per_client("by", by, len(ids), attributes)
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
            return synchronous(successive(key, identity, logits, size))

        return memoryless(size, draw)

    return Cohort(f"weighted({size})", bind, independent=False, amplification="none")


def round_robin(size: int) -> Cohort:
    """A fixed number of clients in the order of the population, the next ones each round, around and around.

    Every client takes part equally often, to within one. Nothing is random, so nothing amplifies privacy: an accountant
    counts each client once every N / size rounds. Means over a cohort are those of its few neighbours; means over N / size
    rounds are those of :func:`everyone`.

    Args:
        size: clients a round.

    Raises:
        ArgumentError: below 1, or (when the engine is built) above the population.

    >>> round_robin(4).amplification
    'none'
    """
    size = check_integer("size", size)

    def bind(ids: np.ndarray, attributes: dict[str, np.ndarray], sizes: np.ndarray) -> Bound:
        check_fits(size, len(ids))
        period = len(ids) // math.gcd(size, len(ids))  # rounds until it is the first cohort's turn again

        def draw(key: jax.Array, round_: jax.Array) -> Draw:
            first = round_ % period * (size % len(ids)) % len(ids)
            return synchronous((first + jnp.arange(size, dtype=jnp.int32)) % len(ids))

        return memoryless(size, draw)

    return Cohort(f"round_robin({size})", bind, independent=False, amplification="none")
