"""A bound on what one client can change."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from fedjax_edu.core.algorithm import Channel
from fedjax_edu.core.errors import check_positive
from fedjax_edu.core.link import Context, Link, Sent
from fedjax_edu.core.trees import global_norm


def clip(norm: float) -> Link:
    r"""Scales every private value down to a Euclidean norm of at most `norm`.

    :math:`\Delta \leftarrow \Delta \cdot \min(1, C / \lVert\Delta\rVert)` with one global norm over all leaves of all modules.
    Each private channel is clipped by itself, and rounded down, so that C is a bound in every precision. An update of
    norm 0 stays 0; one that is not finite is rejected by the engine before it gets here.

    Args:
        norm: C, in the units of the parameters; positive and finite.

    Returns:
        A link; it reports ``clip.clipped``, the share of clients whose update was scaled, and ``clip.norm``, the mean
        norm before.

    Raises:
        ArgumentError: `norm` is not a positive finite number.

    >>> clip(2.0).sensitivity(float("inf"))
    2.0

    Reference: McMahan et al. (2018), "Learning differentially private recurrent language models", arXiv:1710.06963.
    """
    norm = check_positive("norm", norm)

    def client(server: Any, state: Any, channels: dict[str, Channel], context: Context) -> Sent:
        clipped, norms, scaled = {}, [], []
        for name, channel in channels.items():
            clipped[name] = channel
            if channel.private:
                size = global_norm(channel.value)
                clipped[name] = channel._replace(value=jax.tree.map(partial(_shrink, size=size, norm=norm), channel.value))
                norms.append(size)
                scaled.append((size > norm).astype(size.dtype))
        statistics = {"norm": jnp.mean(jnp.stack(norms)), "clipped": jnp.mean(jnp.stack(scaled))} if norms else {}
        return clipped, state, statistics

    return Link(
        name="clip",
        place="clip",
        init_server=lambda params, meta: (),
        init_client=lambda params, info: (),
        client=client,
        server=lambda server, aggregates, key: (server, aggregates),
        sensitivity=lambda bound: min(bound, norm),
        needs="sum",
    )


def _shrink(leaf: jax.Array, size: jax.Array, norm: float) -> jax.Array:
    """The leaf of an update of norm `size`, scaled if that is above `norm`: by one rounding step too much, so that the bound is kept."""
    scale = norm / jnp.where(size > norm, size, 1) * (1 - float(jnp.finfo(leaf.dtype).eps))
    return jnp.where(size > norm, (leaf.astype(size.dtype) * scale).astype(leaf.dtype), leaf)
