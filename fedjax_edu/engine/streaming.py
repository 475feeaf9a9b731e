"""Populations larger than a device: the rows of the next rounds' clients are read while the present rounds run."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from fedjax_edu.core import trees
from fedjax_edu.core.errors import ArgumentError
from fedjax_edu.core.keys import Purpose, fold
from fedjax_edu.core.trees import Tree
from fedjax_edu.data import Population
from fedjax_edu.engine import processes
from fedjax_edu.engine.cohorts.sampler import Bound, synchronous, untrained
from fedjax_edu.engine.plan import AXIS, STREAM_BYTES
from fedjax_edu.engine.resident import Feed, Resident
from fedjax_edu.engine.seating import Seating, Seats, seat
from fedjax_edu.engine.state import State

SEATS_AT_ONCE = 64
ALIGNMENT = 64


@partial(jax.jit, static_argnums=(0, 1, 2))
def _foresee(sampler: Bound, plan: Seating, length: int, key: jax.Array, clock: Any, resident: Resident) -> Any:
    """The round and the sampler's state after `length` rounds if every one is applied, and who sits where in them, [length, seats]."""

    def one(clock: Any, _: None) -> Any:
        round_, cohort = clock
        draw, cohort = sampler.draw(cohort, fold(key, Purpose.COHORT, round_), round_, _no_losses)
        seats = seat(draw, resident, plan)
        cohort = sampler.learn(cohort, untrained(round_, seats.clients, seats.present, resident.examples[seats.clients]))
        return (round_ + 1, cohort), (seats.clients, seats.present)

    return jax.lax.scan(one, clock, length=length)


def _no_losses(clients: jax.Array) -> jax.Array:
    raise AssertionError("a sampler that measures losses is refused with a population that streams")


