"""The work queue: L lanes train the clients of one device's queue, each lane one client after another.

A tick is one local step in every lane. When a lane's client is done, its update passes the client half of the aggregation
chain, joins the running sums, and the lane takes the next client. Memory is O(lanes * params) whatever the cohort.
Finished lanes are flushed one by one: each client costs one pass over its parameters, never one over all lanes.
"""

import itertools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fedjax_edu.core import trees
from fedjax_edu.core.algorithm import Algorithm, Channel, ClientInfo, Phase, Report, Stage, observe
from fedjax_edu.core.chain import Chain
from fedjax_edu.core.keys import ClientPurpose, fold
from fedjax_edu.core.link import Context
from fedjax_edu.core.local import Batch, FullPass, LocalTraining
from fedjax_edu.core.loss import LossFunction
from fedjax_edu.core.modules import Modules
from fedjax_edu.core.trees import Tree
from fedjax_edu.engine.drawing import draw, order_number, step_purpose
from fedjax_edu.engine.plan import AXIS
from fedjax_edu.engine.store import NOWHERE
from fedjax_edu.engine.timetable import Timetable, timetable


class Queue(NamedTuple):
    """Clients waiting for one device's lanes, longest first; leaves [Q].

    Args:
        first: int32, row of the population where the client begins.
        present: bool, whether the client takes part; the others are skipped.
        steps: int32 [Q, phases], local steps of each phase, a measuring phase included.
        key: the client's key of this round.
        info: what algorithms may know of it.
        slot: int32, row of its state among those that the device has.
        member: int32, the run that the client trains in, where several share the queue; 0 where there is one.
    """

    first: jax.Array
    present: jax.Array
    steps: jax.Array
    key: jax.Array
    info: ClientInfo
    slot: jax.Array
    member: jax.Array


class Totals(NamedTuple):
    """Sums over the accepted clients; with a leading axis [members] where several runs share the queue.

    Args:
        channels: ``{name: (sum of weight times value, weights [modules], contributors int32 [modules])}``.
        report: what training observed, each client scaled to its weight.
        after: the same for the measuring phase, or None.
        participants: int32.
        holders: int32 [modules], participants that hold each module.
        examples: int32, rows read by training steps.
        steps: int32, training steps.
        links: sums of the links' statistics.
    """

    channels: dict[str, tuple[Tree, jax.Array, jax.Array]]
    report: Report
    after: Report | None
    participants: jax.Array
    holders: jax.Array
    examples: jax.Array
    steps: jax.Array
    links: dict[str, jax.Array]


class Outcome(NamedTuple):
    """What one device hands back.

    Args:
        totals: sums over the accepted clients.
        states: client states as the device was given them, with those of accepted clients new; None where the stage changes none.
        links_states: the same of the aggregation chain.
        rejected: bool [Q], whose update was not finite.
        reports: what each client's training observed, leaves [Q].
        stacks: private channels where the chain needs every update: ``{name: (values [Q, ...], weights [Q, modules])}``.
        ticks: of the loop.
    """

    totals: Totals
    states: Tree
    links_states: Tree
    rejected: jax.Array
    reports: Report
    stacks: dict[str, tuple[Tree, jax.Array]]
    ticks: jax.Array


class Work(NamedTuple):
    """What is static about a stage's work.

    Args:
        stage: the algorithm's stage, with the measuring phase, if any, as its last phase.
        measured: whether the last phase measures.
        links: the aggregation chain, of which lanes run the client half.
        modules: the model's modules.
        metrics: names of the loss's metrics.
        lanes: clients trained at the same time.
        longest: examples of the largest client.
        seats: clients that a round has room for, over all devices.
        partly: modules in which clients have different parts, by their index.
        members: runs that share the queue; None where there is one, and then nothing has an axis of members.
        own: for each leaf of what the stage broadcast, and of the links' server state, whether it has an axis of members.
        in_step: whether all devices take each loop and each branch equally often, as collectives inside of them need.
    """

    stage: Stage
    measured: bool
    links: Chain
    modules: Modules
    metrics: tuple[str, ...]
    lanes: int
    longest: int
    seats: int
    partly: tuple[int, ...]
    members: int | None = None
    own: tuple[Tree, Tree] = ((), ())
    in_step: bool = False

    def of(self, member: jax.Array, shared: Tree, links_server: Tree) -> tuple[Tree, Tree]:
        """What the stage broadcast, and the links' server state, for one member."""
        if self.members is None:
            return shared, links_server
        return jax.tree.map(lambda leaf, own: leaf[member] if own else leaf, (shared, links_server), self.own)


