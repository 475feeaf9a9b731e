"""Weights of tasks against the vectors they stand for, and against scipy's minimum."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize

import fedjax_edu as fe
from fedjax_edu.models import weighting


def gradients(tasks=4, width=6, seed=0):
    return np.random.default_rng(seed).normal(size=(tasks, width)) * np.geomspace(1, 3, tasks)[:, None]


def products(vectors):
    return jnp.asarray(vectors @ vectors.T, jnp.float32)


def test_products_are_those_of_gradients():
    inputs = jnp.asarray(gradients(3, 4), jnp.float32)
    params = {"w": jnp.arange(4.0), "b": jnp.ones(2)}

    def losses(params):
        return jnp.sin(inputs @ params["w"]) + params["b"].sum() ** 2

    slopes = [jax.grad(lambda params, task=task: losses(params)[task])(params) for task in range(3)]
    flat = np.stack([np.concatenate([leaf.ravel() for leaf in jax.tree.leaves(slope)]) for slope in slopes])
    np.testing.assert_allclose(weighting.gram(losses, params), flat @ flat.T, rtol=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_pcgrad_projects_the_vectors_themselves(seed):
    vectors, key = gradients(seed=seed), jax.random.key(seed)
    projected = []
    for own, vector in enumerate(vectors.copy()):
        for other in np.asarray(jax.random.permutation(jax.random.fold_in(key, own), len(vectors))):
            if other != own and vector @ vectors[other] < 0:
                vector = vector - vector @ vectors[other] / (vectors[other] @ vectors[other]) * vectors[other]
        projected.append(vector)
    weights = np.asarray(weighting.pcgrad(products(vectors), key))
    np.testing.assert_allclose(weights @ vectors, np.mean(projected, axis=0), rtol=1e-4, atol=1e-4)


def test_without_conflict_pcgrad_is_the_mean():
    vectors = np.abs(gradients())
    np.testing.assert_allclose(weighting.pcgrad(products(vectors), jax.random.key(0)), 0.25, rtol=1e-6)


def test_two_tasks_no_longer_pull_against_each_other():
    vectors = np.array([[1.0, 0.0], [-1.0, 1.0]])
    step = np.asarray(weighting.pcgrad(products(vectors), jax.random.key(0))) @ vectors
    assert np.all(vectors @ step >= 0)
    assert vectors[0] @ vectors.mean(axis=0) == 0.0


@pytest.mark.parametrize("sizes", [(1, 1, 1, 1), (1e3, 1, 1, 1), (1, 1e-3, 1e-3, 1), (1, 100, 0.01, 1)])
@pytest.mark.parametrize("c", [0.2, 0.5, 0.9])
@pytest.mark.parametrize("seed", range(2))
def test_cagrad_finds_the_minimum(seed, c, sizes):
    vectors = gradients(seed=seed) * np.array(sizes)[:, None]
    mean = vectors.mean(axis=0)

    def cost(weights):
        return weights @ vectors @ mean + c * np.linalg.norm(mean) * np.linalg.norm(weights @ vectors)

    simplex = {"type": "eq", "fun": lambda weights: weights.sum() - 1}
    scale = np.linalg.norm(mean) ** 2  # of the costs, so that the reference stops where it should
    starts = [np.full(4, 0.25), *np.eye(4)]
    options = {"bounds": [(0, 1)] * 4, "constraints": simplex, "options": {"ftol": 1e-14, "maxiter": 1000}}
    best = min((minimize(lambda weights: cost(weights) / scale, start, **options) for start in starts), key=lambda one: one.fun)
    weights = np.asarray(weighting.cagrad(products(vectors), c), float)
    step = weights @ vectors
    found = (weights - 0.25) / (weights - 0.25).sum()
    assert cost(found) <= best.fun * scale + 2e-3 * abs(best.fun * scale) + 1e-6 * scale
    assert np.linalg.norm(step - mean) == pytest.approx(c * np.linalg.norm(mean), rel=1e-3)
    assert (vectors @ step).min() >= (vectors @ mean).min() - 1e-4 * scale


@pytest.mark.parametrize("c", [-1.0, 1.0, np.nan])
def test_cagrad_stays_near_the_mean(c):
    with pytest.raises(fe.errors.ArgumentError, match="c: got"):
        weighting.cagrad(products(gradients()), c)


def test_cagrad_without_room_is_the_mean():
    np.testing.assert_allclose(weighting.cagrad(products(gradients()), 0.0), 0.25, rtol=1e-6)


@pytest.mark.parametrize("weights", [lambda g: weighting.pcgrad(g, jax.random.key(0)), weighting.cagrad])
def test_gradients_of_nothing_leave_finite_weights(weights):
    vectors = gradients()
    vectors[1] = 0.0
    for rows in (vectors, np.zeros_like(vectors)):
        assert np.all(np.isfinite(weights(products(rows))))


@pytest.mark.parametrize("tasks", [("math", "read"), ("read", "math"), ("values", "items")])
def test_uncertainty_weighs_by_precision(tasks):
    """Each task by its own, in the order in which tasks are named."""
    model = weighting.Uncertainty(tasks)
    model.log_variances[tasks[1]][...] = jnp.array([np.log(4.0)], jnp.float32)
    apply, params = fe.models.functional(model)
    arguments = jnp.array([[1.0, 2.0], [3.0, jnp.nan]]), jnp.array([[True, True], [True, False]])
    for losses in (model(*arguments), apply(params, *arguments)):
        np.testing.assert_allclose(losses, [1.0 + 2.0 / 4 + np.log(4) / 2, 3.0], rtol=1e-6)


def test_uncertainty_learns_the_mean_loss():
    """The minimum over s of e^-s L + s / 2 is where e^s is 2 L: the variance, when L is half a squared error."""
    apply, params = fe.models.functional(weighting.Uncertainty(["math"]))
    squares = jnp.asarray(np.random.default_rng(0).normal(size=(400, 1)) * 3.0) ** 2 / 2
    step = jax.jit(
        lambda p: jax.tree.map(lambda leaf, slope: leaf - 0.3 * slope, p, jax.grad(lambda q: apply(q, squares, squares >= 0).mean())(p))
    )
    for _ in range(200):
        params = step(params)
    assert float(jnp.exp(params["log_variances"]["math"][0])) == pytest.approx(float(2 * squares.mean()), rel=1e-3)
