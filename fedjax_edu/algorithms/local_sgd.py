"""Local training by any optax optimiser: the client half that most algorithms share."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from fedjax_edu.core.algorithm import ClientInfo, Report, observe
from fedjax_edu.core.errors import ArgumentError
from fedjax_edu.core.local import Batch
from fedjax_edu.core.loss import Loss, LossFunction
from fedjax_edu.core.modules import Params, join, part
from fedjax_edu.core.trees import Tree, named_leaves


class Local(NamedTuple):
    """What a lane carries for its client: the parameters it trains (None in the places of frozen ones) and the optimiser's state."""

    params: Tree
    optimizer: optax.OptState


def start(optimizer: optax.GradientTransformation, shared: Params, personal: Tree) -> Local:
    """A client at the beginning of its round: the server's shared modules, its own personal ones, a fresh optimiser."""
    params = join(shared.shared, personal)
    with jax.numpy_dtype_promotion("standard"):
        return Local(params, optimizer.init(params))


def step(
    loss: LossFunction, optimizer: optax.GradientTransformation, frozen: Tree, local: Local, batch: Batch, key: jax.Array
) -> tuple[Local, Report]:
    r"""One step on :math:`\frac{1}{|B|}\sum_{i \in B} \ell_i(w) + r(w)`, over the valid rows B."""

    def objective(params: Tree) -> tuple[jax.Array, Loss]:
        out = loss(join(params, frozen), batch.examples, key, batch.valid)
        total = jnp.sum(jnp.where(batch.valid, out.per_example, jnp.zeros_like(out.per_example)))
        count = jnp.maximum(jnp.sum(batch.valid), 1).astype(total.dtype)
        return total / count + out.regulariser, out

    gradient, out = jax.grad(objective, has_aux=True)(local.params)
    with jax.numpy_dtype_promotion("standard"):
        updates, state = optimizer.update(gradient, local.optimizer, local.params)
        params = optax.apply_updates(local.params, updates)
    return Local(params, state), observe(out, batch.valid)


def trained(shared: Params, local: Local) -> Tree:
    """The full model as the client has it now."""
    return join(local.params, shared.frozen)


def difference(shared: Params, local: Local) -> Tree:
    """What the client sends: its shared modules minus the server's."""
    return jax.tree.map(jnp.subtract, part(local.params, shared.shared), shared.shared)


def personal(shared: Params, local: Local) -> Tree:
    """What the client keeps: its personal modules."""
    return part(local.params, shared.personal)


def holdings(info: ClientInfo, weight: jax.Array) -> jax.Array:
    """The client's weight for each module: 0 for one it does not hold."""
    return jnp.where(info.held, weight, jnp.zeros_like(weight))


def check_optimizer(argument: str, optimizer: Any) -> None:
    """Makes sure that an optimiser is one, and that its hyper-parameters are finite.

    A learning rate sits inside optax's closures where nobody can read it, so one step is taken on a gradient of ones.

    Raises:
        ArgumentError: not an optax transformation, one that needs more than gradients, or the step is not finite.
    """
    if not isinstance(optimizer, optax.GradientTransformation):
        raise ArgumentError(argument, optimizer, "pass an optax optimiser, for instance optax.sgd(0.05)")
    params = {"probe": jnp.ones((2, 2))}
    try:
        with jax.numpy_dtype_promotion("standard"):
            state = optimizer.init(params)
            update = float(optimizer.update(params, state, params)[0]["probe"][0, 0])
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        if "required keyword-only argument" in str(error):
            raise ArgumentError(argument, str(error), "use an optimiser whose update needs only gradients, state and parameters") from error
        return  # an optimiser made for the model's own tree (optax.partition, optax.masked) cannot take the probe
    for name, value in named_leaves(state):
        _, injected, hyperparameter = name.rpartition("hyperparams.")
        if injected and not jnp.all(jnp.isfinite(value)):
            raise ArgumentError(f"{argument}.{hyperparameter}", np.asarray(value).tolist(), "use a finite number")
    if not math.isfinite(update):
        raise ArgumentError(argument, f"the update {update} for a gradient of ones", "use a finite learning rate and hyper-parameters")
