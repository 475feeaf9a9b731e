"""Records of numbers and categories: a token for each feature."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from fedjax_edu.core.errors import ArgumentError
from fedjax_edu.models.tokens import Tokens, token_mask, where_present
from fedjax_edu.models.transformer import Report


class Record(NamedTuple):
    """Features of each row.

    Args:
        values: float [B, S], numbers and the codes of levels.
        features: int [B, S], which feature stands where; None: feature s in place s.
    """

    values: jax.Array
    features: jax.Array | None = None


class TabularEncoder(nnx.Module):
    r"""A token for each feature of a record.

    .. math:: t_f = x_f \, w_f + b_f \text{ for a number}, \qquad t_f = w_{f, x_f} + b_f \text{ for a category}

    A feature that is missing has no token, nor has a level that there is not. Rows may list the features they have, so that a federation
    whose members record different things pays for what a row holds, not for all that anybody records.

    Args:
        levels: of each feature; 0 for a number.
        width: of tokens.
        rngs: source of w and b.

    Raises:
        ArgumentError: no feature, or fewer than no levels.

    >>> encode = TabularEncoder([0, 3], 4, rngs=nnx.Rngs(0))  # a number, and a category of three levels
    >>> tokens, _ = encode(Record(jnp.array([[0.5, 2.0], [jnp.nan, 0.0]])), jnp.array([[True, True], [False, True]]))
    >>> tokens.values.shape, tokens.mask.tolist()
    ((2, 2, 4), [[True, True], [False, True]])

    Reference: Gorishniy et al. (2021), arXiv:2106.11959; there a missing value is a level or a filled-in number.
    """

    def __init__(self, levels: Sequence[int], width: int, *, rngs: nnx.Rngs):
        if not levels or min(levels) < 0:
            raise ArgumentError("levels", list(levels), "give each feature its number of levels, 0 for a number")
        rows = np.maximum(levels, 1)
        self.levels = tuple(levels)
        self.first = tuple(int(start) for start in np.cumsum(rows) - rows)
        self.table = nnx.Param(jax.random.normal(rngs.params(), (int(rows.sum()), width)) / width**0.5)
        self.bias = nnx.Param(jax.random.normal(rngs.params(), (len(levels), width)) / width**0.5)

    def __call__(self, values: Record, present: jax.Array, lengths: jax.Array | None = None) -> tuple[Tokens, Report]:
        """Tokens of records [B, S, D]; there are no experts to report of.

        Args:
            values: the records.
            present: bool [B], or [B, S].
            lengths: int [B], features that a row lists; None: S.

        Raises:
            ArgumentError: rows of another number of features, which do not say which.
        """
        if values.features is None and values.values.shape[1] != len(self.levels):
            raise ArgumentError("values", values.values.shape, f"give rows of {len(self.levels)} features, or say which")
        mask = token_mask(present, lengths, values.values.shape[1])
        features = (
            jnp.broadcast_to(jnp.arange(len(self.levels), dtype=jnp.int32), mask.shape) if values.features is None else values.features
        )
        levels = jnp.array(self.levels, jnp.int32)[features]
        number = levels == 0
        mask = mask & (number | ((values.values >= 0) & (values.values < levels.astype(values.values.dtype))))
        content = where_present(mask, values.values)
        code = jnp.where(number, 0, content.astype(jnp.int32))
        slopes = self.table[...][jnp.array(self.first, jnp.int32)[features] + code]
        scaled = slopes * jnp.where(number, content, 1.0)[:, :, None]
        return Tokens.masked(scaled + self.bias[...][features], mask), {}
