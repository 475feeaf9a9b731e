"""Centered clipping: updates count as far as they stay near the last aggregate."""

from typing import Any

import jax
import jax.numpy as jnp

from fedjax_edu.aggregation import rows
from fedjax_edu.core.algorithm import Aggregate, Meta
from fedjax_edu.core.errors import check_integer, check_positive
from fedjax_edu.core.keys import fold
from fedjax_edu.core.link import Link
from fedjax_edu.core.modules import Params
from fedjax_edu.core.stack import Rule, Stack
from fedjax_edu.core.trees import Tree


def centered_clip(radius: float, bucket_size: int = 1, iterations: int = 1) -> Link:
    r"""The mean of updates that are clipped around the last aggregate, after random buckets are averaged.

    The clients that hold a module are dealt at random into buckets of s; :math:`y_b` is the mean of a bucket's updates. From the
    centre v, which is what this rule answered in the round before (0 at first), :math:`v \leftarrow v + \frac{1}{B} \sum_b (y_b - v)
    \min(1, \tau / \lVert y_b - v \rVert)`. Buckets make clients with different data alike, at the price that a liar spoils its bucket.
    Every client counts alike; weights only say who is there. The centre follows the updates a few rounds late when they are longer
    than :math:`\tau`: momentum at the server adds to that lag, and training may oscillate.

    The centre is kept for the channel ``update`` where that has the shape of the shared parameters; a module that nobody holds
    keeps its own. Every other channel is clipped around 0.

    Args:
        radius: :math:`\tau`, in the units of the parameters, for one module.
        bucket_size: s, clients in a bucket; the last one may have fewer.
        iterations: how often v moves in a round.

    Returns:
        A reduction that reads every update; its state is the centre.

    Raises:
        ArgumentError: `radius` is not a positive finite number, `bucket_size` or `iterations` not a positive integer.

    >>> centered_clip(1.0, bucket_size=2).name
    'centered_clip'

    Reference: Karimireddy, He, Jaggi (2021), "Learning from history for Byzantine robust optimization", arXiv:2012.10333;
    buckets: Karimireddy, He, Jaggi (2022), "Byzantine-robust learning on heterogeneous datasets via bucketing", arXiv:2006.09365.
    We differ: clients send updates, not their momentum; each module is clipped by itself, over those who hold it.
    """
    radius = check_positive("radius", radius)
    bucket_size, iterations = check_integer("bucket_size", bucket_size), check_integer("iterations", iterations)

    def init_server(params: Params, meta: Meta) -> Tree:
        return jax.tree.map(jnp.zeros_like, params.shared)

    def step_from_centre(lot: jax.Array) -> Rule:
        """How far the centre moves, given each client's lot and updates relative to the centre."""

        def rule(updates: jax.Array, weights: jax.Array) -> jax.Array:
            means, some = _bucket(updates, weights, lot, bucket_size)

            def move(_: jax.Array | int, point: jax.Array) -> jax.Array:
                return point + rows.mean(rows.clip(means - point[None], radius), some)

            return jax.lax.fori_loop(0, iterations, move, jnp.zeros_like(updates[0]))

        return rule

    def stack(centre: Tree, stacks: dict[str, Stack], key: jax.Array) -> tuple[Tree, dict[str, Aggregate]]:
        found = {}
        for name, each in stacks.items():
            lot = jax.vmap(lambda client: jax.random.bits(fold(key, client), dtype=jnp.uint32))(each.ids)
            rule = step_from_centre(lot)
            if name == "update" and _alike(each.values, centre):
                shifted = jax.tree.map(lambda values, middle: values - middle[None].astype(values.dtype), each.values, centre)
                found[name] = _add(each._replace(values=shifted).by_module(rule), centre)
                centre = _moved(centre, found[name])
            else:
                found[name] = each.by_module(rule)
        return centre, found

    return rows.reduction("centered_clip", stack)._replace(init_server=init_server)


def _bucket(updates: jax.Array, weights: jax.Array, lot: jax.Array, size: int) -> tuple[jax.Array, jax.Array]:
    """Means of buckets of clients in the order of their lots, and 1.0 for each bucket with a client in it."""
    held, seats = weights > 0, len(weights)
    order = jnp.lexsort((lot, ~held))
    rank = jnp.zeros(seats, jnp.int32).at[order].set(jnp.arange(seats, dtype=jnp.int32))
    buckets = -(-seats // size)
    bucket = jnp.where(held, rank // size, buckets)  # out of range: of those who are absent
    members = jax.ops.segment_sum(held.astype(updates.dtype), bucket, buckets)
    share = 1 / jnp.maximum(members, 1)
    means = jax.ops.segment_sum(updates * share[jnp.minimum(bucket, buckets - 1)][:, None], bucket, buckets)
    return means, (members > 0).astype(updates.dtype)


def _alike(values: Tree, centre: Tree) -> bool:
    """Whether the rows of a stack have the shapes of the centre."""
    structures: list[Any] = [jax.tree.structure(each) for each in (values, centre)]
    if structures[0] != structures[1]:
        return False
    return all(row.shape[1:] == leaf.shape for row, leaf in zip(jax.tree.leaves(values), jax.tree.leaves(centre), strict=True))


def _add(aggregate: Aggregate, centre: Tree) -> Aggregate:
    """The aggregate whose mean lies at `centre` plus the mean of another."""

    def add(total: jax.Array, middle: jax.Array, owner: int) -> jax.Array:
        return total + aggregate.weight[owner].astype(total.dtype) * middle.astype(total.dtype)

    return aggregate._replace(total=jax.tree.map(add, aggregate.total, centre, aggregate.modules.owners(aggregate.total)))


def _moved(centre: Tree, aggregate: Aggregate) -> Tree:
    """The new centre: the aggregate's mean in the modules that somebody holds, the old one elsewhere."""

    def keep(new: jax.Array, old: jax.Array, owner: int) -> jax.Array:
        return jnp.where(aggregate.weight[owner] > 0, new.astype(old.dtype), old)

    return jax.tree.map(keep, aggregate.mean(), centre, aggregate.modules.owners(centre))
