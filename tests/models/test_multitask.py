"""The multi-task model: shapes, module names, members that do not mix, and what a school effect adds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import fedjax_edu as fe
from fedjax_edu.models.effects import penalty

TASKS = ("math", "read", "leaves")
PRODUCTS = [(0, 3), (0, 4), (2, 5)]


@pytest.fixture(scope="module")
def model():
    return fe.models.MultiTaskModel(6, TASKS, classrooms=4, width=8, depth=2, tokens=5, members=3, seed=1, products=PRODUCTS)


def records(seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=(7, 6)), jnp.float32)


def test_the_modules_have_the_names_that_dotted_paths_use(model):
    _, params = fe.models.functional(model)
    assert set(params) == {"encoders", "heads", "effects"}
    assert set(params["heads"]) == set(TASKS)
    modules = fe.modules.assign(params, personal=["heads.read", "effects"])
    assert dict(zip(modules.names, modules.kinds, strict=True)) == {
        "heads.read": "personal",
        "effects": "personal",
        "encoders": "shared",
        "heads": "shared",
    }


def test_the_function_of_the_parameters_is_the_module(model):
    apply, params = fe.models.functional(model)
    classroom = jnp.zeros(7, jnp.int32)
    np.testing.assert_allclose(jax.jit(apply)(params, records(), classroom), model(records(), classroom), rtol=1e-5, atol=1e-6)


def test_the_encoder_is_its_formula(model):
    """One member in NumPy, written from the docstring."""
    encode, params = fe.models.functional(model.encoders["tabular"])
    slopes = params["products"]["kernel"]
    assert not np.any(slopes)
    params["products"]["kernel"] = jax.random.normal(jax.random.key(0), slopes.shape)
    tree = jax.tree.map(lambda leaf: np.asarray(leaf[1], np.float64), params)

    def linear(layer, x):
        return x @ layer["kernel"] + layer["bias"]

    def gelu(x):
        return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))

    x = np.asarray(records(), np.float64)
    hidden = gelu(linear(tree["first"], x))
    for layer in (tree["residual"][0], tree["residual"][1]):
        hidden = hidden + gelu(linear(layer, hidden))
    products = np.stack([x[:, 0] * x[:, 3], x[:, 0] * x[:, 4], x[:, 2] * x[:, 5]], axis=1)
    expected = linear(tree["linear"], x) + linear(tree["last"], hidden) + linear(tree["products"], products)
    np.testing.assert_allclose(encode(params, records())[:, 1], expected, rtol=1e-4, atol=1e-5)


def test_a_member_learns_from_its_own_outputs_only(model):
    apply, params = fe.models.functional(model)
    gradient = jax.grad(lambda p: jnp.sum(apply(p, records(), jnp.zeros(7, jnp.int32))[:, 2] ** 2))(params)
    for part in (gradient["encoders"], gradient["heads"]):
        for leaf in jax.tree.leaves(part):
            assert not np.any(leaf[:2])
        assert any(np.any(leaf[2]) for leaf in jax.tree.leaves(part))


def test_an_input_of_zero_leaves_its_weights_alone(model):
    apply, params = fe.models.functional(model)
    masked = records().at[:, 3].set(0.0)
    gradient = jax.grad(lambda p: jnp.sum(apply(p, masked, jnp.zeros(7, jnp.int32)) ** 2))(params)
    tabular = gradient["encoders"]["tabular"]
    for layer in ("linear", "first"):
        assert not np.any(tabular[layer]["kernel"][:, 3])
        assert np.all(np.any(tabular[layer]["kernel"][:, 2], axis=-1))


def test_school_effects_add_intercept_slope_and_classroom(model):
    apply, params = fe.models.functional(model)
    rng = np.random.default_rng(2)
    classroom = jnp.asarray([0, 1, 2, 3, 0, 1, 2], jnp.int32)
    before = apply(params, records(), classroom)
    drawn = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), jnp.float32), params["effects"])
    added = apply({**params, "effects": drawn}, records(), classroom) - before
    intercept, slopes, rooms = (np.asarray(drawn[name]) for name in ("intercept", "slopes", "classrooms"))
    expected = intercept[None] + np.asarray(records()) @ slopes + rooms[np.asarray(classroom)]
    np.testing.assert_allclose(added, np.repeat(expected[:, None, :], 3, axis=1), rtol=1e-4, atol=1e-4)


def test_the_penalty_makes_the_ridge_estimate():
    """With squared error, the minimiser of loss sum + penalty solves (Z'Z + diag λ) u = Z'y."""
    rng = np.random.default_rng(3)
    rooms = rng.integers(4, size=30)
    inputs, targets = rng.normal(size=(30, 2)), rng.normal(size=30)
    strength = {"intercept": jnp.array([2.0]), "slopes": jnp.array([5.0]), "classrooms": jnp.array([3.0])}
    design = np.concatenate([np.ones((30, 1)), inputs, np.eye(4)[rooms]], axis=1)
    solution = np.linalg.solve(design.T @ design + np.diag([2.0] + [5.0] * 2 + [3.0] * 4), design.T @ targets)
    effects = fe.models.SchoolEffects(2, 1, classrooms=4)
    apply, params = fe.models.functional(effects)

    def objective(p):
        error = apply(p, jnp.asarray(inputs, jnp.float32), jnp.asarray(rooms))[:, 0] - jnp.asarray(targets, jnp.float32)
        return 0.5 * jnp.sum(error**2) + penalty(p, strength)

    at_solution = {
        "intercept": jnp.asarray(solution[:1], jnp.float32),
        "slopes": jnp.asarray(solution[1:3, None], jnp.float32),
        "classrooms": jnp.asarray(solution[3:, None], jnp.float32),
    }
    assert jax.tree.structure(at_solution) == jax.tree.structure(params)
    for leaf in jax.tree.leaves(jax.grad(objective)(at_solution)):
        np.testing.assert_allclose(leaf, np.zeros_like(leaf), atol=2e-5)


def test_state_that_is_no_parameter_is_refused():
    with pytest.raises(fe.errors.ArgumentError, match=r"model: .*mean"):
        fe.models.functional(nnx.BatchNorm(3, rngs=nnx.Rngs(0)))
