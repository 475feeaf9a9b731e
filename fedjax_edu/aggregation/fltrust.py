"""FLTrust: updates count as far as they point where the server's own data points."""

from typing import Any

import jax
import jax.numpy as jnp

from fedjax_edu.aggregation import rows
from fedjax_edu.core.algorithm import Aggregate
from fedjax_edu.core.errors import check_integer
from fedjax_edu.core.link import Link
from fedjax_edu.core.stack import Stack


def fltrust(root: int) -> Link:
    r"""A mean weighted by trust, which comes from a clean data set of the server's own.

    The server's data is a client of the population, `root`, whose update is :math:`g_0`. Every other client's update is trusted
    by :math:`t_k = \max(0, \cos(\Delta_k, g_0))` and scaled to the root's norm:
    :math:`\bar\Delta = \sum_k t_k \frac{\lVert g_0 \rVert}{\lVert \Delta_k \rVert} \Delta_k \,/\, \sum_k t_k`. The root's own
    update is not in the mean, and weights only say who is there. A module moves in no round in which the root is away, was
    rejected or does not hold it, and in none in which nobody is trusted; so draw the root every time:
    ``fe.cohorts.including(cohort, [root])``.

    Args:
        root: id of the client that holds the server's data.

    Returns:
        A reduction that reads every update.

    Raises:
        ArgumentError: `root` is not an id; or (when the engine is built) not one of the population's.

    >>> fltrust(7).clients
    (7,)

    Reference: Cao et al. (2021), "FLTrust: Byzantine-robust federated learning via trust bootstrapping", arXiv:2012.13995. We
    differ: trust is given module by module.
    """
    root = check_integer("root", root, at_least=0, remedy="use the id of a client, for instance population.ids[0]")

    def answer(server: Any, stacks: dict[str, Stack], key: jax.Array) -> tuple[Any, dict[str, Aggregate]]:
        return server, {name: _trusted(stack, stack.ids == server).sum() for name, stack in stacks.items()}

    return rows.reduction("fltrust", answer, clients=(root,))._replace(init_server=lambda params, meta: jnp.uint32(root))


def _trusted(stack: Stack, is_root: jax.Array) -> Stack:
    """Updates of the root's norm, weighted by trust; a module's weights still sum to what everybody's did, or to 0 without trust.

    An algorithm may divide by that sum one of its own over everybody, which no rule has reweighed.
    """

    def reference(updates: jax.Array) -> jax.Array:
        return jnp.sum(jnp.where(is_root[:, None], updates, 0), axis=0, keepdims=True)

    def rescale(updates: jax.Array, weights: jax.Array) -> jax.Array:
        return _directions(updates) * rows.norms(reference(updates))[:, None]

    def trust(updates: jax.Array, weights: jax.Array) -> jax.Array:
        cosine = jnp.sum(_directions(updates) * _directions(reference(updates)), axis=1)
        found = jnp.where(is_root | (weights == 0), 0, jnp.maximum(cosine, 0))
        total = jnp.sum(found)
        return jnp.where(total > 0, found * (jnp.sum(weights) / jnp.where(total > 0, total, 1)), 0)

    return stack.replace(rescale)._replace(weights=stack.reweigh(trust).weights)


def _directions(updates: jax.Array) -> jax.Array:
    """Rows of norm 1; zeros stay zeros."""
    size = rows.norms(updates)[:, None]
    return updates / jnp.where(size > 0, size, 1)
