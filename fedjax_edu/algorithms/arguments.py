"""Checks of the arguments that algorithms share."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from fedjax_edu.core.algorithm import WEIGHTINGS, Meta
from fedjax_edu.core.errors import ArgumentError, check_number, check_positive, shown
from fedjax_edu.core.local import LocalTraining
from fedjax_edu.core.modules import Modules
from fedjax_edu.core.trees import named_leaves


def check(*, local: Any, weighting: Any = "examples", **optimizers: Any) -> None:
    """Checks local work, weighting and optimisers; the last by their argument's name.

    Raises:
        ArgumentError: something else, an unknown weighting, or a learning rate that is not finite.
    """
    check_local("local", local)
    if not isinstance(weighting, str) or weighting not in WEIGHTINGS:
        raise ArgumentError("weighting", weighting, f"use one of {sorted(WEIGHTINGS)}")
    for name, optimizer in optimizers.items():
        check_optimizer(name, optimizer)


def check_local(argument: str, local: Any) -> None:
    """Makes sure that local work is described as such."""
    if not isinstance(local, LocalTraining):
        raise ArgumentError(argument, local, "use fe.LocalTraining(epochs=1, batch_size=20)")


def check_all_shared(modules: Modules) -> None:
    """Makes sure that no module is personal, for algorithms whose clients have models of their own besides the federation's."""
    if modules.has("personal"):
        raise ArgumentError("modules", modules.kinds, "share all modules that are trained: each client has a second copy of them")


def find_attribute(argument: str, name: str, meta: Meta) -> np.ndarray:
    """The client attribute of this name, [clients, ...]."""
    if name not in meta.attributes:
        raise ArgumentError(argument, name, f"name a client attribute: {', '.join(sorted(meta.attributes)) or 'there are none'}")
    return meta.attributes[name]


def check_attribute(argument: str, name: str, meta: Meta) -> np.ndarray:
    """A client attribute that counts or numbers something: integers [clients], none negative."""
    values = find_attribute(argument, name, meta)
    if values.ndim != 1 or values.dtype.kind not in "iu" or np.any(values < 0):
        raise ArgumentError(argument, f"{name}: {shown(values)}", "use an attribute of one integer a client, 0 or more")
    return values


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


def check_rate(argument: str, rate: Any) -> optax.ScalarOrSchedule:
    """A positive learning rate, or an optax schedule over the server's steps, which may begin with 0 to warm up."""
    if not callable(rate):
        return check_positive(argument, rate)
    try:
        first = float(rate(jnp.int32(0)))
    except TypeError as error:
        raise ArgumentError(argument, rate, "pass a number, or a function from the step to one") from error
    check_number(argument, first, at_least=0)
    return rate
