"""Asynchronous arrivals against a simulation of events, and FedBuff on them against NumPy."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.stats import chi2

import fedjax_edu as fe
from fedjax_edu.core.errors import ArgumentError
from fedjax_edu.core.keys import Purpose, fold
from fedjax_edu.engine.cohorts import asynchronous, available, durations
from fedjax_edu.engine.cohorts.asynchronous import newcomers
from fedjax_edu.engine.cohorts.sampler import Feedback
from tests.reference.fedbuff import Clock, fedbuff
from tests.reference.problems import SIZES, Linear, identical, largest_gap

ALARM = 1e-6
FULL = np.flatnonzero(SIZES).astype(np.int32)
IDS = (np.arange(len(SIZES))[::-1] * 7919 + 13).astype(np.uint32)
QUARTERS = np.array([4.0, 1.0, 2.0, 0.5, 8.0, 1.5, 3.0, 0.25, 1.0, 2.5, 6.0, 1.0])  # sums are exact in float32, so ties are ties
LOCAL = fe.LocalTraining(epochs=2, batch_size=4)


def told(number: int, applied: bool, seats: int) -> Feedback:
    nothing = jnp.zeros(seats, jnp.int32)
    return Feedback(jnp.int32(number), nothing, nothing > 0, jnp.zeros(seats), jnp.zeros(seats), nothing, jnp.array(applied))


def unasked(clients):
    raise AssertionError("this sampler does not measure losses")


def successors(clock, root, number: int, buffer: int) -> list[int]:
    return newcomers(fold(root, Purpose.COHORT, number), clock.clients, jnp.asarray(FULL), buffer).tolist()


@pytest.mark.parametrize(("buffer", "concurrency"), [(1, 1), (3, 4), (6, 2), (1, 9), (5, 5)])
@pytest.mark.parametrize("seconds", [QUARTERS, np.full(12, 0.75)])
def test_arrivals_are_those_of_a_simulation(buffer, concurrency, seconds):
    bound, root = asynchronous(buffer, concurrency, seconds).bind(IDS, {}, np.array(SIZES)), jax.random.key(1)
    clock, applied = bound.init(jax.random.key(2)), np.random.default_rng(0).random(40) < 0.8
    twin = Clock(clock.clients.tolist(), seconds, IDS)
    step = jax.jit(lambda clock, number: bound.draw(clock, fold(root, Purpose.COHORT, number), number, unasked))
    for number in range(40):
        expected = twin.round(successors(clock, root, number, buffer), applied[number])
        drawn, clock = step(clock, jnp.int32(number))
        clock = bound.learn(clock, told(number, bool(applied[number]), buffer))
        assert (drawn.clients.tolist(), drawn.staleness.tolist(), float(drawn.observed["seconds"])) == expected
        assert len(set(expected[0])) == buffer and np.asarray(drawn.present).all() and not drawn.overflow
        np.testing.assert_allclose(drawn.observed["staleness"], np.mean(expected[1]), rtol=1e-6)
        table = (np.asarray(each).tolist() for each in (clock.remaining, clock.clients, clock.started))
        training = [(left + twin.time, int(IDS[client]), client, version) for left, client, version in zip(*table, strict=True)]
        assert sorted(training) == sorted(twin.training)
        assert int(clock.version) == twin.version == applied[: number + 1].sum()


def test_equal_seconds_keep_their_precision_for_ever():
    buffer, concurrency, rounds = 2, 5, 5000
    bound = asynchronous(buffer, concurrency, np.full(12, 0.1)).bind(IDS, {}, np.array(SIZES))

    def one(clock, number):
        drawn, clock = bound.draw(clock, fold(jax.random.key(5), number), number, unasked)
        return bound.learn(clock, told(0, True, buffer)._replace(round=number)), (drawn.observed["seconds"], drawn.staleness)

    _, (seconds, staleness) = jax.lax.scan(one, bound.init(jax.random.key(0)), jnp.arange(rounds, dtype=jnp.int32))
    waves = -(-buffer * np.arange(rounds + 1) // concurrency)  # all who train arrive together, the buffer takes two at a time
    # Arrival n starts its successor after (n + 1) // 2 steps; that one is arrival n + 1 .. n + 9, before which there were 0 .. 4 more.
    np.testing.assert_array_equal(seconds, np.diff(waves).astype(np.float32) * np.float32(0.1))
    assert np.asarray(staleness)[0].tolist() == [0, 0] and set(np.unique(staleness)) == set(range(5))


def test_a_buffer_of_everybody_who_trains_has_one_fresh_client():
    bound = asynchronous(4, 4, np.ones(12)).bind(IDS, {}, np.array(SIZES))
    clock = bound.init(jax.random.key(0))
    for number in range(6):
        drawn, clock = bound.draw(clock, jax.random.key(number), jnp.int32(number), unasked)
        clock = bound.learn(clock, told(number, True, 4))
        assert sorted(drawn.staleness.tolist()) == ([0, 1, 1, 1] if number else [0] * 4)
        assert drawn.clients.tolist() == sorted(drawn.clients.tolist(), key=lambda client: IDS[client])


def goodness(counts: dict) -> float:
    mean = sum(counts.values()) / len(counts)
    return chi2.sf(sum((count - mean) ** 2 / mean for count in counts.values()), len(counts) - 1)


def test_newcomers_are_uniform_among_the_idle():
    training, eligible = jnp.array([7, 2, 11], jnp.int32), jnp.asarray(FULL)
    found = jax.jit(jax.vmap(lambda number: newcomers(fold(jax.random.key(3), number), training, eligible, 2)))(jnp.arange(20_000))
    counts = dict.fromkeys(itertools.permutations(sorted(set(FULL.tolist()) - {7, 2, 11}), 2), 0)
    for pair in np.asarray(found).tolist():
        counts[tuple(pair)] += 1  # a KeyError is a client that trains already, or one drawn twice
    assert goodness(counts) > ALARM


def test_the_first_clients_are_uniform():
    bound = asynchronous(1, 2, QUARTERS).bind(IDS, {}, np.array(SIZES))
    found = jax.jit(jax.vmap(lambda number: bound.init(fold(jax.random.key(4), number)).clients))(jnp.arange(20_000))
    counts = dict.fromkeys(itertools.permutations(FULL.tolist(), 2), 0)
    for pair in np.asarray(found).tolist():
        counts[tuple(pair)] += 1
    assert goodness(counts) > ALARM


def test_seconds_may_be_an_attribute_and_those_of_empty_clients_do_not_matter():
    absent = np.where(np.array(SIZES) > 0, QUARTERS, np.nan)
    by_name = asynchronous(2, 3, "pace").bind(IDS, {"pace": absent.astype(np.float32)}, np.array(SIZES))
    by_array = asynchronous(2, 3, QUARTERS).bind(IDS, {}, np.array(SIZES))
    states = [bound.init(jax.random.key(0)) for bound in (by_name, by_array)]
    drawn = [bound.draw(state, jax.random.key(1), jnp.int32(0), unasked) for bound, state in zip((by_name, by_array), states, strict=True)]
    assert identical(*drawn)


# FedBuff


def engine(problem, cohort, *, make=fe.algorithms.fedbuff, personal=None, lanes=3, **options) -> fe.Engine:
    options = {"client_optimizer": optax.sgd(0.05), "server_optimizer": optax.sgd(0.7), "local": LOCAL} | options
    modules = fe.modules.assign(problem.params, personal=personal) if personal else None
    plan = fe.ExecutionPlan(lanes=lanes, mesh=jax.make_mesh((1,), ("clients",), axis_types=(jax.sharding.AxisType.Auto,)), chunk=16)
    return fe.Engine(
        problem.population(), make(problem.loss, **options), cohort=cohort, aggregator=fe.aggregation.mean(), modules=modules, plan=plan
    )


@pytest.mark.parametrize(("weighting", "max_staleness"), [("uniform", 20), ("examples", 1), ("uniform", 0)])
def test_fedbuff_on_arrivals_equals_its_twin(weighting, max_staleness):
    rounds, buffer = 12, 3
    with jax.enable_x64(True):
        problem = Linear(np.float64)
        built = engine(problem, asynchronous(buffer, 6, QUARTERS), weighting=weighting, max_staleness=max_staleness)
        start = built.init(problem.params, seed=5)
        cohorts, rows = built.schedule(start, rounds)
        clock, ages, state = Clock(start.cohort.clients.tolist(), QUARTERS, np.arange(12)), [], start
        seen = []
        for number in range(rounds):
            clients, staleness, seconds = clock.round(successors(state.cohort, start.key, number, buffer))
            assert sorted(clients) == cohorts[number].tolist()
            ages.append(dict(zip(clients, staleness, strict=True)))
            state, info = built.run(state, 1)
            seen.append((state.params, info.loss[0]))
            assert info.cohort["seconds"][0] == seconds
        assert max(max(each.values()) for each in ages) > max(max_staleness if max_staleness < 20 else 0, 1)
        settings = {"client_rate": 0.05, "server_rate": 0.7, "weighting": weighting, "max_staleness": max_staleness}
        history = fedbuff(problem, problem.params, cohorts, rows, ages, **settings)
        for (found, loss), (expected, expected_loss) in zip(seen, history, strict=True):
            assert largest_gap(found, expected) < 1e-12
            np.testing.assert_allclose(loss, expected_loss, rtol=1e-12)
        assert identical(built.run(start, rounds)[0], state)


@pytest.mark.parametrize(("cohort", "weighting"), [(fe.cohorts.uniform(6), "uniform"), (fe.cohorts.poisson(0.4), "examples")])
def test_without_staleness_it_is_fedavg_bit_for_bit(cohort, weighting):
    problem = Linear()
    runs = []
    for make in (fe.algorithms.fedavg, fe.algorithms.fedbuff):
        built = engine(problem, cohort, make=make, weighting=weighting, personal="head", server_optimizer=optax.adam(0.1))
        runs.append(built.run(built.init(problem.params, seed=2), 4))
    (average, told_average), (buffered, told_buffered) = runs
    assert identical((average.params, average.clients), (buffered.params, buffered.clients))
    assert identical(told_average, told_buffered)


def test_a_round_without_arrivals_moves_time_but_no_version():
    problem, open_ = Linear(), np.array([[True], [False], [False]]) & np.ones(12, bool)
    built = engine(problem, available(asynchronous(2, 3, QUARTERS), open_))
    state = built.init(problem.params, seed=1)
    twin = Clock(state.cohort.clients.tolist(), QUARTERS, np.arange(12))
    for number in range(9):
        there = number % 3 == 0
        _, staleness, seconds = twin.round(successors(state.cohort, state.key, number, 2), applied=there)
        after, info = built.run(state, 1)
        assert (info.cohort["seconds"][0], info.cohort["staleness"][0]) == (seconds, np.mean(staleness))
        assert info.participants[0] == 2 * there and int(after.cohort.version) == twin.version == number // 3 + 1
        assert identical(after.server, state.server) != there
        state = after


# Combinations and arguments


def test_only_what_understands_staleness_takes_asynchronous_cohorts():
    problem, cohort = Linear(), asynchronous(2, 3, QUARTERS)
    for sampler in (cohort, available(cohort, np.ones(12, bool))):
        with pytest.raises(ArgumentError, match=r"cohort: got .*asynchronous\(2, 3\).*; use fe.algorithms.fedbuff"):
            engine(problem, sampler, make=fe.algorithms.fedavg)
    kept = fe.aggregation.mean()._replace(name="median", needs="stack")
    algorithm = fe.algorithms.fedbuff(problem.loss, client_optimizer=optax.sgd(0.1), local=LOCAL)
    with pytest.raises(ArgumentError, match=r"aggregator: got \['median'\]; use links that need only sums"):
        fe.Engine(problem.population(), algorithm, cohort=cohort, aggregator=kept)


@pytest.mark.parametrize(
    ("make", "argument"),
    [
        (lambda: asynchronous(0, 3, QUARTERS), "buffer"),
        (lambda: asynchronous(2, 0, QUARTERS), "concurrency"),
        (lambda: asynchronous(2, 9, QUARTERS), "buffer + concurrency"),
        (lambda: asynchronous(2, 3, "absent"), "seconds"),
        (lambda: asynchronous(2, 3, QUARTERS[:3]), "seconds"),
        (lambda: asynchronous(2, 3, QUARTERS - 0.25), "seconds"),
        (lambda: asynchronous(2, 3, np.full(12, np.inf)), "seconds"),
        (lambda: asynchronous(2, 3, np.full(12, 1e-60)), "seconds"),
        (lambda: asynchronous(2, 3, QUARTERS > 1), "seconds"),
    ],
)
def test_arguments_that_cannot_work(make, argument):
    with pytest.raises(ArgumentError) as caught:
        make().bind(IDS, {}, np.array(SIZES))
    assert caught.value.argument == argument


def test_durations_add_computing_and_both_directions():
    offsets = np.concatenate([[0], np.cumsum(SIZES)])
    speed, link = np.linspace(1, 4, 12), np.linspace(10, 120, 12)
    population = fe.data.Population.from_arrays({"y": np.zeros(offsets[-1])}, offsets, attributes={"speed": speed, "link": link})
    batches = 3 * np.ceil(np.array(SIZES) / 4)
    local = fe.LocalTraining(epochs=3, batch_size=4)
    np.testing.assert_allclose(durations(population, local, steps_per_second=2.0), batches / 2)
    full = durations(population, local, steps_per_second=speed, bytes_per_second=link, bytes_up=100, bytes_down=20)
    np.testing.assert_allclose(full, batches / speed + 120 / link)
    assert full.dtype == np.float64
    named = durations(population, local, steps_per_second="speed", bytes_per_second="link", bytes_up=100, bytes_down=20)
    np.testing.assert_allclose(named, full, rtol=1e-6)  # attributes are kept in float32
    same = durations(population, fe.LocalTraining(steps=7), steps_per_second=0.5)
    np.testing.assert_allclose(same, np.where(np.array(SIZES) > 0, 14.0, 0.0))
    for argument, wrong in (
        ("steps_per_second", {"steps_per_second": 0.0}),
        ("steps_per_second", {"steps_per_second": np.ones(3)}),
        ("bytes_per_second", {"steps_per_second": 1.0, "bytes_per_second": -1.0}),
        ("bytes_per_second", {"steps_per_second": 1.0, "bytes_up": 10}),
        ("bytes_up", {"steps_per_second": 1.0, "bytes_per_second": 1.0, "bytes_up": -1}),
    ):
        with pytest.raises(ArgumentError) as caught:
            durations(population, local, **wrong)
        assert caught.value.argument == argument
