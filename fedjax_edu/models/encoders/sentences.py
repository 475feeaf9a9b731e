"""Texts as one token each, by a text encoder with published weights."""

import jax
import jax.numpy as jnp
from flax import nnx

from fedjax_edu.models.encoders.text import TextEncoder
from fedjax_edu.models.linear import Linear
from fedjax_edu.models.tokens import Tokens
from fedjax_edu.models.transformer import Report


class SentenceEncoder(nnx.Module):
    r"""The unit vector that a text encoder embeds a text as, read by a linear layer: :math:`\sqrt{d}\, W \bar t / \|\bar t\| + b`.

    Args:
        language: the text encoder, whose tokens' mean is :math:`\bar t`.
        tokens: width of the model's tokens.
        rngs: source of W.

    Reference: Reimers & Gurevych (2019), arXiv:1908.10084, for means of tokens as embeddings of sentences.
    """

    def __init__(self, language: TextEncoder, tokens: int, *, rngs: nnx.Rngs):
        self.language = language
        self.read = Linear(language.config.width, tokens, rngs=rngs)

    def __call__(self, values: jax.Array, present: jax.Array, lengths: jax.Array | None = None) -> tuple[Tokens, Report]:
        """Tokens [B, 1, D]; for the arguments see :class:`fedjax_edu.models.TextEncoder`. A text without a word piece is absent."""
        words, _ = self.language(values, present, lengths)
        there = words.mask.any(axis=1, keepdims=True)
        means = jnp.where(there, words.mean(), 1.0)  # of what is absent a norm would have no gradient
        units = means / jnp.linalg.norm(means, axis=1, keepdims=True)
        return Tokens.masked(self.read(units * self.language.config.width**0.5)[:, None], there), {}