class _Carry(NamedTuple):
    local: Tree
    slot: jax.Array
    phase: jax.Array
    step: jax.Array
    done: jax.Array
    free: jax.Array
    report: Report
    after: Report | None
    head: jax.Array
    outcome: Outcome


def measuring(stage: Stage, loss: LossFunction, batch_size: int | None) -> Phase:
    """A last phase that reads the losses of the trained model and changes nothing."""

    def step(shared: Tree, local: Tree, batch: Batch, key: jax.Array) -> tuple[Tree, Report]:
        return local, observe(loss(stage.trained(shared, local), batch.examples, key, batch.valid), batch.valid)

    return Phase(FullPass(batch_size=batch_size), lambda shared, local, info: local, step)


def measuring_stage(algorithm: Algorithm, batch_size: int | None) -> Stage:
    """A stage that only reads losses: of the model that each client would predict with."""
    bare = Stage(
        broadcast=lambda server, aggregates: server,
        start=lambda server, state, info, key: algorithm.model(server, state),
        phases=(),
        finish=lambda server, local, info: ({}, None, jnp.ones(())),
        sent=lambda server: (),
        trained=lambda server, local: local,
    )
    return bare._replace(phases=(measuring(bare, algorithm.loss, batch_size),))


def run_queue(work: Work, shared: Tree, links_server: Tree, data: Tree, queue: Queue, states: Tree, links_states: Tree) -> Outcome:
    """Trains every present client of one device's queue.

    Args:
        work: the static part.
        shared: what the stage broadcast.
        links_server: server state of the aggregation chain.
        data: the population's arrays, leaves [N, ...].
        queue: the clients, leaves [Q, ...].
        states: the client states that this device has, leaves [rows, ...], or [members, rows, ...] where several runs share the queue.
        links_states: the same of the aggregation chain.

    Returns:
        An :class:`Outcome` of this device; nothing of it has crossed devices yet.
    """
    # What lanes hold alike they skip alike: an encoder that no lane's client holds takes no time.
    lacking = [~queue.info.held[:, module] for module in work.partly]
    order = jnp.lexsort((-jnp.sum(queue.steps, axis=1), *lacking, ~queue.present))
    count = jnp.sum(queue.present).astype(jnp.int32)
    last = queue.present.shape[0] - 1
    lanes = min(work.lanes, last + 1)
    phases = work.stage.phases
    final = len(phases) - 1
    is_training = jnp.array([isinstance(phase.data, LocalTraining) for phase in phases])
    zero = _zero_report(work.metrics)
    times = timetable(queue.steps[order], count, lanes) if work.in_step else None
    together = None if times is None else Timetable(jax.lax.all_gather(times, AXIS))

    def row(slot: jax.Array) -> jax.Array:
        return order[jnp.minimum(slot, last)]

    def given(at: jax.Array) -> tuple[Tree, Tree]:
        own, own_links = work.of(queue.member[at], shared, links_server)
        return (work.modules.keep_held(own, queue.info.held[at]) if work.partly else own), own_links

    def place(at: jax.Array, slot: jax.Array) -> Any:
        return slot if work.members is None else (queue.member[at], slot)

    def begin(new: Tree | None, slot: jax.Array) -> Tree:
        at = row(slot)
        state = trees.index(states if new is None else new, place(at, queue.slot[at]))
        info, shared = trees.index(queue.info, at), given(at)[0]
        if work.partly:
            state = work.modules.keep_held(state, info.held)
        local = work.stage.start(shared, state, info, fold(queue.key[at], ClientPurpose.START))
        return phases[0].enter(shared, local, info)

    def advance(number: int, local: Tree, slot: jax.Array, step: jax.Array) -> tuple[Tree, Report]:
        at, phase = row(slot), phases[number]
        rows, valid = draw(phase.data, queue.key[at], order_number(phases, number), step, queue.info.examples[at], work.longest)
        examples = trees.index(data, queue.first[at] + rows)
        local, report = phase.step(given(at)[0], local, Batch(examples, valid), fold(queue.key[at], *step_purpose(phases, number), step))
        return local, zero if report is None else report

    def tick(carry: _Carry) -> _Carry:
        active = carry.slot < count
        with jax.named_scope("train"):
            for number in range(final + 1):
                carry = _advance_phase(number, active, carry)
        step = carry.step + 1
        needed = jax.vmap(lambda slot, phase: queue.steps[row(slot), phase])(carry.slot, carry.phase)
        outcome = carry.outcome._replace(ticks=carry.outcome.ticks + 1)
        carry = carry._replace(step=step, done=active & (step >= needed), outcome=outcome)
        entering, leaving = (None, None) if together is None else (together.entering(outcome.ticks), together.leaving(outcome.ticks))
        if final > 0:
            carry = _each_lane(lambda c: c.done & (c.phase < final), enter_next, carry, entering)
        # Two loops, one that reads lanes and one that writes them: in a single one XLA would copy all lanes for each client.
        with jax.named_scope("flush"):
            return _each_lane(lambda c: c.free, refill, _each_lane(lambda c: c.done, flush, carry, leaving), leaving)

    def _advance_phase(number: int, active: jax.Array, carry: _Carry) -> _Carry:
        def step_all(local: Tree, report: Report | None) -> tuple[Tree, Report]:
            local, observed = over_lanes(lambda *lane: advance(number, *lane), lanes)(local, carry.slot, carry.step)
            return local, trees.add(report, observed)

        measures = work.measured and number == final
        report = carry.after if measures else carry.report
        if final == 0:
            local, report = step_all(carry.local, report)
        else:
            here = active & (carry.phase == number)

            def step_here(local: Tree, report: Report | None) -> tuple[Tree, Report]:
                return _select_lanes(here, step_all(local, report), (local, report))

            some = jnp.any(here) if together is None else together.busy(carry.outcome.ticks, number)
            local, report = jax.lax.cond(some, step_here, lambda *same: same, carry.local, report)
        carry = carry._replace(local=local)
        return carry._replace(after=report) if measures else carry._replace(report=report)

    def enter_next(carry: _Carry, lane: jax.Array, here: jax.Array | bool) -> _Carry:
        at = row(carry.slot[lane])
        info, local, shared = trees.index(queue.info, at), trees.index(carry.local, lane), given(at)[0]
        branches = [lambda local, enter=phase.enter: enter(shared, local, info) for phase in phases[1:]]
        if together is None:
            local = jax.lax.switch(carry.phase[lane], branches, local)
        else:
            local = jax.tree.map(lambda *each: jax.lax.select_n(carry.phase[lane], *each), *(enter(local) for enter in branches))
        return carry._replace(
            local=trees.put(carry.local, lane, local),
            phase=carry.phase.at[lane].add(1),
            step=carry.step.at[lane].set(0),
            done=carry.done.at[lane].set(False),
        )

    def flush(carry: _Carry, lane: jax.Array, here: jax.Array | bool) -> _Carry:
        at = row(carry.slot[lane])
        to = jnp.where(here, at, last + 1)
        info, outcome = trees.index(queue.info, at), carry.outcome
        shared, links_server = given(at)
        own = place(at, queue.slot[at])
        channels, state, weight = work.stage.finish(shared, trees.index(carry.local, lane), info)
        if work.partly:
            channels = {name: channel.shared(work.modules, info.share) for name, channel in channels.items()}
            state = work.modules.select_held(info.held, state, trees.index(outcome.states, own))
        accepted = _acceptable(work, channels, state)
        context = Context(fold(queue.key[at], ClientPurpose.LINKS), info, work.modules)
        sent, links_state, statistics = work.links.client(links_server, trees.index(outcome.links_states, own), channels, context)
        if sent is not channels:
            accepted &= _acceptable(work, sent, links_state)
        kept = {name: sent[name] for name in outcome.stacks}
        summed = {name: channel for name, channel in sent.items() if name not in kept}
        after = None if carry.after is None else trees.index(carry.after, lane)
        report = trees.index(carry.report, lane)
        steps = jnp.sum(jnp.where(is_training, queue.steps[at], 0))
        before = outcome.totals if work.members is None else trees.index(outcome.totals, queue.member[at])
        totals = _accumulate(work.modules, before, summed, weight, report, after, info.held, steps, statistics)
        totals = trees.select(accepted & here, totals, before)
        stacks = {name: trees.put(outcome.stacks[name], to, _stacked(channel, accepted, work.modules)) for name, channel in kept.items()}
        kept_at = place(at, jnp.where(accepted & here, queue.slot[at], NOWHERE))
        outcome = outcome._replace(
            totals=totals if work.members is None else trees.put(outcome.totals, queue.member[at], totals),
            states=trees.put(outcome.states, kept_at, state),
            links_states=trees.put(outcome.links_states, kept_at, links_state),
            rejected=outcome.rejected.at[to].set(~accepted),
            reports=trees.put(outcome.reports, to, report),
            stacks=stacks,
        )
        return carry._replace(done=carry.done.at[lane].set(False), free=carry.free.at[lane].set(True), outcome=outcome)

    def refill(carry: _Carry, lane: jax.Array, here: jax.Array | bool) -> _Carry:
        slot = jnp.minimum(carry.head, count)
        return carry._replace(
            local=trees.put(carry.local, lane, begin(carry.outcome.states, slot)),
            slot=carry.slot.at[lane].set(slot),
            phase=carry.phase.at[lane].set(0),
            step=carry.step.at[lane].set(0),
            free=carry.free.at[lane].set(False),
            report=trees.put(carry.report, lane, zero),
            after=None if carry.after is None else trees.put(carry.after, lane, zero),
            head=jnp.minimum(carry.head + jnp.where(here, 1, 0), count),
        )

    slot = jnp.minimum(jnp.arange(lanes, dtype=jnp.int32), count)
    local = jax.vmap(lambda slot: begin(None, slot))(slot)
    spread = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (lanes, *leaf.shape)), zero)
    some = trees.index(links_states, place(jnp.int32(0), queue.slot[0]))
    totals, stacks, changes = _empty(work, shared, links_server, local, queue, some)
    empty = Outcome(
        totals=totals,
        states=states if changes else None,
        links_states=links_states,
        rejected=jnp.zeros(last + 1, bool),
        reports=jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (last + 1,)), zero),
        stacks=stacks,
        ticks=jnp.int32(0),
    )
    carry = _Carry(
        local=local,
        slot=slot,
        phase=jnp.zeros(lanes, jnp.int32),
        step=jnp.zeros(lanes, jnp.int32),
        done=jnp.zeros(lanes, bool),
        free=jnp.zeros(lanes, bool),
        report=spread,
        after=spread if work.measured else None,
        head=jnp.minimum(jnp.int32(lanes), count),
        outcome=empty,
    )

    def unfinished(carry: _Carry) -> jax.Array:
        return jnp.any(carry.slot < count) if together is None else carry.outcome.ticks < together.ticks

    return jax.lax.while_loop(unfinished, tick, carry).outcome


