"""A bound on what one client can change."""

import math
from typing import Any

import jax
import jax.numpy as jnp

from fedjax_edu.core.algorithm import Channel
from fedjax_edu.core.errors import check_flag, check_positive
from fedjax_edu.core.link import Context, Link, Sent
from fedjax_edu.core.trees import Tree, float_dtype, global_norm


def clip(norm: float, per_module: bool = False) -> Link:
    r"""Scales every private value down to a Euclidean norm of at most `norm`.

    :math:`\Delta \leftarrow \Delta \cdot \min(1, C / \lVert\Delta\rVert)` with one global norm over all leaves of all modules.
    Each private channel is clipped by itself, and rounded down, so that C is a bound in every precision. An update of
    norm 0 stays 0; one that is not finite is rejected by the engine before it gets here.

    With `per_module` each of the M modules that a value has leaves of is clipped by itself to :math:`C / \sqrt{M}`, so that
    the global norm is at most C again, and a module with large updates takes nothing from the others. Leaves that are no
    parameters (statistics) count as one module more.

    Args:
        norm: C, in the units of the parameters; positive and finite.
        per_module: whether each module is clipped by itself.

    Returns:
        A link; it reports ``clip.clipped``, the share of clients (or of their modules) whose update was scaled, and
        ``clip.norm``, the mean global norm before.

    Raises:
        ArgumentError: `norm` is not a positive finite number, `per_module` is not a boolean.

    >>> clip(2.0).sensitivity(float("inf"))
    2.0

    Reference: McMahan et al. (2018), "Learning differentially private recurrent language models", arXiv:1710.06963: flat and
    per-layer clipping. We differ: layers are modules, all with the same bound.
    """
    norm = check_positive("norm", norm)
    check_flag("per_module", per_module)

    def client(server: Any, state: Any, channels: dict[str, Channel], context: Context) -> Sent:
        clipped, norms, scaled = {}, [], []
        for name, channel in channels.items():
            clipped[name] = channel
            if channel.private:
                owners = context.modules.owners(channel.value) if per_module else jax.tree.map(lambda leaf: 0, channel.value)
                value, share = _clipped(channel.value, owners, norm)
                clipped[name] = channel._replace(value=value)
                norms.append(global_norm(channel.value))
                scaled.append(share)
        statistics = {"norm": jnp.mean(jnp.stack(norms)), "clipped": jnp.mean(jnp.stack(scaled))} if norms else {}
        return clipped, state, statistics

    return Link(
        name="clip",
        place="clip",
        client=client,
        sensitivity=lambda bound: min(bound, norm),
        needs="sum",
    )


def _clipped(value: Tree, owners: Tree, norm: float) -> tuple[Tree, jax.Array]:
    """The value with each owner's leaves scaled down together, all to the same bound, and the share of owners that were."""
    leaves, labels = jax.tree.leaves(value), jax.tree.leaves(owners)
    groups: dict[int, list[jax.Array]] = {}
    for leaf, label in zip(leaves, labels, strict=True):
        groups.setdefault(label, []).append(leaf)
    bound = norm / math.sqrt(max(len(groups), 1))
    sizes = {label: global_norm(group) for label, group in groups.items()}
    shrunk = [_shrink(leaf, sizes[label], bound) for leaf, label in zip(leaves, labels, strict=True)]
    scaled = jnp.array([size > bound for size in sizes.values()] or [False])
    return jax.tree.unflatten(jax.tree.structure(value), shrunk), jnp.mean(scaled.astype(float_dtype()))


def _shrink(leaf: jax.Array, size: jax.Array, norm: float) -> jax.Array:
    """The leaf of an update of norm `size`, scaled if that is above `norm`: by one rounding step too much, so that the bound is kept."""
    scale = norm / jnp.where(size > norm, size, 1) * (1 - float(jnp.finfo(leaf.dtype).eps))
    return jnp.where(size > norm, (leaf.astype(size.dtype) * scale).astype(leaf.dtype), leaf)
