"""Composition of links: the client halves in order, the server halves in reverse."""

import math
from typing import Any, NamedTuple

import jax

from fedjax_edu.core.algorithm import Aggregates, Channel, ClientInfo, Meta
from fedjax_edu.core.errors import ArgumentError
from fedjax_edu.core.keys import fold
from fedjax_edu.core.link import PLACES, Context, Link, Sent, Wire
from fedjax_edu.core.modules import Params
from fedjax_edu.core.stack import Stack


class Chain(NamedTuple):
    """Links in the order in which a client's update meets them; made by :func:`chain`. States are tuples, one entry a link."""

    links: tuple[Link, ...]

    def init_server(self, params: Params, meta: Meta) -> tuple[Any, ...]:
        """Server state of every link."""
        return tuple(link.init_server(params, meta) for link in self.links)

    def init_client(self, params: Params, info: ClientInfo) -> tuple[Any, ...]:
        """State that every link keeps for one client."""
        return tuple(link.init_client(params, info) for link in self.links)

    def client(self, server: tuple[Any, ...], client: tuple[Any, ...], channels: dict[str, Channel], context: Context) -> Sent:
        """Client halves, first link first: ``(channels, client states, {"link.statistic": scalar})``."""
        states: list[Any] = []
        statistics: dict[str, jax.Array] = {}
        for position, (link, link_server, link_client) in enumerate(zip(self.links, server, client, strict=True)):
            own = context._replace(key=fold(context.key, position))
            channels, state, observed = link.client(link_server, link_client, channels, own)
            states.append(state)
            statistics |= {f"{link.name}.{name}": value for name, value in observed.items()}
        return channels, tuple(states), statistics

    @property
    def stacked(self) -> bool:
        """Whether the engine has to keep every update, not only their sum."""
        return any(link.needs != "sum" for link in self.links)

    def reduce(self, server: tuple[Any, ...], stacks: dict[str, Stack], key: jax.Array) -> tuple[tuple[Any, ...], Aggregates]:
        """Kept updates to aggregates, first link first, the reduction last."""
        states = list(server)
        values: Any = stacks
        for position, link in enumerate(self.links):
            if link.stack is not None:
                states[position], values = link.stack(server[position], values, fold(key, position))
        return tuple(states), values

    def wire(self, channel: str, private: bool, wire: Wire) -> Wire:
        """How a leaf travels after every link."""
        for link in self.links:
            wire = link.wire(channel, private, wire)
        return wire

    def server(self, server: tuple[Any, ...], aggregates: Aggregates, key: jax.Array) -> tuple[tuple[Any, ...], Aggregates]:
        """Server halves, last link first."""
        states = list(server)
        for position in reversed(range(len(self.links))):
            states[position], aggregates = self.links[position].server(server[position], aggregates, fold(key, position))
        return tuple(states), aggregates

    def sensitivity(self) -> float:
        """Largest norm that one client's private value can have where the sum is taken; infinite without a clip."""
        bound = math.inf
        for link in self.links:
            bound = link.sensitivity(bound)
        return bound


def chain(*links: Link | Chain) -> Chain:
    """Joins links into an aggregator.

    A chain has exactly one reduction (:func:`fedjax_edu.aggregation.mean`), and its links stand in the order
    attack, policy, compress, clip, local noise, quantise, mask, reduce, central noise: noise before a clip would be
    clipped away, a clip after the sum would bound nothing. Links of one name are numbered in reports: clip, clip1, ...

    Args:
        *links: links, or chains, which are unpacked.

    Returns:
        A :class:`Chain`.

    Raises:
        ArgumentError: no reduction or two, or links out of order.

    >>> from fedjax_edu.aggregation import clip, mean
    >>> chain(clip(0.5), mean()).sensitivity()
    0.5
    """
    flat: list[Link] = []
    for link in links:
        if not isinstance(link, (Link, Chain)):
            raise ArgumentError("aggregator", link, "pass links such as mean() or clip(1.0), or a chain of them")
        flat += link.links if isinstance(link, Chain) else [link]
    names = [link.name for link in flat]
    if [link.place for link in flat].count("reduce") != 1:
        raise ArgumentError("aggregator", names, "use exactly one reduction, for instance chain(clip(1.0), mean())")
    places = [PLACES.index(link.place) for link in flat]
    if places != sorted(places):
        raise ArgumentError("aggregator", names, f"order the links as {' -> '.join(PLACES)}")
    earlier = [names[:position].count(name) for position, name in enumerate(names)]
    return Chain(tuple(link._replace(name=f"{link.name}{count or ''}") for link, count in zip(flat, earlier, strict=True)))
