"""Modules: the named parts of a model that are shared, personal or frozen as a unit."""

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from types import EllipsisType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fedjax_edu.core.errors import ArgumentError
from fedjax_edu.core.trees import Tree, named_leaves, path_name

Selector = str | Sequence[str | EllipsisType] | EllipsisType | None
KINDS = ("shared", "personal", "frozen")
NO_MODULE = -1


def join(*parts: Tree) -> Tree:
    """One tree from parts with None in the places of the others; None where no part has a leaf."""

    def present(*leaves: Tree) -> Tree:
        return next((leaf for leaf in leaves if leaf is not None), None)

    return jax.tree.map(present, *parts, is_leaf=lambda leaf: leaf is None)


def part(tree: Tree, like: Tree) -> Tree:
    """The leaves of `tree` in whose places `like` has one, None elsewhere.

    >>> part({"a": 1, "b": 2}, {"a": None, "b": 0})
    {'a': None, 'b': 2}
    """
    return jax.tree.map(lambda leaf, other: None if other is None else leaf, tree, like, is_leaf=lambda leaf: leaf is None)


class Params(NamedTuple):
    """Parameters split by what happens to them; each part is the full tree with None in the places of the others.

    Args:
        shared: trained by clients, sent and aggregated.
        personal: trained by each client for itself, never sent; here their common starting value.
        frozen: never trained.
    """

    shared: Tree
    personal: Tree
    frozen: Tree

    def merge(self) -> Tree:
        """The full tree.

        >>> Params({"a": 1, "b": None}, {"a": None, "b": 2}, {"a": None, "b": None}).merge()
        {'a': 1, 'b': 2}
        """
        return join(*self)


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Modules:
    """Which module each parameter leaf belongs to and what kind each module is; made by :func:`assign`.

    Args:
        names: dotted names of the modules.
        kinds: one of shared, personal, frozen for each module.
        leaves: dotted names of the leaves, in flattening order.
        owner: index of its module for each leaf.
    """

    names: tuple[str, ...]
    kinds: tuple[str, ...]
    leaves: tuple[str, ...]
    owner: tuple[int, ...]

    def split(self, params: Tree) -> Params:
        """Parameters by kind.

        Raises:
            ArgumentError: `params` has other leaves than the tree that was assigned.
        """
        found = tuple(name for name, _ in named_leaves(params))
        if found != self.leaves:
            differing = sorted(set(found) ^ set(self.leaves))
            raise ArgumentError("modules", differing, "assign modules from parameters with the same leaves as those given to init")
        kind = dict(zip(self.leaves, (self.kinds[owner] for owner in self.owner), strict=True))

        def part(wanted: str) -> Tree:
            return jax.tree_util.tree_map_with_path(lambda path, leaf: leaf if kind[path_name(path)] == wanted else None, params)

        return Params(*(part(wanted) for wanted in KINDS))

    def owners(self, tree: Tree) -> Tree:
        """Index of its module in place of each leaf, ``NO_MODULE`` for a leaf that is no parameter.

        `tree` may lack leaves (a part of a split) and may have others (statistics).
        """
        owner = dict(zip(self.leaves, self.owner, strict=True))
        return jax.tree_util.tree_map_with_path(lambda path, _: owner.get(path_name(path), NO_MODULE), tree)

    def owners_of_like(self, tree: Tree) -> Tree:
        """Index of its module in place of each leaf whose name ends with a parameter's: the parameter itself inside of a larger tree, its
        moments, its control variate; ``NO_MODULE`` for others.

        >>> assign({"encoder": {"w": 0.0}, "head": 0.0}).owners_of_like({"mu": {"head": 0.0}, "count": 0})
        {'count': -1, 'mu': {'head': 1}}
        """
        owner = dict(zip(self.leaves, self.owner, strict=True))

        def of(path: tuple, _: Any) -> int:
            parts = path_name(path).split(".")
            endings = (".".join(parts[start:]) for start in range(len(parts)))
            return next((owner[ending] for ending in endings if ending in owner), NO_MODULE)

        return jax.tree_util.tree_map_with_path(of, tree)

    def shares(self, holds: Mapping[str, jax.Array], shape: tuple[int, ...] = ()) -> jax.Array:
        """Float32 [*shape, modules] of what is known by name, [*shape] each; 1 for modules that are not named."""
        return jnp.stack([jnp.broadcast_to(holds.get(name, jnp.float32(1)), shape) for name in self.names], axis=-1)

    def keep_held(self, tree: Tree, held: jax.Array) -> Tree:
        """A tree with zeros in the places of what belongs to modules that are not held (bool [modules]); frozen modules stay as they are.

        Zeros by ``where``, so that not even a NaN of such a module comes through.
        """
        return self.select_held(held, tree, jax.tree.map(jnp.zeros_like, tree))

    def select_held(self, held: jax.Array, new: Tree, old: Tree) -> Tree:
        """`new` where a module is held (bool [modules]) and where there is none, `old` elsewhere; frozen modules are those of `new`."""

        def select(new: jax.Array, old: jax.Array, owner: int) -> jax.Array:
            whole = owner == NO_MODULE or self.kinds[owner] == "frozen"
            return new if whole else jnp.where(held[owner], new, old)

        return jax.tree.map(select, new, old, self.owners_of_like(new))

    def has(self, kind: str) -> bool:
        """Whether any module is of this kind."""
        return kind in self.kinds


