"""The server's half: its state, and its optimiser's step on an aggregated update."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from fedjax_edu.algorithms.hyperparameters import Hyperparameters
from fedjax_edu.core.algorithm import Aggregate
from fedjax_edu.core.modules import NO_MODULE, Params
from fedjax_edu.core.trees import Tree, global_norm

State = Any
"""A server state: a NamedTuple with the fields of :class:`ServerState`, and perhaps others, so that algorithms can extend each other."""


class ServerState(NamedTuple):
    """The federation's parameters, the server optimiser's state over the shared ones, and hyper-parameters of the client optimiser."""

    params: Params
    optimizer: optax.OptState
    client_optimizer: Hyperparameters


def init(optimizer: optax.GradientTransformation, shared: Tree) -> optax.OptState:
    """State of the server optimiser over the shared modules."""
    with jax.numpy_dtype_promotion("standard"):
        return optimizer.init(shared)


def step(optimizer: optax.GradientTransformation, state: State, update: Aggregate) -> tuple[State, dict[str, jax.Array]]:
    r"""One optimiser step with gradient :math:`-\bar\Delta`.

    A module whose weights sum to 0 keeps its value and its moments bit for bit; counters that belong to no module advance.

    Args:
        optimizer: any optax transformation.
        state: the state before.
        update: the aggregated update.

    Returns:
        The state after the step, and ``update_norm``.
    """
    mean = update.mean()
    gradient = jax.tree.map(lambda mean, leaf: -mean.astype(leaf.dtype), mean, state.params.shared)
    shared, optimizer_state = move(optimizer, state.params.shared, state.optimizer, gradient, update)
    return state._replace(params=state.params._replace(shared=shared), optimizer=optimizer_state), {"update_norm": global_norm(mean)}


def move(
    optimizer: optax.GradientTransformation, shared: Tree, state: optax.OptState, gradient: Tree, trained: Aggregate
) -> tuple[Tree, optax.OptState]:
    """Parameters and optimiser state after a step along a gradient, in the modules to which `trained` gives a weight."""
    with jax.numpy_dtype_promotion("standard"):
        updates, new_state = optimizer.update(gradient, state, shared)
        new_shared = optax.apply_updates(shared, updates)
    owners = trained.modules.owners(shared)
    state_owners = optax.tree_map_params(optimizer, lambda _, owner: owner, new_state, owners, transform_non_params=lambda _: NO_MODULE)
    return keep_untrained(trained, owners, new_shared, shared), keep_untrained(trained, state_owners, new_state, state)


def keep_untrained(trained: Aggregate, owners: Tree, new: Tree, old: Tree) -> Tree:
    """`new` in the modules to which `trained` gives a weight and outside of all modules, `old` bit for bit elsewhere."""

    def keep(new: jax.Array, old: jax.Array, owner: int) -> jax.Array:
        return new if owner == NO_MODULE else jnp.where(trained.weight[owner] > 0, new, old)

    return jax.tree.map(keep, new, old, owners)
