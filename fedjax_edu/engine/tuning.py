"""Lanes by measurement: the real step is timed once, and what was measured is kept on disk."""

import hashlib
import heapq
import json
import logging
import os
import time
from collections.abc import Callable
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from fedjax_edu.core import trees
from fedjax_edu.core.algorithm import Stage
from fedjax_edu.core.keys import ClientPurpose, fold
from fedjax_edu.core.local import Batch
from fedjax_edu.core.modules import assign
from fedjax_edu.core.trees import Tree
from fedjax_edu.data import Population, data_folder
from fedjax_edu.engine import processes
from fedjax_edu.engine.drawing import draw
from fedjax_edu.engine.lanes import over_lanes
from fedjax_edu.engine.plan import AXIS, Layout
from fedjax_edu.engine.resident import Resident
from fedjax_edu.engine.state import State

UNTIMED = {"cpu": 8}
UNTIMED_ACCELERATOR = 64
CANDIDATES = {"cpu": (1, 2, 4, 8, 16, 32)}
CANDIDATES_ACCELERATOR = (1, 4, 16, 64, 256)
SMALL_STEP = 500_000
HOPELESS = 1.3
REPEATS = 5
SECONDS = 0.03
ROWS = 1024


class Choice(NamedTuple):
    """How many lanes each device has, and why."""

    lanes: int
    reason: str


def choose(stage: Stage, state: State, resident: Resident, population: Population, layout: Layout, share: int) -> Choice:
    """The number of lanes with which a round is expected to take least time.

    A round takes as many ticks as its queue needs with so many lanes, which is counted, times the seconds of a tick, which
    are measured on all devices of a process at once: local steps on real rows, without the queue around them. A step of few FLOP is
    not worth timing: the loop around it takes longer. Of several processes the first measures, and all follow.

    Args:
        stage: the stage whose first phase is timed.
        state: shapes of the engine's state, which say where it lives.
        resident: the population's table.
        population: the clients.
        layout: where it will run.
        share: clients of a cohort on each device.

    Returns:
        The choice; its reason is logged too.
    """
    platform = layout.mesh.devices.flat[0].platform
    ladder = sorted({min(share, lanes) for lanes in CANDIDATES.get(platform, CANDIDATES_ACCELERATOR)})
    rehearsal = _Rehearsal(stage, state, resident, population, layout)
    flop = rehearsal.flop
    if flop < SMALL_STEP:
        lanes = min(share, UNTIMED.get(platform, UNTIMED_ACCELERATOR))
        choice = Choice(lanes, f"a local step is of {flop:,.0f} FLOP, too few to be worth timing")
    else:
        choice = _fastest(rehearsal, ladder, np.asarray(resident.steps[0]).sum(1), share)
    logging.getLogger("fedjax_edu").info("%d lanes on each of %d devices: %s", choice.lanes, layout.mesh.size, choice.reason)
    return choice


def _fastest(rehearsal: "_Rehearsal", ladder: list[int], steps: np.ndarray, share: int) -> Choice:
    memory = _Memory(rehearsal.key)
    queue = typical_queue(steps, share)
    rounds: dict[int, float] = {}
    for lanes in ladder:
        seconds = processes.by_the_first(partial(memory.recall, lanes, rehearsal.seconds_a_tick), rehearsal.mesh)
        rounds[lanes] = count_ticks(queue, lanes) * seconds
        if rounds[lanes] > HOPELESS * min(rounds.values()):
            break
    best = min(rounds, key=lambda lanes: rounds[lanes])
    told = ", ".join(f"{lanes}: {1e3 * seconds:.3g} ms" for lanes, seconds in rounds.items())
    return Choice(best, f"expected time of a round's local steps by lanes {told} ({memory.origin})")


def typical_queue(steps: np.ndarray, share: int) -> np.ndarray:
    """Local steps of `share` clients that stand for the population's, evenly spaced among those that have any, longest first.

    >>> typical_queue(np.array([1, 2, 3, 4, 5, 0]), 3).tolist()
    [5, 3, 1]
    """
    some = np.sort(steps[steps > 0])[::-1]
    return some[np.linspace(0, len(some) - 1, share).round().astype(int)]


def count_ticks(queue: np.ndarray, lanes: int) -> int:
    """Ticks that a queue of clients with so many steps takes.

    >>> count_ticks(np.array([5, 3, 1]), 1), count_ticks(np.array([5, 3, 1]), 2), count_ticks(np.array([5, 3, 1]), 3)
    (9, 5, 5)
    """
    busy = [0] * lanes
    for steps in queue.tolist():
        heapq.heapreplace(busy, busy[0] + steps)
    return max(busy)


