"""What a model answers for a task, and what a wrong answer costs.

Every head has ``losses(outputs, targets, present) -> [B]``: zeros where a target is absent, whatever stands there.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from fedjax_edu.core.errors import ArgumentError
from fedjax_edu.models.linear import Linear
from fedjax_edu.models.tokens import Tokens, where_present


class ScoreHead(nnx.Module):
    """One number a row, [B].

    Args:
        width: of the representation.
        rngs: source of the starting values.
    """

    bias = True

    def __init__(self, width: int, *, rngs: nnx.Rngs):
        self.linear = Linear(width, 1, rngs=rngs, bias=self.bias)

    def __call__(self, representation: jax.Array) -> jax.Array:
        """[B, width] -> [B]."""
        return self.linear(representation)[:, 0]


class BinaryHead(ScoreHead):
    """Log-odds of a yes, [B]."""

    @staticmethod
    def losses(outputs: jax.Array, targets: jax.Array, present: jax.Array) -> jax.Array:
        """Cross-entropy, [B]; targets 0 or 1."""
        return where_present(present, optax.sigmoid_binary_cross_entropy(outputs, where_present(present, targets)))


class RegressionHead(ScoreHead):
    """A number, [B]."""

    @staticmethod
    def losses(outputs: jax.Array, targets: jax.Array, present: jax.Array) -> jax.Array:
        """Half the squared error, [B]."""
        return where_present(present, 0.5 * (outputs - where_present(present, targets)) ** 2)


class CategoricalHead(nnx.Module):
    """Logits of classes, [B, classes].

    Args:
        width: of the representation.
        classes: how many.
        rngs: source of the starting values.
    """

    def __init__(self, width: int, classes: int, *, rngs: nnx.Rngs):
        self.linear = Linear(width, classes, rngs=rngs)

    def __call__(self, representation: jax.Array) -> jax.Array:
        """[B, width] -> [B, classes]."""
        return self.linear(representation)

    @staticmethod
    def losses(outputs: jax.Array, targets: jax.Array, present: jax.Array) -> jax.Array:
        """Cross-entropy, [B]; targets are numbers of classes."""
        numbers = where_present(present, targets).astype(jnp.int32)
        return where_present(present, optax.softmax_cross_entropy_with_integer_labels(outputs, numbers))


class OrdinalHead(nnx.Module):
    r"""Log-odds that the level is above each of the lower K - 1, [B, K - 1]: :math:`P(y > k) = \sigma(s - \theta_k)`.

    Thresholds ascend: :math:`\theta_k = \theta_0 + \sum_{j \le k} \mathrm{softplus}(d_j)`.

    Args:
        width: of the representation.
        levels: K.
        rngs: source of the starting values.

    Raises:
        ArgumentError: fewer than two levels.

    Reference: McCullagh (1980), "Regression models for ordinal data", J. R. Stat. Soc. B 42.
    """

    def __init__(self, width: int, levels: int, *, rngs: nnx.Rngs):
        if levels < 2:
            raise ArgumentError("levels", levels, "use 2 or more")
        self.linear = Linear(width, 1, rngs=rngs, bias=False)
        self.lowest = nnx.Param(jnp.full(1, -(levels - 2) / 2))
        self.steps = nnx.Param(jnp.full(levels - 2, jnp.log(jnp.e - 1)))  # softplus of it is 1

    def __call__(self, representation: jax.Array) -> jax.Array:
        """[B, width] -> [B, levels - 1]."""
        rises = jnp.concatenate([self.lowest[...], jax.nn.softplus(self.steps[...])])
        return self.linear(representation) - jnp.cumsum(rises)[None, :]

    @staticmethod
    def losses(outputs: jax.Array, targets: jax.Array, present: jax.Array) -> jax.Array:
        r"""Minus the log-probability of the level, [B]; targets are 0 .. levels - 1.

        .. math:: P(y = k) = \sigma(o_{k-1}) - \sigma(o_k) = \sigma(o_{k-1}) \, \sigma(-o_k) \, (1 - e^{o_k - o_{k-1}})
        """
        edge = jnp.full((len(outputs), 1), jnp.inf, outputs.dtype)
        bounds = jnp.concatenate([edge, outputs, -edge], axis=1)
        level = where_present(present, targets).astype(jnp.int32)[:, None]
        above, below = (jnp.take_along_axis(bounds, level + shift, axis=1)[:, 0] for shift in (0, 1))
        inner = jnp.isfinite(above) & jnp.isfinite(below)
        gap = jnp.where(inner, above - below, 1.0)
        between = jnp.where(inner, jnp.log(-jnp.expm1(-gap)), 0.0)
        return where_present(present, -(_log_sigmoid(above) + _log_sigmoid(-below) + between))


class NextResponseHead(nnx.Module):
    r"""Log-odds that the next answer is right, [B, T]: knowledge tracing.

    .. math:: o_t = q_{i_t}^\top W h_{t-1} + b_{i_t}, \quad h_{-1} = 0

    with the causal token h of the history up to the answer before, and the item i that is asked now: no answer reads itself.

    Args:
        width: of tokens.
        items: how many there are.
        rngs: source of the starting values.

    Reference: Pandey, Karypis (2019), arXiv:1907.06837 for query and history.
    """

    def __init__(self, width: int, items: int, *, rngs: nnx.Rngs):
        self.queries = nnx.Param(jax.random.normal(rngs.params(), (items, width)) / width**0.5)
        self.easiness = nnx.Param(jnp.zeros(items))
        self.linear = Linear(width, width, rngs=rngs)

    def __call__(self, history: Tokens, items: jax.Array) -> jax.Array:
        """Causal tokens [B, T, width] and int [B, T] -> [B, T]."""
        known = jnp.pad(self.linear(history.values)[:, :-1], ((0, 0), (1, 0), (0, 0)))
        return jnp.sum(known * self.queries[...][items], axis=2) + self.easiness[...][items]

    @staticmethod
    def losses(outputs: jax.Array, targets: jax.Array, present: jax.Array) -> jax.Array:
        """Mean cross-entropy of the answers of a history that are there, [B]; targets and `present` [B, T]."""
        entropy = where_present(present, optax.sigmoid_binary_cross_entropy(outputs, where_present(present, targets)))
        return entropy.sum(axis=1) / jnp.maximum(present.sum(axis=1), 1).astype(outputs.dtype)


class Ranked(NamedTuple):
    """What a ranking has to say.

    Args:
        values: float [B]; rows of a group with higher ones come first.
        groups: int [B].
    """

    values: jax.Array
    groups: jax.Array


class RankingHead(ScoreHead):
    """A score that orders the rows of a group, [B]."""

    bias = False  # a constant orders nothing

    @staticmethod
    def losses(outputs: jax.Array, targets: Ranked, present: jax.Array) -> jax.Array:
        r"""Mean over the rows of the same group that ought to stand below or above, of :math:`\log(1 + e^{-(s_i - s_j)})`, [B].

        Rows of a batch are compared: padding has to be absent.

        Reference: Burges et al. (2005), "Learning to rank using gradient descent", ICML.
        """
        values, groups = (where_present(present, leaf) for leaf in targets)
        order = jnp.sign(values[:, None] - values[None, :])
        pair = (groups[:, None] == groups[None, :]) & present[:, None] & present[None, :] & (order != 0)
        cost = jax.nn.softplus(-order * (outputs[:, None] - outputs[None, :]))
        return jnp.where(pair, cost, 0.0).sum(axis=1) / jnp.maximum(pair.sum(axis=1), 1).astype(outputs.dtype)


def _log_sigmoid(values: jax.Array) -> jax.Array:
    """Logarithm of the sigmoid, zero with a zero gradient at plus infinity."""
    finite = jnp.isfinite(values)
    return jnp.where(finite, jax.nn.log_sigmoid(jnp.where(finite, values, 0.0)), 0.0)
