"""The stacked states of all clients: each device reads and writes the rows of those that it trains."""

import jax
import jax.numpy as jnp

from fedjax_edu.core import trees
from fedjax_edu.core.trees import Tree

NOWHERE = 2**31 - 1


def is_split(clients: int, devices: int) -> bool:
    """Whether the states of so many clients are split over the devices; if not, each device has all of them."""
    return clients % devices == 0


def share(store: Tree, rows: tuple[jax.Array, ...], new: jax.Array, axis: str) -> Tree:
    """A store that every device has whole, with what each has changed in it.

    Args:
        store: leaves [clients, ...], of which this device has changed some rows.
        rows: index of each of its seats, int32 [Q] for each leading axis of the leaves; the last is that of clients.
        new: bool [Q], whose row it has changed.
        axis: name of the devices' axis.
    """
    if not jax.tree.leaves(store):
        return store
    places = (*rows[:-1], jnp.where(new, rows[-1], NOWHERE))
    places, values = jax.lax.all_gather((places, trees.index(store, rows)), axis, tiled=True)
    return jax.tree.map(lambda leaf, value: leaf.at[places].set(value, mode="drop"), store, values)
