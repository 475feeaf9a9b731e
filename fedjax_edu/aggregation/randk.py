"""Only a few coordinates of an update travel, drawn anew each round and alike for all clients."""

from typing import Any

import jax
import jax.numpy as jnp

from fedjax_edu.aggregation.error_feedback import error_feedback, keep
from fedjax_edu.aggregation.topk import check_fraction, count
from fedjax_edu.core.algorithm import Aggregates
from fedjax_edu.core.keys import check_seed, fold, permute
from fedjax_edu.core.link import Link, Wire


def randk(fraction: float, seed: int = 0) -> Link:
    r"""Sends random coordinates of each leaf, with error feedback.

    Of :math:`p = e + \Delta` a uniform set of :math:`k = \lceil q d \rceil` coordinates of each leaf of size d is sent; the others
    stay with the client as e, and nothing is rescaled: what is not sent now is sent later.

    The set follows from `seed` and the number of sums taken so far, which is the link's server state. It is the same for all
    clients of a round, so no index travels, and sums of k values can be masked by secure aggregation.

    Args:
        fraction: q, of the coordinates; in (0, 1], 1 sends all.
        seed: of the sets; known to server and clients.

    Returns:
        A link on the channel "update"; it reports ``randk.residual``, the mean norm of e.

    Raises:
        ArgumentError: `fraction` outside (0, 1]; a `seed` outside [0, 2**32).

    >>> randk(0.1).wire("update", True, Wire(size=1000, values=1000, bits=32)).bytes
    400

    Reference: Stich, Cordonnier, Jaggi (2018), "Sparsified SGD with memory", arXiv:1809.07599. We differ: one set for all clients.
    """
    fraction, seed = check_fraction(fraction), check_seed(seed)

    def compress(leaf: jax.Array, number: int, rounds: jax.Array) -> tuple[jax.Array, jax.Array]:
        key = fold(jax.random.key(seed), rounds, number)
        drawn = permute(key, jnp.arange(count(fraction, leaf.size), dtype=jnp.int32), jnp.int32(leaf.size))
        return keep(jnp.zeros(leaf.size, bool).at[drawn].set(True).reshape(leaf.shape), leaf)

    def server(rounds: jax.Array, aggregates: Aggregates, key: jax.Array) -> tuple[jax.Array, Aggregates]:
        return rounds + 1, aggregates

    def wire(leaf: Wire) -> Wire:
        return leaf._replace(values=count(fraction, leaf.size), overhead=0)

    def init_server(params: Any, meta: Any) -> jax.Array:
        return jnp.int32(0)

    return error_feedback("randk", compress, wire)._replace(init_server=init_server, server=server)
