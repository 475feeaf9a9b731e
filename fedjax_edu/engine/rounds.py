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
from fedjax_edu.engine.cohorts.sampler import Bound, Feedback, synchronous
from fedjax_edu.engine.lanes import Outcome, Queue, Totals, Work, measuring_stage, run_queue
from fedjax_edu.engine.partition import Partition
from fedjax_edu.engine.plan import AXIS
from fedjax_edu.engine.resident import Feed, Resident
from fedjax_edu.engine.seating import Seating, Seats, seat
from fedjax_edu.engine.state import State
from fedjax_edu.engine.store import share

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
        seating: which device trains whom.
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
    seating: Seating

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
        seats = seat(draw, resident, program.seating)
    if feed is not None:
        resident = resident._replace(arrays=feed.arrays)
        seats = seats._replace(first=feed.first[number], slot=seats.slot if feed.slots is None else feed.slots[number])
    client_key = fold(state.key, Purpose.CLIENT, state.round)
    run = run_stages(program, program.algorithm.stages, 0, state, resident, seats, client_key, len(draw.clients))
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
        rejected_ids=_rejected_ids(run.rejected, resident.ids[seats.clients], len(draw.clients)) if program.report_rejected else None,
    )
    return after, record


def sum_over_stages(totals: tuple[Totals, ...], field: str) -> Any:
    """Leafwise sum of one field of the stages' totals."""
    return jax.tree.map(lambda *leaves: sum(leaves), *[getattr(each, field) for each in totals])


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
    program: Program, stages: tuple[Stage, ...], tables: int, state: State, resident: Resident, seats: Seats, key: jax.Array, capacity: int
) -> StagesRun:
    """Runs stages over a seated cohort; who is rejected in one stage keeps the state that it had before it and sits out the next.

    Args:
        program: static.
        stages: the stages.
        tables: index in ``resident.steps`` of the first stage's steps.
        state: the state before.
        resident: the population.
        seats: who takes part.
        key: of this round; folded with the client's id and the stage.
        capacity: clients that a cohort has at most.

    Returns:
        What the stages left behind.
    """
    rows, present = seats.clients, seats.present
    states, links_states = state.clients, state.links_clients
    links_server, rejected = state.links_server, jnp.zeros_like(present)
    aggregates: dict[str, Aggregate] = {}
    totals, reports, contributors = [], [], []
    ticks = steps_run = jnp.int32(0)
    partly = tuple(program.modules.names.index(name) for name in resident.holds)
    for number, stage in enumerate(stages):
        shared = stage.broadcast(state.server, aggregates)
        measured = program.measured and number == len(stages) - 1
        work = Work(stage, measured, program.chain, program.modules, program.metrics, program.lanes, program.longest, capacity, partly)
        keys = jax.vmap(lambda client, number=number: fold(key, client, number))(resident.ids[rows])
        table = tables + number
        info = resident.infos(rows, seats.staleness, table, len(stage.phases) - measured, program.modules)
        queue = Queue(seats.first, present & ~rejected, resident.steps[table][rows], keys, info, seats.slot, jnp.zeros_like(rows))
        outcome = over_devices(work, program)(shared, links_server, resident.arrays, queue, states, links_states)
        states = states if outcome.states is None else outcome.states
        links_states, rejected = outcome.links_states, rejected | outcome.rejected
        server_key = fold(key, NOBODY, number)
        found = {name: Aggregate(*sums, program.modules) for name, sums in outcome.totals.channels.items()}
        with jax.named_scope("aggregate"):
            stacks = _stacks(program, outcome, queue, capacity)
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
    reports = jax.tree.map(lambda *leaves: sum(leaves), *reports)
    return StagesRun(
        aggregates, tuple(contributors), tuple(totals), states, links_server, links_states, rejected, reports, ticks, steps_run
    )


def run_final(program: Program, state: State, resident: Resident, seats: Seats) -> State:
    """Runs the algorithm's work after the federation on the seated clients; only client states change."""
    alone = program._replace(chain=Chain(()), measured=False)
    key = fold(state.key, Purpose.FINALISE, state.round)
    bare = state._replace(links_server=(), links_clients=())
    run = run_stages(alone, program.algorithm.final, len(program.algorithm.stages), bare, resident, seats, key, len(seats.clients))
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
        turns = _turns(program.seating, members)
        queue = jax.tree.map(partial(_by_device, turns, program.seating.devices), queue)
        outcome = _mapped(together, program, (shared, links_server, arrays, queue, states, links_states))
        by_seat = outcome.rejected, outcome.reports, outcome.stacks
        rejected, reports, stacks = jax.tree.map(partial(_by_member, turns, program.seating.devices), by_seat)
        ticks = jnp.broadcast_to(outcome.ticks, members)
        outcome = outcome._replace(rejected=rejected, reports=reports, stacks=stacks, ticks=ticks)
        return outcome, jax.tree.map(lambda _: True, outcome)

    mapped = jax.custom_batching.custom_vmap(on_devices)
    mapped.def_vmap(side_by_side)
    return mapped


