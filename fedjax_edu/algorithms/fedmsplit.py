"""FedMSplit: every client starts from its own mixture of all clients' modules, those most that are like its own."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from fedjax_edu.algorithms import local_sgd
from fedjax_edu.algorithms.fedavg import fedavg
from fedjax_edu.algorithms.hyperparameters import Hyperparameters
from fedjax_edu.core import trees
from fedjax_edu.core.algorithm import Aggregates, Algorithm, Channel, ClientInfo, Meta
from fedjax_edu.core.errors import check_number
from fedjax_edu.core.local import LocalTraining
from fedjax_edu.core.modules import Modules, Params
from fedjax_edu.core.stack import Stack
from fedjax_edu.core.trees import Tree

MODELS, HEARD = "models", "heard"


class FedMSplitState(NamedTuple):
    """What the server knows of every client.

    Args:
        params: the mean of the models that it has heard of; what newcomers predict with.
        client_optimizer: hyper-parameters of the client optimiser.
        own: every client's shared modules as it last sent them, leaves [clients, ...].
        mixed: what each client starts from next, leaves [clients, ...].
        heard: of whom it has heard by module, bool [clients, modules].
        sharpness: of the graph.
        modules: of the model.
    """

    params: Params
    client_optimizer: Hyperparameters
    own: Tree
    mixed: Tree
    heard: jax.Array
    sharpness: jax.Array
    modules: Modules


class FedMSplitClient(NamedTuple):
    """What a client keeps: its personal modules and its row in the server's tables."""

    personal: Tree
    position: jax.Array


