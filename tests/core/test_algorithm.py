"""Sums with weights: divided once, zero where nobody contributed, deaf to NaN under a zero weight."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_edu.core.algorithm import WEIGHTINGS, Aggregate, observe
from fedjax_edu.core.loss import Loss
from fedjax_edu.core.modules import assign
from tests.reference.clients import client_info

PARAMS = {"a": {"w": jnp.ones((2, 3)), "b": jnp.ones(2)}, "c": jnp.ones(4), "d": jnp.ones(())}


def aggregate(total, weight) -> Aggregate:
    weight = jnp.asarray(weight, jnp.float32)
    return Aggregate(total, weight, (weight > 0).astype(jnp.int32), assign(PARAMS))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("jitted", [True, False])
def test_mean_divides_each_module_by_its_own_weight(seed, jitted):
    rng = np.random.default_rng(seed)
    total = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), jnp.float32), PARAMS)
    weight = rng.uniform(0.1, 9, 3).astype(np.float32)
    found = (jax.jit(Aggregate.mean) if jitted else Aggregate.mean)(aggregate(total, weight))
    expected = {
        "a": {name: leaf / weight[0] for name, leaf in total["a"].items()},
        "c": total["c"] / weight[1],
        "d": total["d"] / weight[2],
    }
    jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-6), found, expected)


@pytest.mark.parametrize("junk", [0.0, np.nan, np.inf, 5.0])
def test_a_module_without_weight_is_exactly_zero(junk):
    total = jax.tree.map(lambda leaf: jnp.full_like(leaf, junk), PARAMS) | {"d": jnp.array(6.0)}
    found = aggregate(total, [0, 0, 3]).mean()
    for leaf in jax.tree.leaves((found["a"], found["c"])):
        assert not np.asarray(leaf).view(np.uint32).any()  # +0.0, bit for bit
    assert found["d"] == 2


def test_the_gradient_of_a_mean_without_weight_is_finite():
    gradient = jax.grad(lambda weight: sum(jnp.sum(leaf) for leaf in jax.tree.leaves(aggregate(PARAMS, weight).mean())))(jnp.zeros(3))
    assert np.isfinite(gradient).all()


def test_mean_keeps_structure_and_dtypes_and_takes_a_part_of_the_tree():
    half = {"a": {"w": jnp.ones((2, 3), jnp.bfloat16), "b": None}, "c": jnp.ones(4, jnp.float16), "d": None}
    found = aggregate(half, [2, 4, 0]).mean()
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), found) == jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), half)
    assert float(found["a"]["w"][0, 0]) == 0.5
    assert float(found["c"][0]) == 0.25


@pytest.mark.parametrize("seed", range(3))
def test_observe_sums_the_valid_rows(seed):
    rng = np.random.default_rng(seed)
    losses, hits, weights, valid = rng.normal(size=6), rng.normal(size=6), rng.integers(0, 3, 6), np.array([1, 1, 0, 1, 0, 1], bool)
    losses[~valid], hits[~valid], hits[weights == 0] = np.nan, np.inf, np.nan  # padding and absent labels may hold anything
    metrics = {"hit": (jnp.asarray(hits, jnp.float32), jnp.asarray(weights, jnp.int32))}
    found = jax.jit(observe)(Loss(jnp.asarray(losses, jnp.float32), metrics=metrics), jnp.asarray(valid))
    np.testing.assert_allclose(found.loss, losses[valid].sum(), rtol=1e-5)
    assert int(found.examples) == valid.sum()
    counted = valid & (weights > 0)
    np.testing.assert_allclose(found.metrics["hit"], [(hits[counted] * weights[counted]).sum(), weights[valid].sum()], rtol=1e-5)


def test_observe_does_not_hide_a_loss_that_is_not_finite():
    assert np.isnan(observe(Loss(jnp.array([1.0, jnp.nan])), jnp.ones(2, bool)).loss)


def test_weightings():
    info = client_info(1, examples=17)
    assert {name: float(weight(info)) for name, weight in WEIGHTINGS.items()} == {"examples": 17.0, "uniform": 1.0}
    assert all(weight(info).dtype == jnp.float32 for weight in WEIGHTINGS.values())
