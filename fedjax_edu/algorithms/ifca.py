"""IFCA: as many models as there are clusters of clients."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from fedjax_edu.algorithms import local_sgd
from fedjax_edu.algorithms.fedavg import fedavg
from fedjax_edu.algorithms.hyperparameters import Hyperparameters
from fedjax_edu.algorithms.server import ServerState
from fedjax_edu.core import trees
from fedjax_edu.core.algorithm import Aggregates, Algorithm, Channel, ClientInfo, Meta, Phase, Report, Stage
from fedjax_edu.core.errors import check_integer, check_number
from fedjax_edu.core.keys import check_seed, fold
from fedjax_edu.core.local import Batch, FullPass, LocalTraining
from fedjax_edu.core.modules import Params, join
from fedjax_edu.core.trees import Tree


class IfcaState(NamedTuple):
    """One state of FedAvg for each cluster, leaves [clusters, ...]; `params` are those of the largest cluster.

    Args:
        params: of the cluster whose clients weighed most so far; what clients never seen predict with.
        clusters: stacked states.
        weight: [clusters], sum of the weights of the clients that chose each.
    """

    params: Params
    clusters: ServerState
    weight: jax.Array

    @property
    def client_optimizer(self) -> Hyperparameters:
        """Hyper-parameters of the client optimiser, which all clusters share."""
        return trees.index(self.clusters.client_optimizer, 0)


class IfcaClient(NamedTuple):
    """What a client keeps: its personal modules and its last cluster, -1 before the first."""

    personal: Tree
    cluster: jax.Array


class Choosing(NamedTuple):
    """A client's training, its losses under each cluster's model [clusters], and the cluster that it takes."""

    training: local_sgd.Local
    losses: jax.Array
    cluster: jax.Array


def ifca(
    loss: Callable[..., Any],
    *,
    clusters: int,
    spread: float = 0.1,
    seed: int = 0,
    client_optimizer: optax.GradientTransformation,
    server_optimizer: optax.GradientTransformation | None = None,
    local: LocalTraining,
    weighting: str = "examples",
) -> Algorithm:
    r"""Iterative federated clustering (also HypCluster).

    The server holds :math:`\theta_1 \dots \theta_J`. A client takes :math:`j = \arg\min_j f_k(\theta_j)` over all of its
    examples, the lowest j on ties, trains :math:`\theta_j` and sends its update; each cluster averages its own clients, and one that
    nobody chose does not change. Clients evaluate and predict with the cluster of their last round; ``engine.finalise`` lets all
    choose anew. Clients never seen get the largest cluster.

    Args:
        loss: as for :func:`fedjax_edu.algorithms.fedavg`.
        clusters: J; 1 is FedAvg.
        spread: standard deviation of the other clusters' starting values around those of the first, which are the ones given.
        seed: of the starting values.
        client_optimizer: optax optimiser of the local steps.
        server_optimizer: optax optimiser of the server, with a state for each cluster; None is ``optax.sgd(1.0)``.
        local: local work of a round.
        weighting: "examples" or "uniform".

    Returns:
        An :class:`~fedjax_edu.core.algorithm.Algorithm`; it reports ``largest``, the largest cluster's share of the round's weight.

    Raises:
        ArgumentError: as for FedAvg; fewer than one cluster; a negative spread.

    >>> algorithm = ifca(lambda params, batch, key: (params - batch) ** 2, clusters=3, client_optimizer=optax.sgd(0.1),
    ...                  local=LocalTraining(epochs=1))

    Reference: Ghosh et al. (2020), "An efficient framework for clustered federated learning", arXiv:2006.04088, with averaging of
    models; Mansour et al. (2020), arXiv:2002.10619.
    """
    clusters, seed = check_integer("clusters", clusters), check_seed(seed)
    spread = check_number("spread", spread, at_least=0)
    base = fedavg(loss, client_optimizer=client_optimizer, server_optimizer=server_optimizer, local=local, weighting=weighting)
    (training,) = base.stages

    def of_cluster(state: IfcaState, cluster: jax.Array) -> Params:
        return state.params._replace(shared=trees.index(state.clusters.params.shared, cluster))

    def init_server(params: Params, meta: Meta) -> IfcaState:
        def begin(cluster: int) -> ServerState:
            leaves, form = jax.tree.flatten(params.shared)
            keys = [fold(jax.random.key(seed), cluster, number) for number in range(len(leaves))]
            size = spread if cluster else 0.0
            moved = [leaf + size * jax.random.normal(key, leaf.shape, leaf.dtype) for key, leaf in zip(keys, leaves, strict=True)]
            return base.init_server(params._replace(shared=jax.tree.unflatten(form, moved)), meta)

        states = [begin(cluster) for cluster in range(clusters)]
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
        return IfcaState(params, stacked, jnp.zeros(clusters, trees.float_dtype()))

    def start(state: IfcaState, client: IfcaClient, info: ClientInfo, key: jax.Array) -> Choosing:
        begun = training.start(state, client.personal, info, key)
        return Choosing(begun, jnp.zeros(clusters, trees.float_dtype()), client.cluster)

    def measure(state: IfcaState, own: Choosing, batch: Batch, key: jax.Array) -> tuple[Choosing, None]:
        personal = local_sgd.personal(state.params, own.training)

        def total(shared: Tree) -> jax.Array:
            mean, _ = local_sgd.objective(base.loss, join(shared, personal), state.params.frozen, batch, key)
            return mean.astype(trees.float_dtype()) * jnp.sum(batch.valid, dtype=trees.float_dtype())

        return own._replace(losses=own.losses + jax.vmap(total)(state.clusters.params.shared)), None

    def best(own: Choosing) -> jax.Array:
        return jnp.argmin(jnp.where(jnp.isnan(own.losses), jnp.inf, own.losses)).astype(jnp.int32)

    def choose(state: IfcaState, own: Choosing, info: ClientInfo) -> Choosing:
        cluster = best(own)
        params = of_cluster(state, cluster)
        begun = local_sgd.start(client_optimizer, state.client_optimizer, params.shared, local_sgd.personal(params, own.training))
        return Choosing(begun, own.losses, cluster)

    def step(state: IfcaState, own: Choosing, batch: Batch, key: jax.Array) -> tuple[Choosing, Report]:
        trained, report = training.phases[0].step(state, own.training, batch, key)
        return own._replace(training=trained), report

    def finish(state: IfcaState, own: Choosing, info: ClientInfo) -> tuple[dict[str, Channel], IfcaClient, jax.Array]:
        chosen = state._replace(params=of_cluster(state, own.cluster))
        channels, personal, weight = training.finish(chosen, own.training, info)
        update = channels["update"]

        def sent(cluster: int) -> Channel:
            return update._replace(weight=jnp.where(own.cluster == cluster, update.weight, jnp.zeros_like(update.weight)))

        return {_channel(cluster): sent(cluster) for cluster in range(clusters)}, IfcaClient(personal, own.cluster), weight

    def apply(state: IfcaState, aggregates: Aggregates, key: jax.Array) -> tuple[IfcaState, dict[str, jax.Array]]:
        moved, norms = [], []
        for cluster in range(clusters):
            one, observed = base.apply(trees.index(state.clusters, cluster), {"update": aggregates[_channel(cluster)]}, key)
            moved.append(one)
            norms.append(observed["update_norm"])
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *moved)
        share = jnp.stack([jnp.max(aggregates[_channel(cluster)].weight) for cluster in range(clusters)])
        weight = state.weight + share
        after = state._replace(clusters=stacked, weight=weight)
        largest = jnp.max(share) / jnp.maximum(jnp.sum(share), jnp.finfo(share.dtype).tiny)
        norm = jnp.sqrt(jnp.sum(jnp.square(jnp.stack(norms))))
        return after._replace(params=of_cluster(after, jnp.argmax(weight))), {"update_norm": norm, "largest": largest}

    def model(state: IfcaState, client: IfcaClient | None) -> Tree:
        if client is None:
            return state.params.merge()
        own = of_cluster(state, jnp.maximum(client.cluster, 0))
        shared = trees.select(client.cluster >= 0, own.shared, state.params.shared)
        return state.params._replace(shared=shared, personal=client.personal).merge()

    choice = Phase(FullPass(batch_size=local.batch_size), lambda state, own, info: own, measure)
    stage = Stage(
        broadcast=lambda state, aggregates: state,
        start=start,
        phases=(choice, Phase(local, choose, step)),
        finish=finish,
        sent=lambda state: state.clusters.params.shared,
        trained=lambda state, own: local_sgd.trained(state.params, own.training),
    )

    def settle(state: IfcaState, own: Choosing, info: ClientInfo) -> tuple[dict[str, Channel], IfcaClient, jax.Array]:
        return {}, IfcaClient(local_sgd.personal(state.params, own.training), best(own)), jnp.ones(())

    return base._replace(
        init_server=init_server,
        init_client=lambda params, info: IfcaClient(params.personal, jnp.int32(-1)),
        stages=(stage,),
        apply=apply,
        model=model,
        final=(stage._replace(phases=(choice,), finish=settle),),
    )


def _channel(cluster: int) -> str:
    return f"cluster{cluster}"