def fedmsplit(
    loss: Callable[..., Any], *, sharpness: float, client_optimizer: optax.GradientTransformation, local: LocalTraining
) -> Algorithm:
    r"""Averages over a graph of clients for each module, whose edges are similarities of the clients' own values of it.

    With :math:`\theta_{k,j}` the module j as client k last sent it,

    .. math:: A^j_{kl} = \mathrm{softmax}_l \big( \beta \cos(\theta_{k,j}, \theta_{l,j}) \big), \qquad
        w_{k,j} = \textstyle\sum_l A^j_{kl} \theta_{l,j}

    over the clients l that hold the module and have taken part; :math:`w_k` is what client k starts its next round from, and predicts with.
    One that has not been heard of, and a newcomer, have the plain mean. :math:`\beta = 0` is FedAvg with uniform weights over all models
    ever sent.

    The server keeps two models for each client: for tens or hundreds of institutions. It reads single updates, so rules that look for liars
    among several do not fit in front of it.

    Args:
        loss: as for :func:`fedjax_edu.algorithms.fedavg`.
        sharpness: :math:`\beta`, 0 or more.
        client_optimizer: optax optimiser of the local steps; it starts afresh every round.
        local: local work of a round.

    Returns:
        An :class:`~fedjax_edu.core.algorithm.Algorithm`.

    Raises:
        ArgumentError: as for FedAvg; a negative `sharpness`.

    >>> algorithm = fedmsplit(lambda params, batch, key: (params - batch) ** 2, sharpness=5.0, client_optimizer=optax.sgd(0.1),
    ...                       local=LocalTraining(epochs=1))

    Reference: Chen & Zhang (2022), "FedMSplit: correlation-adaptive federated multi-task learning across multimodal split networks",
    doi:10.1145/3534678.3539384. We differ: cosines as similarities, and no pull towards the mixture within a round.
    """
    sharpness = check_number("sharpness", sharpness, at_least=0)
    base = fedavg(loss, client_optimizer=client_optimizer, local=local, weighting="uniform")
    (training,) = base.stages

    def init_server(params: Params, meta: Meta) -> FedMSplitState:
        count = len(meta.sizes)
        table = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (count, *leaf.shape)), params.shared)
        return FedMSplitState(
            params=params,
            client_optimizer=base.init_server(params, meta).client_optimizer,
            own=table,
            mixed=table,
            heard=jnp.zeros((count, len(meta.modules.names)), bool),
            sharpness=jnp.asarray(sharpness, trees.float_dtype()),
            modules=meta.modules,
        )

    def of_client(state: FedMSplitState, position: ArrayLike) -> FedMSplitState:
        return state._replace(params=state.params._replace(shared=trees.index(state.mixed, jnp.asarray(position))))

    def start(state: FedMSplitState, client: FedMSplitClient, info: ClientInfo, key: jax.Array) -> local_sgd.Local:
        return training.start(of_client(state, info.position), client.personal, info, key)

    def finish(state: FedMSplitState, own: local_sgd.Local, info: ClientInfo) -> tuple[dict[str, Channel], FedMSplitClient, jax.Array]:
        channels, personal, weight = training.finish(of_client(state, info.position), own, info)
        count, one = len(state.heard), jnp.ones((), trees.float_dtype())

        def placed(leaf: jax.Array) -> jax.Array:
            return jnp.zeros((count, *leaf.shape), leaf.dtype).at[info.position].set(leaf)

        models = Channel({MODELS: jax.tree.map(placed, channels["update"].value)}, one, private=True, entries=count)
        heard = Channel({HEARD: placed(info.held.astype(jnp.int32))}, one, private=False, entries=0)
        return {MODELS: models, HEARD: heard}, FedMSplitClient(personal, info.position), weight

    def apply(state: FedMSplitState, aggregates: Aggregates, key: jax.Array) -> tuple[FedMSplitState, dict[str, jax.Array]]:
        now = aggregates[HEARD].total[HEARD] > 0
        owners = state.modules.owners(state.params.shared)

        def sent(mixed: jax.Array, change: jax.Array, old: jax.Array, owner: int) -> jax.Array:
            there = now[:, owner].reshape(-1, *(1,) * (old.ndim - 1))
            return jnp.where(there, mixed + change.astype(mixed.dtype), old)

        own = jax.tree.map(sent, state.mixed, aggregates[MODELS].total[MODELS], state.own, owners)
        heard = state.heard | now
        models = Stack(own, heard.astype(trees.float_dtype()), jnp.arange(len(heard), dtype=jnp.uint32), state.modules)
        known = jnp.any(heard, axis=0)

        def choose(new: jax.Array, old: jax.Array, owner: int) -> jax.Array:
            return jnp.where(known[owner], new.astype(old.dtype), old)

        means = jax.tree.map(choose, models.sum().mean(), state.params.shared, owners)
        mixed = jax.tree.map(choose, models.replace(partial(_mix, state.sharpness)).values, state.mixed, owners)
        norm = trees.global_norm(jax.tree.map(jnp.subtract, means, state.params.shared))
        after = state._replace(params=state.params._replace(shared=means), own=own, mixed=mixed, heard=heard)
        return after, {"update_norm": norm}

    def model(state: FedMSplitState, client: FedMSplitClient | None) -> Tree:
        if client is None:
            return state.params.merge()
        return of_client(state, client.position).params._replace(personal=client.personal).merge()

    return base._replace(
        init_server=init_server,
        init_client=lambda params, info: FedMSplitClient(params.personal, info.position),
        stages=(training._replace(start=start, finish=finish, sent=lambda state: state.params.shared),),
        apply=apply,
        model=model,
    )


def _mix(sharpness: jax.Array, models: jax.Array, weights: jax.Array) -> jax.Array:
    """Mixtures [clients, d] of one module's values over the clients of positive weight; who has none, and zeros, has the plain mean."""
    square = jnp.sum(models**2, axis=1, keepdims=True)
    units = models / jnp.sqrt(jnp.where(square > 0, square, jnp.ones_like(square)))
    scores = sharpness.astype(models.dtype) * (units @ units.T)
    return jax.nn.softmax(jnp.where(weights[None] > 0, scores, -jnp.inf), axis=1) @ models
