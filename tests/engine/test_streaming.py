"""Rows and client states that live on the host: the same bits as when they are on the devices, from a bounded part of each."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType

import fedjax_edu as fe
from fedjax_edu.engine.seating import Seating

RANDOM = np.random.default_rng(0)
SIZES = RANDOM.integers(0, 30, 60)
OFFSETS = np.concatenate([[0], np.cumsum(SIZES)])
ROWS = int(OFFSETS[-1])
X = RANDOM.normal(size=(ROWS, 4)).astype(np.float32)
ARRAYS = {"x": X, "y": X @ np.arange(4, dtype=np.float32)}
ROW_BYTES = 20
PARAMS = {"w": jnp.zeros(4), "head": {"b": jnp.zeros(())}}
LOCAL = fe.LocalTraining(epochs=1, batch_size=8)


def load(clients):
    rows = np.concatenate([np.arange(OFFSETS[client], OFFSETS[client + 1]) for client in clients])
    return {name: leaf[rows] for name, leaf in ARRAYS.items()}


def population(loaded=False):
    if loaded:
        return fe.data.Population.from_loader(load, SIZES)
    return fe.data.Population.from_arrays(ARRAYS, offsets=OFFSETS)


def loss(params, batch, key):
    return (batch["x"] @ params["w"] + params["head"]["b"] - batch["y"]) ** 2


def build(clients, *, devices=2, cohort=None, make=fe.algorithms.fedavg, chain=None, weighting="examples", **plan):
    options = {"fine_tuning": LOCAL} if make is fe.algorithms.fedavg else {}
    algorithm = make(loss, client_optimizer=optax.sgd(0.05), local=LOCAL, weighting=weighting, **options)
    return fe.Engine(
        clients,
        algorithm,
        cohort=cohort or fe.cohorts.uniform(9),
        aggregator=chain or fe.aggregation.mean(),
        modules=fe.modules.assign(PARAMS, personal="head"),
        plan=fe.ExecutionPlan(lanes=2, mesh=jax.make_mesh((devices,), ("clients",), axis_types=(AxisType.Auto,)), **plan),
    )


def everything(engine, clients):
    """State and reports of two runs, and what finalise makes of them; evaluation and predictions."""
    middle, first = engine.run(engine.init(PARAMS, seed=3), 5)
    state, second = engine.run(middle, 4)
    done = engine.finalise(state)
    predictions = engine.predict(done, clients, lambda params, batch: batch["x"] @ params["w"] + params["head"]["b"])
    evaluation = engine.evaluate(done, clients)
    key = jax.random.key_data(state.key)
    return [state._replace(key=key), first, second, done.clients], [predictions, evaluation]


def assert_same_bits(found, expected):
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other))


BUDGET = ROWS * ROW_BYTES * 2 // 3


@pytest.fixture(scope="module", params=[1, 2], ids=["one device", "two devices"])
def resident(request):
    return request.param, everything(build(population(), devices=request.param), population())


@pytest.mark.parametrize(
    ("loaded", "plan"),
    [
        (False, {"resident_bytes": BUDGET}),
        (True, {"resident_bytes": BUDGET}),
        (False, {"client_states": "host"}),
        (True, {"client_states": "host", "resident_bytes": BUDGET, "chunk": 3}),
    ],
    ids=["arrays", "loader", "host states", "loader and host states"],
)
def test_streaming_changes_no_bit(resident, loaded, plan):
    devices, expected = resident
    engine = build(population(loaded), devices=devices, **plan)
    (run, outputs), (expected_run, expected_outputs) = everything(engine, population(loaded)), expected
    assert_same_bits(run, expected_run)
    for one, other in zip(jax.tree.leaves(outputs), jax.tree.leaves(expected_outputs), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    if "resident_bytes" in plan:
        assert engine._stream.capacity * ROW_BYTES * 2 <= BUDGET < ROWS * ROW_BYTES


@pytest.mark.parametrize(
    "cohort",
    [
        fe.cohorts.poisson(0.1),
        fe.cohorts.round_robin(7),
        fe.cohorts.available(fe.cohorts.uniform(9), np.arange(120).reshape(2, 60) % 3 > 0),
        fe.cohorts.oort(6),
    ],
    ids=lambda cohort: cohort.name,
)
def test_every_sampler_that_can_stream_does(cohort):
    states = []
    for plan in ({}, {"resident_bytes": ROWS * ROW_BYTES - 1}):
        weighting = {"weighting": "uniform"} if cohort.by_size else {}
        algorithm = fe.algorithms.fedavg(loss, client_optimizer=optax.sgd(0.05), local=LOCAL, **weighting)
        engine = fe.Engine(population(), algorithm, cohort=cohort, aggregator=fe.aggregation.mean(), plan=fe.ExecutionPlan(lanes=2, **plan))
        state, info = engine.run(engine.init(PARAMS, seed=1), 6)
        states.append((state._replace(key=jax.random.key_data(state.key)), info))
    assert_same_bits(*states)


def test_states_of_algorithm_and_links_stream_together():
    """SCAFFOLD's variates and the residuals of error feedback, of a chunk's clients only."""
    chain = fe.aggregation.chain(fe.aggregation.topk(0.5), fe.aggregation.mean())
    found = []
    for plan in ({}, {"client_states": "host", "chunk": 2}):
        engine = build(population(), make=fe.algorithms.scaffold, chain=chain, **plan)
        start = engine.init(PARAMS, seed=3)
        before = jax.tree.map(np.array, (start.clients, start.links_clients))
        state, _ = engine.run(start, 5)
        assert_same_bits((start.clients, start.links_clients), before)  # run never changes its arguments
        found.append((state.clients, state.links_clients, state.params))
    assert_same_bits(*found)
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(found[1][:2]))
    assert np.abs(found[0][0].control["w"]).max() > 0


def test_a_chunk_reads_the_rows_of_its_own_clients_and_no_others():
    asked = []

    def watched(clients):
        asked.append(set(clients.tolist()))
        return load(clients)

    engine = build(fe.data.Population.from_loader(watched, SIZES), devices=2, resident_bytes=BUDGET, chunk=1)
    start = engine.init(PARAMS, seed=3)
    cohorts, _ = engine.schedule(start, 4)
    asked.clear()
    engine.run(start, 4)
    for cohort, halves in zip(cohorts, zip(asked[::2], asked[1::2], strict=True), strict=True):
        assert halves[0] | halves[1] == set(cohort.tolist()) and not halves[0] & halves[1]


def test_the_next_chunk_is_on_its_way_before_the_records_of_the_last_are_read():
    engine = build(population(), devices=2, resident_bytes=BUDGET, chunk=1)
    state, called = engine.init(PARAMS, seed=3), []

    def chunk(state, resident, active, feed):
        called.append(int(active))
        return state._replace(round=state.round + active), {"round": state.round}

    seen = engine._stream.run(chunk, engine._sampler, Seating(2, 30), True, state, engine._resident, 4)
    next(seen)
    assert called == [1, 1]
    assert [(int(records["round"]), rounds) for _, records, rounds in seen] == [(1, 1), (2, 1), (3, 1)]


def test_rounds_are_foreseen_many_at_a_time_and_split_where_the_budget_ends():
    engine = build(population(), devices=1, resident_bytes=BUDGET, chunk=4)
    state = engine.init(PARAMS, seed=3)
    portions = list(engine._stream.foresee(engine._sampler, Seating(1, 60), 4, state, engine._resident, 7))
    expected, _ = engine.schedule(state, 7)
    found = [sorted(clients[present]) for part in portions for clients, present in zip(*part, strict=True)]
    assert found == [sorted(cohort) for cohort in expected]
    for clients, present in portions:
        assert SIZES[np.unique(clients[present])].sum() <= engine._stream.capacity
    assert len(portions) < 7


def test_a_device_of_a_cpu_keeps_the_rows_that_were_read():
    engine = build(population(), devices=1, resident_bytes=BUDGET)
    rows = engine._stream._read(np.arange(10))
    for name, leaf in rows.items():
        assert jax.device_put(leaf).unsafe_buffer_pointer() == leaf.ctypes.data
        np.testing.assert_array_equal(leaf[: OFFSETS[10]], ARRAYS[name][: OFFSETS[10]])


def test_traces_once_whatever_the_chunks_hold():
    traces = []

    def counted(params, batch, key):
        traces.append(1)
        return loss(params, batch, key)

    algorithm = fe.algorithms.fedavg(counted, client_optimizer=optax.sgd(0.05), local=LOCAL)
    plan = fe.ExecutionPlan(lanes=2, resident_bytes=BUDGET)
    engine = fe.Engine(population(), algorithm, cohort=fe.cohorts.uniform(9), aggregator=fe.aggregation.mean(), plan=plan)
    state, _ = engine.run(engine.init(PARAMS, seed=3), 2)
    before = len(traces)
    state, _ = engine.run(state, 7)
    engine.run(state, 3)
    assert len(traces) == before


def test_a_device_holds_its_share_of_the_feed_alone():
    engine = build(population(), resident_bytes=BUDGET)
    feed, _ = engine._stream.load(np.array([[0, 2, 4, 1, 3, 5]]), np.ones((1, 6), bool), Seating(2, None))
    x = feed.arrays["x"]
    assert x.sharding.shard_shape(x.shape)[0] == engine._stream.capacity == len(x) // 2
    rows = np.asarray(x).reshape(2, -1, 4)
    for device, seats in enumerate(([0, 2, 4], [1, 3, 5])):
        for place, client in enumerate(seats):
            first = int(feed.first[0, 3 * device + place])
            np.testing.assert_array_equal(rows[device, first : first + SIZES[client]], X[OFFSETS[client] : OFFSETS[client + 1]])


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: build(population(), resident_bytes=100).init(PARAMS), ["plan.resident_bytes", "the largest client twice"]),
        (
            lambda: (engine := build(population(), devices=1, cohort=fe.cohorts.everyone(), resident_bytes=BUDGET)).run(
                engine.init(PARAMS), 1
            ),
            ["plan.resident_bytes", f"use at least {2 * ROWS * ROW_BYTES}", "smaller cohort"],
        ),
        (
            lambda: build(population(), cohort=fe.cohorts.power_of_choice(4, 8), weighting="uniform", resident_bytes=BUDGET),
            ["power_of_choice"],
        ),
        (lambda: fe.ExecutionPlan(resident_bytes=0), ["resident_bytes"]),
        (lambda: fe.ExecutionPlan(client_states="disk"), ["client_states", "host"]),
    ],
)
def test_what_cannot_stream_says_so(call, words):
    with pytest.raises(fe.errors.ArgumentError) as caught:
        call()
    assert all(word in str(caught.value) for word in words)
