"""How a model is split over the devices that train one client together: specs of its parameters, and of all that has their shape."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh, PartitionSpec

from fedjax_edu.core.errors import ArgumentError
from fedjax_edu.core.trees import Tree, named_leaves, path_name

MODEL = "model"

Rule = Callable[[str, Any], PartitionSpec]
"""``(dotted name, leaf) -> PartitionSpec`` over the axis ``model``."""


class Part(NamedTuple):
    """A parameter that is split: its dotted name, its shape, and for each dimension the axis that splits it."""

    name: str
    shape: tuple[int, ...]
    axes: tuple[Any, ...]


class Partition(NamedTuple):
    """The parameters that are split over the axis ``model``; without any, nothing is."""

    parts: tuple[Part, ...] = ()

    def axes(self, path: tuple[Any, ...], shape: tuple[int, ...]) -> tuple[Any, ...]:
        """The axis, or None, that splits each dimension of a leaf of this path and shape.

        A leaf whose name ends with a parameter's name and whose shape ends with its shape is split as the parameter is: moments of an
        optimiser, control variates, residuals, whatever axes stand before.

        >>> parts = (Part("w", (4, 6), (None, "model")),)
        >>> Partition(parts).axes((jax.tree_util.DictKey("mu"), jax.tree_util.DictKey("w")), (9, 4, 6))
        (None, None, 'model')
        """
        name = f".{path_name(path)}"
        like = [part for part in self.parts if name.endswith(f".{part.name}") and shape[len(shape) - len(part.shape) :] == part.shape]
        if not like:
            return (None,) * len(shape)
        part = max(like, key=lambda part: len(part.name))
        return (None,) * (len(shape) - len(part.shape)) + part.axes

    def specs(self, tree: Tree, first: str | None = None, stacked: bool = False) -> Tree:
        """Specs of all leaves.

        Args:
            tree: arrays or shapes.
            first: the axis that splits the first dimension of each leaf; None leaves it to the parameter that the leaf is like.
            stacked: whether one more dimension, which nothing splits, stands before them.
        """

        def spec(path: tuple[Any, ...], leaf: Any) -> PartitionSpec:
            axes = self.axes(path, leaf.shape)
            axes = (*[None] * stacked, *((first, *axes[1:]) if first else axes))
            return PartitionSpec(*axes) if any(axes) else PartitionSpec()

        return jax.tree_util.tree_map_with_path(spec, tree)


WHOLE = Partition()


def partition(params: Tree, mesh: Mesh, rule: Rule | None) -> Partition:
    """Splits parameters over the axis ``model`` of a mesh.

    Args:
        params: arrays or shapes.
        mesh: devices.
        rule: which dimension of which leaf; None is :func:`largest_dimension`.

    Raises:
        ArgumentError: a spec that does not fit its leaf.
    """
    if MODEL not in mesh.axis_names:
        return WHOLE
    ways = mesh.shape[MODEL]
    parts = []
    for name, leaf in named_leaves(params):
        spec = largest_dimension(leaf.shape, ways) if rule is None else rule(name, leaf)
        axes = _checked(name, leaf.shape, spec, ways)
        if any(axes):
            parts.append(Part(name, tuple(leaf.shape), axes))
    return Partition(tuple(parts))


def largest_dimension(shape: tuple[int, ...], ways: int) -> PartitionSpec:
    """Splits the largest dimension that `ways` divides, of equal ones the last; vectors, scalars and what nothing divides stay whole.

    >>> [tuple(largest_dimension(shape, 2)) for shape in ((6, 8, 8), (8,), (9, 7))]
    [(None, None, 'model'), (), ()]
    """
    able = [at for at, size in enumerate(shape) if size % ways == 0]
    if len(shape) < 2 or not able:
        return PartitionSpec()
    best = max(able, key=lambda at: (shape[at], at))
    return PartitionSpec(*(MODEL if at == best else None for at in range(best + 1)))


def _checked(name: str, shape: tuple[int, ...], spec: Any, ways: int) -> tuple[Any, ...]:
    """A spec as one axis, or None, for each dimension."""
    argument = f"partition of {name}"
    if not isinstance(spec, PartitionSpec):
        raise ArgumentError(argument, spec, f"return a jax.sharding.PartitionSpec over {MODEL!r}; PartitionSpec() keeps the leaf whole")
    axes = tuple(entry[0] if isinstance(entry, tuple) and len(entry) == 1 else entry for entry in spec)
    if any(axis not in (None, MODEL) for axis in axes) or axes.count(MODEL) > 1:
        raise ArgumentError(argument, spec, f"name {MODEL!r} once at most, and no other axis")
    if len(axes) > len(shape):
        raise ArgumentError(argument, spec, f"give at most one entry a dimension: the leaf's shape is {list(shape)}")
    if MODEL in axes and shape[axes.index(MODEL)] % ways:
        raise ArgumentError(argument, spec, f"split a dimension that {ways} divides: the leaf's shape is {list(shape)}")
    return (*axes, *(None,) * (len(shape) - len(axes)))
