"""Samplers against the distributions they promise; fixed seeds, so that a statistic is either always or never alarmed."""

import itertools
import math
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType
from scipy.stats import binom, chi2, chi2_contingency

import fedjax_edu as fe
from fedjax_edu.core.errors import ArgumentError
from fedjax_edu.core.keys import Purpose, fold
from fedjax_edu.engine.cohorts import Cohort, available, everyone, memoryless, poisson, uniform, weighted
from fedjax_edu.engine.cohorts.memoryless import poisson_capacity
from fedjax_edu.engine.cohorts.sampler import Draw
from tests.reference.problems import SIZES, Linear, identical

ALARM = 1e-6  # of one statistic; a few hundred are looked at


def identities(number: int) -> np.ndarray:
    return (np.arange(number) * 7919 + 13).astype(np.uint32)


def draws(cohort: Cohort, ids: np.ndarray, rounds: int, *, seed: int = 0, attributes=None) -> Draw:
    """What the sampler draws in each round, leaves [rounds, ...], by the keys that the engine uses."""
    bound, root = cohort.bind(ids, attributes or {}, np.ones(len(ids), int)), jax.random.key(seed)
    one = jax.jit(jax.vmap(lambda number: bound.draw((), fold(root, Purpose.COHORT, number), number, jnp.zeros_like)[0]))
    return jax.tree.map(np.asarray, one(jnp.arange(rounds, dtype=jnp.int32)))


def participation(drawn: Draw, clients: int) -> np.ndarray:
    """bool [rounds, clients]."""
    table = np.zeros((len(drawn.clients), clients), int)
    rounds, seats = np.nonzero(drawn.present)
    np.add.at(table, (rounds, drawn.clients[rounds, seats]), 1)
    assert table.max() <= 1
    return table.astype(bool)


def goodness(observed: np.ndarray, probabilities: np.ndarray) -> float:
    """Chi-square p-value of counts against probabilities that sum to 1."""
    expected = observed.sum() * probabilities
    return chi2.sf(((observed - expected) ** 2 / expected).sum(), len(observed) - 1)


@pytest.mark.parametrize(("size", "clients"), [(1, 1), (1, 7), (3, 10), (8, 40), (20, 20), (5, 1000)])
def test_uniform_draws_so_many_distinct_clients_each_as_often(size, clients):
    rounds = 20_000
    drawn = draws(uniform(size), identities(clients), rounds)
    assert drawn.clients.shape == (rounds, size)
    assert drawn.clients.dtype == np.int32
    assert drawn.present.all()
    assert not drawn.overflow.any()
    table = participation(drawn, clients)
    assert (table.sum(1) == size).all()
    if size < clients:
        share = size / clients
        variance = rounds * share * (1 - share) * clients / (clients - 1)  # inclusions of one round are negatively correlated
        assert chi2.sf(((table.sum(0) - rounds * share) ** 2).sum() / variance, clients - 1) > ALARM


@pytest.mark.parametrize(("size", "clients"), [(2, 9), (3, 6), (5, 7)])
def test_uniform_draws_every_pair_and_every_set_as_often(size, clients):
    table = participation(draws(uniform(size), identities(clients), 20_000, seed=1), clients)
    sets = dict.fromkeys(itertools.combinations(range(clients), size), 0)
    for members in table:
        sets[tuple(np.nonzero(members)[0].tolist())] += 1
    counts = np.array(list(sets.values()))
    assert goodness(counts, np.full(len(counts), 1 / len(counts))) > ALARM


def test_uniform_cohorts_of_different_rounds_and_seeds_are_independent():
    first = draws(uniform(1), identities(6), 12_000, seed=2).clients[:, 0]
    other = draws(uniform(1), identities(6), 12_000, seed=3).clients[:, 0]
    for left, right in ((first[:-1], first[1:]), (first, other)):
        table = np.zeros((6, 6), int)
        np.add.at(table, (left, right), 1)
        assert chi2_contingency(table).pvalue > ALARM


