"""Every client's update side by side: what rules read that look at more than a sum."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_edu.core.algorithm import Aggregate
from fedjax_edu.core.modules import Modules
from fedjax_edu.core.trees import Tree, float_dtype

Rule = Callable[[jax.Array, jax.Array], jax.Array]
"""``(updates [C, d], weights [C]) -> [d]``; rows of weight 0 are absent, and hold zeros."""


class Stack(NamedTuple):
    """One channel's values of all clients of a cohort.

    Args:
        values: leaves [C, ...].
        weights: [C, modules]; 0 for a client that is absent, was rejected, or does not hold the module.
        ids: uint32 [C], rising over the clients that are present, who stand first.
        modules: the model's modules.
    """

    values: Tree
    weights: jax.Array
    ids: jax.Array
    modules: Modules

    def sum(self) -> Aggregate:
        """The weighted sum, as if nothing had been kept."""

        def add(leaf: jax.Array, owner: int) -> jax.Array:
            weights = self.weights[:, owner].reshape(-1, *(1,) * (leaf.ndim - 1))
            return jnp.sum(jnp.where(weights > 0, weights.astype(leaf.dtype) * leaf, jnp.zeros_like(leaf)), axis=0)

        return self._aggregate(jax.tree.map(add, self.values, self.modules.owners(self.values)))

    def by_module(self, rule: Rule) -> Aggregate:
        """A rule on each module over its holders; its answer counts as their mean."""

        def answer(owner: int, matrix: jax.Array, weights: jax.Array) -> jax.Array:
            return rule(matrix, weights) * jnp.sum(weights)

        return self._aggregate(self.map_modules(answer))

    def replace(self, change: Callable[[jax.Array, jax.Array], jax.Array]) -> "Stack":
        """Updates changed module by module: ``change(updates [C, d], weights [C]) -> [C, d]``."""
        return self._replace(values=self.map_modules(lambda owner, matrix, weights: change(matrix, weights)))

    def map_modules(self, function: Callable[[int, jax.Array, jax.Array], jax.Array]) -> Tree:
        """The values with each module's leaves replaced by what a function makes of them.

        Args:
            function: ``(module, updates [C, d], weights [C]) -> [..., d]``, the module's leaves side by side as d columns,
                rows of weight 0 zeroed.

        Returns:
            The tree of the values, leaves [..., *shape].
        """
        leaves, form = jax.tree.flatten(self.values)
        owners = jax.tree.leaves(self.modules.owners(self.values))
        for owner in sorted(set(owners)):
            members = [position for position, one in enumerate(owners) if one == owner]
            columns = [leaves[position].reshape(len(self.ids), -1).astype(float_dtype()) for position in members]
            matrix, weights = jnp.concatenate(columns, axis=1), self.weights[:, owner].astype(float_dtype())
            result = function(owner, jnp.where(weights[:, None] > 0, matrix, jnp.zeros_like(matrix)), weights)
            pieces = jnp.split(result, np.cumsum([column.shape[1] for column in columns])[:-1], axis=-1)
            for position, piece in zip(members, pieces, strict=True):
                leaf = leaves[position]
                leaves[position] = piece.reshape(*piece.shape[:-1], *leaf.shape[1:]).astype(leaf.dtype)
        return jax.tree.unflatten(form, leaves)

    def _aggregate(self, total: Tree) -> Aggregate:
        contributors = jnp.sum(self.weights > 0, axis=0, dtype=jnp.int32)
        return Aggregate(total, jnp.sum(self.weights, axis=0), contributors, self.modules)