class _Rehearsal:
    """A loop of local steps of some lanes, on every device of the mesh at once."""

    def __init__(self, stage: Stage, state: State, resident: Resident, population: Population, layout: Layout):
        self._stage, self._population, self.mesh = stage, population, layout.mesh
        self._own = processes.own(layout.mesh)
        self._server, self._client = jax.tree.map(partial(_harmless, self._own), (state.server, _first(state.clients)))
        self._longest = int(population.sizes.max())
        largest = int(np.argmax(population.sizes))
        some = np.concatenate([[largest], np.flatnonzero(population.sizes)])
        self._some = some[: max(1, int(np.searchsorted(np.cumsum(population.sizes[some]), ROWS)))]
        self._examples = jnp.int32(population.sizes[largest])
        zero = jnp.int32(0)
        infos = resident.infos(zero[None], zero[None], 0, len(stage.phases), assign(state.params))
        self._info = trees.index(processes.fetch(infos), 0)

    @cached_property
    def _data(self) -> Tree:
        return jax.tree.map(jnp.asarray, self._population.rows_of(self._some))

    def _steps(self, lanes: int, server: Any, client: Tree, data: Tree, ticks: jax.Array) -> Tree:
        """`ticks` local steps in each lane, of which a number comes out."""
        (phase, *_), shared = self._stage.phases, self._stage.broadcast(server, {})
        keys = jax.vmap(lambda lane: fold(jax.random.key(0), lane))(jnp.arange(lanes))
        local = jax.vmap(lambda key: phase.enter(shared, self._stage.start(shared, client, self._info, key), self._info))(keys)

        def step(key: jax.Array, local: Tree, tick: jax.Array) -> Tree:
            rows, valid = draw(phase.data, key, 0, tick, self._examples, self._longest)
            return phase.step(shared, local, Batch(trees.index(data, rows), valid), fold(key, ClientPurpose.STEP, tick))

        def body(tick: jax.Array, carry: tuple[Tree, jax.Array]) -> tuple[Tree, jax.Array]:
            local, report = over_lanes(lambda key, local: step(key, local, tick), lanes)(keys, carry[0])
            return local, carry[1] + (0 if report is None else jnp.sum(report.loss))

        local, seen = jax.lax.fori_loop(0, ticks, body, (local, jnp.zeros((), trees.float_dtype())))
        return seen + sum(jnp.sum(leaf).astype(seen.dtype) for leaf in jax.tree.leaves(local) if jnp.issubdtype(leaf.dtype, jnp.inexact))

    def _program(self, lanes: int) -> Callable[[jax.Array], jax.Array]:
        everywhere = PartitionSpec()

        def on_device(*arguments: Any) -> jax.Array:
            return self._steps(lanes, *arguments)[None]

        mapped = jax.jit(
            jax.shard_map(
                on_device,
                mesh=self._own,
                in_specs=(everywhere,) * 4,
                out_specs=PartitionSpec(AXIS),
                axis_names={AXIS},
                check_vma=False,
            )
        )
        return lambda ticks: mapped(self._server, self._client, self._data, ticks)

    @cached_property
    def _one_step(self) -> Any:
        def once(server: Any, client: Tree, data: Tree) -> Tree:
            return self._steps(1, server, client, data, jnp.int32(1))

        rows = int(self._population.sizes[self._some].sum())
        data = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((rows, *leaf.shape), leaf.dtype), self._population.spec)
        return jax.jit(once).lower(self._server, self._client, data)

    @property
    def flop(self) -> float:
        """FLOP of one local step, as the compiler counts them before it optimises."""
        return float((self._one_step.cost_analysis() or {}).get("flops", 0.0))

    @property
    def key(self) -> str:
        """What the seconds of a tick depend on: the step, the machine, the devices and the versions."""
        device = self._own.devices.flat[0]
        facts = (jax.__version__, device.platform, device.device_kind, self._own.devices.shape, os.cpu_count(), self._one_step.as_text())
        return hashlib.sha256(repr(facts).encode()).hexdigest()

    def seconds_a_tick(self, lanes: int) -> float:
        """The least of a few repeats, each of so many ticks that it lasts long enough for the clock."""
        program, ticks = self._program(lanes), 1

        def seconds() -> float:
            start = time.perf_counter()
            jax.block_until_ready(program(jnp.int32(ticks)))
            return time.perf_counter() - start

        seconds()
        while (once := seconds()) < SECONDS and ticks < 10_000:
            ticks = max(ticks + 1, min(10 * ticks, int(ticks * 1.2 * SECONDS / max(once, 1e-6))))
        return min(once, *(seconds() for _ in range(REPEATS))) / ticks


def _first(clients: Tree) -> Tree:
    """Shapes of one client's state."""
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), clients)


def _harmless(mesh: Mesh, leaf: jax.ShapeDtypeStruct) -> jax.Array:
    """Small numbers of a shape and dtype, on these devices: with zeros, a step may take a path that real values never take."""
    where = NamedSharding(mesh, PartitionSpec() if leaf.sharding is None else leaf.sharding.spec)
    number = 0.01 if jnp.issubdtype(leaf.dtype, jnp.inexact) else 0
    return jnp.full(leaf.shape, number, leaf.dtype, device=where)


class _Memory:
    """Seconds of a tick by lanes, measured before for the same step on the same machine; one small file each."""

    def __init__(self, key: str):
        self._path = Path(data_folder()) / "lanes" / f"{key}.json"
        self.origin = "measured now"
        self.seconds: dict[int, float] = {}
        try:
            self.seconds = {int(lanes): float(seconds) for lanes, seconds in json.loads(self._path.read_text()).items()}
            self.origin = "measured before"
        except (OSError, ValueError, AttributeError):
            pass  # never measured, or a file that another program damaged: measure

    def recall(self, lanes: int, measure: Callable[[int], float]) -> float:
        """Seconds of a tick, measured and written if they never were; where nothing can be written, the next program measures again."""
        if lanes in self.seconds:
            return self.seconds[lanes]
        self.origin, self.seconds[lanes] = "measured now", measure(lanes)
        beside = self._path.with_suffix(f".{os.getpid()}")
        try:
            beside.parent.mkdir(parents=True, exist_ok=True)
            beside.write_text(json.dumps(self.seconds))
            beside.replace(self._path)
        except OSError as error:
            logging.getLogger("fedjax_edu").info("lanes: %s cannot be written (%s)", self._path, error)
        return self.seconds[lanes]
