"""Composition of links: who is called when, with which state, key and channels."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_edu.aggregation import chain, clip, mean
from fedjax_edu.core.algorithm import Aggregate, Channel, Meta
from fedjax_edu.core.errors import ArgumentError
from fedjax_edu.core.link import PLACES, Context, Link
from fedjax_edu.core.modules import assign
from tests.reference.clients import client_info

PARAMS = {"w": jnp.zeros(2)}
MODULES = assign(PARAMS)
INFO = client_info(1, id_=4, examples=10)


def recording(name: str, place: str, calls: list, factor: float = 1.0) -> Link:
    """Writes down every call; appends its name to whatever passes and scales the sensitivity."""

    def client(server, state, channels, context):
        calls.append(("client", name, server, state, list(channels), tuple(np.asarray(jax.random.key_data(context.key)).tolist())))
        return {**channels, name: channels["update"]}, f"{state} after", {"seen": jnp.float32(len(channels))}

    def server(state, aggregates, key):
        calls.append(("server", name, state, list(aggregates), tuple(np.asarray(jax.random.key_data(key)).tolist())))
        return f"{state} after", {**aggregates, name: aggregates["update"]}

    return Link(
        name=name,
        place=place,
        init_server=lambda params, meta: f"{name} server of {int(meta.total('uniform')[0])}",
        init_client=lambda params, info: f"{name} client {int(info.id)}",
        client=client,
        server=server,
        sensitivity=lambda bound: factor * bound + 1,
        needs="sum",
    )


@pytest.fixture
def calls() -> list:
    return []


@pytest.fixture
def links(calls):
    return chain(recording("first", "compress", calls, 2.0), mean(), recording("last", "central noise", calls, 3.0))


def context(key: int = 0) -> Context:
    return Context(jax.random.key(key), INFO, MODULES)


def test_states_are_one_entry_a_link(links):
    assert links.init_server(MODULES.split(PARAMS), Meta(np.arange(8), MODULES)) == ("first server of 7", (), "last server of 7")
    assert links.init_client(MODULES.split(PARAMS), INFO) == ("first client 4", (), "last client 4")


def test_client_halves_run_in_order_each_with_its_own_state(links, calls):
    update = {"update": Channel(PARAMS, jnp.float32(1), True)}
    channels, states, statistics = links.client(("s0", (), "s2"), ("c0", (), "c2"), update, context())
    assert [call[:5] for call in calls] == [
        ("client", "first", "s0", "c0", ["update"]),
        ("client", "last", "s2", "c2", ["update", "first"]),
    ]
    assert list(channels) == ["update", "first", "last"]
    assert states == ("c0 after", (), "c2 after")
    assert {name: float(value) for name, value in statistics.items()} == {"first.seen": 1.0, "last.seen": 2.0}


def test_server_halves_run_in_reverse_each_with_its_own_state(links, calls):
    aggregates = {"update": Aggregate(PARAMS, jnp.ones(1), jnp.ones(1, jnp.int32), MODULES)}
    states, after = links.server(("s0", (), "s2"), aggregates, jax.random.key(0))
    assert [call[:4] for call in calls] == [("server", "last", "s2", ["update"]), ("server", "first", "s0", ["update", "last"])]
    assert states == ("s0 after", (), "s2 after")
    assert list(after) == ["update", "last", "first"]


def test_every_link_has_a_key_of_its_own_that_depends_on_the_callers(links, calls):
    update = {"update": Channel(PARAMS, jnp.float32(1), True)}
    aggregates = {"update": Aggregate(PARAMS, jnp.ones(1), jnp.ones(1, jnp.int32), MODULES)}
    for key in (0, 1):
        links.client(((),) * 3, ((),) * 3, update, context(key))
        links.server(((),) * 3, aggregates, jax.random.key(key + 2))
    assert len({call[-1] for call in calls}) == len(calls) == 8


def test_sensitivity_is_composed_in_order(links):
    assert links.sensitivity() == math.inf
    assert chain(mean()).sensitivity() == math.inf
    assert chain(recording("a", "compress", [], 5.0), clip(2.0), mean()).sensitivity() == 2.0
    assert chain(clip(2.0), recording("a", "quantise", [], 5.0), mean()).sensitivity() == 11.0
    assert chain(clip(2.0), clip(0.5), clip(1.0), mean()).sensitivity() == 0.5


def test_nested_chains_are_unpacked():
    assert [link.name for link in chain(clip(1.0), chain(mean())).links] == ["clip", "mean"]
    assert [link.name for link in chain(chain(clip(1.0), mean())).links] == ["clip", "mean"]


def test_every_pair_of_places_stands_in_the_order_of_the_places():
    for left, right in itertools.combinations([place for place in PLACES if place != "reduce"], 2):
        good, bad = (recording(left, left, []), recording(right, right, [])), (recording(right, right, []), recording(left, left, []))
        at = PLACES.index("reduce")
        in_order = sorted([*good, mean()], key=lambda link: PLACES.index(link.place))
        assert [link.place for link in chain(*in_order).links] == [link.place for link in in_order]
        before = sum(PLACES.index(link.place) < at for link in bad)
        with pytest.raises(ArgumentError, match="order the links as attack -> policy -> compress"):
            chain(*bad[:before], mean(), *bad[before:])


@pytest.mark.parametrize("number", [0, 2])
def test_exactly_one_reduction(number):
    with pytest.raises(ArgumentError, match="exactly one reduction"):
        chain(clip(1.0), *[mean()] * number)
    with pytest.raises(ArgumentError, match="exactly one reduction"):
        chain()


def test_a_clip_after_the_sum_is_refused():
    with pytest.raises(ArgumentError, match=r"aggregator: got .*mean.*clip"):
        chain(mean(), clip(1.0))


def test_links_of_one_name_report_under_names_of_their_own():
    links = chain(clip(2.0), clip(1.0), mean())
    assert [link.name for link in links.links] == ["clip", "clip1", "mean"]
    assert chain(links) == links
