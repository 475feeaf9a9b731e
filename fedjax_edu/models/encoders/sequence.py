"""Histories of answers: which item, what was answered, how long after the one before."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from fedjax_edu.core.errors import ArgumentError
from fedjax_edu.models.linear import Linear
from fedjax_edu.models.tokens import Tokens, token_mask, where_present
from fedjax_edu.models.transformer import Report, Transformer, TransformerConfig


class Interactions(NamedTuple):
    """A history of T steps for each row.

    Args:
        items: int [B, T], what was asked.
        responses: float [B, T], right or wrong, or a score.
        gaps: float [B, T], time since the step before; below 0 counts as 0.
    """

    items: jax.Array
    responses: jax.Array
    gaps: jax.Array


class SequenceEncoder(nnx.Module):
    r"""A token for each step of a history, which knows this step and those before.

    .. math:: t_s = e_{i_s} + r_s \, u_{i_s} + w \log(1 + g_s) + p_s, \quad \text{then a causal transformer}

    with item i, response r, gap g, and a learned vector p for each place.

    Args:
        items: how many there are.
        steps: T at most.
        width: of tokens.
        config: of the transformer.
        rngs: source of the starting values.

    Reference: Pandey, Karypis (2019), arXiv:1907.06837, with gaps; responses may be scores.
    """

    def __init__(self, items: int, steps: int, width: int, config: TransformerConfig, *, rngs: nnx.Rngs):
        def table(rows: int) -> nnx.Param[jax.Array]:
            return nnx.Param(jax.random.normal(rngs.params(), (rows, width)) / width**0.5)

        self.items, self.slopes, self.places = table(items), table(items), table(steps)
        self.gap = Linear(1, width, rngs=rngs, bias=False)
        self.transformer = Transformer(width, config, rngs=rngs, causal=True)

    def __call__(self, values: Interactions, present: jax.Array, lengths: jax.Array | None = None) -> tuple[Tokens, Report]:
        """Tokens of histories [B, T, D], and what experts say.

        Args:
            values: the histories.
            present: bool [B] or [B, T].
            lengths: int [B], steps of each history; None: T.

        Raises:
            ArgumentError: more steps than there are places.
        """
        steps = values.items.shape[1]
        if steps > len(self.places[...]):
            raise ArgumentError("values", values.items.shape, f"cut histories to {len(self.places[...])} steps")
        mask = token_mask(present, lengths, steps)
        items, responses, gaps = (where_present(mask, leaf) for leaf in values)
        tokens = self.items[...][items] + responses[:, :, None] * self.slopes[...][items]
        tokens = tokens + self.gap(jnp.log1p(jnp.maximum(gaps, 0.0))[:, :, None]) + self.places[...][None, :steps]
        return self.transformer(Tokens.masked(tokens, mask))
