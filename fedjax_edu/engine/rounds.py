"""Rounds and chunks of rounds as one compiled program."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from fedjax_edu.core import trees
from fedjax_edu.core.algorithm import Aggregate, Algorithm, Channel, Report, Stage
from fedjax_edu.core.chain import Chain
from fedjax_edu.core.keys import Purpose, fold
from fedjax_edu.core.modules import Modules
from fedjax_edu.core.stack import Stack
from fedjax_edu.core.trees import Tree
from fedjax_edu.engine import store
from fedjax_edu.engine.cohorts.sampler import Bound, Draw, Feedback, synchronous
from fedjax_edu.engine.lanes import Outcome, Queue, Totals, Work, measuring_stage, run_queue
from fedjax_edu.engine.partition import Partition
from fedjax_edu.engine.plan import AXIS
from fedjax_edu.engine.resident import Feed, Resident
from fedjax_edu.engine.state import State

NOBODY = 2**32 - 1


class Record(NamedTuple):
    """What one round observed, still as sums; leaves of one round, stacked to [rounds, ...] by a chunk."""

    report: Any
    after: Any
    participants: jax.Array
    holders: jax.Array
    rejected: jax.Array
    examples: jax.Array
    steps: jax.Array
    steps_run: jax.Array
    ticks: jax.Array
    contributors: tuple[dict[str, jax.Array], ...]
    server: dict[str, jax.Array]
    links: dict[str, jax.Array]
    overflow: jax.Array
    cohort: dict[str, jax.Array]
    rejected_ids: jax.Array | None


class Program(NamedTuple):
    """The static parts of an engine's rounds.

    Args:
        algorithm: with measuring phases appended, if asked for.
        chain: the aggregator.
        modules: the model's modules.
        metrics: names of the loss's metrics.
        mesh: devices; `lanes` clients train at the same time on each.
        lanes: lanes of a device.
        longest: examples of the largest client.
        measured: whether the last stage ends with a measuring phase.
        measuring_batch: rows of a batch where losses are measured; None is the whole client.
        report_rejected: whether records carry the ids of rejected clients.
        streamed: whether each device holds the rows of its own seats alone.
        partition: which parameters are split over the axis ``model``.
    """

    algorithm: Algorithm
    chain: Chain
    modules: Modules
    metrics: tuple[str, ...]
    mesh: Mesh
    lanes: int
    longest: int
    measured: bool
    measuring_batch: int | None
    report_rejected: bool
    streamed: bool
    partition: Partition

    @property
    def slots(self) -> int:
        """Clients that train at the same time on all devices."""
        return self.lanes * self.mesh.shape[AXIS]


def run_chunk(
    program: Program, sampler: Bound, length: int, state: State, resident: Resident, active: jax.Array, feed: Feed | None
) -> tuple[State, Record]:
    """Runs `active` rounds, at most `length`, which is what the program is compiled for.

    Args:
        program: static.
        sampler: static; who takes part.
        length: static; rounds that records have room for.
        state: the state before.
        resident: the population.
        active: int32 scalar, rounds to run.
        feed: rows of the clients of these rounds, where they are not resident.

    Returns:
        The state after and records with leaves [length, ...], of which the first `active` are filled.
    """
    one_round = jax.jit(partial(run_round, program, sampler), inline=True)  # traced once, for its shapes and for the loop
    _, shapes = jax.eval_shape(one_round, state, resident, feed, jnp.int32(0))
    records = jax.tree.map(lambda leaf: jnp.zeros((length, *leaf.shape), leaf.dtype), shapes)

    def body(number: jax.Array | int, carry: tuple[State, Record]) -> tuple[State, Record]:
        state, records = carry
        state, record = one_round(state, resident, feed, jnp.asarray(number, jnp.int32))
        return state, trees.put(records, number, record)

    return jax.lax.fori_loop(0, active, body, (state, records))


def run_round(
    program: Program, sampler: Bound, state: State, resident: Resident, feed: Feed | None, number: jax.Array | int
) -> tuple[State, Record]:
    """One round, the chunk's `number`-th: draw, train and reduce stage by stage, apply.

    Without participants only the round counter and the sampler's clock move.
    """
    with jax.named_scope("sample"):
        key = fold(state.key, Purpose.COHORT, state.round)
        draw, cohort = sampler.draw(state.cohort, key, state.round, partial(losses, program, state, resident))
        seats = seat(draw, resident, program.mesh.shape[AXIS])
    if feed is not None:
        resident = resident._replace(arrays=feed.arrays)
        seats = seats._replace(first=feed.first[number], slot=feed.slots[number])
    run = run_stages(program, program.algorithm.stages, 0, state, resident, seats, fold(state.key, Purpose.CLIENT, state.round))
    server_key = fold(state.key, Purpose.SERVER, state.round)
    with jax.named_scope("server"):
        server, observed = program.algorithm.apply(state.server, run.aggregates, server_key)
    some = (run.totals[-1].participants > 0) & trees.all_finite(run.aggregates)
    after = State(
        round=state.round + 1,
        key=state.key,
        server=trees.select(some, server, state.server),
        clients=run.clients,
        links_server=trees.select(some, run.links_server, state.links_server),
        links_clients=run.links_clients,
        cohort=sampler.learn(cohort, feedback(state.round, resident, seats, run, some)),
    )
    record = Record(
        report=sum_over_stages(run.totals, "report"),
        after=run.totals[-1].after,
        participants=run.totals[-1].participants,
        holders=run.totals[-1].holders,
        rejected=jnp.sum(run.rejected, dtype=jnp.int32),
        examples=sum_over_stages(run.totals, "examples"),
        steps=sum_over_stages(run.totals, "steps"),
        steps_run=run.steps_run,
        ticks=run.ticks,
        contributors=run.contributors,
        server={name: jnp.where(some, value, jnp.zeros_like(value)) for name, value in observed.items()},
        links=run.totals[-1].links,
        overflow=draw.overflow,
        cohort=draw.observed,
        rejected_ids=_rejected_ids(run.rejected, resident.ids[seats.clients]) if program.report_rejected else None,
    )
    return after, record


def sum_over_stages(totals: tuple[Totals, ...], field: str) -> Any:
    """Leafwise sum of one field of the stages' totals."""
    return jax.tree.map(lambda *leaves: sum(leaves), *[getattr(each, field) for each in totals])


