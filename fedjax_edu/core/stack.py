"""Every client's update side by side: what rules read that look at more than a sum."""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_edu.core import trees
from fedjax_edu.core.algorithm import Aggregate
from fedjax_edu.core.modules import NO_MODULE, Modules
from fedjax_edu.core.trees import Tree

Rule = Callable[[jax.Array, jax.Array], jax.Array]
"""``(updates [C, d], weights [C]) -> [d]``; rows of weight 0 are absent, and hold zeros."""

Change = Callable[[jax.Array, jax.Array], jax.Array]
"""``(updates [C, d], weights [C])`` to new updates or new weights."""


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
            dtype = trees.sum_dtype(leaf)
            weights = self.weights[:, owner].reshape(-1, *(1,) * (leaf.ndim - 1))
            return jnp.sum(jnp.where(weights > 0, weights.astype(dtype) * leaf.astype(dtype), jnp.zeros((), dtype)), axis=0)

        return self._aggregate(jax.tree.map(add, self.values, self.modules.owners(self.values)))

    def by_module(self, rule: Rule) -> Aggregate:
        """A rule on each module over its holders; its answer counts as their mean, and as nothing where nobody holds the module."""

        def answer(owner: int, matrix: jax.Array, weights: jax.Array) -> jax.Array:
            total = jnp.sum(weights)
            return jnp.where(total > 0, rule(matrix, weights) * total, jnp.zeros((), matrix.dtype))

        return self._aggregate(self.map_modules(answer))

    def replace(self, change: Change) -> "Stack":
        """Updates changed module by module: ``change(updates [C, d], weights [C]) -> [C, d]``."""
        changed = self.map_modules(lambda owner, matrix, weights: change(matrix, weights))
        return self._replace(values=jax.tree.map(lambda new, old: new.astype(old.dtype), changed, self.values))

    def reweigh(self, weigh: Change) -> "Stack":
        """Weights changed module by module: ``weigh(updates [C, d], weights [C]) -> [C]``, not negative; 0 leaves a client out."""
        weights = self.weights
        for owner, members in self._blocks():
            columns = slice(None) if owner == NO_MODULE else slice(owner, owner + 1)
            new = weigh(*self._matrix(owner, members)).astype(weights.dtype)
            weights = weights.at[:, columns].set(new[:, None])
        return self._replace(weights=weights)

    def map_modules(self, function: Callable[[int, jax.Array, jax.Array], jax.Array]) -> Tree:
        """The values with each module's leaves replaced by what a function makes of them.

        A channel with statistics has one weight a client, and is one block.

        Args:
            function: ``(module, updates [C, d], weights [C]) -> [..., d]``, the module's leaves side by side as d columns,
                rows of weight 0 zeroed.

        Returns:
            The tree of the values, leaves [..., *shape], of a type wide enough to be summed.
        """
        leaves, form = jax.tree.flatten(self.values)
        for owner, members in self._blocks():
            result = function(owner, *self._matrix(owner, members))
            ends = np.cumsum([math.prod(leaves[position].shape[1:]) for position in members])[:-1]
            for position, piece in zip(members, jnp.split(result, ends, axis=-1), strict=True):
                leaf = leaves[position]
                leaves[position] = piece.reshape(*piece.shape[:-1], *leaf.shape[1:]).astype(trees.sum_dtype(leaf))
        return jax.tree.unflatten(form, leaves)

    def _blocks(self) -> list[tuple[int, list[int]]]:
        """(module, positions of its leaves), all leaves together where some belong to no module."""
        owners = jax.tree.leaves(self.modules.owners(self.values))
        if NO_MODULE in owners:
            return [(NO_MODULE, list(range(len(owners))))]
        return [(owner, [position for position, one in enumerate(owners) if one == owner]) for owner in sorted(set(owners))]

    def _matrix(self, owner: int, members: list[int]) -> tuple[jax.Array, jax.Array]:
        """A block's updates [C, d], rows of weight 0 zeroed, and weights [C]."""
        leaves, dtype = jax.tree.leaves(self.values), trees.float_dtype()
        matrix = jnp.concatenate([leaves[position].reshape(len(self.ids), -1).astype(dtype) for position in members], axis=1)
        weights = self.weights[:, owner].astype(dtype)
        return jnp.where(weights[:, None] > 0, matrix, jnp.zeros((), dtype)), weights

    def _aggregate(self, total: Tree) -> Aggregate:
        contributors = jnp.sum(self.weights > 0, axis=0, dtype=jnp.int32)
        return Aggregate(total, jnp.sum(self.weights, axis=0), contributors, self.modules)
