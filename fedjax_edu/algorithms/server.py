"""The server's optimiser step on an aggregated update."""

import jax
import jax.numpy as jnp
import optax

from fedjax_edu.core.algorithm import Aggregate
from fedjax_edu.core.trees import Tree

_NO_MODULE = -1


def init(optimizer: optax.GradientTransformation, shared: Tree) -> optax.OptState:
    """State of the server optimiser over the shared modules."""
    with jax.numpy_dtype_promotion("standard"):
        return optimizer.init(shared)


def step(optimizer: optax.GradientTransformation, shared: Tree, state: optax.OptState, update: Aggregate) -> tuple[Tree, optax.OptState]:
    r"""One optimiser step with gradient :math:`-\bar\Delta`.

    A module whose weights sum to 0 keeps its value and its moments bit for bit; counters that belong to no module advance.

    Args:
        optimizer: any optax transformation.
        shared: shared parameters.
        state: the optimiser's state over them.
        update: the aggregated update.

    Returns:
        New parameters and state.
    """
    owners = update.modules.owners(shared)
    gradient = jax.tree.map(lambda mean, leaf: -mean.astype(leaf.dtype), update.mean(), shared)
    with jax.numpy_dtype_promotion("standard"):
        updates, new_state = optimizer.update(gradient, state, shared)
        new_shared = optax.apply_updates(shared, updates)

    def keep(new: jax.Array, old: jax.Array, owner: int) -> jax.Array:
        return new if owner == _NO_MODULE else jnp.where(update.weight[owner] > 0, new, old)

    state_owners = optax.tree_map_params(optimizer, lambda _, owner: owner, new_state, owners, transform_non_params=lambda _: _NO_MODULE)
    return jax.tree.map(keep, new_shared, shared, owners), jax.tree.map(keep, new_state, state, state_owners)
