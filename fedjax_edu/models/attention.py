"""Attention of tokens to the tokens that are there."""

import jax
from einops import rearrange
from flax import nnx

from fedjax_edu.core.errors import ArgumentError
from fedjax_edu.models.linear import Linear
from fedjax_edu.models.tokens import Tokens


def projections(width: int, heads: int, rngs: nnx.Rngs) -> tuple[Linear, Linear, Linear, Linear]:
    """The linear layers of an attention: query, key, value and what follows it.

    Args:
        width: of tokens.
        heads: they share the width.
        rngs: source of the starting values.

    Raises:
        ArgumentError: the heads do not divide the width.
    """
    if width % heads:
        raise ArgumentError("heads", heads, f"use a divisor of the width {width}")
    query, key, value, out = (Linear(width, width, rngs=rngs) for _ in range(4))
    return query, key, value, out


def attend(query: jax.Array, key: jax.Array, value: jax.Array, mask: jax.Array, heads: int, causal: bool = False) -> jax.Array:
    """What each query reads of the values of the tokens that are there, [B, T, D].

    Args:
        query: float [B, T, D], heads side by side.
        key: of the tokens that are read, [B, S, D].
        value: of the same.
        mask: bool [B, S], which of them are there.
        heads: they share the width.
        causal: a token reads no later one.
    """
    query, key, value = (rearrange(part, "b t (h d) -> b t h d", h=heads) for part in (query, key, value))
    read = jax.nn.dot_product_attention(query, key, value, mask=mask[:, None, None, :], is_causal=causal)
    return rearrange(read, "b t h d -> b t (h d)")


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
        self.query, self.key, self.value, self.out = projections(width, heads, rngs)
        self.heads, self.causal = heads, causal

    def __call__(self, tokens: Tokens, read: Tokens | None = None) -> jax.Array:
        """Tokens of width D -> [B, T, D]; they read others, [B, S, D], or one another."""
        read = tokens if read is None else read
        query, key, value = self.query(tokens.values), self.key(read.values), self.value(read.values)
        return self.out(attend(query, key, value, read.mask, self.heads, self.causal))
