"""What a loss function may return, and the one form that the engine works with."""

import inspect
import numbers
from collections.abc import Callable, Mapping
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
    metrics: dict[str, Any] = {}  # noqa: RUF012 - a default of a NamedTuple, which nothing writes to


LossFunction = Callable[[Tree, Tree, jax.Array, jax.Array], Loss]


def standardise(loss: Callable[..., Any]) -> LossFunction:
    """Turns a user's loss into ``(params, batch, key, valid) -> Loss`` with every metric as (values, weights).

    Args:
        loss: ``(params, batch, key)`` to losses [B], ``(losses, metrics)`` or :class:`Loss`; it may take the keyword
            ``valid`` (bool [B], False on padding rows), which models whose rows interact need.

    Returns:
        A function of four arguments. On padding rows, losses and metrics are unspecified.

    Raises:
        LossError: not a function, or one of other arguments.

    >>> standardise(lambda params, batch, key: params * batch)(2.0, jnp.ones(2), jax.random.key(0), jnp.ones(2, bool)).per_example.tolist()
    [2.0, 2.0]
    """
    if not callable(loss):
        raise LossError("loss", loss, "pass a function (params, batch, key) -> losses [B]")
    takes_valid = _takes_valid(loss)

    def standard(params: Tree, batch: Tree, key: jax.Array, valid: jax.Array) -> Loss:
        out = loss(params, batch, key, valid=valid) if takes_valid else loss(params, batch, key)
        if not isinstance(out, Loss):
            out = Loss(out[0], metrics=out[1]) if isinstance(out, tuple) and len(out) == 2 else Loss(out)
        if not isinstance(out.metrics, Mapping) or not all(isinstance(name, str) for name in out.metrics):
            raise LossError("loss.metrics", _kind(out.metrics), "return a dictionary {name: values [B]}")
        return out._replace(metrics={name: _with_weights(f"loss.metrics.{name}", value) for name, value in out.metrics.items()})

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

    def checked(params: Tree, batch: Tree, key: jax.Array, valid: jax.Array) -> Loss:
        out = loss(params, batch, key, valid)
        _check_array("loss", out.per_example, (size,), jnp.floating)
        if not isinstance(out.regulariser, numbers.Real):
            _check_array("loss.regulariser", out.regulariser, (), jnp.floating)
        for name, (value, weight) in out.metrics.items():
            for argument, array in ((f"loss.metrics.{name}", value), (f"loss.metrics.{name} weights", weight)):
                _check_array(argument, array, (size,), jnp.floating, jnp.integer, jnp.bool_)
        return out

    key = jax.eval_shape(lambda: jax.random.key(0))
    return jax.eval_shape(checked, params, batch, key, jax.ShapeDtypeStruct((size,), jnp.bool_))


def _takes_valid(loss: Callable[..., Any]) -> bool:
    """Whether a loss takes the keyword ``valid``; an error if it does not take (params, batch, key)."""
    try:
        signature = inspect.signature(loss)
    except ValueError:  # a function written in C that tells nothing
        return False
    takes_valid = "valid" in signature.parameters
    try:
        signature.bind(None, None, None, **({"valid": None} if takes_valid else {}))
    except TypeError as error:
        name = getattr(loss, "__name__", type(loss).__name__)
        raise LossError("loss", f"{name}{signature}", "take (params, batch, key), and the keyword `valid` if rows interact") from error
    return takes_valid


def _with_weights(argument: str, value: Any) -> tuple[Any, Any]:
    if isinstance(value, tuple):
        if len(value) != 2:
            raise LossError(argument, f"a tuple of {len(value)}", "return values [B], or a pair (values [B], weights [B])")
        return value
    if not _is_array(value):
        raise LossError(argument, _kind(value), "return an array [B]")
    return value, jnp.ones_like(value)


def _check_array(argument: str, value: Any, shape: tuple[int, ...], *dtypes: Any) -> None:
    if not _is_array(value):
        raise LossError(argument, _kind(value), f"return an array of shape {list(shape)}")
    found = f"{value.dtype}{list(value.shape)}"
    if value.shape != shape:
        a_row = f"for this batch return shape {list(shape)}: one number an example, not a mean"
        raise LossError(argument, found, a_row if shape else "return a scalar")
    if not any(jnp.issubdtype(value.dtype, dtype) for dtype in dtypes):
        raise LossError(argument, found, f"return a floating-point dtype, for instance float32{list(shape)}")


def _is_array(value: Any) -> bool:
    return hasattr(value, "dtype") and hasattr(value, "shape")


def _kind(value: Any) -> str:
    return f"a {type(value).__name__}" if isinstance(value, (dict, list, tuple)) else repr(value)
