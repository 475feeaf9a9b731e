"""Texts as one token each: what a text encoder with published weights says of them, and which words they have."""

import jax
import jax.numpy as jnp
from flax import nnx

from fedjax_edu.models.encoders.text import TextEncoder
from fedjax_edu.models.linear import Linear
from fedjax_edu.models.tokens import Tokens, where_present
from fedjax_edu.models.transformer import Report


class SentenceEncoder(nnx.Module):
    r"""A text as the unit vector of a mean of its word pieces' tokens t, weighted by what matters, and read by a linear layer.

    .. math:: a = \mathrm{softmax}(T q), \qquad \bar t = \textstyle\sum_i a_i t_i, \qquad
        \sqrt{d}\, W \bar t / \|\bar t\| + b + \tfrac{\gamma}{n} \textstyle\sum_i V_{p_i}

    q starts at zero: the first unit vectors are those of :meth:`fedjax_edu.models.TextEncoder.embed`. So does V, a vector for each word
    piece p: where single words tell more than sentences do, a linear model of words is part of this one.

    Args:
        language: the text encoder, of width d.
        tokens: width of the model's tokens.
        words: :math:`\gamma`, how fast V learns: of the n pieces of a text each has a small share. 0: there is no V.
        rngs: source of W.

    References: Reimers & Gurevych (2019), arXiv:1908.10084, for means of tokens as embeddings of sentences; Lin et al. (2017),
    arXiv:1703.03130, for learned weights, there from a layer more; Cheng et al. (2016), arXiv:1606.07792, for a linear model beside a
    deep one.
    """

    def __init__(self, language: TextEncoder, tokens: int, *, words: float = 0.0, rngs: nnx.Rngs):
        self.language = language
        self.read = Linear(language.config.width, tokens, rngs=rngs)
        self.query = nnx.Param(jnp.zeros(language.config.width))
        self.words = nnx.Param(jnp.zeros((language.config.vocabulary, tokens))) if words else None
        self.gain = words

    def __call__(self, values: jax.Array, present: jax.Array, lengths: jax.Array | None = None) -> tuple[Tokens, Report]:
        """Tokens [B, 1, D]; for the arguments see :class:`fedjax_edu.models.TextEncoder`. A text without a word piece is absent."""
        pieces, _ = self.language(values, present, lengths)
        there = pieces.mask.any(axis=1, keepdims=True)
        weights = jax.nn.softmax(pieces.values @ self.query[...], axis=1, where=pieces.mask | ~there)
        mixed = jnp.einsum("bt,btd->bd", weights, pieces.values)
        means = jnp.where(there, mixed, 1.0)  # of what is absent a norm would have no gradient
        units = means / jnp.linalg.norm(means, axis=1, keepdims=True)
        read = self.read(units * self.language.config.width**0.5)
        if self.words is not None:
            read += self.gain * Tokens.masked(self.words[...][where_present(pieces.mask, values)], pieces.mask).mean()
        return Tokens.masked(read[:, None], there), {}
