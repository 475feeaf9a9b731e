"""Hierarchical averaging: groups of clients average among themselves, and all groups now and then."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from fedjax_edu.algorithms import arguments, local_sgd
from fedjax_edu.algorithms.fedavg import fedavg
from fedjax_edu.algorithms.hyperparameters import Hyperparameters
from fedjax_edu.core import trees
from fedjax_edu.core.algorithm import Aggregates, Algorithm, Channel, ClientInfo, Meta
from fedjax_edu.core.errors import ArgumentError, check_integer
from fedjax_edu.core.local import LocalTraining
from fedjax_edu.core.modules import Modules, Params
from fedjax_edu.core.trees import Tree

MOST_GROUPS = 256


class HierarchyState(NamedTuple):
    """The groups' models.

    Args:
        params: their mean, as it was when they last met; what clients of no group predict with.
        client_optimizer: hyper-parameters of the client optimiser.
        groups: shared parameters of each group, leaves [groups, ...].
        weight: [groups, modules], weight of the clients that trained a group's model since.
        rounds: int32, since groups last met.
        modules: of the model.
    """

    params: Params
    client_optimizer: Hyperparameters
    groups: Tree
    weight: jax.Array
    rounds: jax.Array
    modules: Modules


class HierarchyClient(NamedTuple):
    """What a client keeps: its personal modules and the number of its group."""

    personal: Tree
    group: jax.Array


def hierarchy(
    loss: Callable[..., Any],
    *,
    groups: str,
    every: int,
    client_optimizer: optax.GradientTransformation,
    local: LocalTraining,
    weighting: str = "examples",
) -> Algorithm:
    r"""Federated averaging in two levels, districts of schools for instance.

    A client starts from the model :math:`w_g` of its group, and each group averages its own clients: :math:`w_g \leftarrow w_g +
    \sum_k p_k \Delta_k / \sum_k p_k`. Every few rounds all groups take their mean, weighted by the :math:`p_k` that each has seen since
    they last met: :math:`w_g \leftarrow \sum_h P_h w_h / \sum_h P_h`. Clients evaluate and predict with their group's model.

    Args:
        loss: as for :func:`fedjax_edu.algorithms.fedavg`.
        groups: the client attribute that numbers their groups from 0.
        every: rounds from one meeting to the next; 1 is FedAvg.
        client_optimizer: optax optimiser of the local steps; it starts afresh every round.
        local: local work of a round.
        weighting: "examples" or "uniform".

    Returns:
        An :class:`~fedjax_edu.core.algorithm.Algorithm`; it reports ``apart``, the root mean square distance of the groups' models from
        their mean, after the round.

    Raises:
        ArgumentError: as for FedAvg; fewer than one round; when the engine begins: clients without such an attribute, or more than 256
            groups, each of which is a model in memory.

    >>> algorithm = hierarchy(lambda params, batch, key: (params - batch) ** 2, groups="district", every=5,
    ...                       client_optimizer=optax.sgd(0.1), local=LocalTraining(epochs=1))

    Reference: Liu et al. (2020), "Client-edge-cloud hierarchical federated learning", arXiv:1905.06641.
    """
    every = check_integer("every", every)
    base = fedavg(loss, client_optimizer=client_optimizer, local=local, weighting=weighting)
    (training,) = base.stages

    def init_server(params: Params, meta: Meta) -> HierarchyState:
        count = int(arguments.check_attribute("groups", groups, meta).max()) + 1
        if count > MOST_GROUPS:
            raise ArgumentError("groups", f"{count} of them", f"number the groups from 0 without gaps, {MOST_GROUPS} at most")
        stacked = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (count, *leaf.shape)), params.shared)
        weight = jnp.zeros((count, len(meta.modules.names)), trees.float_dtype())
        begun = base.init_server(params, meta)
        return HierarchyState(params, begun.client_optimizer, stacked, weight, jnp.int32(0), meta.modules)

    def init_client(params: Params, info: ClientInfo) -> HierarchyClient:
        return HierarchyClient(params.personal, info.attributes[groups].astype(jnp.int32))

    def of_group(state: HierarchyState, group: jax.Array) -> HierarchyState:
        return state._replace(params=state.params._replace(shared=trees.index(state.groups, group)))

    def start(state: HierarchyState, client: HierarchyClient, info: ClientInfo, key: jax.Array) -> local_sgd.Local:
        return training.start(of_group(state, client.group), client.personal, info, key)

    def finish(state: HierarchyState, own: local_sgd.Local, info: ClientInfo) -> tuple[dict[str, Channel], HierarchyClient, jax.Array]:
        group = info.attributes[groups].astype(jnp.int32)
        channels, personal, weight = training.finish(of_group(state, group), own, info)
        update = channels["update"]
        sent = {_channel(one): update._replace(weight=jnp.where(group == one, weight, 0)) for one in range(len(state.weight))}
        return sent, HierarchyClient(personal, group), weight

    def apply(state: HierarchyState, aggregates: Aggregates, key: jax.Array) -> tuple[HierarchyState, dict[str, jax.Array]]:
        own = [aggregates[_channel(group)] for group in range(len(state.weight))]
        means = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(update.mean() for update in own))
        moved = jax.tree.map(lambda leaf, mean: leaf + mean.astype(leaf.dtype), state.groups, means)
        weight = state.weight + jnp.stack([update.weight for update in own])
        owners = state.modules.owners(state.params.shared)
        mean = jax.tree.map(lambda leaf, old, owner: _mean(leaf, weight[:, owner], old), moved, state.params.shared, owners)
        met = state.rounds + 1 >= every
        everywhere = jax.tree.map(lambda one, all_: jnp.broadcast_to(one, all_.shape), mean, moved)
        after = state._replace(
            params=state.params._replace(shared=trees.select(met, mean, state.params.shared)),
            groups=trees.select(met, everywhere, moved),
            weight=jnp.where(met, 0, weight),
            rounds=jnp.where(met, 0, state.rounds + 1),
        )
        distance = jax.tree.map(lambda all_: all_ - jnp.mean(all_, axis=0, keepdims=True), after.groups)
        norms = {"update_norm": trees.global_norm(means), "apart": trees.global_norm(distance) / len(weight) ** 0.5}
        return after, norms

    def model(state: HierarchyState, client: HierarchyClient | None) -> Tree:
        if client is None:
            return state.params.merge()
        return of_group(state, client.group).params._replace(personal=client.personal).merge()

    stage = training._replace(start=start, finish=finish, sent=lambda state: state.params.shared)
    return base._replace(init_server=init_server, init_client=init_client, stages=(stage,), apply=apply, model=model)


def _mean(models: jax.Array, weight: jax.Array, old: jax.Array) -> jax.Array:
    """The mean of a leaf [groups, ...] by weights [groups]; `old` where there are none."""
    total = jnp.sum(weight)
    share = (weight / jnp.where(total > 0, total, 1)).astype(models.dtype)
    return jnp.where(total > 0, jnp.tensordot(share, models, axes=1), old)


def _channel(group: int) -> str:
    return f"group{group}"
