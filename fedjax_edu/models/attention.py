"""Attention of tokens to the tokens that are there."""

import jax
from einops import rearrange
from flax import nnx

from fedjax_edu.core.errors import ArgumentError
from fedjax_edu.models.linear import Linear
from fedjax_edu.models.tokens import Tokens


class Attention(nnx.Module):
    r"""Every token reads the tokens that are there, in several heads side by side.

    .. math:: y_t = W_o \, \big\Vert_h \sum_{s} \mathrm{softmax}_s \big( q_{t,h}^\top k_{s,h} / \sqrt{d} \big) v_{s,h}, \qquad
        s \text{ present, and } s \le t \text{ if causal}

    A row without any token gives finite numbers that mean nothing.

    Args:
        width: of tokens.
        heads: H; they share the width.
        rngs: source of the starting values.
        causal: a token reads no later one.

    Raises:
        ArgumentError: the heads do not divide the width.

    Reference: Vaswani et al. (2017), arXiv:1706.03762.
    """

    def __init__(self, width: int, heads: int, *, rngs: nnx.Rngs, causal: bool = False):
        if width % heads:
            raise ArgumentError("heads", heads, f"use a divisor of the width {width}")
        self.query, self.key, self.value, self.out = (Linear(width, width, rngs=rngs) for _ in range(4))
        self.heads, self.causal = heads, causal

    def __call__(self, tokens: Tokens) -> jax.Array:
        """Tokens of width D -> [B, T, D]."""
        query, key, value = (
            rearrange(layer(tokens.values), "b t (h d) -> b t h d", h=self.heads) for layer in (self.query, self.key, self.value)
        )
        read = jax.nn.dot_product_attention(query, key, value, mask=tokens.mask[:, None, None, :], is_causal=self.causal)
        return self.out(rearrange(read, "b t h d -> b t (h d)"))