class Stream:
    """Reads the rows of the clients of a few rounds at a time into a part of each device of fixed size.

    While a chunk of rounds runs, the rows of the next are read: two chunks are on a device at any time, and each may take
    half of the budget.

    Args:
        population: the clients.
        mesh: devices; this process reads for its own only.
        budget: bytes of a device that rows may take.
        length: rounds of a chunk at most.
        lends: whether client states live on the host, from which each device is lent those of the clients of a chunk.
    """

    def __init__(self, population: Population, mesh: Mesh, budget: int, length: int, lends: bool):
        self._population, self._mesh, self._length, self._lends = population, mesh, length, lends
        self._sizes, self._budget = population.sizes, budget
        self._bytes = trees.byte_size(population.spec)
        self.capacity = min(budget // (2 * self._bytes), population.num_examples)
        longest = int(self._sizes.max())
        if self.capacity < longest:
            raise ArgumentError("plan.resident_bytes", budget, f"use at least {2 * longest * self._bytes}: the largest client twice")

    def foresee(
        self, sampler: Bound, plan: Seating, length: int, state: State, resident: Resident, wanted: int
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Who sits where in the next rounds, `length` of them drawn at a time.

        Yields:
            ``(clients int32, present bool)``, [rounds, seats], of as many rounds as fit on a device; of none, once, if none are wanted.

        Raises:
            ArgumentError: not even one round fits.
        """
        draw = partial(_foresee, sampler, plan, length, state.key)
        clock, drawn = draw((state.round, state.cohort), resident)
        while True:
            few = min(wanted, length)
            wanted -= few
            clients, present = (np.asarray(leaf)[:few] for leaf in drawn)
            if wanted:  # asked for now: later it would have to wait until the device has run the chunks before
                clock, drawn = draw(clock, resident)
            yield from self._portions(clients, present)
            if not wanted:
                return

    def _portions(self, clients: np.ndarray, present: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Seats of rounds, [rounds, seats], as many rounds at a time as fit."""
        while True:
            needed = self._needed(clients, present)
            count = int(np.sum(needed <= self.capacity))
            if len(clients) and not count:
                remedy = (
                    f"use at least {2 * int(needed[0]) * self._bytes}: a round's clients on one device, twice; or draw a smaller cohort"
                )
                raise ArgumentError("plan.resident_bytes", self._budget, remedy)
            yield clients[:count], present[:count]
            clients, present = clients[count:], present[count:]
            if not len(clients):
                return

    def _needed(self, clients: np.ndarray, present: np.ndarray) -> np.ndarray:
        """Rows that the first of these rounds, the first two and so on take on the fullest device, int64 [rounds]."""
        needed = np.zeros(len(clients), np.int64)
        for seated, here in self._by_device(clients, present):
            first = np.unique(np.where(here, seated, -1), return_index=True)[1]
            new = np.zeros(seated.size, np.int64)
            new[first] = self._sizes[seated.reshape(-1)[first]] * here.reshape(-1)[first]
            needed = np.maximum(needed, new.reshape(seated.shape).sum(1).cumsum())
        return needed

    def _by_device(self, clients: np.ndarray, present: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The seats of each device: clients and presence, [rounds, Q]."""
        split = partial(np.split, indices_or_sections=self._mesh.shape[AXIS], axis=1)
        return zip(split(clients), split(present), strict=True)

    def load(self, clients: np.ndarray, present: np.ndarray, plan: Seating) -> tuple[Feed, np.ndarray | None]:
        """Rows of the clients that sit in these rounds.

        Args:
            clients: int32 [rounds, seats].
            present: bool [rounds, seats].
            plan: which device trains whom.

        Returns:
            The feed, and int64 [devices * rows], whose state each row of what devices are lent is for; -1 for nobody's. None where devices
            keep the states, or nobody has any.
        """
        first = np.zeros((self._length, clients.shape[1]), np.int32)
        buffers: list[Tree] = []
        width = clients.shape[1] // plan.devices
        lent = min(self._length * width, plan.hosted) if self._lends and plan.hosted else 0
        slots, lodgers = np.zeros(first.shape, np.int32), np.full((plan.devices, lent), -1, np.int64)
        for number, (devices, (seated, here)) in enumerate(zip(self._mesh.devices, self._by_device(clients, present), strict=True)):
            distinct, inverse = np.unique(seated[here], return_inverse=True)
            sizes = self._sizes[distinct]
            starts = np.zeros(seated.shape, np.int32)
            starts[here] = (np.cumsum(sizes) - sizes)[inverse]
            own = np.s_[: len(clients), number * width : (number + 1) * width]
            first[own] = starts
            if lent:
                slots[own][here] = inverse
                lodgers[number, : len(distinct)] = distinct
            mine = [device for device in np.atleast_1d(devices) if device.process_index == jax.process_index()]
            rows = self._read(distinct) if mine else None
            buffers.extend(jax.tree.map(partial(jax.device_put, device=device), rows) for device in mine)
        split, whole = NamedSharding(self._mesh, PartitionSpec(AXIS)), NamedSharding(self._mesh, PartitionSpec())

        def assemble(*parts: jax.Array) -> jax.Array:
            shape = (self._mesh.shape[AXIS] * self.capacity, *parts[0].shape[1:])
            return jax.make_array_from_single_device_arrays(shape, split, list(parts))

        table = processes.put((first, slots if lent else None), whole)
        return Feed(jax.tree.map(assemble, *buffers), *table), lodgers.reshape(-1) if lent else None

    def _read(self, clients: np.ndarray) -> Tree:
        """A device's rows, leaves [R, ...]; fresh memory each time, since a device of a CPU may keep it."""
        buffers = jax.tree.map(partial(_empty, self.capacity), self._population.spec)
        if len(clients):
            self._population.rows_of(clients, out=buffers)
        return buffers

    def run(
        self, chunk: Callable[..., Any], sampler: Bound, plan: Seating, ahead: bool, state: State, resident: Resident, wanted: int
    ) -> Iterator[Any]:
        """Runs rounds chunk by chunk.

        Args:
            chunk: the compiled program, ``(state, resident, active, feed) -> (state, records)``.
            sampler: who takes part.
            plan: which device trains whom.
            ahead: whether a chunk can be foreseen before the one before it is done; if not, a chunk is one round.
            state: the state before; its clients' states are NumPy arrays where they live on the host, and are not written to.
            resident: the population's table.
            wanted: rounds to run.

        Yields:
            ``(state, records with NumPy leaves [length, ...], rounds)`` after each chunk.
        """
        store = self._store(state)

        def one_by_one() -> Iterator[tuple[np.ndarray, np.ndarray]]:
            for _ in range(max(wanted, 1)):
                yield from self.foresee(sampler, plan, 1, state, resident, min(wanted, 1))

        upcoming = self.foresee(sampler, plan, self._length, state, resident, wanted) if ahead else one_by_one()
        following, before = next(upcoming, None), None
        prepared = following and self.load(*following, plan)
        while following and prepared:
            count, (feed, lodgers) = len(following[0]), prepared
            state, records = chunk(self._lend(state, store, lodgers), resident, jnp.int32(count), feed)
            if before:
                yield _read_records(*before)  # with the next chunk waiting, the devices never do
            following = next(upcoming, None)
            prepared = following and self.load(*following, plan)  # while the chunk runs
            state = self._take_back(state, store, lodgers)
            before = state, records, count
        if before:
            yield _read_records(*before)

    def finalise(self, final: Callable[..., State], plan: Seating, state: State, resident: Resident) -> State:
        """Runs the work after the federation on every client, a few at a time.

        Args:
            final: the compiled program, ``(state, resident, seats) -> state``.
            plan: which device trains whom.
            state: the state after the federation.
            resident: the population's table.
        """
        store, start = self._store(state), 0
        total = self._population.num_clients
        width = min(total, SEATS_AT_ONCE * self._mesh.shape[AXIS])
        everyone = _from_each_home(total, plan)
        while start < total:
            few = min(width, total - start)
            seats = self._seat(everyone, start, width, few, plan, resident)
            while self._needed(*_one_round(seats))[0] > self.capacity:
                few //= 2
                seats = self._seat(everyone, start, width, few, plan, resident)
            feed, lodgers = self.load(*_one_round(seats), plan)
            seats = seats._replace(first=feed.first[0], slot=seats.slot if feed.slots is None else feed.slots[0])
            state = final(self._lend(state, store, lodgers), resident._replace(arrays=feed.arrays), seats)
            state = self._take_back(state, store, lodgers)
            start += few
        return state

    def _seat(self, everyone: np.ndarray, start: int, width: int, few: int, plan: Seating, resident: Resident) -> Seats:
        """`width` clients from `start` on, of whom the first `few` are present."""
        clients = everyone[np.minimum(start + np.arange(width), len(everyone) - 1)]
        return seat(synchronous(jnp.asarray(clients), jnp.arange(width) < few), resident, plan)

    def example(self, state: State, plan: Seating, cohort: int) -> tuple[State, Feed]:
        """A state and a feed of the shapes that a chunk of rounds with cohorts of this size is given."""
        nobody = np.zeros((0, plan.devices * plan.width(cohort)), np.int32)
        feed, lodgers = self.load(nobody, nobody.astype(bool), plan)
        return self._lend(state, (state.clients, state.links_clients), lodgers), feed

    def _store(self, state: State) -> Any:
        """The states of all clients on the host, to be written to; None where devices keep them."""
        return jax.tree.map(np.array, (state.clients, state.links_clients)) if self._lends else None

    def _lend(self, state: State, store: Any, lodgers: np.ndarray | None) -> State:
        """The state with the states of these clients alone, each on the device where it is at home."""
        if lodgers is None:
            return state
        rows = jax.tree.map(lambda leaf: leaf[np.maximum(lodgers, 0)], store)
        given, links = processes.put(rows, NamedSharding(self._mesh, PartitionSpec(AXIS)))
        return state._replace(clients=given, links_clients=links)

    def _take_back(self, state: State, store: Any, lodgers: np.ndarray | None) -> State:
        """The state with every client's state, those of these clients being new."""
        if lodgers is None:
            return state
        own = lodgers >= 0
        for leaf, new in zip(jax.tree.leaves(store), jax.tree.leaves((state.clients, state.links_clients)), strict=True):
            leaf[lodgers[own]] = processes.fetch(new)[own]
        return state._replace(clients=store[0], links_clients=store[1])


def _from_each_home(clients: int, plan: Seating) -> np.ndarray:
    """All clients, int32: the first of each home, then the second of each, and so on.

    >>> _from_each_home(5, Seating(2, 3)).tolist()
    [0, 3, 1, 4, 2]
    """
    hosted = plan.hosted or clients
    order = np.arange(hosted * -(-clients // hosted), dtype=np.int32).reshape(-1, hosted).T.reshape(-1)
    return order[order < clients]


def _read_records(state: State, records: Any, rounds_: int) -> tuple[State, Any, int]:
    """What a chunk left, its records as NumPy arrays; waits until it is done."""
    return state, jax.tree.map(np.asarray, records), rounds_


def _empty(rows: int, leaf: jax.ShapeDtypeStruct) -> np.ndarray:
    """Zeros [rows, ...], aligned so that a device of a CPU keeps the memory instead of copying it."""
    size = rows * int(np.prod(leaf.shape)) * leaf.dtype.itemsize
    memory = np.zeros(size + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + size].view(leaf.dtype).reshape(rows, *leaf.shape)


def _one_round(seats: Seats) -> tuple[np.ndarray, np.ndarray]:
    """Clients and presence, [1, seats]."""
    return np.asarray(seats.clients)[None], np.asarray(seats.present)[None]


def parts(population: Population, budget: int | None, size: int, clients: range) -> Iterator[tuple[Population, int, int, int]]:
    """Clients in parts that fit on a device, for passes over all of them.

    Args:
        population: the clients.
        budget: bytes that rows may take; None is no bound.
        size: rows of a tile, which no two clients share.
        clients: the positions to go through, at least one.

    Yields:
        ``(part with its rows in memory, position of its first client, rows, tiles)``; the last two are the same for all parts, room for
        the largest.
    """
    if budget is None and not population.loaded and len(clients) == population.num_clients:
        yield population, 0, population.num_examples, 0
        return
    wanted = population.offsets[clients.stop] - population.offsets[clients.start]
    rows = max((budget or STREAM_BYTES) // trees.byte_size(population.spec), int(population.sizes.max()))
    rows = max(min(rows, int(wanted)), 1)
    tiles = 2 * -(-rows // size)
    ends_rows, ends_tiles = population.offsets[1:], np.cumsum(-(-population.sizes // size))
    start = clients.start
    while start < clients.stop:
        before = (ends_rows[start - 1], ends_tiles[start - 1]) if start else (0, 0)
        fits = (ends_rows - before[0] <= rows) & (ends_tiles - before[1] <= tiles)
        stop = min(int(np.searchsorted(~fits[start:], True)) + start, clients.stop)
        yield population.read(np.arange(start, stop)), start, rows, tiles
        start = stop