def test_everyone_is_everyone_every_round():
    assert participation(draws(everyone(), identities(9), 5), 9).all()


@pytest.mark.parametrize(("rate", "clients"), [(0.05, 200), (0.3, 40), (0.9, 12)])
def test_poisson_is_binomial(rate, clients):
    rounds = 20_000
    drawn = draws(poisson(rate), identities(clients), rounds)
    assert not drawn.overflow.any()
    table = participation(drawn, clients)
    total = table.sum(1)
    mean, variance = clients * rate, clients * rate * (1 - rate)
    fourth = variance * (1 + (3 * clients - 6) * rate * (1 - rate))  # central moment of a binomial number
    assert abs(total.mean() - mean) < 5.5 * math.sqrt(variance / rounds)
    assert abs(total.var() - variance) < 5.5 * math.sqrt((fourth - variance**2) / rounds)
    deviations = (table.sum(0) - rounds * rate) ** 2 / (rounds * rate * (1 - rate))
    assert chi2.sf(deviations.sum(), clients) > ALARM
    together = (table[:, :-1] & table[:, 1:]).sum(0)
    assert (np.abs(together - rounds * rate**2) < 6 * np.sqrt(rounds * rate**2 * (1 - rate**2))).all()


def test_poisson_rate_one_is_everyone():
    assert participation(draws(poisson(1.0), identities(11), 4), 11).all()


@pytest.mark.parametrize("cohort", [poisson(0.4), available(poisson(0.4), "open")])
def test_independent_samplers_keep_the_others_when_a_client_leaves_or_joins(cohort):
    assert cohort.independent
    ids, rounds = identities(30), 200
    attributes = {"open": np.arange(30) % 4 != 0}
    full = participation(draws(cohort, ids, rounds, attributes=attributes), 30)
    for kept in (np.delete(np.arange(30), 17), np.random.default_rng(0).permutation(30)[:12]):
        part = participation(draws(cohort, ids[kept], rounds, attributes={"open": attributes["open"][kept]}), len(kept))
        np.testing.assert_array_equal(part, full[:, kept])


def test_samplers_of_a_fixed_size_do_not_claim_independence():
    assert not uniform(3).independent
    assert not weighted(3, np.ones(5)).independent
    assert not available(uniform(3), np.ones(5, bool)).independent


@pytest.mark.parametrize("rate", [0.001, 0.02, 0.5, 0.97])
@pytest.mark.parametrize("clients", [1, 5, 40, 60])
def test_capacity_is_the_smallest_that_is_safe_by_exact_arithmetic(clients, rate):
    share = Fraction(rate)
    mass = [math.comb(clients, number) * share**number * (1 - share) ** (clients - number) for number in range(clients + 1)]
    safe = [capacity for capacity in range(1, clients + 1) if sum(mass[capacity + 1 :]) < Fraction(1, 10**12)]
    assert poisson_capacity(clients, rate) == safe[0]


@pytest.mark.parametrize(
    ("clients", "rate"), [(1000, 0.01), (100_000, 0.001), (1_000_000, 0.0001), (5000, 0.5), (1000, 1.0), (10**6, 1e-9)]
)
def test_capacity_of_large_populations(clients, rate):
    capacity = poisson_capacity(clients, rate)
    assert binom.sf(capacity, clients, rate) < 1e-12
    assert capacity == 1 or binom.sf(capacity - 1, clients, rate) >= 1e-12
    assert poisson(rate).bind(np.arange(clients, dtype=np.uint32), {}, np.ones(clients, int)).capacity == capacity


