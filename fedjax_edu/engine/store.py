"""The stacked states of all clients: rows taken for the clients of a round, and given back.

What travels between devices is a cohort's rows, never the store; where a model is split over devices, each sends its slice.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec

from fedjax_edu.core import trees
from fedjax_edu.core.trees import Tree
from fedjax_edu.engine.partition import WHOLE, Partition
from fedjax_edu.engine.plan import AXIS

NOWHERE = 2**31 - 1


def is_split(clients: int, mesh: Mesh) -> bool:
    """Whether the states of so many clients are split over the devices; if not, each device has all of them."""
    return clients % mesh.shape[AXIS] == 0


def take(store: Tree, rows: jax.Array, mesh: Mesh, partition: Partition = WHOLE) -> Tree:
    """Rows of the store, in the order asked for, split over the devices.

    Args:
        store: leaves [clients, ...].
        rows: int32 [seats].
        mesh: devices.
        partition: how rows are split over the axis ``model``.

    Returns:
        Leaves [seats, ...].
    """
    if mesh.shape[AXIS] == 1 or not jax.tree.leaves(store):
        return trees.index(store, rows)
    split = is_split(len(jax.tree.leaves(store)[0]), mesh)

    def on_device(store: Tree, rows: jax.Array) -> Tree:
        if not split:
            return trees.index(store, rows)
        return jax.tree.map(partial(_sent_by_owners, rows), store)

    specs = (partition.specs(store, AXIS), PartitionSpec()) if split else (partition.specs(store), PartitionSpec(AXIS))
    return jax.shard_map(on_device, mesh=mesh, in_specs=specs, out_specs=partition.specs(store, AXIS), check_vma=False)(store, rows)


def _sent_by_owners(rows: jax.Array, leaf: jax.Array) -> jax.Array:
    """This device's share of the rows, each from the device that has it: all others add 0."""
    at = rows - jax.lax.axis_index(AXIS) * len(leaf)
    here = ((at >= 0) & (at < len(leaf))).reshape(-1, *[1] * (leaf.ndim - 1))
    found = jnp.where(here, leaf[jnp.clip(at, 0, len(leaf) - 1)], jnp.zeros((), leaf.dtype))
    numbers = found.astype(jnp.int32) if leaf.dtype == bool else found
    return jax.lax.psum_scatter(numbers, AXIS, tiled=True).astype(leaf.dtype)


def give(store: Tree, rows: jax.Array, new: Tree, mesh: Mesh, partition: Partition = WHOLE) -> Tree:
    """The store with new rows; those whose place is `NOWHERE` are dropped.

    Args:
        store: leaves [clients, ...].
        rows: int32 [seats], each place at most once.
        new: leaves [seats, ...], split over the devices.
        mesh: devices.
        partition: how rows are split over the axis ``model``.
    """

    def put(leaf: jax.Array, new: jax.Array, at: jax.Array) -> jax.Array:
        return leaf.at[at].set(new, mode="drop")

    if mesh.shape[AXIS] == 1 or not jax.tree.leaves(store):
        return jax.tree.map(partial(put, at=rows), store, new)
    split = is_split(len(jax.tree.leaves(store)[0]), mesh)

    def on_device(store: Tree, rows: jax.Array, new: Tree) -> Tree:
        new = jax.tree.map(lambda leaf: jax.lax.all_gather(leaf, AXIS, tiled=True), new)
        count = len(jax.tree.leaves(store)[0])
        at = rows - (jax.lax.axis_index(AXIS) * count if split else 0)
        return jax.tree.map(partial(put, at=jnp.where((at >= 0) & (at < count), at, NOWHERE)), store, new)

    specs = partition.specs(store, AXIS if split else None)
    mapped = jax.shard_map(
        on_device, mesh=mesh, in_specs=(specs, PartitionSpec(), partition.specs(new, AXIS)), out_specs=specs, check_vma=False
    )
    return mapped(store, rows, new)
