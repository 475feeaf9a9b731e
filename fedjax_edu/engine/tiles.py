"""Passes over a whole population: each client's rows cut into tiles of equal size, evaluated in parallel."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from fedjax_edu.core import trees
from fedjax_edu.core.modules import Modules
from fedjax_edu.core.trees import Tree
from fedjax_edu.data import Population
from fedjax_edu.engine.plan import AXIS

TILE = 64


class Tiles(NamedTuple):
    """A population cut into tiles that never mix clients; leaves [groups, tiles at once, ...].

    Args:
        rows: int32 [.., tile], rows of the population; padding repeats a row of the tile.
        valid: bool [.., tile].
        client: int32, position of the client in the population.
        known: int32, its row in the state's client store; the store's length for a client never seen.
        holds: float32 by module, 0 where the client does not hold it.
    """

    rows: jax.Array
    valid: jax.Array
    client: jax.Array
    known: jax.Array
    holds: dict[str, jax.Array]


def tile_size(population: Population) -> int:
    """Rows of a tile."""
    return max(1, min(TILE, int(population.sizes.max(initial=1))))


def cut(
    population: Population, trained_ids: np.ndarray, width: int, mesh: Mesh, size: int, at_least: int = 0, hosted: int | None = None
) -> Tiles:
    """A population in tiles.

    Args:
        population: the clients.
        trained_ids: ids of the clients that have states, in their order.
        width: tiles at once on each device.
        mesh: devices.
        size: rows of a tile.
        at_least: tiles in all, padding included, which has no valid row.
        hosted: clients whose states are at home on each device, where their tiles go; None deals tiles as they come.
    """
    counts = -(-population.sizes // size)
    total = int(counts.sum())
    client: Any = np.repeat(np.arange(population.num_clients), counts)
    within = np.arange(total) - np.repeat(np.cumsum(counts) - counts, counts)
    position = within[:, None] * size + np.arange(size)
    sizes = population.sizes[client][:, None]
    rows: Any = (population.offsets[client][:, None] + np.minimum(position, sizes - 1)).astype(np.int32)
    valid: Any = position < sizes
    known: Any = _positions(population.ids, trained_ids)[client]
    holds = {name: holders[client] for name, holders in population.holds.items()}
    tiles = Tiles(rows, valid, client.astype(np.int32), known, holds)
    devices = mesh.shape[AXIS]
    home = np.arange(total) // width % devices
    if hosted is not None:
        home = np.where(known < len(trained_ids), known // hosted, home)
    within = np.zeros(total, int)
    for device in range(devices):
        within[home == device] = np.arange(np.sum(home == device))
    groups = max(-(-at_least // (width * devices)), within.max(initial=0) // width + 1)

    def group(leaf: np.ndarray) -> np.ndarray:
        grouped = np.zeros((groups, devices, width, *leaf.shape[1:]), leaf.dtype)
        grouped[within // width, home, within % width] = leaf
        return grouped.reshape(groups, devices * width, *leaf.shape[1:])

    return jax.device_put(jax.tree.map(group, tiles), NamedSharding(mesh, PartitionSpec(None, AXIS)))


def _positions(ids: np.ndarray, trained_ids: np.ndarray) -> np.ndarray:
    """Where each id stands among the trained ones; their number where it does not."""
    order = np.argsort(trained_ids)
    at = np.searchsorted(trained_ids, ids, sorter=order).clip(max=len(order) - 1)
    return np.where(trained_ids[order[at]] == ids, order[at], len(order)).astype(np.int32)


class Models(NamedTuple):
    """How each tile comes to its parameters; static.

    Args:
        of: ``(server, client_state | None) -> params``.
        mesh: devices; each runs its own tiles.
        modules: the model's modules, of which clients use what they hold; None where everybody holds all.
        hosted: clients whose states are at home on each device, which reads them there; None where each has all states.
    """

    of: Callable[..., Tree]
    mesh: Mesh
    modules: Modules | None = None
    hosted: int | None = None


def over_tiles(models: Models, function: Callable[..., Any]) -> Callable[..., Any]:
    """Maps a function over tiles, a group of them at a time on each device, without a collective.

    Args:
        models: how each tile comes to its parameters.
        function: ``(params, batch, valid) -> pytree`` for one tile.

    Returns:
        ``(server, clients, data, tiles) -> results`` with leaves [groups, tiles at once, ...]. Where the client store
        has no leaves, all tiles share one model, and a group is one large matrix product.
    """
    devices = models.mesh.shape[AXIS]
    at_home = models.hosted is not None and devices > 1

    def on_device(server: Any, clients: Tree, data: Tree, tiles: Tiles) -> Any:
        shared = models.of(server, None)

        def one(tile: Tiles) -> Any:
            params = shared
            if jax.tree.leaves(clients):
                rows = jax.tree.leaves(clients)[0].shape[0]
                first, count = (jax.lax.axis_index(AXIS) * rows, rows * devices) if at_home else (0, rows)
                own = models.of(server, trees.index(clients, jnp.clip(tile.known - first, 0, rows - 1)))
                params = trees.select(tile.known < count, own, shared)
            if models.modules is not None and tile.holds:
                params = models.modules.keep_held(params, models.modules.shares(tile.holds) > 0)
            return function(params, trees.index(data, tile.rows), tile.valid)

        return jax.lax.map(jax.vmap(one), tiles)

    if devices == 1:
        return on_device
    everywhere, split = PartitionSpec(), PartitionSpec(None, AXIS)
    specs = (everywhere, PartitionSpec(AXIS) if at_home else everywhere, everywhere, split)
    return jax.shard_map(on_device, mesh=models.mesh, in_specs=specs, out_specs=split, axis_names={AXIS}, check_vma=False)
