"""HeteroFL: clients of weak hardware train the leading part of every layer."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from fedjax_edu.algorithms import arguments, local_sgd
from fedjax_edu.algorithms.fedavg import fedavg
from fedjax_edu.algorithms.server import ServerState
from fedjax_edu.core import trees
from fedjax_edu.core.algorithm import Aggregates, Algorithm, Channel, ClientInfo, Meta, Phase, Report
from fedjax_edu.core.errors import ArgumentError, shown
from fedjax_edu.core.local import Batch, LocalTraining
from fedjax_edu.core.modules import Params
from fedjax_edu.core.trees import Tree


class HeteroflClient(NamedTuple):
    """What a client keeps: its personal modules and the share of every cut axis that it trains."""

    personal: Tree
    width: jax.Array


class Narrow(NamedTuple):
    """A client's training and its width."""

    training: local_sgd.Local
    width: jax.Array


def heterofl(
    loss: Callable[..., Any],
    *,
    widths: str,
    axes: Mapping[str, Sequence[int]],
    client_optimizer: optax.GradientTransformation,
    local: LocalTraining,
    weighting: str = "examples",
) -> Algorithm:
    r"""FedAvg of models of several widths, each the leading part of the next wider one.

    A client of width r trains the first :math:`\lceil r d \rceil` places of every axis of size d that is cut; elsewhere its parameters
    are zeros and stay so. Each number moves by the mean of the clients that have it,
    :math:`w_i \leftarrow w_i + \sum_k p_k m_{ki} \Delta_{ki} / \sum_k p_k m_{ki}`, and stays where nobody does. Clients evaluate and
    predict with their own part.

    Args:
        loss: as for :func:`fedjax_edu.algorithms.fedavg`. Hidden units without parameters should say nothing: layers that normalise over
            them have to leave them out.
        widths: the client attribute with r, above 0 and 1 at most.
        axes: by leaf (``"hidden.kernel"``), the axes that are cut; leaves that are not named are whole.
        client_optimizer: optax optimiser of the local steps; it starts afresh every round.
        local: local work of a round.
        weighting: "examples" or "uniform".

    Returns:
        An :class:`~fedjax_edu.core.algorithm.Algorithm`; compute and bytes are those of the whole width: one program serves all.

    Raises:
        ArgumentError: as for FedAvg; when the engine begins: clients without such an attribute, widths outside (0, 1], leaves or axes that
            there are not.

    >>> algorithm = heterofl(lambda params, batch, key: batch, widths="width", axes={"hidden.kernel": [1], "out.kernel": [0]},
    ...                      client_optimizer=optax.sgd(0.1), local=LocalTraining(epochs=1))

    Reference: Diao et al. (2021), "HeteroFL: computation and communication efficient federated learning for heterogeneous clients",
    arXiv:2010.01264. We differ: no scaling of activations in training; a loss may do it.
    """
    base = fedavg(loss, client_optimizer=client_optimizer, local=local, weighting=weighting)
    (training,) = base.stages

    def init_server(params: Params, meta: Meta) -> ServerState:
        _check(widths, axes, params, meta)
        return base.init_server(params, meta)

    def init_client(params: Params, info: ClientInfo) -> HeteroflClient:
        return HeteroflClient(params.personal, info.attributes[widths].astype(trees.float_dtype()))

    def cut(tree: Tree, width: jax.Array) -> Tree:
        def inside(path: Any, leaf: jax.Array) -> jax.Array:
            kept = _inside(leaf.shape, axes.get(trees.path_name(path), ()), width)
            return jnp.where(kept, leaf, jnp.zeros_like(leaf))

        return jax.tree_util.tree_map_with_path(inside, tree)

    def narrow(state: ServerState, width: jax.Array) -> ServerState:
        return state._replace(params=state.params._replace(shared=cut(state.params.shared, width)))

    def start(state: ServerState, client: HeteroflClient, info: ClientInfo, key: jax.Array) -> Narrow:
        return Narrow(training.start(narrow(state, client.width), client.personal, info, key), client.width)

    def step(state: ServerState, own: Narrow, batch: Batch, key: jax.Array) -> tuple[Narrow, Report]:
        slope, report = local_sgd.gradient(base.loss, own.training.params, state.params.frozen, batch, key)
        return own._replace(training=local_sgd.descend(client_optimizer, own.training, cut(slope, own.width))), report

    def finish(state: ServerState, own: Narrow, info: ClientInfo) -> tuple[dict[str, Channel], HeteroflClient, jax.Array]:
        channels, personal, weight = training.finish(narrow(state, own.width), own.training, info)
        there = cut(jax.tree.map(jnp.ones_like, channels["update"].value), own.width)
        covered = Channel(there, weight, private=False, entries=0)  # who has which width is known without sending it
        return channels | {"covered": covered}, HeteroflClient(personal, own.width), weight

    def apply(state: ServerState, aggregates: Aggregates, key: jax.Array) -> tuple[ServerState, dict[str, jax.Array]]:
        def move(leaf: jax.Array, total: jax.Array, weight: jax.Array) -> jax.Array:
            return jnp.where(weight > 0, leaf + (total / jnp.where(weight > 0, weight, 1)).astype(leaf.dtype), leaf)

        old = state.params.shared
        shared = jax.tree.map(move, old, aggregates["update"].total, aggregates["covered"].total)
        norm = trees.global_norm(jax.tree.map(jnp.subtract, shared, old))
        return state._replace(params=state.params._replace(shared=shared)), {"update_norm": norm}

    def model(state: ServerState, client: HeteroflClient | None) -> Tree:
        if client is None:
            return state.params.merge()
        return narrow(state, client.width).params._replace(personal=client.personal).merge()

    stage = training._replace(
        start=start,
        phases=(Phase(local, lambda state, own, info: own, step),),
        finish=finish,
        trained=lambda state, own: training.trained(state, own.training),
    )
    return base._replace(init_server=init_server, init_client=init_client, stages=(stage,), apply=apply, model=model)


def _inside(shape: tuple[int, ...], cut: Sequence[int], width: jax.Array) -> jax.Array:
    """Which numbers of a leaf a client of this width has; broadcasts to the leaf."""
    kept = jnp.ones((1,) * len(shape), bool)
    for axis in cut:
        ahead = jnp.arange(shape[axis], dtype=width.dtype) < jnp.ceil(width * shape[axis] - 1e-4)  # 1 / 3 of 9 are 3, whatever the rounding
        kept = kept & jnp.expand_dims(ahead, [other for other in range(len(shape)) if other != axis % len(shape)])
    return kept


def _check(widths: str, axes: Mapping[str, Sequence[int]], params: Params, meta: Meta) -> None:
    values = arguments.find_attribute("widths", widths, meta)
    if values.ndim != 1 or values.dtype.kind not in "iuf" or not np.all((values > 0) & (values <= 1)):
        raise ArgumentError("widths", f"{widths}: {shown(values)}", "use one number a client, above 0 and 1 at most")
    leaves = dict(trees.named_leaves(params.shared))
    for name, cut in axes.items():
        if name not in leaves:
            raise ArgumentError("axes", name, f"name shared leaves: {', '.join(leaves)}")
        if not all(-leaves[name].ndim <= axis < leaves[name].ndim for axis in cut):
            raise ArgumentError(f"axes[{name!r}]", cut, f"use axes of {shown(leaves[name])}")
