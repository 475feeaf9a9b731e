"""The server's optimiser step: modules that nobody trained stand still, the others move as optax moves them alone."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fedjax_edu.algorithms import server
from fedjax_edu.core.algorithm import Aggregate
from fedjax_edu.core.modules import assign
from tests.reference.problems import identical, largest_gap

PARAMS = {"encoder": {"w": jnp.array([1.0, -2.0, 0.5])}, "heads": {"math": jnp.array([0.3]), "read": jnp.array([[2.0, 1.0]])}}
MODULES = assign(PARAMS, shared=["encoder", "heads.math", "heads.read"])
OPTIMISERS = {
    "momentum": optax.sgd(0.5, momentum=0.9),
    "adam": optax.adam(0.1),
    "yogi": optax.yogi(0.1),
    "chain": optax.chain(optax.trace(0.9), optax.scale_by_adam(), optax.scale(-0.1)),
}


def aggregate(seed: int, weights: list[float]) -> Aggregate:
    """Sums of random updates; a module of weight 0 holds garbage that must not be read."""
    rng = np.random.default_rng(seed)
    weight = jnp.array(weights, jnp.float32)
    total = jax.tree.map(
        lambda leaf, owner: jnp.asarray(rng.normal(size=leaf.shape), jnp.float32) * weight[owner], PARAMS, MODULES.owners(PARAMS)
    )
    return Aggregate(total, weight, (weight > 0).astype(jnp.int32), MODULES)


def step(optimizer, shared, state, update: Aggregate):
    """Shared parameters and the optimiser's state after one step."""
    after, _ = server.step(optimizer, server.ServerState(MODULES.split(PARAMS)._replace(shared=shared), state, {}), update)
    return after.params.shared, after.optimizer


@pytest.mark.parametrize("name", OPTIMISERS)
def test_module_without_weight_keeps_value_and_moments_bit_for_bit(name):
    optimizer = OPTIMISERS[name]
    params, state = step(optimizer, PARAMS, server.init(optimizer, PARAMS), aggregate(0, [3.0, 2.0, 5.0]))
    moved, after = step(optimizer, params, state, aggregate(1, [3.0, 0.0, 5.0]))
    assert identical(moved["heads"]["math"], params["heads"]["math"])
    assert not identical(moved["heads"]["read"], params["heads"]["read"])
    kept = optax.tree_map_params(
        optimizer, lambda leaf, owner: leaf if owner == 1 else None, state, MODULES.owners(PARAMS), transform_non_params=lambda _: None
    )
    found = optax.tree_map_params(
        optimizer, lambda leaf, owner: leaf if owner == 1 else None, after, MODULES.owners(PARAMS), transform_non_params=lambda _: None
    )
    assert jax.tree.leaves(kept) and identical(kept, found)


@pytest.mark.parametrize("name", OPTIMISERS)
def test_other_modules_move_as_optax_moves_them(name):
    optimizer = OPTIMISERS[name]
    steps = [aggregate(0, [3.0, 2.0, 5.0]), aggregate(1, [1.0, 0.0, 0.5])]
    params, state = PARAMS, server.init(optimizer, PARAMS)
    alone = PARAMS["encoder"]
    with jax.numpy_dtype_promotion("standard"):
        moments = optimizer.init(alone)
        for update in steps:
            params, state = step(optimizer, params, state, update)
            gradient = jax.tree.map(lambda total, update=update: -total / update.weight[0], update.total["encoder"])
            updates, moments = optimizer.update(gradient, moments, alone)
            alone = optax.apply_updates(alone, updates)
    assert largest_gap(params["encoder"], alone) < 1e-6
