"""Texts as the short pieces that they are made of, one token each."""

import jax
import jax.numpy as jnp
from flax import nnx

from fedjax_edu.models.tokens import Tokens, token_mask, where_present
from fedjax_edu.models.transformer import Report


class SubwordEncoder(nnx.Module):
    r"""A text as the sum of learned vectors of its n pieces: a linear model of words and of what they have in common.

    .. math:: \frac{\gamma}{\sqrt n} \sum_i V_{p_i} + b

    V starts at zero. Where little is known of a language, and single words tell more than sentences do, this is what to compare with.

    Args:
        buckets: numbers of pieces, below which all of them are.
        tokens: width of the model's tokens.
        gain: :math:`\gamma`, how fast V learns: of many pieces each is seen seldom.

    References: Bojanowski et al. (2016), arXiv:1607.04606, there the mean; Weinberger et al. (2009), arXiv:0902.2206, for pieces by hash.
    """

    def __init__(self, buckets: int, tokens: int, *, gain: float):
        self.table = nnx.Param(jnp.zeros((buckets, tokens)))
        self.bias = nnx.Param(jnp.zeros(tokens))
        self.gain = gain

    def __call__(self, values: jax.Array, present: jax.Array, lengths: jax.Array | None = None) -> tuple[Tokens, Report]:
        """Tokens [B, 1, D]; there are no experts to report of.

        Args:
            values: int [B, T], numbers of pieces.
            present: bool [B], or [B, T].
            lengths: int [B], pieces of each text; None: T. A text without any is absent.
        """
        mask = token_mask(present, lengths, values.shape[1])
        found = Tokens.masked(self.table[...][where_present(mask, values)], mask)
        count = mask.sum(axis=1, keepdims=True)
        root = jnp.sqrt(jnp.maximum(count, 1).astype(found.values.dtype))
        summed = self.gain * found.values.sum(axis=1) / root + self.bias[...][None]
        return Tokens.masked(summed[:, None], count > 0), {}