def over_lanes(function: Callable[..., Any], lanes: int) -> Callable[..., Any]:
    """Maps a function over the lane axis; a single lane has no axis inside, since XLA:CPU multiplies plain matrices faster."""
    if lanes > 1:
        return jax.vmap(function)
    return lambda *arguments: jax.tree.map(lambda leaf: leaf[None], function(*trees.index(arguments, 0)))


def _each_lane(flag: Callable[[_Carry], jax.Array], work: Callable[..., _Carry], carry: _Carry, turns: jax.Array | None = None) -> _Carry:
    """Does `work` for one flagged lane after another; it has to lower the flag.

    With a number of `turns`, those that find no flag work on the lane behind the last, where nothing can be written.
    """

    def body(carry: _Carry) -> _Carry:
        # What is the same in every turn of a loop, XLA moves out of it, here into every tick; with one lane that is all the work.
        carry = jax.lax.optimization_barrier(carry)
        flags = flag(carry)
        if turns is None:
            return work(carry, jnp.argmax(flags), True)
        here = jnp.any(flags)
        return work(carry, jnp.where(here, jnp.argmax(flags), len(flags)), here)

    if turns is not None:
        return jax.lax.fori_loop(0, turns, lambda _, carry: body(carry), carry)
    return jax.lax.while_loop(lambda carry: jnp.any(flag(carry)), body, carry)