def _every_member(members: int, leaf: jax.Array, batched: bool) -> jax.Array:
    """A leaf [...] or [members, ...] as the latter."""
    return leaf if batched else jnp.broadcast_to(leaf, (members, *leaf.shape))


def _turns(plan: Seating, members: int) -> np.ndarray:
    """By how many devices the seats of each member are turned: one device would else have the longest client of each. Homes stay."""
    return np.zeros(members, int) if plan.hosted else np.arange(members) % plan.devices


def _by_device(turns: np.ndarray, devices: int, leaf: jax.Array) -> jax.Array:
    """Seats [members, devices * Q, ...] as [devices * members * Q, ...]: each device has its seats of every member."""
    members, seats, *shape = leaf.shape
    block = np.subtract.outer(np.arange(devices), turns) % devices
    return leaf.reshape(members, devices, -1, *shape)[np.arange(members), block].reshape(members * seats, *shape)


def _by_member(turns: np.ndarray, devices: int, leaf: jax.Array) -> jax.Array:
    """The other way round."""
    members, (_, *shape) = len(turns), leaf.shape
    device = np.add.outer(turns, np.arange(devices)) % devices
    return leaf.reshape(devices, members, -1, *shape)[device, np.arange(members)[:, None]].reshape(members, -1, *shape)


def _mapped(work: Work, program: Program, arguments: tuple[Any, ...]) -> Outcome:
    mesh = program.mesh
    if mesh.shape[AXIS] == 1:
        return run_queue(work, *arguments)
    work = work._replace(in_step=mesh.size > mesh.shape[AXIS])
    everywhere, split = PartitionSpec(), PartitionSpec(AXIS)
    at_home = program.seating.hosted is not None
    kept = PartitionSpec(*[None] * (work.members is not None), AXIS) if at_home else everywhere

    def on_device(*arguments: Any) -> tuple[Any, ...]:
        outcome, queue = run_queue(work, *arguments), arguments[3]
        each = jnp.zeros(mesh.shape[AXIS], jnp.int32).at[jax.lax.axis_index(AXIS)].set(outcome.ticks)
        totals, each = jax.lax.psum((outcome.totals, each), AXIS)
        outcome = outcome._replace(totals=totals, ticks=jnp.max(each))
        if at_home:
            return tuple(outcome)
        rows = (queue.slot,) if work.members is None else (queue.member, queue.slot)
        states, links_states = share((outcome.states, outcome.links_states), rows, queue.present & ~outcome.rejected, AXIS)
        return tuple(outcome._replace(states=states, links_states=links_states))

    mapped = jax.shard_map(
        on_device,
        mesh=mesh,
        in_specs=(everywhere, everywhere, split if program.streamed else everywhere, split, kept, kept),
        out_specs=(everywhere, kept, kept, split, split, split, everywhere),
        axis_names={AXIS},
        check_vma=False,
    )
    return Outcome(*mapped(*arguments))


def _stacks(program: Program, outcome: Outcome, queue: Queue, capacity: int) -> dict[str, Stack]:
    """Kept updates in an order that no layout changes, each device owning a slice of the coordinates of all clients."""
    kept = queue.present & ~outcome.rejected
    order = jnp.lexsort((queue.info.id, ~kept))[:capacity]
    columns = NamedSharding(program.mesh, PartitionSpec(None, program.mesh.axis_names))

    def place(leaf: jax.Array) -> jax.Array:
        rows = leaf[order].reshape(len(order), -1)
        if program.mesh.size > 1 and rows.shape[1] % program.mesh.size == 0:
            rows = jax.lax.with_sharding_constraint(rows, columns)
        return rows.reshape(len(order), *leaf.shape[1:])

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
    seats = seat(synchronous(clients), resident, program.seating)
    bare = state._replace(links_server=(), links_clients=())
    alone = program._replace(chain=Chain(()), measured=False)
    key = fold(state.key, Purpose.MEASURE, state.round)
    run = run_stages(alone, (stage,), len(resident.steps) - 1, bare, resident, seats, key, len(clients))
    means = run.reports.loss / jnp.maximum(run.reports.examples, 1)
    return jnp.zeros(clients.shape, means.dtype).at[seats.origin].set(jnp.where(seats.present, means, 0), mode="drop")


def _rejected_ids(flags: jax.Array, ids: jax.Array, capacity: int) -> jax.Array:
    (at,) = jnp.nonzero(flags, size=capacity, fill_value=0)
    return jnp.where(jnp.arange(capacity) < jnp.sum(flags), ids[at], jnp.uint32(NOBODY))


def state_sharding(mesh: Mesh, plan: Seating, partition: Partition, form: State, stacked: bool = False) -> State:
    """Where a state of this form, or several stacked ones, live.

    Client states are where clients are at home, whatever is shaped like a parameter is split as the parameter is.
    """
    spread = AXIS if plan.hosted else None
    first = {"clients": spread, "links_clients": spread}
    specs = {name: partition.specs(part, first.get(name), stacked) for name, part in form._asdict().items()}
    return jax.tree.map(partial(NamedSharding, mesh), State(**specs))
