"""Texts as one token each, by a text encoder with published weights."""

import jax
import jax.numpy as jnp
from flax import nnx

from fedjax_edu.models.encoders.text import TextEncoder
from fedjax_edu.models.linear import Linear
from fedjax_edu.models.tokens import Tokens
from fedjax_edu.models.transformer import Report


class SentenceEncoder(nnx.Module):
    r"""A text as the unit vector of a mean of its word pieces' tokens t, weighted by what matters, and read by a linear layer.

    .. math:: a = \mathrm{softmax}(T q), \qquad \bar t = \textstyle\sum_i a_i t_i, \qquad \sqrt{d}\, W \bar t / \|\bar t\| + b

    W, b and q start at zero: a text says nothing at first, and the first unit vectors are those of
    :meth:`fedjax_edu.models.TextEncoder.embed`.

    Args:
        language: the text encoder, of width d.
        tokens: width of the model's tokens.
        rngs: source of W.

    References: Reimers & Gurevych (2019), arXiv:1908.10084, for means of tokens as embeddings of sentences; Lin et al. (2017),
    arXiv:1703.03130, for learned weights, there from a layer more.
    """

    def __init__(self, language: TextEncoder, tokens: int, *, rngs: nnx.Rngs):
        self.language = language
        self.read = Linear(language.config.width, tokens, rngs=rngs, scale=0.0)
        self.query = nnx.Param(jnp.zeros(language.config.width))

    def __call__(self, values: jax.Array, present: jax.Array, lengths: jax.Array | None = None) -> tuple[Tokens, Report]:
        """Tokens [B, 1, D]; for the arguments see :class:`fedjax_edu.models.TextEncoder`. A text without a word piece is absent."""
        words, _ = self.language(values, present, lengths)
        there = words.mask.any(axis=1, keepdims=True)
        weights = jax.nn.softmax(words.values @ self.query[...], axis=1, where=words.mask | ~there)
        mixed = jnp.einsum("bt,btd->bd", weights, words.values)
        means = jnp.where(there, mixed, 1.0)  # of what is absent a norm would have no gradient
        units = means / jnp.linalg.norm(means, axis=1, keepdims=True)
        return Tokens.masked(self.read(units * self.language.config.width**0.5)[:, None], there), {}
