"""What robust rules share: arithmetic on updates side by side that no finite update can break."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from fedjax_edu.core.algorithm import Aggregate
from fedjax_edu.core.link import Link
from fedjax_edu.core.stack import Rule, Stack
from fedjax_edu.core.trees import global_norm

Answer = Callable[[Any, dict[str, Stack], jax.Array], tuple[Any, dict[str, Aggregate]]]


def reduction(name: str, stack: Answer, *, needs: str = "stack", min_clients: int = 1, clients: tuple[int, ...] = ()) -> Link:
    """A reduction that reads every update: no client's influence on the sum is bounded for noise to be calibrated from."""
    return Link(
        name=name,
        place="reduce",
        sensitivity=lambda bound: math.inf,
        needs=needs,
        stack=stack,
        min_clients=min_clients,
        clients=clients,
    )


def everywhere(rule: Rule) -> Answer:
    """A rule on each module of each private channel by itself."""

    def stack(server: Any, stacks: dict[str, Stack], key: jax.Array) -> tuple[Any, dict[str, Aggregate]]:
        return server, {name: each.by_module(rule) for name, each in stacks.items()}

    return stack


def mean(updates: jax.Array, weights: jax.Array) -> jax.Array:
    """Weighted mean [d] of updates [C, d] over the rows of positive weight; 0 without any. Weights do not overflow.

    >>> mean(jnp.array([[1.0], [4.0], [0.0]]), jnp.array([2.0, 1.0, 0.0])).tolist()
    [2.0]
    """
    total = jnp.sum(weights)
    share = jnp.where(weights > 0, weights / jnp.where(total > 0, total, 1), 0)
    return jnp.sum(jnp.where(share[:, None] > 0, share[:, None] * updates, 0), axis=0)


def norms(updates: jax.Array) -> jax.Array:
    """Euclidean norms [C] of rows [C, d]; squares neither overflow nor vanish.

    >>> norms(jnp.array([[3e30, 4e30], [0.0, 0.0]])).tolist() == [float(jnp.float32(5e30)), 0.0]
    True
    """
    largest = jnp.finfo(updates.dtype).max
    return jax.vmap(global_norm)(jnp.clip(updates, -largest, largest))  # a difference of finite numbers may be infinite


def clip(updates: jax.Array, bound: jax.Array | float) -> jax.Array:
    """Rows [C, d] scaled down to a norm of at most `bound`."""
    size = norms(updates)
    factor = jnp.where(size > bound, bound / jnp.where(size > bound, size, 1), 1)
    return updates * factor[:, None]


def rising(updates: jax.Array, weights: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Each column of updates [C, d] in rising order, absent clients last as infinity, and how many clients are there."""
    held = weights > 0
    return jnp.sort(jnp.where(held[:, None], updates, jnp.inf), axis=0), jnp.sum(held, dtype=jnp.int32)


def middle(updates: jax.Array, weights: jax.Array) -> jax.Array:
    """Median [d] of each column over the rows of positive weight, of an even number the mean of the two middle ones; 0 without any.

    >>> middle(jnp.array([[5.0], [1.0], [9.0], [2.0]]), jnp.array([1.0, 1.0, 0.0, 3.0])).tolist()
    [2.0]
    """
    ordered, count = rising(updates, weights)
    last = len(weights) - 1
    lower, upper = (ordered[jnp.clip(at, 0, last)] for at in ((count - 1) // 2, count // 2))
    return jnp.where(count > 0, lower / 2 + upper / 2, 0)
