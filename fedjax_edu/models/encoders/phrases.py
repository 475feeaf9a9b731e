"""Texts as the words and phrases that they have, one token each."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from fedjax_edu.core.errors import check_integer, check_positive
from fedjax_edu.models.linear import Linear
from fedjax_edu.models.tokens import Tokens, token_mask, where_present
from fedjax_edu.models.transformer import Report


class Bag(NamedTuple):
    """The phrases of each text, without their order.

    Args:
        numbers: which ones, int [B, T].
        weights: what each counts, [B, T].
    """

    numbers: jax.Array
    weights: jax.Array


class PhraseEncoder(nnx.Module):
    r"""A text as the weighted sum of learned vectors of its phrases p: a linear model of words.

    .. math:: \gamma \left(\sum_i w_i V_{p_i} + c\right) W + b

    V and c start at zero. V is narrow, so that there can be many buckets: phrases that share one are taken for each other. Where single
    words tell more than sentences do, this is the model to compare with.

    Args:
        buckets: numbers of phrases, below which all of them are.
        tokens: width of the model's tokens.
        rank: width of V.
        gain: :math:`\gamma`, how fast V learns: of many phrases each is seen seldom.
        rngs: source of W.

    Raises:
        ArgumentError: buckets or a rank below 1, a gain that is not positive.

    References: Joulin et al. (2016), arXiv:1607.01759, there the mean; Weinberger et al. (2009), arXiv:0902.2206, for phrases by hash.
    """

    def __init__(self, buckets: int, tokens: int, *, rank: int, gain: float, rngs: nnx.Rngs):
        check_integer("buckets", buckets)
        check_integer("rank", rank)
        check_positive("gain", gain)
        self.table, self.bias = nnx.Param(jnp.zeros((buckets, rank))), nnx.Param(jnp.zeros(rank))
        self.read = Linear(rank, tokens, rngs=rngs)
        self.gain = gain

    def __call__(self, values: Bag, present: jax.Array, lengths: jax.Array | None = None) -> tuple[Tokens, Report]:
        """Tokens [B, 1, D]; there are no experts to report of.

        Args:
            values: numbers and weights of phrases.
            present: bool [B], or [B, T].
            lengths: int [B], phrases of each text; None: T. A text without any is absent.
        """
        mask = token_mask(present, lengths, values.numbers.shape[1])
        weights, vectors = where_present(mask, values.weights), self.table[...][where_present(mask, values.numbers)]
        summed = self.gain * (jnp.einsum("bt,btr->br", weights, vectors) + self.bias[...][None])
        return Tokens.masked(self.read(summed)[:, None], mask.any(axis=1, keepdims=True)), {}
