"""Local training by any optax optimiser: the client half that most algorithms share."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from fedjax_edu.algorithms import hyperparameters
from fedjax_edu.algorithms.hyperparameters import Hyperparameters
from fedjax_edu.core.algorithm import Report, observe
from fedjax_edu.core.local import Batch
from fedjax_edu.core.loss import Loss, LossFunction
from fedjax_edu.core.modules import Params, join, part
from fedjax_edu.core.trees import Tree


class Local(NamedTuple):
    """What a lane carries for its client: the parameters it trains (None in the places of frozen ones) and the optimiser's state."""

    params: Tree
    optimizer: optax.OptState


def trainable(params: Params) -> Tree:
    """What a client trains: shared and personal modules."""
    return join(params.shared, params.personal)


def start(optimizer: optax.GradientTransformation, values: Hyperparameters, shared: Tree, personal: Tree) -> Local:
    """A client at the beginning of its round: the server's shared modules, its own personal ones, a fresh optimiser.

    `values` are the optimiser's hyper-parameters, of those that ``optax.inject_hyperparams`` made visible.
    """
    params = join(shared, personal)
    with jax.numpy_dtype_promotion("standard"):
        return Local(params, hyperparameters.put(optimizer.init(params), values))


def objective(loss: LossFunction, params: Tree, frozen: Tree, batch: Batch, key: jax.Array) -> tuple[jax.Array, Loss]:
    r""":math:`\frac{1}{|B|}\sum_{i \in B} \ell_i(w) + r(w)` over the valid rows B of a batch."""
    out = loss(join(params, frozen), batch.examples, key, batch.valid)
    total = jnp.sum(jnp.where(batch.valid, out.per_example, jnp.zeros_like(out.per_example)))
    count = jnp.maximum(jnp.sum(batch.valid), 1).astype(total.dtype)
    return total / count + out.regulariser, out


def gradient(loss: LossFunction, params: Tree, frozen: Tree, batch: Batch, key: jax.Array) -> tuple[Tree, Report]:
    """Gradient of the objective by the parameters that the client trains, and what the batch showed."""
    slope, out = jax.grad(lambda params: objective(loss, params, frozen, batch, key), has_aux=True)(params)
    return slope, observe(out, batch.valid)


def descend(optimizer: optax.GradientTransformation, local: Local, slope: Tree) -> Local:
    """One optimiser step along a gradient."""
    with jax.numpy_dtype_promotion("standard"):
        updates, state = optimizer.update(slope, local.optimizer, local.params)
        return Local(optax.apply_updates(local.params, updates), state)


def add(tree: Tree, part: Tree) -> Tree:
    """Leafwise sum where `part` has a leaf, `tree` elsewhere."""
    return jax.tree.map(lambda leaf, other: leaf if other is None else leaf + other, tree, part, is_leaf=lambda leaf: leaf is None)


def gather(total: Tree, slope: Tree, examples: jax.Array) -> Tree:
    """A sum of batch gradients, each times its rows, with one more; only where the sum has leaves."""
    return jax.tree.map(lambda sum_, leaf: sum_ + examples.astype(leaf.dtype) * leaf, total, part(slope, total))


def trained(params: Params, local: Local) -> Tree:
    """The full model as the client has it now."""
    return join(local.params, params.frozen)


def difference(shared: Tree, local: Local) -> Tree:
    """What the client sends: its shared modules minus those that it started from."""
    return jax.tree.map(jnp.subtract, part(local.params, shared), shared)


def personal(params: Params, local: Local) -> Tree:
    """What the client keeps: its personal modules."""
    return part(local.params, params.personal)
