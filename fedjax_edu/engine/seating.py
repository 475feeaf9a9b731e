"""Who sits where: a cohort's clients on the devices that train them."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_edu.core.trees import Tree
from fedjax_edu.engine.cohorts.sampler import Draw
from fedjax_edu.engine.resident import Resident
from fedjax_edu.engine.store import NOWHERE, is_split


class Seating(NamedTuple):
    """How seats are dealt; static.

    A client that keeps a state is at home on one device, which stores it and trains it: what is the client's own never travels.
    Devices then have as much work as the cohort's clients that live there. Clients without states are dealt evenly.

    Args:
        devices: that train clients.
        hosted: clients at home on each device, one range of the population behind the other; None where nobody has a home.
    """

    devices: int
    hosted: int | None

    def width(self, cohort: int) -> int:
        """Seats of each device for a cohort of so many.

        >>> Seating(2, None).width(5), Seating(2, 4).width(5), Seating(2, 9).width(5)
        (3, 4, 5)
        """
        return -(-cohort // self.devices) if self.hosted is None else min(cohort, self.hosted)


def seating(states: Tree, clients: int, devices: int, on_host: bool) -> Seating:
    """How clients with such states are dealt.

    Args:
        states: what clients and links keep, arrays or shapes.
        clients: in the population.
        devices: that train them.
        on_host: whether states live on the host, from which each device is lent those of the clients at home there.

    Returns:
        Homes, unless there are no states, or so many clients that devices do not divide them: each device then has all of the states.
    """
    has_homes = bool(jax.tree.leaves(states)) and (on_host or is_split(clients, devices))
    return Seating(devices, -(-clients // devices) if has_homes else None)


class Seats(NamedTuple):
    """A cohort dealt to the devices; leaves [devices * Q].

    Args:
        clients: int32, positions in the population.
        present: bool.
        staleness: int32, of the parameters that a client starts from.
        origin: int32, place in the draw; past its end for a seat that nobody was dealt.
        first: int32, row of the arrays where the client begins.
        slot: int32, row of its state among those that its device has.
    """

    clients: jax.Array
    present: jax.Array
    staleness: jax.Array
    origin: jax.Array
    first: jax.Array
    slot: jax.Array


def seat(draw: Draw, resident: Resident, plan: Seating) -> Seats:
    """Deals a cohort to the devices: clients of like modules together, the longest first, ties by id; everybody at home, or in a snake.

    In a snake a drawn client that is absent keeps its seat, so that its absence moves nobody else. At home it sits behind the others.

    Args:
        draw: who was drawn.
        resident: the population.
        plan: how.

    Returns:
        The seats; the first Q belong to the first device, and so on.
    """
    sizes, count = resident.examples[draw.clients], len(draw.clients)
    present = draw.present & (sizes > 0) & ~draw.overflow
    steps = sum(jnp.sum(table[draw.clients], axis=1) for table in resident.steps)
    keys = (resident.ids[draw.clients], -steps, *(shares[draw.clients] == 0 for shares in resident.holds.values()))
    if plan.hosted is None:
        order, seats = jnp.lexsort(keys), jnp.asarray(_snake(count, plan.devices))
    else:
        home = draw.clients // plan.hosted
        order = jnp.lexsort((*keys, ~present, home))
        seats = _at_home(home[order], plan.width(count), plan.devices)
    place = jnp.zeros(count, jnp.int32).at[order].set(seats)

    def deal(values: jax.Array, filler: int | bool) -> jax.Array:
        return jnp.full(plan.devices * plan.width(count), filler, values.dtype).at[place].set(values, mode="drop")

    clients = deal(draw.clients, 0)
    return Seats(
        clients=clients,
        present=deal(present, False),
        staleness=deal(draw.staleness, 0),
        origin=deal(jnp.arange(count, dtype=jnp.int32), count),
        first=resident.first[clients],
        slot=clients if plan.hosted is None else clients % plan.hosted,
    )


def _snake(count: int, devices: int) -> np.ndarray:
    """The seat of each of `count` sorted clients.

    >>> _snake(5, 2).tolist()
    [0, 3, 4, 1, 2]
    """
    rows, column = np.divmod(np.arange(count), devices)
    device = np.where(rows % 2, devices - 1 - column, column)
    return (device * -(-count // devices) + rows).astype(np.int32)


def _at_home(home: jax.Array, width: int, devices: int) -> jax.Array:
    """The seat of each of some clients, sorted by their `home`; `NOWHERE` for the last ones of a home without a seat for all."""
    begin = jnp.searchsorted(home, jnp.arange(devices, dtype=home.dtype)).astype(home.dtype)
    rank = jnp.arange(len(home), dtype=home.dtype) - begin[home]
    return jnp.where(rank < width, home * width + rank, NOWHERE)
