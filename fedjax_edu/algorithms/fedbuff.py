"""FedBuff: asynchronous training with a buffer of updates."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from fedjax_edu.algorithms import local_sgd
from fedjax_edu.algorithms.fedavg import fedavg
from fedjax_edu.algorithms.hyperparameters import Hyperparameters
from fedjax_edu.core import trees
from fedjax_edu.core.algorithm import Aggregates, Algorithm, Channel, ClientInfo, Meta
from fedjax_edu.core.errors import ArgumentError, check_integer
from fedjax_edu.core.local import LocalTraining
from fedjax_edu.core.modules import Params
from fedjax_edu.core.trees import Tree


class FedBuffState(NamedTuple):
    """FedAvg's state and the shared modules of the last versions, newest first, leaves [versions, ...]."""

    params: Params
    optimizer: optax.OptState
    client_optimizer: Hyperparameters
    history: Tree


def polynomial(staleness: jax.Array) -> jax.Array:
    r""":math:`1 / \sqrt{1 + t}`, FedBuff's weight of an update that is t versions old.

    >>> float(polynomial(jnp.float32(3.0)))
    0.5
    """
    return 1 / jnp.sqrt(1 + staleness)


def fedbuff(
    loss: Callable[..., Any],
    *,
    client_optimizer: optax.GradientTransformation,
    server_optimizer: optax.GradientTransformation | None = None,
    local: LocalTraining,
    weighting: str = "uniform",
    max_staleness: int = 20,
    staleness_weight: Callable[[jax.Array], jax.Array] = polynomial,
) -> Algorithm:
    r"""Buffered asynchronous aggregation on the virtual clock of :func:`fedjax_edu.cohorts.asynchronous`.

    A round is one emptying of the buffer. Each of its clients started from the version :math:`w_{v-t_k}` that was newest when
    it began; the server moves by :math:`\sum_k p_k s(t_k) \Delta_k / \sum_k p_k`, so that stale updates shrink the step
    rather than give way to fresh ones. With any synchronous cohort every :math:`t_k` is 0, and this is FedAvg.

    Args:
        loss: as for :func:`fedjax_edu.algorithms.fedavg`.
        client_optimizer: optax optimiser of the local steps.
        server_optimizer: optax optimiser of the server; None is ``optax.sgd(1.0)``.
        local: local work of a client.
        weighting: :math:`p_k` is 1 ("uniform", the paper's) or the number of examples ("examples").
        max_staleness: versions that the server keeps; an update that is older counts for nothing.
        staleness_weight: s, from t (a float scalar) to a scalar; 1 at 0.

    Returns:
        An :class:`~fedjax_edu.core.algorithm.Algorithm`.

    Raises:
        ArgumentError: as for FedAvg; a negative `max_staleness`; a weight that is not a function.

    >>> algorithm = fedbuff(lambda params, batch, key: (params - batch) ** 2, client_optimizer=optax.sgd(0.1),
    ...                     local=LocalTraining(epochs=1))

    Reference: Nguyen et al. (2022), "Federated learning with buffered asynchronous aggregation", arXiv:2106.06639.
    """
    max_staleness = check_integer("max_staleness", max_staleness, at_least=0)
    if not callable(staleness_weight):
        raise ArgumentError("staleness_weight", staleness_weight, "pass a function from staleness to a weight")
    base = fedavg(loss, client_optimizer=client_optimizer, server_optimizer=server_optimizer, local=local, weighting=weighting)
    (training,) = base.stages

    def weigh(staleness: jax.Array) -> jax.Array:
        share = jnp.asarray(staleness_weight(staleness), trees.float_dtype())
        if share.shape:
            raise ArgumentError("staleness_weight", f"a weight of shape {share.shape}", "return a scalar")
        return share

    jax.eval_shape(weigh, jax.ShapeDtypeStruct((), trees.float_dtype()))

    def version(state: FedBuffState, info: ClientInfo) -> FedBuffState:
        """The state as it was when the client began."""
        shared = trees.index(state.history, jnp.minimum(info.staleness, max_staleness))
        return state._replace(params=state.params._replace(shared=shared))

    def init_server(params: Params, meta: Meta) -> FedBuffState:
        history = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (max_staleness + 1, *leaf.shape)), params.shared)
        return FedBuffState(**base.init_server(params, meta)._asdict(), history=history)

    def start(state: FedBuffState, personal: Tree, info: ClientInfo, key: jax.Array) -> local_sgd.Local:
        return training.start(version(state, info), personal, info, key)

    def finish(state: FedBuffState, own: local_sgd.Local, info: ClientInfo) -> tuple[dict[str, Channel], Tree, jax.Array]:
        channels, personal, weight = training.finish(version(state, info), own, info)
        update = channels["update"]
        share = weigh(info.staleness.astype(trees.float_dtype()))
        scaled = jax.tree.map(lambda leaf: leaf * share.astype(leaf.dtype), update.value)
        counted = jnp.where(info.staleness <= max_staleness, update.weight, jnp.zeros_like(update.weight))
        return {"update": update._replace(value=scaled, weight=counted)}, personal, weight

    def apply(state: FedBuffState, aggregates: Aggregates, key: jax.Array) -> tuple[FedBuffState, dict[str, jax.Array]]:
        state, observed = base.apply(state, aggregates, key)
        history = jax.tree.map(lambda new, old: jnp.concatenate([new[None], old[:-1]]), state.params.shared, state.history)
        return state._replace(history=history), observed

    buffered = training._replace(start=start, finish=finish)
    return base._replace(init_server=init_server, stages=(buffered,), apply=apply, stale=True)