def assign(params: Tree, *, shared: Selector = None, personal: Selector = None, frozen: Selector = None) -> Modules:
    """Names the modules of a model and says which are shared, personal and frozen.

    A selector is a dotted path (``"heads.dropout"`` takes every leaf below it), several of them, or ``...``, also among them, for all
    leaves that no path takes. Each path becomes one module; where paths are nested, the longest wins. Leaves that
    nothing takes are grouped by their first key and are shared, unless `shared` was given: then they are an error.

    Args:
        params: the parameters, or their shapes.
        shared: trained and aggregated.
        personal: trained and kept by each client.
        frozen: never trained.

    Returns:
        :class:`Modules`.

    Raises:
        ArgumentError: a path that takes no leaf, a path under two kinds, two ellipses, a leaf that nothing takes.

    >>> params = {"encoder": {"w": 0.5}, "heads": {"math": 0.0, "read": 0.0}}
    >>> modules = assign(params, personal="heads")
    >>> modules.names, modules.kinds
    (('heads', 'encoder'), ('personal', 'shared'))
    >>> assign(params, shared=["heads.math", "heads.read", ...]).names
    ('heads.math', 'heads.read', 'encoder')
    """
    selectors = {"shared": shared, "personal": personal, "frozen": frozen}
    kind_of = _kind_of_paths(selectors)
    rest = [kind for kind, selector in selectors.items() if selector is ... or (isinstance(selector, list | tuple) and ... in selector)]
    if len(rest) > 1:
        raise ArgumentError(", ".join(rest), "...", "give the ellipsis to one of them")
    default = rest[0] if rest else ("shared" if shared is None else None)
    leaves = [name for name, _ in named_leaves(params)]
    if not leaves:
        raise ArgumentError("params", params, "pass a pytree with at least one array")
    if len(set(leaves)) < len(leaves):
        twice = next(leaf for leaf, count in Counter(leaves).items() if count > 1)
        raise ArgumentError("params", f"two leaves {twice}", "rename keys so that no two leaves have the same dotted path")
    names, kinds, owner = list(kind_of), list(kind_of.values()), []
    for leaf in leaves:
        taking = [path for path in kind_of if leaf == path or leaf.startswith(f"{path}.")]
        module = max(taking, key=len) if taking else leaf.split(".")[0]
        if module not in names:
            if default is None:
                raise ArgumentError("shared, personal, frozen", leaf, "name a path that takes this leaf, or give one of them as `...`")
            names.append(module)
            kinds.append(default)
        owner.append(names.index(module))
    idle = [name for position, name in enumerate(names) if position not in owner]
    if idle:
        raise ArgumentError(kind_of[idle[0]], idle, f"use dotted paths of the parameters: {', '.join(leaves[:20])}")
    return Modules(tuple(names), tuple(kinds), tuple(leaves), tuple(owner))


def _kind_of_paths(selectors: dict[str, Selector]) -> dict[str, str]:
    kind_of: dict[str, str] = {}
    for kind, selector in selectors.items():
        if selector is None or selector is ...:
            continue
        remedy = "use a dotted path, a sequence of them, or `...`"
        if not isinstance(selector, Sequence):
            raise ArgumentError(kind, selector, remedy)
        for path in (selector,) if isinstance(selector, str) else selector:
            if path is ...:
                continue
            if not isinstance(path, str):
                raise ArgumentError(kind, selector, remedy)
            if path in kind_of:
                raise ArgumentError(", ".join(dict.fromkeys((kind_of[path], kind))), path, "name each path once")
            kind_of[path] = kind
    return kind_of
