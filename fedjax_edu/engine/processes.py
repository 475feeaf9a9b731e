"""Several processes, each with devices of its own: they run the same program, and each reads the rows of its own devices alone.

What processes exchange here are JAX's own collectives, so every process calls these functions, in the same order.
"""

import zlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec, Sharding

from fedjax_edu.core.errors import ArgumentError
from fedjax_edu.core.trees import Tree


def own(mesh: Mesh) -> Mesh:
    """The devices of a mesh that belong to this process."""
    if not mesh.is_multi_process:
        return mesh
    return Mesh(np.array(mesh.local_devices), mesh.axis_names, axis_types=(AxisType.Auto,) * len(mesh.axis_names))


def put(tree: Tree, sharding: Sharding) -> Tree:
    """NumPy arrays that all processes have alike, on the devices; each process copies what its own devices hold, and nobody compares."""
    if sharding.is_fully_addressable:
        return jax.device_put(tree, sharding)
    return jax.tree.map(lambda leaf: jax.make_array_from_callback(leaf.shape, sharding, leaf.__getitem__), tree)


def spread(tree: Tree, sharding: Any) -> Tree:
    """Arrays that all processes have alike, each on devices of its own or on those of all, on the devices.

    Args:
        tree: arrays or keys.
        sharding: of its leaves, or a pytree of which `tree` is an extension.
    """
    if all(each.is_fully_addressable for each in jax.tree.leaves(sharding)):
        return jax.device_put(tree, sharding)
    return jax.jit(_itself, out_shardings=sharding)(tree)


def _itself(tree: Tree) -> Tree:
    return tree


def here(tree: Tree, mesh: Mesh) -> Tree:
    """Arrays on this process's devices alone, whole on each of them."""
    if not mesh.is_multi_process:
        return tree
    everywhere = NamedSharding(mesh, PartitionSpec())
    whole = spread(tree, everywhere)
    return jax.tree.map(lambda leaf: jax.device_put(leaf.addressable_data(0), NamedSharding(own(mesh), PartitionSpec())), whole)


def fetch(tree: Tree) -> Tree:
    """Arrays as NumPy arrays that every process has whole."""

    def one(leaf: Any) -> np.ndarray:
        if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable and not leaf.is_fully_replicated:
            return multihost_utils.process_allgather(leaf, tiled=True)
        return np.asarray(leaf)

    return jax.tree.map(one, tree)


def share(offsets: np.ndarray, count: int, number: int) -> range:
    """The clients that one of `count` processes goes through, `count` at least: each a range, one behind the other, of about as many rows.

    >>> [share(np.array([0, 50, 60, 70, 80, 100]), 2, number) for number in range(2)]
    [range(0, 1), range(1, 5)]
    >>> [share(np.array([0, 90, 91, 92]), 3, number) for number in range(3)]
    [range(0, 1), range(1, 2), range(2, 3)]
    """
    clients, places = len(offsets) - 1, np.arange(count + 1)
    ends = np.searchsorted((offsets[:-1] + offsets[1:]) / 2, offsets[-1] * places / count)
    ends = np.minimum(np.maximum.accumulate(ends - places) + places, clients - count + places)  # nobody's is empty
    ends[0], ends[-1] = 0, clients
    return range(int(ends[number]), int(ends[number + 1]))


def together(tree: Tree) -> Tree:
    """NumPy arrays [own rows, ...] of each process, one behind the other in every process."""
    counts = multihost_utils.process_allgather(np.int32(len(jax.tree.leaves(tree)[0])))
    most = int(counts.max())

    def one(leaf: np.ndarray) -> np.ndarray:
        room = np.zeros((most, *leaf.shape[1:]), leaf.dtype)
        room[: len(leaf)] = leaf
        return np.concatenate([rows[:count] for rows, count in zip(multihost_utils.process_allgather(room), counts, strict=True)])

    return jax.tree.map(one, tree)


def by_the_first(measure: Callable[[], float], mesh: Mesh) -> float:
    """What the first process measures, in every process; the others do not call it."""
    if not mesh.is_multi_process:
        return measure()
    return float(multihost_utils.broadcast_one_to_all(np.float32(measure() if jax.process_index() == 0 else 0)))


def check_alike(argument: str, tree: Tree, remedy: str, mesh: Mesh) -> None:
    """Checks that arrays and numbers are the same in every process.

    Raises:
        ArgumentError: in every process, if they are not.
    """
    if not mesh.is_multi_process:
        return
    digest = 0
    for leaf in jax.tree.leaves(fetch(tree)):
        digest = zlib.crc32(leaf.tobytes(), zlib.crc32(repr((leaf.shape, leaf.dtype)).encode(), digest))
    found = multihost_utils.process_allgather(np.uint32(digest))
    if len(set(found.tolist())) > 1:
        raise ArgumentError(argument, f"something else in process {int(np.argmax(found != found[0]))} than in process 0", remedy)
