"""The engine where updates are kept: a rule that only sums them is the running sum, in every layout and for every algorithm."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType

import fedjax_edu as fe
from fedjax_edu.core.stack import Stack
from tests.aggregation import cohort, puppet
from tests.reference.problems import Linear, identical, largest_gap


def kept_mean():
    """The mean of kept updates: what :func:`fedjax_edu.aggregation.mean` gets from running sums."""
    return fe.aggregation.mean()._replace(needs="stack")


@pytest.fixture(scope="module")
def summed() -> list:
    return cohort.history(cohort.engine(fe.aggregation.mean()))


@pytest.mark.parametrize(("lanes", "devices"), [(1, 1), (3, 1), (cohort.CLIENTS, 1), (1, 8), (3, 2), (2, 3)])
def test_a_kept_sum_is_the_running_sum(summed, lanes, devices):
    for (state, info), (expected, wanted) in zip(
        cohort.history(cohort.engine(kept_mean(), lanes=lanes, devices=devices)), summed, strict=True
    ):
        assert largest_gap(state, expected) < 2e-6
        for name in ("participants", "rejected", "examples", "steps", "bytes_up", "bytes_down"):
            np.testing.assert_array_equal(getattr(info, name), getattr(wanted, name))
        np.testing.assert_allclose(info.update_norm, wanted.update_norm, rtol=1e-5)
    assert sum(int(info.bytes_up[0]) for _, info in summed) > 0


def test_rounds_without_an_accepted_client_change_nothing():
    kept = cohort.history(cohort.engine(kept_mean(), devices=8))
    for number in (3, 4):
        before, after = kept[number - 1][0], kept[number][0]
        assert identical(after._replace(round=before.round), before)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("fedavg", {}),  # one private channel
        ("scaffold", {}),  # two
        ("mime", {}),  # two stages
        ("afl", {"mixture_rate": 0.1}),  # a statistic
        ("ifca", {"clusters": 2}),  # weights of 0
        ("qffl", {"q": 1.0, "lipschitz": 10.0}),  # a public denominator
    ],
)
def test_every_kind_of_channel_comes_to_the_same(name, options):
    problem, local = Linear(), fe.LocalTraining(epochs=1, batch_size=4)

    def run(aggregator):
        built = fe.Engine(
            problem.population(),
            getattr(fe.algorithms, name)(problem.loss, client_optimizer=optax.sgd(0.05), local=local, **options),
            cohort=fe.cohorts.uniform(6),
            aggregator=aggregator,
            plan=fe.ExecutionPlan(lanes=3, mesh=jax.make_mesh((2,), ("clients",), axis_types=(AxisType.Auto,)), chunk=2),
        )
        return built.run(built.init(problem.params, seed=3), 2)

    (state, info), (expected, wanted) = run(kept_mean()), run(fe.aggregation.mean())
    assert largest_gap(state, expected) < 3e-6
    np.testing.assert_array_equal(info.bytes_up, wanted.bytes_up)


def test_rules_see_present_clients_by_id_then_zeros():
    seen = []

    def look(server, stacks, key):
        (stack,) = stacks.values()
        jax.debug.callback(
            lambda *arrays: seen.append([np.asarray(array) for array in arrays]), stack.values["head"], stack.weights, stack.ids
        )
        return server, {"update": stack.sum()}

    looking = fe.aggregation.mean()._replace(needs="stack", stack=look)
    for options in ({}, {"order": np.random.default_rng(1).permutation(cohort.CLIENTS), "lanes": 1}):
        seen.clear()
        cohort.history(cohort.engine(looking, **options))
        jax.effects_barrier()
        assert len(seen) == cohort.ROUNDS
        for number, (values, weights, ids) in enumerate(seen):
            there = cohort.accepted(number)
            np.testing.assert_array_equal(ids[: len(there)], cohort.POPULATION.ids[there])
            np.testing.assert_array_equal(values[: len(there)], cohort.UPDATES["head"][there])
            np.testing.assert_array_equal(weights[: len(there)], cohort.WEIGHTS[there])
            assert not values[len(there) :].any() and not weights[len(there) :].any()


def test_a_rule_whose_answer_is_not_finite_makes_the_round_a_no_op():
    def answers(server, stacks, key):
        return server + 1, {"update": stacks["update"].by_module(lambda updates, weights: jnp.full(updates.shape[1], jnp.inf))}

    broken = fe.aggregation.mean()._replace(needs="stack", stack=answers, init_server=lambda params, meta: jnp.int32(0))
    built = cohort.engine(broken)
    start = built.init(puppet.PARAMS, seed=0)
    state, _ = built.run(start, 1)
    assert identical(state._replace(round=start.round), start)


MODULES = fe.modules.assign({"a": 0.0, "b": {"x": 0.0, "y": 0.0}})


def stack(dtype=jnp.float32, count: int = 4) -> Stack:
    rng = np.random.default_rng(0)
    tree = {"a": (count, 2), "b": {"x": (count,), "y": (count, 2, 2)}}
    values = jax.tree.map(lambda shape: jnp.asarray(rng.normal(size=shape), dtype), tree, is_leaf=lambda leaf: isinstance(leaf, tuple))
    weights = jnp.asarray([[1, 2], [0, 3], [2, 0], [0, 0]], jnp.float32)[:count]
    return Stack(values, weights, jnp.arange(count, dtype=jnp.uint32), MODULES)


def test_a_rule_reads_a_modules_leaves_side_by_side_and_absent_rows_as_zeros():
    given, seen = stack(), []

    def rule(updates, weights):
        seen.append((updates, weights))
        return jnp.arange(updates.shape[1], dtype=updates.dtype)

    found = given.by_module(rule)
    b = np.concatenate([np.asarray(given.values["b"]["x"])[:, None], np.asarray(given.values["b"]["y"]).reshape(4, 4)], axis=1)
    for (updates, weights), raw, owner in zip(seen, (np.asarray(given.values["a"]), b), (0, 1), strict=True):
        np.testing.assert_array_equal(weights, given.weights[:, owner])
        np.testing.assert_array_equal(updates, np.where(np.asarray(given.weights)[:, owner, None] > 0, raw, 0))
    mean = found.mean()
    np.testing.assert_array_equal(mean["a"], [0, 1])
    np.testing.assert_array_equal(mean["b"]["x"], 0)
    np.testing.assert_array_equal(mean["b"]["y"], [[1, 2], [3, 4]])
    np.testing.assert_array_equal(found.weight, [3, 5])
    np.testing.assert_array_equal(found.contributors, [2, 2])


def test_new_weights_go_to_their_module_and_statistics_share_one():
    given = stack()
    twice = given.reweigh(lambda updates, weights: updates.shape[1] * weights)
    np.testing.assert_array_equal(twice.weights, np.asarray(given.weights) * [2, 5])
    statistics = Stack(given.values | {"count": jnp.ones(4)}, jnp.ones((4, 2)), given.ids, MODULES)
    np.testing.assert_array_equal(statistics.reweigh(lambda updates, weights: updates.shape[1] * weights).weights, np.full((4, 2), 8))
    (matrix,) = jax.tree.leaves(statistics.map_modules(lambda owner, updates, weights: updates.sum(0, keepdims=True)))[:1]
    assert matrix.shape == (1, 2)


def test_narrow_updates_are_summed_in_single_precision_and_keep_their_type_when_changed():
    count = 600
    ones = Stack(
        {"w": jnp.ones((count, 1), jnp.bfloat16)}, jnp.ones((count, 1)), jnp.arange(count, dtype=jnp.uint32), fe.modules.assign({"w": 0.0})
    )
    assert ones.sum().total["w"].dtype == jnp.float32
    assert float(ones.sum().total["w"][0]) == count  # a sum in bfloat16 stops at 256
    assert float(ones.by_module(lambda updates, weights: updates[0]).total["w"][0]) == count
    assert ones.replace(lambda updates, weights: 2 * updates).values["w"].dtype == jnp.bfloat16
