"""Low-rank matrices in a tree of parameters: factors ``a`` and ``b`` under one name."""

from typing import Any

import jax
import jax.numpy as jnp

from fedjax_edu.core.trees import Tree

LOW_RANK = "lora"
"""Top level under which a model's low-rank matrices stand, each by the path of the layer that it belongs to."""


def cut_ranks(params: Tree, rank: jax.Array | int) -> Tree:
    """Parameters whose low-rank matrices count up to a rank only; gradients of the rest are exactly zero where both factors are cut.

    Args:
        params: with factors ``a`` [..., inputs, r] and ``b`` [..., r, outputs] under ``lora``.
        rank: may be traced.

    >>> cut_ranks({"lora": {"a": jnp.ones((1, 2)), "b": jnp.ones((2, 1))}}, 1)["lora"]["a"].tolist()
    [[1.0, 0.0]]
    """

    def cut(path: Any, leaf: jax.Array) -> jax.Array:
        axis = -1 if path[-1].key == "a" else -2
        inside = jnp.arange(leaf.shape[axis], dtype=jnp.int32) < jnp.asarray(rank, jnp.int32)
        others = [other for other in range(leaf.ndim) if other != axis % leaf.ndim]
        return jnp.where(jnp.expand_dims(inside, others), leaf, jnp.zeros_like(leaf))

    return params | {LOW_RANK: jax.tree_util.tree_map_with_path(cut, params[LOW_RANK])}
