"""What a loss function may return, and the one form that the engine works with."""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fedjax_edu.core.errors import LossError
from fedjax_edu.core.trees import Tree


class Loss(NamedTuple):
    """Losses of one batch, as a loss function may return them.

    Args:
        per_example: float [B], the loss of each example; the engine takes the mean over the valid ones.
        regulariser: float scalar added to that mean; it is trained on but not reported.
        metrics: ``{name: values [B]}`` or ``{name: (values [B], weights [B])}``, reported as weighted means.

    >>> Loss(jnp.ones(3)).regulariser
    0.0
    """

    per_example: jax.Array
    regulariser: Any = 0.0
    metrics: dict[str, Any] = {}


LossFunction = Callable[[Tree, Tree, jax.Array, jax.Array], Loss]


def standardise(loss: Callable[..., Any]) -> LossFunction:
    """Turns a user's loss into ``(params, batch, key, valid) -> Loss`` with every metric as (values, weights).

    Args:
        loss: ``(params, batch, key)`` to losses [B], ``(losses, metrics)`` or :class:`Loss`; it may take the keyword
            ``valid`` (bool [B], False on padding rows), which models whose rows interact need.

    Returns:
        A function of four arguments. On padding rows, losses and metrics are unspecified.

    >>> standardise(lambda params, batch, key: params * batch)(2.0, jnp.ones(2), None, None).per_example.tolist()
    [2.0, 2.0]
    """
    if not callable(loss):
        raise LossError("loss", loss, "pass a function (params, batch, key) -> losses [B]")
    takes_valid = "valid" in inspect.signature(loss).parameters

    def standard(params: Tree, batch: Tree, key: jax.Array, valid: jax.Array) -> Loss:
        out = loss(params, batch, key, valid=valid) if takes_valid else loss(params, batch, key)
        if not isinstance(out, Loss):
            out = Loss(out[0], metrics=out[1]) if isinstance(out, tuple) and len(out) == 2 else Loss(out)
        metrics = {name: value if isinstance(value, tuple) else (value, jnp.ones_like(value)) for name, value in out.metrics.items()}
        return out._replace(metrics=metrics)

    return standard


def check(loss: LossFunction, params: Tree, batch: Tree, size: int) -> Loss:
    """Traces the loss once without running it and checks shapes and dtypes.

    Args:
        loss: a standardised loss.
        params: parameters or their shapes.
        batch: one batch or its shapes, every leaf [size, ...].
        size: rows of the batch.

    Returns:
        The shapes of a :class:`Loss`.

    Raises:
        LossError: something is not [size] of a float type; the message shows what it is and what it must be.
    """
    key = jax.eval_shape(lambda: jax.random.key(0))
    out = jax.eval_shape(loss, params, batch, key, jax.ShapeDtypeStruct((size,), jnp.bool_))
    _check_array("loss", out.per_example, (size,))
    _check_array("loss.regulariser", out.regulariser, ())
    for name, (value, weight) in out.metrics.items():
        _check_array(f"loss.metrics.{name}", value, (size,), any_number=True)
        _check_array(f"loss.metrics.{name} weights", weight, (size,), any_number=True)
    return out


def _check_array(argument: str, value: Any, shape: tuple[int, ...], any_number: bool = False) -> None:
    found = f"{value.dtype}{list(value.shape)}" if hasattr(value, "dtype") else repr(type(value).__name__)
    if not hasattr(value, "dtype"):
        raise LossError(argument, found, f"return an array of shape {list(shape)}")
    if value.shape != shape:
        raise LossError(argument, found, f"return shape {list(shape)}: one number an example, not a mean" if shape else "return a scalar")
    if not any_number and not jnp.issubdtype(value.dtype, jnp.floating):
        raise LossError(argument, found, f"return a floating-point dtype, for instance float32{list(shape)}")
