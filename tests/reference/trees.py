"""Arithmetic on trees of NumPy arrays, so that twins read like the papers."""

import jax
import numpy as np


def zeros(tree):
    return jax.tree.map(np.zeros_like, tree)


def plus(left, right, scale: float = 1.0):
    """left + scale right."""
    return jax.tree.map(lambda a, b: a + scale * b, left, right)


def minus(left, right):
    return plus(left, right, -1.0)


def times(scale: float, tree):
    return jax.tree.map(lambda leaf: scale * leaf, tree)


def mean(trees, weights):
    """Weighted mean."""
    total = zeros(trees[0])
    for tree, weight in zip(trees, weights, strict=True):
        total = plus(total, tree, weight)
    return times(1 / np.sum(weights), total)


def square_norm(tree) -> float:
    return sum(float(np.sum(leaf**2)) for leaf in jax.tree.leaves(tree))
