"""Experts that count the tokens that clients sent to them."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fedjax_edu.core.algorithm import Aggregate, Aggregates, Algorithm, Channel, ClientInfo, Phase, Report
from fedjax_edu.core.errors import ArgumentError
from fedjax_edu.core.local import Batch
from fedjax_edu.core.trees import float_dtype, named_leaves, path_name

ROUTED = "routed"


class Counted(NamedTuple):
    """A client's training, the tokens that each expert of each layer had of it, and the rows that it read."""

    training: Any
    tokens: dict[str, jax.Array]
    rows: jax.Array


def with_routed_tokens(algorithm: Algorithm, experts: Mapping[str, str]) -> Algorithm:
    r"""An algorithm that weighs clients in each expert by how many of their tokens were sent there.

    .. math:: \Delta_e = \sum_k w_k t_{ke} \Delta_{ke} \Big/ \sum_k w_k t_{ke}

    with the algorithm's weights w and :math:`t_{ke}` the tokens that an example of client k sends to expert e, on average over its local
    steps. Weighted by examples, :math:`w_k t_{ke}` is how many tokens of client k the expert has seen. An expert that has seen none of
    anybody stays. All other leaves are averaged as before.

    Args:
        algorithm: whose clients send their change as the channel ``update``; training stays as it is.
        experts: by leaf with an axis of experts in front, the layer whose metrics ``<layer>.load.<expert>`` count its tokens;
            :func:`fedjax_edu.models.expert_leaves` finds both.

    Returns:
        An :class:`~fedjax_edu.core.algorithm.Algorithm`; clients also send t, which is private.

    Raises:
        ArgumentError: an algorithm of several stages or without an update; in a round: leaves or layers that there are not.

    >>> import optax
    >>> from fedjax_edu.algorithms import fedavg
    >>> from fedjax_edu.core.local import LocalTraining
    >>> plain = fedavg(lambda params, batch, key: batch, client_optimizer=optax.sgd(0.1), local=LocalTraining(epochs=1))
    >>> algorithm = with_routed_tokens(plain, {"fusion.transformer.layers.0.feed_forward.into": "fusion.layers.0"})
    """
    if len(algorithm.stages) != 1:
        raise ArgumentError("algorithm", f"{len(algorithm.stages)} stages", "use one whose clients train and send in one stage")
    (stage,) = algorithm.stages

    def start(shared: Any, state: Any, info: ClientInfo, key: jax.Array) -> Counted:
        training = stage.start(shared, state, info, key)
        zero = jnp.zeros((), float_dtype())
        sizes = _sizes(experts, dict(named_leaves(stage.trained(shared, training))))
        return Counted(training, {layer: jnp.broadcast_to(zero, (count,)) for layer, count in sizes.items()}, zero)

    def counting(phase: Phase) -> Phase:
        def step(shared: Any, own: Counted, batch: Batch, key: jax.Array) -> tuple[Counted, Report | None]:
            training, report = phase.step(shared, own.training, batch, key)
            if report is None:
                return own._replace(training=training), None
            tokens = {layer: count + _load(report, layer, len(count)) for layer, count in own.tokens.items()}
            return Counted(training, tokens, own.rows + report.examples), report

        return phase._replace(enter=lambda shared, own, info: own._replace(training=phase.enter(shared, own.training, info)), step=step)

    def finish(shared: Any, own: Counted, info: ClientInfo) -> tuple[dict[str, Channel], Any, jax.Array]:
        channels, state, weight = stage.finish(shared, own.training, info)
        if "update" not in channels:
            raise ArgumentError("algorithm", sorted(channels), "use one whose clients send the channel `update`")
        update = channels["update"]
        a_row = {layer: tokens / jnp.maximum(own.rows, 1) for layer, tokens in own.tokens.items()}

        def share_of(path: Any, leaf: jax.Array) -> jax.Array | None:
            layer = experts.get(path_name(path))
            return None if layer is None else a_row[layer].astype(leaf.dtype)

        shares = jax.tree_util.tree_map_with_path(share_of, update.value)
        scaled = jax.tree.map(
            lambda share, leaf: leaf if share is None else _of_experts(share, leaf) * leaf, shares, update.value, is_leaf=_is_none
        )
        routed = Channel(shares, update.weight, private=True)
        return channels | {"update": update._replace(value=scaled), ROUTED: routed}, state, weight

    def apply(state: Any, aggregates: Aggregates, key: jax.Array) -> tuple[Any, dict[str, jax.Array]]:
        update = _by_tokens(aggregates["update"], dict(named_leaves(aggregates[ROUTED].total)))
        return algorithm.apply(state, aggregates | {"update": update}, key)

    counted = stage._replace(
        start=start,
        phases=tuple(map(counting, stage.phases)),
        finish=finish,
        trained=lambda shared, own: stage.trained(shared, own.training),
    )
    return algorithm._replace(stages=(counted,), apply=apply)


def _by_tokens(update: Aggregate, tokens: dict[str, jax.Array]) -> Aggregate:
    """A sum whose mean divides each expert by its tokens instead of by its module's weight."""

    def rescale(path: Any, total: jax.Array, owner: int) -> jax.Array:
        seen = tokens.get(path_name(path))
        if seen is None:
            return total
        factor = jnp.where(seen > 0, update.weight[owner].astype(seen.dtype) / jnp.where(seen > 0, seen, 1), 0)
        return _of_experts(factor, total) * total

    return update._replace(total=jax.tree_util.tree_map_with_path(rescale, update.total, update.modules.owners(update.total)))


def _sizes(experts: Mapping[str, str], leaves: Mapping[str, Any]) -> dict[str, int]:
    """Experts of each layer."""
    for leaf in experts:
        if leaf not in leaves or not leaves[leaf].ndim:
            raise ArgumentError("experts", leaf, f"name leaves with an axis of experts: {', '.join(leaves)}")
    return {layer: len(leaves[leaf]) for leaf, layer in experts.items()}


def _load(report: Report, layer: str, count: int) -> jax.Array:
    """Tokens of a step by expert."""
    names = [f"{layer}.load.{expert}" for expert in range(count)]
    if missing := [name for name in names if name not in report.metrics]:
        raise ArgumentError("experts", missing[0], f"name layers of the loss's metrics: {', '.join(report.metrics)}")
    return jnp.stack([report.metrics[name][0] for name in names])


def _of_experts(values: jax.Array, leaf: jax.Array) -> jax.Array:
    """Values [experts] that broadcast to a leaf [experts, ...]."""
    return values.reshape(-1, *(1,) * (leaf.ndim - 1)).astype(leaf.dtype)


def _is_none(leaf: Any) -> bool:
    return leaf is None