def _select_lanes(here: jax.Array, new: Tree, old: Tree) -> Tree:
    return jax.tree.map(lambda a, b: jnp.where(here.reshape(-1, *(1,) * (a.ndim - 1)), a, b), new, old)


def _zero_report(metrics: tuple[str, ...]) -> Report:
    zero = jnp.zeros((), trees.float_dtype())
    return Report(zero, zero, zero, dict.fromkeys(metrics, (zero, zero)))


def _empty(
    work: Work, shared: Tree, links_server: Tree, local: Tree, queue: Queue, links_state: Tree
) -> tuple[Totals, dict[str, tuple[Tree, jax.Array]], bool]:
    """Zeros in the shape of the totals and of the stacks, and whether client states change, found by tracing one client's end."""
    private: dict[str, bool] = {}

    def finish() -> Any:
        info = trees.index(queue.info, 0)
        own, own_links = work.of(jnp.int32(0), shared, links_server)
        channels, state, _ = work.stage.finish(own, trees.index(local, 0), info)
        context = Context(queue.key[0], info, work.modules)
        channels, _, statistics = work.links.client(own_links, links_state, channels, context)
        private.update({name: channel.private for name, channel in channels.items()})
        return {name: channel.value for name, channel in channels.items()}, statistics, state

    values, statistics, state = jax.eval_shape(finish)
    modules, dtype = len(work.modules.names), trees.float_dtype()
    channels, stacks = {}, {}
    for name, value in values.items():
        if work.links.stacked and private[name]:
            rows = len(queue.present)
            each = jax.tree.map(lambda leaf, rows=rows: jnp.zeros((rows, *leaf.shape), leaf.dtype), value)
            stacks[name] = (each, jnp.zeros((rows, modules), dtype))
        else:
            total = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, trees.sum_dtype(leaf)), value)
            channels[name] = (total, jnp.zeros(modules, dtype), jnp.zeros(modules, jnp.int32))
    zero, report = jnp.int32(0), _zero_report(work.metrics)
    links = {name: jnp.zeros((), dtype) for name in statistics}
    holders = jnp.zeros(modules, jnp.int32)
    totals = Totals(channels, report, report if work.measured else None, zero, holders, zero, zero, links)
    if work.members is not None:
        totals = jax.tree.map(lambda leaf: jnp.zeros((work.members, *leaf.shape), leaf.dtype), totals)
    return totals, stacks, state is not None


