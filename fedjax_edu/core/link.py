"""What a link is: one thing that happens to an update between a client and the server optimiser."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from fedjax_edu.core.algorithm import Channel, ClientInfo

PLACES = ("policy", "compress", "clip", "local noise", "quantise", "mask", "reduce", "central noise")


Sent = tuple[dict[str, Channel], Any, dict[str, jax.Array]]
"""What a link's client half returns: channels, the link's client state, and statistics to report."""


class Context(NamedTuple):
    """What a link's client half may know: a key of the client and round, and the client's info."""

    key: jax.Array
    client: ClientInfo


class Link(NamedTuple):
    """One link of an aggregation chain; the client half runs as each client finishes, the server half after the sum.

    Args:
        name: how reports and errors call it.
        place: one of ``PLACES``, in whose order a chain must stand.
        init_server: ``(Params, Meta) -> state``.
        init_client: ``(Params, ClientInfo) -> state``, stacked over the population.
        client: ``(server_state, client_state, channels, context) -> (channels, client_state, {name: scalar})``.
        server: ``(server_state, aggregates, key) -> (server_state, aggregates)``.
        sensitivity: largest norm of one client's private value after the link, given the largest before it.
        needs: what the engine has to keep: "sum" (running sums) or "stack" (every update).
    """

    name: str
    place: str
    init_server: Callable[..., Any]
    init_client: Callable[..., Any]
    client: Callable[..., Any]
    server: Callable[..., Any]
    sensitivity: Callable[[float], float]
    needs: str