def test_an_overflow_makes_the_round_a_no_op(monkeypatch):
    problem, capacity = Linear(), 5
    algorithm = fe.algorithms.fedavg(
        problem.loss, client_optimizer=optax.sgd(0.05), server_optimizer=optax.adam(0.1), local=fe.LocalTraining(epochs=1)
    )

    def built() -> fe.Engine:
        modules = fe.modules.assign(problem.params, personal="head")
        cohort, aggregator = fe.cohorts.poisson(0.4), fe.aggregation.chain(fe.aggregation.clip(1.0), fe.aggregation.mean())
        mesh = jax.make_mesh((1,), ("clients",), axis_types=(AxisType.Auto,))
        plan = fe.ExecutionPlan(lanes=1, mesh=mesh)  # sums run in the same order whatever the capacity
        return fe.Engine(problem.population(), algorithm, cohort=cohort, aggregator=aggregator, modules=modules, plan=plan)

    wide = built()
    monkeypatch.setattr(memoryless, "poisson_capacity", lambda clients, rate: capacity)
    narrow = built()
    state, seen = narrow.init(problem.params, seed=1), set()
    for _ in range(8):
        after, info = narrow.run(state, 1)
        ideal, expected = wide.run(state, 1)
        drawn, _ = wide._sampler.draw((), fold(state.key, Purpose.COHORT, state.round), state.round, jnp.zeros_like)
        overflow = int(drawn.present.sum()) > capacity
        seen.add(overflow)
        assert bool(info.overflow[0]) == overflow
        assert not expected.overflow[0]
        if overflow:
            assert identical(after._replace(round=state.round), state)
            assert not (info.participants[0] or info.rejected[0] or info.steps[0] or info.examples[0] or info.bytes_up[0])
            assert np.isnan(info.loss[0])
            assert [len(each) for each in narrow.schedule(state, 1)] == [1, 1]
            assert len(narrow.schedule(state, 1)[0][0]) == 0
        else:
            assert identical(after, ideal)
            assert info.participants[0] == expected.participants[0] > 0
        state = after
    assert seen == {True, False}


def successive(weights: np.ndarray, size: int) -> tuple[np.ndarray, dict[tuple[int, ...], float]]:
    """Exact inclusion probabilities, and the probability of every order, of drawing one after another without replacement."""
    orders = {}
    for order in itertools.permutations(np.nonzero(weights)[0].tolist(), size):
        left, chance = weights.sum(), 1.0
        for client in order:
            chance, left = chance * weights[client] / left, left - weights[client]
        orders[order] = chance
    inclusion = np.zeros(len(weights))
    for order, chance in orders.items():
        inclusion[list(order)] += chance
    return inclusion, orders


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_weighted_is_successive_sampling(size):
    weights, rounds = np.array([1.0, 4.0, 0.0, 2.0, 0.5, 8.0]), 30_000
    drawn = draws(weighted(size, "pupils"), identities(6), rounds, attributes={"pupils": weights})
    inclusion, orders = successive(weights, size)
    table = participation(drawn, 6)
    assert (table.sum(1) == size).all()
    np.testing.assert_allclose(inclusion.sum(), size)
    deviation = np.sqrt(np.maximum(inclusion * (1 - inclusion), 1e-12) / rounds)
    assert (np.abs(table.mean(0) - inclusion) <= 5.5 * deviation).all()
    assert not table[:, 2].any()
    common = [order for order, chance in orders.items() if chance * rounds >= 5]
    counts = np.array([(drawn.clients == order).all(1).sum() for order in common])
    chances = np.array([orders[order] for order in common])
    rest = [(rounds - counts.sum(), 1 - chances.sum())] if len(common) < len(orders) else []
    assert goodness(np.array([*counts, *(number for number, _ in rest)]), np.array([*chances, *(chance for _, chance in rest)])) > ALARM


def test_weighted_does_not_depend_on_the_unit_of_the_weights():
    weights = np.array([3.0, 1.0, 2.0, 7.0])
    one, other = (draws(weighted(2, factor * weights), identities(4), 500).clients for factor in (1.0, 2.0**60))
    assert (one == other).mean() > 0.999  # the logarithms are rounded


