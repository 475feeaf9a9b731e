"""The linear layer of all models, and what may be added to it or to a feed-forward network later."""

from typing import Protocol

import jax
import jax.numpy as jnp
from flax import nnx


class Correction(Protocol):
    """Something small that is added to a layer, such as a low-rank matrix."""

    def __call__(self, inputs: jax.Array, outputs: jax.Array) -> jax.Array:
        """What is added to the outputs of a layer, given what it read and what it says."""
        ...


class Corrected(nnx.Module):
    """A layer to which corrections can be added; see :mod:`fedjax_edu.models.corrections`.

    Args:
        inputs: width of what it reads.
        outputs: width of what it says.
    """

    def __init__(self, inputs: int, outputs: int):
        self.widths = inputs, outputs
        self.corrections: nnx.List[Correction] = nnx.List([])

    def corrected(self, inputs: jax.Array, outputs: jax.Array) -> jax.Array:
        """The outputs plus what every correction says."""
        added = [correction(inputs, outputs) for correction in self.corrections]
        return sum(added, outputs)


class Linear(Corrected):
    """y = x W + b, and corrections.

    Args:
        inputs: width of x.
        outputs: width of y.
        rngs: source of W, drawn with variance ``scale**2 / inputs``.
        scale: 0 starts the layer at zero.
        bias: whether there is a b; it starts at zero.

    >>> layer = Linear(3, 5, rngs=nnx.Rngs(0))
    >>> layer(jnp.ones((4, 2, 3))).shape
    (4, 2, 5)
    """

    def __init__(self, inputs: int, outputs: int, *, rngs: nnx.Rngs, scale: float = 1.0, bias: bool = True):
        super().__init__(inputs, outputs)
        self.kernel = nnx.Param(jax.random.normal(rngs.params(), (inputs, outputs)) * (scale / inputs**0.5))
        self.bias = nnx.Param(jnp.zeros(outputs)) if bias else None

    def __call__(self, inputs: jax.Array) -> jax.Array:
        """[..., inputs] -> [..., outputs]."""
        outputs = inputs @ self.kernel[...]
        if self.bias is not None:
            outputs = outputs + self.bias[...].reshape((1,) * (outputs.ndim - 1) + (-1,))
        return self.corrected(inputs, outputs)
