"""Clients that also send how their models see a probe that everybody has."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from fedjax_edu.core.algorithm import REPRESENTATIONS, Algorithm, Channel, ClientInfo
from fedjax_edu.core.errors import ArgumentError
from fedjax_edu.core.trees import Tree, float_dtype

Represent = Callable[[Tree, Any], jax.Array]
"""``(params, probe) -> [n, ...]``, representations of the n rows of a probe."""


def with_representations(algorithm: Algorithm, represent: Represent, probe: Any) -> Algorithm:
    r"""An algorithm whose clients also send the Gram matrix of their representations, for :func:`fedjax_edu.aggregation.cka_graph`.

    Of representations R [n, d] of the probe, rows are divided by their norms and columns centred, and
    :math:`K = X X^\top / \lVert X X^\top \rVert_F`: n² numbers, whatever the model's size. It changes by no rotation of the space of
    representations, and by no factor of a row.

    Args:
        algorithm: whose clients; training stays as it is.
        represent: of the client's model after training, its own modules included.
        probe: rows that are public or made up, a pytree of arrays [n, ...]; no client's own, since what is sent tells of them.

    Raises:
        ArgumentError: representations of fewer than two rows.

    >>> from fedjax_edu.algorithms import fedavg
    >>> import optax
    >>> import fedjax_edu as fe
    >>> plain = fedavg(lambda params, batch, key: (batch @ params["w"]) ** 2, client_optimizer=optax.sgd(0.1),
    ...                local=fe.LocalTraining(epochs=1, batch_size=2))
    >>> algorithm = with_representations(plain, lambda params, probe: probe * params["w"][None], jnp.eye(3))
    >>> rows = fe.data.Population.from_arrays(jnp.ones((4, 3)), [0, 2, 4])
    >>> engine = fe.Engine(rows, algorithm, cohort=fe.cohorts.everyone(), aggregator=fe.aggregation.cka_graph())
    >>> state, info = engine.run(engine.init({"w": jnp.ones(3)}), rounds=2)

    Reference: Che et al. (2024), "FedMVP", arXiv:2406.11048. There the server has the models and computes the matrices.
    """
    last = algorithm.stages[-1]

    def finish(shared: Any, local: Any, info: ClientInfo) -> tuple[dict[str, Channel], Tree, jax.Array]:
        channels, state, weight = last.finish(shared, local, info)
        seen = gram(jnp.asarray(represent(last.trained(shared, local), probe)))
        return channels | {REPRESENTATIONS: Channel(seen, jnp.ones((), float_dtype()), private=True)}, state, weight

    return algorithm._replace(stages=(*algorithm.stages[:-1], last._replace(finish=finish)))


def gram(representations: jax.Array) -> jax.Array:
    """The centred Gram matrix [n, n] of rows of norm 1, itself of norm 1; zeros where all rows are alike.

    Args:
        representations: [n, ...].

    Raises:
        ArgumentError: fewer than two rows.
    """
    if representations.ndim < 2 or len(representations) < 2:
        raise ArgumentError("represent", representations.shape, "return [n, ...] for a probe of n rows, two or more")
    rows = _unit(representations.reshape(len(representations), -1).astype(float_dtype()), axis=1)
    centred = rows - jnp.mean(rows, axis=0, keepdims=True)
    return _unit(centred @ centred.T, axis=None)


def _unit(values: jax.Array, axis: int | None) -> jax.Array:
    """Of norm 1; zeros stay zeros, and what is not finite stays so, which the engine rejects."""
    square = jnp.sum(values**2, axis=axis, keepdims=True)
    none = square == 0
    return jnp.where(none, jnp.zeros_like(values), values / jnp.sqrt(jnp.where(none, jnp.ones_like(square), square)))
