"""What a link is: one thing that happens to an update between a client and the server optimiser."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from fedjax_edu.core.algorithm import Channel, ClientInfo
from fedjax_edu.core.modules import Modules

PLACES = ("attack", "policy", "compress", "clip", "local noise", "quantise", "mask", "reduce", "central noise")


Sent = tuple[dict[str, Channel], Any, dict[str, jax.Array]]
"""What a link's client half returns: channels, the link's client state, and statistics to report."""


class Context(NamedTuple):
    """What a link's client half may know: a key of the client and round, the client's info, and the model's modules."""

    key: jax.Array
    client: ClientInfo
    modules: Modules


class Wire(NamedTuple):
    """How one leaf of a channel travels.

    Args:
        size: numbers of the leaf.
        values: how many of them are sent.
        bits: of each that is sent.
        overhead: bits sent beside them (indices, norms).
    """

    size: int
    values: int
    bits: int
    overhead: int = 0

    @property
    def bytes(self) -> int:
        """Whole bytes.

        >>> Wire(size=1000, values=10, bits=32, overhead=10 * 10).bytes
        53
        """
        return -(-(self.values * self.bits + self.overhead) // 8)


class Link(NamedTuple):
    """One link of an aggregation chain; the client half runs as each client finishes, the server half after the sum.

    Args:
        name: how reports and errors call it.
        place: one of ``PLACES``, in whose order a chain must stand.
        sensitivity: largest norm of one client's private value after the link, given the largest before it.
        needs: what the engine has to keep: "sum" (running sums), or every update side by side: "sums" for a rule that reads
            them through weighted sums alone, which secure aggregation can compute, "stack" for one that looks at each.
        init_server: ``(Params, Meta) -> state``.
        init_client: ``(Params, ClientInfo) -> state``, stacked over the population.
        client: ``(server_state, client_state, channels, context) -> (channels, client_state, {name: scalar})``.
        server: ``(server_state, aggregates, key) -> (server_state, aggregates)``. A half that is not given changes nothing.
        stack: ``(server_state, {channel: Stack}, key) -> (server_state, {channel: Stack})``, run where updates are kept; the
            reduction returns ``{channel: Aggregate}``.
        channel: the only channel that the link acts on; None is all that are private.
        wire: ``(channel name, private, Wire) -> Wire``, what the link does to the size of each leaf.
        min_clients: seats that a cohort must have at least.
        clients: ids of clients that the link names; the population must have them.
    """

    name: str
    place: str
    sensitivity: Callable[[float], float]
    needs: str
    init_server: Callable[..., Any] = lambda params, meta: ()
    init_client: Callable[..., Any] = lambda params, info: ()
    client: Callable[..., Any] = lambda server, client, channels, context: (channels, client, {})
    server: Callable[..., Any] = lambda server, aggregates, key: (server, aggregates)
    stack: Callable[..., Any] | None = None
    channel: str | None = None
    wire: Callable[[str, bool, Wire], Wire] = lambda channel, private, wire: wire
    min_clients: int = 1
    clients: tuple[int, ...] = ()
