"""Krum: the updates that have the closest neighbours."""

import jax
import jax.numpy as jnp

from fedjax_edu.aggregation import rows
from fedjax_edu.core.errors import check_integer
from fedjax_edu.core.link import Link
from fedjax_edu.core.stack import Rule


def krum(f: int) -> Link:
    r"""The one update that is closest to its neighbours.

    Of the n clients that hold a module, each is scored by :math:`s_i = \sum_{j \in N_i} \lVert \Delta_i - \Delta_j \rVert^2` over
    :math:`N_i`, the :math:`n - f - 2` others closest to it, and the update of the lowest score is taken as it is; of equal scores
    the one of the lowest client id. Weights only say who is there.

    The score needs :math:`n \geq 2f + 3`. A cohort that can never be as large is an error when the engine is built. Where fewer
    clients hold a module in some round, its aggregate is the mean of their updates, each clipped to the median of their norms.

    Args:
        f: how many clients of a cohort may lie, 0 or more.

    Returns:
        A reduction that reads every update, and compares each with each.

    Raises:
        ArgumentError: `f` is not an integer, 0 or more.

    >>> krum(2).min_clients
    7

    Reference: Blanchard et al. (2017), "Machine learning with adversaries: Byzantine tolerant gradient descent",
    arXiv:1703.02757. We differ: each module is scored by itself, over those who hold it, and small rounds fall back to clipping.
    """
    f = check_integer("f", f, at_least=0)
    return rows.reduction("krum", rows.everywhere(_rule(f, 1)), min_clients=2 * f + 3)


def multi_krum(f: int, keep: int) -> Link:
    r"""The mean of the updates that are closest to their neighbours.

    Scored as by :func:`krum`; the `keep` updates of the lowest scores count alike, never more than :math:`n - f` of n.

    Args:
        f: how many clients of a cohort may lie, 0 or more.
        keep: how many updates are averaged.

    Returns:
        A reduction that reads every update, and compares each with each.

    Raises:
        ArgumentError: `f` is not an integer, 0 or more; `keep` is not a positive integer.

    >>> multi_krum(2, keep=5).min_clients
    7

    Reference: Blanchard et al. (2017), "Machine learning with adversaries: Byzantine tolerant gradient descent",
    arXiv:1703.02757. We differ as for :func:`krum`.
    """
    f, keep = check_integer("f", f, at_least=0), check_integer("keep", keep)
    return rows.reduction("multi_krum", rows.everywhere(_rule(f, keep)), min_clients=max(2 * f + 3, keep + f))


def _rule(f: int, keep: int) -> Rule:
    def rule(updates: jax.Array, weights: jax.Array) -> jax.Array:
        held = weights > 0
        count = jnp.sum(held, dtype=jnp.int32)
        best = jnp.lexsort((_scores(updates, held, count - f - 2), ~held))  # stable: of equals the lowest id
        rank = jnp.zeros(len(held), jnp.int32).at[best].set(jnp.arange(len(held), dtype=jnp.int32))
        chosen = held & (rank < jnp.minimum(keep, count - f))
        typical = rows.middle(rows.norms(updates)[:, None], weights)
        return jnp.where(count >= 2 * f + 3, _mean(updates, chosen), _mean(rows.clip(updates, typical), held))

    return rule


def _scores(updates: jax.Array, held: jax.Array, neighbours: jax.Array) -> jax.Array:
    """Sums of squared distances to the closest others; differences are taken row by row, so that nothing cancels."""
    squares = jax.lax.map(lambda row: jnp.sum(jnp.square(updates - row[None]), axis=1), updates)
    others = held[None, :] & ~jnp.eye(len(held), dtype=bool)
    rising = jnp.sort(jnp.where(others, squares, jnp.inf), axis=1)
    return jnp.sum(jnp.where(jnp.arange(len(held), dtype=jnp.int32)[None] < neighbours, rising, 0), axis=1)


def _mean(updates: jax.Array, chosen: jax.Array) -> jax.Array:
    return rows.mean(updates, chosen.astype(updates.dtype))
