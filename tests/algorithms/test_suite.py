"""Every algorithm of the table through every row of the design's list of equivalences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType

import fedjax_edu as fe
from fedjax_edu.engine.cohorts.sampler import Cohort, synchronous
from tests.algorithms.table import ALGORITHMS, Row
from tests.reference.problems import SIZES, Linear, identical, largest_gap

ROUNDS = 3
LOCAL = fe.LocalTraining(epochs=2, batch_size=4)
ONE_DEVICE = jax.make_mesh((1,), ("clients",), axis_types=(AxisType.Auto,))
TOLERANCE = 3e-6


def engine(row: Row, problem=None, *, population=None, cohort=None, lanes=3, mesh=ONE_DEVICE, chunk=4, local=LOCAL, **options) -> fe.Engine:
    problem = problem or Linear()
    return fe.Engine(
        population or problem.population(),
        row.make(problem.loss, local=local),
        cohort=cohort or fe.cohorts.uniform(6),
        aggregator=fe.aggregation.mean(),
        modules=fe.modules.assign(problem.params, personal=row.personal) if row.personal else None,
        plan=fe.ExecutionPlan(lanes=lanes, mesh=mesh, chunk=chunk),
        **options,
    )


def run(built: fe.Engine, params=None, rounds: int = ROUNDS):
    return built.run(built.init(Linear().params if params is None else params, seed=3), rounds)


@pytest.fixture(scope="module", params=ALGORITHMS, ids=lambda row: row.name)
def row(request) -> Row:
    return request.param


@pytest.fixture(scope="module")
def built(row) -> fe.Engine:
    return engine(row)


@pytest.fixture(scope="module")
def straight(built):
    return run(built)


WORK = {
    "epochs of batches": LOCAL,
    "whole clients": fe.LocalTraining(steps=3, shuffle=False),
    "steps across epochs": fe.LocalTraining(steps=5, batch_size=3),
    "batches in stored order": fe.LocalTraining(epochs=2, batch_size=4, shuffle=False),
}


@pytest.mark.parametrize("work", WORK)
def test_equals_its_numpy_twin(row, work):
    if row.twin is None:
        pytest.skip("the twin of this row is the row with plain optimisers")
    if row is not ALGORITHMS[0] and work in list(WORK)[2:]:
        pytest.skip("how rows are drawn is no part of the algorithm: the first row tries all ways")
    with jax.enable_x64(True):
        problem = Linear(np.float64)
        built = engine(row, problem, local=WORK[work])
        start = built.init(problem.params, seed=5)
        state, info = built.run(start, ROUNDS)
        history = row.twin(problem, problem.params, *built.schedule(start, ROUNDS))
        assert largest_gap(state.params, history[-1][0]) < 1e-12
        np.testing.assert_allclose(info.loss, [loss for _, loss in history], rtol=1e-12)


@pytest.mark.parametrize("lanes", [1, 6])
def test_lanes_do_not_change_results(row, straight, lanes):
    state, info = run(engine(row, lanes=lanes))
    assert largest_gap(state, straight[0]) < TOLERANCE
    np.testing.assert_allclose(info.loss, straight[1].loss, rtol=1e-5)
    np.testing.assert_array_equal(info.examples, straight[1].examples)


@pytest.mark.parametrize("devices", [2, 8])
def test_devices_do_not_change_results(row, straight, devices):
    mesh = jax.make_mesh((devices,), ("clients",), axis_types=(AxisType.Auto,))
    state, info = run(engine(row, mesh=mesh, lanes=2))
    assert largest_gap(state, straight[0]) < TOLERANCE
    np.testing.assert_allclose(info.loss, straight[1].loss, rtol=1e-5)
    np.testing.assert_array_equal(info.steps, straight[1].steps)


def rearranged(cohort: Cohort, order: np.ndarray, padding: int) -> Cohort:
    """The same draw in another order, with absent seats appended."""

    def bind(ids, attributes, sizes):
        bound = cohort.bind(ids, attributes, sizes)

        def draw(state, key, round_, losses):
            drawn, state = bound.draw(state, key, round_, losses)
            clients = jnp.concatenate([drawn.clients[order], jnp.full(padding, 2, jnp.int32)])
            return synchronous(clients, jnp.concatenate([drawn.present[order], jnp.zeros(padding, bool)])), state

        return bound._replace(capacity=bound.capacity + padding, draw=draw)

    return cohort._replace(bind=bind)


def test_cohort_order_and_padding_do_not_change_results(row, straight):
    order = np.array([4, 1, 5, 0, 3, 2])
    state, info = run(engine(row, cohort=rearranged(fe.cohorts.uniform(6), order, 3)))
    assert largest_gap(state, straight[0]) < TOLERANCE
    np.testing.assert_array_equal(info.participants, straight[1].participants)


def test_cohort_order_changes_no_bit(row, straight):
    if row is not ALGORITHMS[0]:
        pytest.skip("the queue is sorted before any algorithm sees it")
    state, _ = run(engine(row, cohort=rearranged(fe.cohorts.uniform(6), np.array([4, 1, 5, 0, 3, 2]), 0)))
    assert identical(state, straight[0])


BAD = (5, 9)  # clients whose examples are poisoned
ALL, AWAY, NOBODY, ONLY_BAD = 0, 3, 6, 7  # rounds of the trace from which all take part, the bad ones are away, ...
AMONG_BAD = np.isin(np.arange(len(SIZES)), BAD)
EVERYONE = np.ones(len(SIZES), bool)
TRACE = np.array([EVERYONE] * 3 + [~AMONG_BAD] * 3 + [~EVERYONE] + [AMONG_BAD])
POISONED_TRACE = np.array([EVERYONE] * 6 + [~EVERYONE] + [AMONG_BAD])


def from_round(built: fe.Engine, number: int, rounds: int):
    """A run that starts in a later round; and its first state."""
    start = built.init(Linear().params, seed=3)
    start = start._replace(round=start.round + number)
    return *built.run(start, rounds), start


@pytest.fixture(scope="module")
def traced(row) -> fe.Engine:
    return engine(row, cohort=fe.cohorts.available(fe.cohorts.everyone(), TRACE), lanes=1, report_rejected=True)


@pytest.fixture(scope="module", params=[1, 3])
def poisoned(row, request) -> tuple[fe.Engine, int]:
    """An engine whose bad clients have an example that is not finite, and its lanes."""
    problem, lanes = Linear(), request.param
    x = problem.x.copy()
    for bad in BAD:
        x[problem.offsets[bad] + 2] = np.nan
    cohort = fe.cohorts.available(fe.cohorts.everyone(), POISONED_TRACE)
    return engine(row, population=problem.population(x=x), cohort=cohort, lanes=lanes, report_rejected=True), lanes


def test_client_without_examples_contributes_nothing(row, traced):
    everyone, _, _ = from_round(traced, ALL, ROUNDS)
    full = [position for position, size in enumerate(SIZES) if size]
    without = engine(row, population=Linear().population().select(full), cohort=fe.cohorts.everyone())
    state, info = run(without)
    assert largest_gap(state.params, everyone.params) < TOLERANCE
    np.testing.assert_array_equal(info.participants, len(full))


def test_round_without_participants_changes_nothing(traced):
    state, info, start = from_round(traced, NOBODY, 1)
    assert identical(state._replace(round=start.round), start)
    assert int(state.round) == NOBODY + 1
    assert np.isnan(info.loss).all() and not info.participants.any() and not info.steps.any()


def test_rejected_client_equals_an_unavailable_one(traced, poisoned):
    built, lanes = poisoned
    state, info, _ = from_round(built, AWAY, ROUNDS)
    expected, without, _ = from_round(traced, AWAY, ROUNDS)
    assert identical(state, expected) if lanes == 1 else largest_gap(state, expected) < TOLERANCE
    np.testing.assert_array_equal(info.rejected, len(BAD))
    np.testing.assert_array_equal(np.sort(info.rejected_ids[:, : len(BAD)]), [BAD] * ROUNDS)
    assert (info.rejected_ids[:, len(BAD) :] == 2**32 - 1).all()
    np.testing.assert_array_equal(info.participants, without.participants)
    np.testing.assert_allclose(info.loss, without.loss, rtol=1e-6)


def test_everyone_rejected_is_a_no_op(poisoned):
    state, info, start = from_round(poisoned[0], ONLY_BAD, 1)
    assert identical(state._replace(round=start.round), start)
    assert info.rejected[0] == len(BAD) and info.participants[0] == 0


def test_jit_off_gives_the_same(row):
    small, local = Linear(sizes=(3, 0, 5, 2)), fe.LocalTraining(epochs=1, batch_size=4, shuffle=False)
    with_jit, _ = run(engine(row, small, cohort=fe.cohorts.everyone(), lanes=2, local=local), small.params, 1)
    with jax.disable_jit():
        state, _ = run(engine(row, small, cohort=fe.cohorts.everyone(), lanes=2, local=local), small.params, 1)
    assert largest_gap(state, with_jit) < TOLERANCE


def test_any_number_of_rounds_reuses_one_program(row, built):
    state = built.init(Linear().params, seed=3)
    built.run(state, 1)
    chunk = built._compiled(state.params).chunk
    before = chunk._cache_size()
    state, _ = built.run(state, 7)
    built.run(state, 2)
    assert chunk._cache_size() == before == 1


def test_shapes_and_dtypes_are_kept(built, straight):
    start = built.init(Linear().params, seed=3)
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), straight[0]) == jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), start)
    assert all(leaf.shape[0] == ROUNDS for leaf in jax.tree.leaves(straight[1]))


def test_resumed_run_is_bitwise_the_straight_run(built, straight):
    for stop in range(ROUNDS):
        state, _ = built.run(built.init(Linear().params, seed=3), stop)
        resumed, info = built.run(state, ROUNDS - stop)
        assert identical(resumed, straight[0])
        assert identical(info, jax.tree.map(lambda leaf, stop=stop: leaf[stop:], straight[1]))


def test_run_leaves_its_arguments_alone(built):
    start = built.init(Linear().params, seed=3)
    before = jax.tree.map(lambda leaf: leaf.copy(), start)
    built.run(start, 2)
    assert identical(start, before)


def test_evaluation_sees_every_row_once(row, built, straight):
    problem, state = Linear(), straight[0]
    found = built.evaluate(state, problem.population())
    for client, (first, end) in enumerate(zip(problem.offsets[:-1], problem.offsets[1:], strict=True)):
        params = row.predicts(*jax.tree.map(np.asarray, (state.server, jax.tree.map(lambda leaf, at=client: leaf[at], state.clients))))
        expected = problem.losses(params, np.arange(first, end)).mean() if end > first else np.nan
        np.testing.assert_allclose(found.per_client.loss[client], expected, rtol=1e-5)
    weighted = np.nansum(found.per_client.loss * np.array(SIZES)) / sum(SIZES)
    np.testing.assert_allclose(found.loss, weighted, rtol=1e-6)
    assert {name for name in found.metrics if ".load." not in name} == {"absolute"} and int(found.examples) == sum(SIZES)
