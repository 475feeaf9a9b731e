"""CKA graph: updates count as far as their clients' models see things alike."""

from typing import Any

import jax
import jax.numpy as jnp

from fedjax_edu.aggregation import rows
from fedjax_edu.core.algorithm import REPRESENTATIONS, Aggregate
from fedjax_edu.core.errors import ArgumentError
from fedjax_edu.core.link import Link
from fedjax_edu.core.stack import Stack


def cka_graph() -> Link:
    r"""A mean weighted by degree in the graph of clients whose edges are similarities of representations.

    With Gram matrices :math:`K_k` of norm 1 that :func:`fedjax_edu.algorithms.with_representations` makes clients send, the linear
    centred kernel alignment of two clients is :math:`\langle K_i, K_j \rangle`, and

    .. math:: w_i = \frac{\sum_j \langle K_i, K_j \rangle}{\sum_{ij} \langle K_i, K_j \rangle}
        = \frac{\langle K_i, \sum_j K_j \rangle}{\lVert \sum_j K_j \rVert_F^2}, \qquad \bar\Delta = \sum_i w_i \Delta_i

    over the clients that hold a module. Weights only say who is there. Where no model tells the rows of the probe apart, all count alike.

    Returns:
        A reduction that reads updates through weighted sums alone: first of the matrices, then of the updates.

    Raises:
        ArgumentError: (when rounds are compiled) clients send no representations.

    >>> cka_graph().needs
    'sums'

    References: Che et al. (2024), "FedMVP", arXiv:2406.11048; Kornblith et al. (2019), arXiv:1905.00414 for the alignment.
    """

    def answer(server: Any, stacks: dict[str, Stack], key: jax.Array) -> tuple[Any, dict[str, Aggregate]]:
        if REPRESENTATIONS not in stacks:
            remedy = "give the engine fe.algorithms.with_representations(algorithm, represent, probe)"
            raise ArgumentError("aggregator", "cka_graph", remedy)
        seen = stacks[REPRESENTATIONS].values.reshape(len(stacks[REPRESENTATIONS].ids), -1)
        return server, {name: _weighed(stack, seen).sum() for name, stack in stacks.items()}

    return rows.reduction("cka_graph", answer, needs="sums")


def _weighed(stack: Stack, seen: jax.Array) -> Stack:
    """Updates weighted by degree; a module's weights still sum to what everybody's did, which an algorithm may divide by."""

    def degrees(updates: jax.Array, weights: jax.Array) -> jax.Array:
        held = weights > 0
        matrices = jnp.where(held[:, None], seen, jnp.zeros_like(seen))
        found = jnp.maximum(matrices @ jnp.sum(matrices, axis=0), 0)  # never negative but for rounding
        found = jnp.where(jnp.any(found > 0), found, held.astype(found.dtype))
        total = jnp.sum(found)
        return found * (jnp.sum(weights) / jnp.where(total > 0, total, 1))

    return stack.reweigh(degrees)
