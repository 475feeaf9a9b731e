"""The multi-task model: shapes, module names, members that do not mix, and what a school effect adds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fedjax_edu as fe

TASKS = ("math", "read", "leaves")
PRODUCTS = [(0, 3), (0, 4), (2, 5)]


@pytest.fixture(scope="module")
def model():
    return fe.models.MultiTaskModel(6, TASKS, width=8, depth=2, tokens=5, members=3, seed=1, products=PRODUCTS)


def records(seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=(7, 6)), jnp.float32)


def test_the_modules_have_the_names_that_dotted_paths_use(model):
    _, params = fe.models.functional(model)
    assert set(params) == {"encoders", "heads"}
    assert set(params["heads"]) == set(TASKS)
    modules = fe.modules.assign(params, personal="heads.read")
    assert dict(zip(modules.names, modules.kinds, strict=True)) == {
        "heads.read": "personal",
        "encoders": "shared",
        "heads": "shared",
    }


def test_the_function_of_the_parameters_is_the_module(model):
    apply, params = fe.models.functional(model)
    np.testing.assert_allclose(jax.jit(apply)(params, records()), model(records()), rtol=1e-5, atol=1e-6)


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
    gradient = jax.grad(lambda p: jnp.sum(apply(p, records())[:, 2] ** 2))(params)
    for part in (gradient["encoders"], gradient["heads"]):
        for leaf in jax.tree.leaves(part):
            assert not np.any(leaf[:2])
        assert any(np.any(leaf[2]) for leaf in jax.tree.leaves(part))


def test_an_input_of_zero_leaves_its_weights_alone(model):
    apply, params = fe.models.functional(model)
    masked = records().at[:, 3].set(0.0)
    gradient = jax.grad(lambda p: jnp.sum(apply(p, masked) ** 2))(params)
    tabular = gradient["encoders"]["tabular"]
    for layer in ("linear", "first"):
        assert not np.any(tabular[layer]["kernel"][:, 3])
        assert np.all(np.any(tabular[layer]["kernel"][:, 2], axis=-1))
