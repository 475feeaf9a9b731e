"""Hyper-parameters of optimisers as leaves, and plain SGD told from everything else."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fedjax_edu.algorithms import hyperparameters


def test_values_reach_the_part_that_they_belong_to():
    """Two parts with the same name, each against the optimiser that is built with the number."""

    def build(first: float, second: float) -> optax.GradientTransformation:
        traces = [optax.inject_hyperparams(optax.trace)(decay=decay) for decay in (first, second)]
        return optax.chain(traces[0], optax.clip(10.0), traces[1])

    optimizer, params = build(0.1, 0.2), jnp.arange(3.0)
    values = hyperparameters.of(optimizer, params)
    assert {name: float(value) for name, value in values.items()} == pytest.approx({"decay": 0.1, "decay1": 0.2})
    other = build(0.3, 0.4)
    states = hyperparameters.put(optimizer.init(params), {"decay": jnp.float32(0.3), "decay1": jnp.float32(0.4)}), other.init(params)
    for step in range(3):
        gradient = jnp.arange(3.0) + step
        (found, one), (expected, two) = (
            each.update(gradient, state, params) for each, state in zip((optimizer, other), states, strict=True)
        )
        np.testing.assert_array_equal(found, expected)
        states = one, two


def test_without_hyperparameters_a_state_stays_as_it_is():
    state = optax.adam(0.1).init(jnp.zeros(2))
    assert hyperparameters.put(state, {}) is state and hyperparameters.of(optax.adam(0.1), jnp.zeros(2)) == {}


def test_the_rate_is_the_one_that_was_put():
    optimizer = optax.inject_hyperparams(optax.sgd)(learning_rate=0.5)
    found = jax.jit(lambda value: hyperparameters.rate(optimizer, {"learning_rate": value}))(jnp.float32(0.125))
    assert float(found) == 0.125


@pytest.mark.parametrize(
    ("optimizer", "plain"),
    [
        (optax.sgd(0.1), True),
        (optax.sgd(1e-5), True),
        (optax.inject_hyperparams(optax.sgd)(learning_rate=0.1), True),
        (optax.chain(optax.scale(2.0), optax.scale(-0.5)), True),
        (optax.sgd(0.0), False),
        (optax.sgd(0.1, momentum=0.9), False),
        (optax.sgd(optax.constant_schedule(0.1)), False),
        (optax.inject_hyperparams(optax.sgd)(learning_rate=optax.linear_schedule(0.1, 0.0, 10)), False),
        (optax.inject_hyperparams(optax.sgd)(learning_rate=0.1, momentum=0.9), False),
        (optax.adam(0.1), False),
        (optax.chain(optax.add_decayed_weights(0.1), optax.sgd(0.1)), False),
        (optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(0.1)), False),
        (optax.sign_sgd(0.1), False),
        (optax.partition({"a": optax.sgd(0.1)}, {"w": "a"}), False),
    ],
)
def test_plain_sgd_is_told_from_everything_else(optimizer, plain):
    assert hyperparameters.is_plain_sgd(optimizer) == plain
