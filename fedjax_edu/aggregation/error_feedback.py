"""Error feedback: a client remembers what compression took from its updates, and adds it to the next one."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from fedjax_edu.core.algorithm import Channel
from fedjax_edu.core.errors import ArgumentError
from fedjax_edu.core.link import Context, Link, Sent, Wire
from fedjax_edu.core.modules import Params
from fedjax_edu.core.trees import global_norm, named_leaves

CHANNEL = "update"

Compress = Callable[[jax.Array, int, Any], tuple[jax.Array, jax.Array]]
"""``(p, number of the leaf, server state) -> (sent, p - sent)``."""


def error_feedback(name: str, compress: Compress, wire: Callable[[Wire], Wire]) -> Link:
    r"""A link that compresses a client's update leaf by leaf and keeps the rest for later.

    :math:`p = e + \Delta`, :math:`C(p)` is sent, :math:`e \leftarrow p - C(p)`. The residual e, in the dtype of the parameters, is
    the link's client state: it starts at 0, and stands still in a round where the client is away, is rejected, or has no
    weight for the module, in which case it sends 0 for it.

    No norm of one update bounds that of p, so the link has no sensitivity; a clip after it restores one, and what it takes away
    is not remembered. One compressor a chain is enough: each keeps its own residual of what reaches it.

    Args:
        name: of the link.
        compress: what is sent of one leaf, and what is left.
        wire: what that does to the size of a leaf.

    Returns:
        A link that acts on the channel "update" alone; it reports ``residual``, the mean norm of what clients keep.

    >>> from fedjax_edu.core.modules import Params
    >>> signs = error_feedback("signs", lambda p, number, server: (jnp.sign(p), p - jnp.sign(p)), lambda wire: wire._replace(bits=1))
    >>> signs.init_client(Params({"w": jnp.ones(2)}, {"w": None}, {"w": None}), None)
    {'w': Array([0., 0.], dtype=float32)}
    """

    def client(server: Any, residual: Any, channels: dict[str, Channel], context: Context) -> Sent:
        if CHANNEL not in channels:  # a stage that sends something else; the engine makes sure that some stage sends updates
            return channels, residual, {}
        update = channels[CHANNEL]
        kept, left, sent = dict(named_leaves(residual)), dict(named_leaves(residual)), []
        numbers = {leaf: number for number, leaf in enumerate(kept)}
        weights = jnp.broadcast_to(update.weight, len(context.modules.names))
        owners = dict(named_leaves(context.modules.owners(update.value)))
        for leaf, value in named_leaves(update.value):
            if leaf not in kept:
                raise ArgumentError(name, f"{CHANNEL} with the leaf {leaf}", "send what is no shared parameter on another channel")
            part, rest = compress(kept[leaf] + value.astype(kept[leaf].dtype), numbers[leaf], server)
            weighed = weights[owners[leaf]] > 0
            sent.append(jnp.where(weighed, part, jnp.zeros_like(part)))
            left[leaf] = jnp.where(weighed, rest, kept[leaf])
        value = jax.tree.unflatten(jax.tree.structure(update.value), sent)
        residual = jax.tree.unflatten(jax.tree.structure(residual), list(left.values()))
        return channels | {CHANNEL: update._replace(value=value)}, residual, {"residual": global_norm(residual)}

    def init_client(params: Params, info: Any) -> Any:
        return jax.tree.map(jnp.zeros_like, params.shared)

    return Link(
        name=name,
        place="compress",
        init_client=init_client,
        client=client,
        sensitivity=lambda bound: float("inf"),
        needs="sum",
        channel=CHANNEL,
        wire=lambda channel, private, size: wire(size) if channel == CHANNEL else size,
    )


def keep(mask: jax.Array, leaf: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The leaf where the mask holds, and where it does not; no arithmetic, so that their sum is the leaf bit for bit."""
    zero = jnp.zeros_like(leaf)
    return jnp.where(mask, leaf, zero), jnp.where(mask, zero, leaf)