def _acceptable(work: Work, channels: dict[str, Channel], state: Tree) -> jax.Array:
    """Whether a state is finite, and every weight and weighted value so small that the sum over a cohort of such clients is finite too.

    So whether a client is accepted depends on no other, in whatever order and on whatever device their updates are summed.
    """

    def flags(channel: Channel) -> Iterator[jax.Array]:
        weight = jnp.broadcast_to(channel.weight, len(work.modules.names)).astype(trees.float_dtype())
        yield jnp.abs(weight) <= jnp.finfo(weight.dtype).max / (2 * work.seats)
        for leaf, owner in zip(jax.tree.leaves(channel.value), jax.tree.leaves(work.modules.owners(channel.value)), strict=True):
            if jnp.issubdtype(leaf.dtype, jnp.inexact):
                limit = jnp.finfo(trees.sum_dtype(leaf)).max / (2 * work.seats)
                yield jnp.abs(leaf).astype(trees.sum_dtype(leaf)) <= limit / jnp.maximum(weight[owner], 1).astype(trees.sum_dtype(leaf))

    return trees.all_hold(itertools.chain(trees.finite(state), *map(flags, channels.values())))


def _stacked(channel: Channel, accepted: jax.Array, modules: Modules) -> tuple[Tree, jax.Array]:
    """A row of a stack: the value and its weights, both 0 for a rejected client."""
    weights = jnp.broadcast_to(channel.weight, len(modules.names)).astype(trees.float_dtype())
    row = (channel.value, weights)
    return trees.select(accepted, row, jax.tree.map(jnp.zeros_like, row))


def _accumulate(
    modules: Modules,
    totals: Totals,
    channels: dict[str, Channel],
    weight: jax.Array,
    report: Report,
    after: Report | None,
    held: jax.Array,
    steps: jax.Array,
    statistics: dict[str, jax.Array],
) -> Totals:
    """Totals with one more client. A report is scaled so that a client counts with its weight, however many rows it read."""
    joined = {}
    for name, channel in channels.items():
        total, weights, contributors = totals.channels[name]
        share = jnp.broadcast_to(channel.weight, weights.shape).astype(weights.dtype)

        def join(sum_: jax.Array, value: jax.Array, owner: int, share: jax.Array = share) -> jax.Array:
            scaled = share[owner].astype(sum_.dtype) * value.astype(sum_.dtype)
            return jnp.where(share[owner] > 0, sum_ + scaled, sum_)

        total = jax.tree.map(join, total, channel.value, modules.owners(channel.value))
        joined[name] = (total, weights + share, contributors + (share > 0).astype(jnp.int32))

    def join_report(sums: Report, report: Report) -> Report:
        scale = weight.astype(report.loss.dtype) / jnp.maximum(report.examples, 1)
        return jax.tree.map(lambda a, b: a + scale * b, sums, report)

    return Totals(
        channels=joined,
        report=join_report(totals.report, report),
        after=None if totals.after is None or after is None else join_report(totals.after, after),
        participants=totals.participants + 1,
        holders=totals.holders + held.astype(jnp.int32),
        examples=totals.examples + report.examples.astype(jnp.int32),
        steps=totals.steps + steps.astype(jnp.int32),
        links={name: totals.links[name] + value.astype(totals.links[name].dtype) for name, value in statistics.items()},
    )
