"""Embeddings that were computed elsewhere, with the times they belong to."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from fedjax_edu.core.errors import ArgumentError
from fedjax_edu.models.linear import Linear
from fedjax_edu.models.tokens import Tokens, token_mask, where_present
from fedjax_edu.models.transformer import Report, Transformer, TransformerConfig

LONGEST = 10_000.0  # the longest wave of time, in units of the time stamps


def waves(times: jax.Array, width: int) -> jax.Array:
    r"""Sine and cosine of a time at wavelengths from 2π to 2π times ``LONGEST``.

    .. math:: \big( \sin(t \, \omega_j), \cos(t \, \omega_j) \big)_{j < D/2}, \quad \omega_j = 10000^{-2j/D}

    Args:
        times: float [...].
        width: D, even.

    Returns:
        float [..., D]: all sines, then all cosines.

    >>> waves(jnp.zeros(1), 4).tolist()
    [[0.0, 0.0, 1.0, 1.0]]

    Reference: Vaswani et al. (2017), arXiv:1706.03762; there sines and cosines alternate.
    """
    if width % 2:
        raise ArgumentError("width", width, "use an even width: half of it are sines, half cosines")
    rates = LONGEST ** (-2 * jnp.arange(width // 2) / width)
    angles = times[..., None] * rates.reshape((1,) * times.ndim + (-1,))
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)


class Stamped(NamedTuple):
    """Embeddings and when they were made.

    Args:
        embeddings: float [B, T, inputs].
        times: float [B, T], in any unit.
    """

    embeddings: jax.Array
    times: jax.Array


class FeaturesEncoder(nnx.Module):
    """Projects embeddings, adds waves of their time stamps, then a transformer: any rate of sampling, also irregular ones.

    Args:
        inputs: width of the embeddings.
        width: of tokens.
        config: of the transformer.
        rngs: source of the starting values.
    """

    def __init__(self, inputs: int, width: int, config: TransformerConfig, *, rngs: nnx.Rngs):
        self.width = width
        self.project = Linear(inputs, width, rngs=rngs)
        self.transformer = Transformer(width, config, rngs=rngs)

    def __call__(self, values: Stamped, present: jax.Array, lengths: jax.Array | None = None) -> tuple[Tokens, Report]:
        """Tokens [B, T, D], and what experts say.

        Args:
            values: the embeddings.
            present: bool [B], or [B, T].
            lengths: int [B]; None: T.
        """
        mask = token_mask(present, lengths, values.times.shape[1])
        embeddings, times = (where_present(mask, leaf) for leaf in values)
        return self.transformer(Tokens.masked(self.project(embeddings) + waves(times, self.width), mask))