def test_available_drops_and_replaces_nobody():
    ids, rounds = identities(10), 50
    trace = np.random.default_rng(3).random((7, 10)) < 0.6
    for cohort in (uniform(4), poisson(0.5), weighted(3, np.arange(10.0))):
        plain, limited = (draws(each, ids, rounds) for each in (cohort, available(cohort, trace)))
        np.testing.assert_array_equal(participation(limited, 10), participation(plain, 10) & trace[np.arange(rounds) % 7])
        np.testing.assert_array_equal(limited.clients, plain.clients)


def test_available_takes_one_mask_for_all_rounds_or_an_attribute():
    ids, mask = identities(6), np.array([True, False, True, True, False, True])
    by_array = participation(draws(available(uniform(4), mask), ids, 20), 6)
    by_name = participation(draws(available(uniform(4), "open"), ids, 20, attributes={"open": mask}), 6)
    np.testing.assert_array_equal(by_array, by_name)
    assert not by_array[:, ~mask].any()
    twice = available(available(everyone(), mask), ~mask)
    assert not draws(twice, ids, 3).present.any()


def test_available_keeps_an_overflow(monkeypatch):
    monkeypatch.setattr(memoryless, "poisson_capacity", lambda clients, rate: 2)
    drawn = draws(available(poisson(1.0), np.array([True, False, False])), identities(3), 2)
    assert drawn.overflow.all()


def test_names_tell_samplers_apart():
    named = [uniform(3), everyone(), poisson(0.5), weighted(3, np.ones(4)), available(uniform(3), np.ones(4, bool))]
    assert [cohort.name for cohort in named] == ["uniform(3)", "everyone()", "poisson(0.5)", "weighted(3)", "available(uniform(3))"]


@pytest.mark.parametrize("clients", [1, len(SIZES)])
def test_a_cohort_larger_than_the_population_is_an_error_of_the_engine(clients):
    problem = Linear()
    population = problem.population().select(np.arange(clients))
    algorithm = fe.algorithms.fedavg(problem.loss, client_optimizer=optax.sgd(0.1), local=fe.LocalTraining(epochs=1))
    with pytest.raises(ArgumentError, match=f"cohort: got {clients + 1}; use at most the population's {clients}"):
        fe.Engine(population, algorithm, cohort=uniform(clients + 1), aggregator=fe.aggregation.mean())


@pytest.mark.parametrize(
    ("make", "argument"),
    [
        (lambda: uniform(0), "size"),
        (lambda: uniform(-3), "size"),
        (lambda: uniform(6), "cohort"),
        (lambda: weighted(0, np.ones(5)), "size"),
        (lambda: weighted(6, np.ones(5)), "cohort"),
        (lambda: weighted(2, "absent"), "by"),
        (lambda: weighted(2, np.ones(4)), "by"),
        (lambda: weighted(2, np.array([1, -1, 1, 1, 1.0])), "by"),
        (lambda: weighted(2, np.array([1, np.nan, 1, 1, 1])), "by"),
        (lambda: weighted(2, np.array([1, np.inf, 1, 1, 1])), "by"),
        (lambda: weighted(2, np.array([1.0, 0, 0, 0, 0])), "by"),
        (lambda: poisson(0.0), "rate"),
        (lambda: poisson(-0.1), "rate"),
        (lambda: poisson(1.5), "rate"),
        (lambda: poisson(math.nan), "rate"),
        (lambda: available(everyone(), "absent"), "mask"),
        (lambda: available(everyone(), np.ones(5)), "mask"),
        (lambda: available(everyone(), np.ones(4, bool)), "mask"),
        (lambda: available(everyone(), np.ones((3, 4), bool)), "mask"),
        (lambda: available(everyone(), np.ones((0, 5), bool)), "mask"),
        (lambda: available(everyone(), np.ones((2, 3, 5), bool)), "mask"),
    ],
)
def test_samplers_that_cannot_work(make, argument):
    with pytest.raises(ArgumentError) as caught:
        make().bind(identities(5), {}, np.ones(5, int))
    assert caught.value.argument == argument
