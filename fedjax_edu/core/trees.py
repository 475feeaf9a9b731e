"""Small functions on pytrees that jax.tree does not have."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp

Tree = Any
Position = jax.Array | int | tuple[jax.Array, ...]


def path_name(path: tuple[Any, ...]) -> str:
    """Dotted name of a pytree path.

    >>> path_name((jax.tree_util.DictKey("heads"), jax.tree_util.SequenceKey(0)))
    'heads.0'
    """
    return ".".join(str(getattr(entry, "key", getattr(entry, "idx", getattr(entry, "name", entry)))) for entry in path)


def named_leaves(tree: Tree) -> list[tuple[str, Any]]:
    """Leaves with their dotted names, in flattening order.

    >>> named_leaves({"b": 1, "a": (2, 3)})
    [('a.0', 2), ('a.1', 3), ('b', 1)]
    """
    return [(path_name(path), leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)]


def replaced(tree: Tree, leaves: Mapping[str, Any]) -> Tree:
    """`tree` with other leaves in the places of these dotted names.

    >>> replaced({"a": (2, 3), "b": 1}, {"a.1": 5})
    {'a': (2, 5), 'b': 1}
    """
    return jax.tree_util.tree_map_with_path(lambda path, leaf: leaves.get(path_name(path), leaf), tree)


def select(flag: jax.Array, new: Tree, old: Tree) -> Tree:
    """``new`` where the scalar `flag` holds, else ``old``, bit for bit (never a product with 0)."""
    return jax.tree.map(lambda a, b: jnp.where(flag, a, b), new, old)


def all_finite(tree: Tree) -> jax.Array:
    """Whether every floating-point number of the tree is finite; an empty tree is.

    >>> bool(all_finite({"a": jnp.ones(2), "n": jnp.arange(3)})), bool(all_finite([jnp.array([1.0, jnp.inf])]))
    (True, False)
    """
    return all_hold(finite(tree))


def finite(tree: Tree) -> Iterator[jax.Array]:
    """Which floating-point numbers of each leaf are finite."""
    return (jnp.isfinite(leaf) for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.inexact))


def all_hold(flags: Iterable[jax.Array]) -> jax.Array:
    """Whether every entry of all boolean arrays holds; True without any.

    Arrays of one shape are reduced in one pass, the first axis before the others and apart from them: XLA:CPU vectorises that, and not
    a reduction to a scalar.

    >>> bool(all_hold([jnp.array([[True, False]])])), bool(all_hold([]))
    (False, True)
    """
    together: dict[tuple[int, ...], jax.Array] = {}
    for flag in flags:
        together[flag.shape] = flag & together[flag.shape] if flag.shape in together else flag
    rows = [jax.lax.optimization_barrier(jnp.all(flag, axis=0)) if flag.ndim > 1 else flag for flag in together.values()]
    if not rows:
        return jnp.array(True)
    broken = jnp.stack([~jnp.all(row) for row in rows]).astype(jnp.float32)
    # A product, since XLA:CPU repeats a reduction inside every leaf that is selected by it: quadratic in the number of leaves.
    return jnp.dot(broken, jnp.ones_like(broken)) == 0


def global_norm(tree: Tree) -> jax.Array:
    """Euclidean norm over all leaves, accumulated in at least float32; 0 for an empty tree.

    Leaves are scaled by a power of two that brings the largest magnitude near 1, which loses no bit: squares neither
    overflow nor vanish unless the norm itself does.

    >>> float(global_norm({"a": jnp.array([3.0]), "b": jnp.array([4.0])})), f"{global_norm(jnp.array([3e30, 4e30])):.3g}"
    (5.0, '5e+30')
    """
    dtype = float_dtype()
    leaves = [leaf.astype(dtype) for leaf in jax.tree.leaves(tree) if leaf.size]
    if not leaves:
        return jnp.zeros((), dtype)
    largest = jnp.sort(jnp.stack([jnp.max(jnp.abs(leaf)) for leaf in leaves]))[-1]  # sorted, since a maximum is repeated as in all_hold
    bound = jnp.finfo(dtype).maxexp - 2
    exponent = jnp.clip(jnp.frexp(largest)[1], -bound, bound)
    scale, unscale = (jnp.ldexp(jnp.ones((), dtype), power) for power in (-exponent, exponent))
    return jnp.sqrt(sum(jnp.sum(jnp.square(leaf * scale)) for leaf in leaves)) * unscale


def float_dtype() -> jnp.dtype:
    """The float type of weights and sums: float64 inside ``jax.enable_x64()``, float32 elsewhere."""
    return jax.dtypes.canonicalize_dtype(jnp.float64)


def sum_dtype(leaf: jax.Array | jax.ShapeDtypeStruct) -> jnp.dtype:
    """The type in which values like this leaf are summed over clients: its own, float32 for narrower ones."""
    return leaf.dtype if leaf.dtype.itemsize >= 4 else jnp.dtype(jnp.float32)


def index(tree: Tree, position: Position) -> Tree:
    """Row `position` of every leaf."""
    return jax.tree.map(lambda leaf: leaf[position], tree)


def put(tree: Tree, position: Position, row: Tree) -> Tree:
    """`tree` with `row` written at `position` of every leaf."""
    return jax.tree.map(lambda leaf, new: leaf.at[position].set(new), tree, row)


def add(left: Tree, right: Tree) -> Tree:
    """Leafwise sum."""
    return jax.tree.map(jnp.add, left, right)


def byte_size(tree: Tree) -> int:
    """Bytes of all leaves.

    >>> byte_size({"w": jnp.zeros((3, 2), jnp.float32)})
    24
    """
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
