"""Groups that average among themselves: alone they are federations of their own, and when all meet each round they are one."""

import jax
import numpy as np
import optax
import pytest

import fedjax_edu as fe
from tests.reference.levels import hierarchy as twin
from tests.reference.problems import SIZES, Linear, largest_gap

A = fe.algorithms
SGD, LOCAL = optax.sgd(0.05), fe.LocalTraining(epochs=1, batch_size=4)


def after(problem, algorithm, rounds: int, population=None):
    everyone, mean = fe.cohorts.everyone(), fe.aggregation.mean()
    built = fe.Engine(population or problem.population(), algorithm, cohort=everyone, aggregator=mean)
    return built.run(built.init(problem.params, seed=5), rounds)


def hierarchy(problem, **options):
    return A.hierarchy(problem.loss, **{"groups": "group", "client_optimizer": SGD, "local": LOCAL} | options)


@pytest.mark.parametrize("weighting", ["examples", "uniform"])
def test_groups_that_meet_every_round_are_one_federation(weighting):
    problem = Linear()
    state, info = after(problem, hierarchy(problem, every=1, weighting=weighting), 4)
    flat, _ = after(problem, A.fedavg(problem.loss, client_optimizer=SGD, local=LOCAL, weighting=weighting), 4)
    assert largest_gap(state.params, flat.params) < 1e-6
    assert np.all(info.algorithm["apart"] < 1e-6)


def test_between_meetings_each_group_is_a_federation_of_its_own():
    problem = Linear()
    population, fedavg = problem.population(), A.fedavg(problem.loss, client_optimizer=SGD, local=LOCAL)
    state, info = after(problem, hierarchy(problem, every=4), 3)
    lone = [after(problem, fedavg, 3, population.select(np.arange(len(SIZES)) % 3 == group))[0].params for group in range(3)]
    for group, expected in enumerate(lone):
        assert largest_gap(jax.tree.map(lambda leaf, at=group: leaf[at], state.server.groups), expected) < 1e-6
    spread = [np.stack([np.ravel(leaf) for leaf in leaves]) for leaves in zip(*map(jax.tree.leaves, lone), strict=True)]
    expected = np.sqrt(sum(np.sum((leaf - leaf.mean(axis=0)) ** 2) for leaf in spread) / 3)
    np.testing.assert_allclose(info.algorithm["apart"][-1], expected, rtol=1e-4)
    assert largest_gap(state.params, problem.params) == 0 < expected


def test_groups_are_weighed_by_what_they_saw_since_they_last_met():
    with jax.enable_x64(True):
        problem = Linear(np.float64)
        algorithm = hierarchy(problem, every=2)
        few, mean = fe.cohorts.uniform(3), fe.aggregation.mean()
        built = fe.Engine(problem.population(), algorithm, cohort=few, aggregator=mean)
        start = built.init(problem.params, seed=5)
        state, _ = built.run(start, 6)
        history = twin(problem, problem.params, *built.schedule(start, 6), client_rate=0.05, every=2, groups=3)
        assert largest_gap(state.params, history[-1][0]) < 1e-12


def test_groups_that_there_are_not():
    problem = Linear()
    with pytest.raises(fe.errors.ArgumentError, match="name a client attribute: group"):
        after(problem, hierarchy(problem, every=2, groups="district"), 1)
    arrays = {"x": problem.x, "y": problem.y}
    halves = fe.data.Population.from_arrays(arrays, problem.offsets, attributes={"group": np.arange(12) / 2})
    with pytest.raises(fe.errors.ArgumentError, match="one integer a client"):
        after(problem, hierarchy(problem, every=2), 1, halves)
    far = fe.data.Population.from_arrays(arrays, problem.offsets, attributes={"group": np.arange(12) * 100})
    with pytest.raises(fe.errors.ArgumentError, match="256 at most"):
        after(problem, hierarchy(problem, every=2), 1, far)
    with pytest.raises(fe.errors.ArgumentError, match="every"):
        hierarchy(problem, every=0)