class Seats(NamedTuple):
    """A cohort dealt to the devices; leaves [devices * Q].

    Args:
        clients: int32, positions in the population.
        present: bool.
        staleness: int32, of the parameters that a client starts from.
        origin: int32, place in the draw; past its end for a seat that nobody was dealt.
        first: int32, row of the arrays where the client begins.
        slot: int32, row of its state in the stacked client states.
    """

    clients: jax.Array
    present: jax.Array
    staleness: jax.Array
    origin: jax.Array
    first: jax.Array
    slot: jax.Array


def seat(draw: Draw, resident: Resident, devices: int) -> Seats:
    """Deals a cohort to the devices: clients of like modules together, the longest first, in a snake, ties by id.

    A drawn client that is absent keeps its seat, so that its absence moves nobody else.

    Returns:
        The seats; the first Q belong to the first device, and so on.
    """
    sizes = resident.examples[draw.clients]
    steps = sum(jnp.sum(table[draw.clients], axis=1) for table in resident.steps)
    order = jnp.lexsort((resident.ids[draw.clients], -steps, *(shares[draw.clients] == 0 for shares in resident.holds.values())))
    present = draw.present & (sizes > 0) & ~draw.overflow
    rows = -(-len(order) // devices)
    places = np.arange(rows * devices).reshape(rows, devices)
    places[1::2] = places[1::2, ::-1].copy()
    snake = places.T.reshape(-1)

    def deal(values: jax.Array, filler: int | bool) -> jax.Array:
        return jnp.pad(values[order], (0, rows * devices - len(order)), constant_values=filler)[snake]

    origin = jnp.arange(len(order), dtype=jnp.int32)
    clients = deal(draw.clients, 0)
    return Seats(
        clients=clients,
        present=deal(present, False),
        staleness=deal(draw.staleness, 0),
        origin=deal(origin, len(order)),
        first=resident.first[clients],
        slot=clients,
    )


class StagesRun(NamedTuple):
    """What the stages of a round left behind: `reports` of each seat summed over stages, `totals` and who sent what for each stage."""

    aggregates: dict[str, Aggregate]
    contributors: tuple[dict[str, jax.Array], ...]
    totals: tuple[Totals, ...]
    clients: Tree
    links_server: Tree
    links_clients: Tree
    rejected: jax.Array
    reports: Report
    ticks: jax.Array
    steps_run: jax.Array


def run_stages(
    program: Program, stages: tuple[Stage, ...], tables: int, state: State, resident: Resident, seats: Seats, key: jax.Array
) -> StagesRun:
    """Runs stages over a seated cohort; who is rejected in one stage sits out the next and keeps its state.

    Args:
        program: static.
        stages: the stages.
        tables: index in ``resident.steps`` of the first stage's steps.
        state: the state before.
        resident: the population.
        seats: who takes part.
        key: of this round; folded with the client's id and the stage.

    Returns:
        What the stages left behind.
    """
    rows, present = seats.clients, seats.present
    states, links_states = store.take((state.clients, state.links_clients), seats.slot, program.mesh, program.partition)
    links_server, rejected = state.links_server, jnp.zeros_like(present)
    aggregates: dict[str, Aggregate] = {}
    totals, reports, contributors = [], [], []
    ticks = steps_run = jnp.int32(0)
    partly = tuple(program.modules.names.index(name) for name in resident.holds)
    for number, stage in enumerate(stages):
        shared = stage.broadcast(state.server, aggregates)
        measured = program.measured and number == len(stages) - 1
        work = Work(stage, measured, program.chain, program.modules, program.metrics, program.lanes, program.longest, len(rows), partly)
        keys = jax.vmap(lambda client, number=number: fold(key, client, number))(resident.ids[rows])
        table = tables + number
        info = resident.infos(rows, seats.staleness, table, len(stage.phases) - measured, program.modules)
        queue = Queue(seats.first, present & ~rejected, resident.steps[table][rows], keys, info, jnp.zeros_like(rows))
        outcome = over_devices(work, program)(shared, links_server, resident.arrays, queue, states, links_states)
        states, links_states, rejected = outcome.states, outcome.links_states, rejected | outcome.rejected
        server_key = fold(key, NOBODY, number)
        found = {name: Aggregate(*sums, program.modules) for name, sums in outcome.totals.channels.items()}
        with jax.named_scope("aggregate"):
            stacks = _stacks(program, outcome, queue)
        sent = {name: jnp.sum(stack.weights > 0, axis=0, dtype=jnp.int32) for name, stack in stacks.items()}
        contributors.append({name: sum_.contributors for name, sum_ in found.items()} | sent)
        with jax.named_scope("aggregate"):
            if stacks:
                links_server, reduced = program.chain.reduce(links_server, stacks, fold(server_key, 0))
                found |= reduced
            links_server, found = program.chain.server(links_server, found, fold(server_key, 1))
        aggregates |= found
        totals.append(outcome.totals)
        reports.append(outcome.reports)
        ticks, steps_run = ticks + outcome.ticks, steps_run + jnp.sum(jnp.where(queue.present[:, None], queue.steps, 0), dtype=jnp.int32)
    kept = jnp.where(present & ~rejected, seats.slot, store.NOWHERE)
    held = state.clients, state.links_clients
    clients, links_clients = store.give(held, kept, (states, links_states), program.mesh, program.partition)
    reports = jax.tree.map(lambda *leaves: sum(leaves), *reports)
    return StagesRun(
        aggregates, tuple(contributors), tuple(totals), clients, links_server, links_clients, rejected, reports, ticks, steps_run
    )


def run_final(program: Program, state: State, resident: Resident, seats: Seats) -> State:
    """Runs the algorithm's work after the federation on the seated clients; only client states change."""
    alone = program._replace(chain=Chain(()), measured=False)
    key = fold(state.key, Purpose.FINALISE, state.round)
    bare = state._replace(links_server=(), links_clients=())
    run = run_stages(alone, program.algorithm.final, len(program.algorithm.stages), bare, resident, seats, key)
    return state._replace(clients=run.clients)


def exchanged(program: Program, kinds: dict[str, Channel], state: State, resident: Resident) -> tuple[list[Tree], list[dict[str, Tree]]]:
    """What each stage sends to a client and which values the client returns; traced for their sizes.

    `kinds` is filled with the channels, less their values and weights.
    """
    aggregates: dict[str, Aggregate] = {}
    sent, values = [], []
    one = jnp.zeros(1, jnp.int32)
    for number, stage in enumerate(program.algorithm.stages):
        shared = stage.broadcast(state.server, aggregates)
        info = trees.index(resident.infos(one, one, number, len(stage.phases), program.modules), 0)
        local = stage.start(shared, trees.index(state.clients, 0), info, state.key)
        for phase in stage.phases:
            local = phase.enter(shared, local, info)
        channels, _, _ = stage.finish(shared, local, info)
        sent.append(stage.sent(shared))
        values.append({name: channel.value for name, channel in channels.items()})
        kinds.update({name: channel._replace(value=None, weight=None) for name, channel in channels.items()})
        ones = jnp.ones(len(program.modules.names), trees.float_dtype())
        aggregates |= {name: Aggregate(value, ones, ones.astype(jnp.int32), program.modules) for name, value in values[-1].items()}
    return sent, values


def over_devices(work: Work, program: Program) -> Callable[..., Outcome]:
    """The work queue on every device of the mesh: no collective inside the loop, one sum over devices after it.

    Replication is not checked (``check_vma=False``): a checked ``shard_map`` would sum the gradients of replicated
    parameters over devices, and clients would leak into each other.

    Along the axis ``model`` the compiler splits a client's work as its parameters are split, with collectives where they are needed;
    those are inside the loop, so that the queues walk in step (:mod:`fedjax_edu.engine.timetable`).

    Under ``vmap`` over members, runs that differ in their states, the clients of all of them wait in one queue: a batched loop
    would go on in every member until the last is done, and turn each branch into a copy of everything.
    """

    def on_devices(*arguments: Any) -> Outcome:
        return _mapped(work, program, arguments)

    def side_by_side(members: int, batched: list[Any], *arguments: Any) -> tuple[Outcome, Any]:
        shared, links_server, arrays, *seats = arguments
        if any(jax.tree.leaves(batched[2])):
            raise AssertionError("members train on one population")
        together = work._replace(members=members, own=(batched[0], batched[1]))
        queue, states, links_states = jax.tree.map(partial(_every_member, members), tuple(seats), tuple(batched[3:]))
        queue = queue._replace(member=jnp.broadcast_to(jnp.arange(members, dtype=jnp.int32)[:, None], queue.present.shape))
        outcome = _mapped(
            together,
            program,
            (shared, links_server, arrays, *jax.tree.map(partial(_by_device, program.mesh.shape[AXIS]), (queue, states, links_states))),
        )
        by_seat = outcome.states, outcome.links_states, outcome.rejected, outcome.reports, outcome.stacks
        states, links_states, rejected, reports, stacks = jax.tree.map(partial(_by_member, program.mesh.shape[AXIS], members), by_seat)
        ticks = jnp.broadcast_to(outcome.ticks, members)
        outcome = Outcome(outcome.totals, states, links_states, rejected, reports, stacks, ticks)
        return outcome, jax.tree.map(lambda _: True, outcome)

    mapped = jax.custom_batching.custom_vmap(on_devices)
    mapped.def_vmap(side_by_side)
    return mapped


def _every_member(members: int, leaf: jax.Array, batched: bool) -> jax.Array:
    """A leaf [seats, ...] or [members, seats, ...] as the latter."""
    return leaf if batched else jnp.broadcast_to(leaf, (members, *leaf.shape))


def _by_device(devices: int, leaf: jax.Array) -> jax.Array:
    """Seats [members, devices * Q, ...] as [devices * members * Q, ...]: each device has its seats of every member.

    Members are dealt from different devices on, or one device would have the longest client of each.
    """
    members, seats, *shape = leaf.shape
    block = np.subtract.outer(np.arange(devices), np.arange(members)) % devices
    return leaf.reshape(members, devices, -1, *shape)[np.arange(members), block].reshape(members * seats, *shape)


def _by_member(devices: int, members: int, leaf: jax.Array) -> jax.Array:
    """The other way round."""
    _, *shape = leaf.shape
    device = np.add.outer(np.arange(members), np.arange(devices)) % devices
    return leaf.reshape(devices, members, -1, *shape)[device, np.arange(members)[:, None]].reshape(members, -1, *shape)


def _mapped(work: Work, program: Program, arguments: tuple[Any, ...]) -> Outcome:
    mesh = program.mesh
    if mesh.shape[AXIS] == 1:
        return run_queue(work, *arguments)
    work = work._replace(in_step=mesh.size > mesh.shape[AXIS])
    everywhere, split = PartitionSpec(), PartitionSpec(AXIS)

    def on_device(*arguments: Any) -> tuple[Any, ...]:
        outcome = run_queue(work, *arguments)
        each = jnp.zeros(mesh.shape[AXIS], jnp.int32).at[jax.lax.axis_index(AXIS)].set(outcome.ticks)
        totals, each = jax.lax.psum((outcome.totals, each), AXIS)
        return tuple(outcome._replace(totals=totals, ticks=jnp.max(each)))

    mapped = jax.shard_map(
        on_device,
        mesh=mesh,
        in_specs=(everywhere, everywhere, split if program.streamed else everywhere, split, split, split),
        out_specs=(everywhere, split, split, split, split, split, everywhere),
        axis_names={AXIS},
        check_vma=False,
    )
    return Outcome(*mapped(*arguments))


def _stacks(program: Program, outcome: Outcome, queue: Queue) -> dict[str, Stack]:
    """Kept updates in an order that no layout changes, each device owning a slice of the coordinates of all clients."""
    kept = queue.present & ~outcome.rejected
    order = jnp.lexsort((queue.info.id, ~kept))
    columns = NamedSharding(program.mesh, PartitionSpec(None, program.mesh.axis_names))

    def place(leaf: jax.Array) -> jax.Array:
        rows = leaf[order].reshape(len(order), -1)
        if program.mesh.size > 1 and rows.shape[1] % program.mesh.size == 0:
            rows = jax.lax.with_sharding_constraint(rows, columns)
        return rows.reshape(leaf.shape)

    return {
        name: Stack(jax.tree.map(place, values), weights[order], queue.info.id[order], program.modules)
        for name, (values, weights) in outcome.stacks.items()
    }


def feedback(round_: jax.Array, resident: Resident, seats: Seats, run: StagesRun, applied: jax.Array) -> Feedback:
    """What samplers learn from a round."""
    count = jnp.maximum(run.reports.examples, 1)
    return Feedback(
        round=round_,
        clients=seats.clients,
        accepted=seats.present & ~run.rejected,
        loss=run.reports.loss / count,
        square=run.reports.squares / count,
        examples=resident.examples[seats.clients],
        applied=applied,
    )


def losses(program: Program, state: State, resident: Resident, clients: jax.Array) -> jax.Array:
    """Mean losses of clients (int32 [K]) on their own examples under the model that they would predict with now; 0 without examples."""
    stage = measuring_stage(program.algorithm, program.measuring_batch)
    seats = seat(synchronous(clients), resident, program.mesh.shape[AXIS])
    bare = state._replace(links_server=(), links_clients=())
    alone = program._replace(chain=Chain(()), measured=False)
    key = fold(state.key, Purpose.MEASURE, state.round)
    run = run_stages(alone, (stage,), len(resident.steps) - 1, bare, resident, seats, key)
    means = run.reports.loss / jnp.maximum(run.reports.examples, 1)
    return jnp.zeros(clients.shape, means.dtype).at[seats.origin].set(jnp.where(seats.present, means, 0), mode="drop")


def _rejected_ids(flags: jax.Array, ids: jax.Array) -> jax.Array:
    (at,) = jnp.nonzero(flags, size=len(flags), fill_value=0)
    return jnp.where(jnp.arange(len(flags)) < jnp.sum(flags), ids[at], jnp.uint32(NOBODY))


def state_sharding(mesh: Mesh, clients: int, partition: Partition, form: State, stacked: bool = False) -> State:
    """Where a state of this form, or several stacked ones, live.

    Client states are split over the axis ``clients`` when their number allows, whatever is shaped like a parameter as the parameter is.
    """
    spread = AXIS if store.is_split(clients, mesh) else None
    first = {"clients": spread, "links_clients": spread}
    specs = {name: partition.specs(part, first.get(name), stacked) for name, part in form._asdict().items()}
    return jax.tree.map(partial(NamedSharding, mesh), State(**specs))
