"""Every aggregator of the table: its NumPy twin, layouts, order, rejection, states, bytes, dtypes, statistics, sensitivity."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType

import fedjax_edu as fe
from fedjax_edu.core import trees
from fedjax_edu.core.algorithm import Channel, Meta
from fedjax_edu.core.keys import ClientPurpose, Purpose, fold
from fedjax_edu.core.link import Context
from tests.aggregation import puppet
from tests.aggregation.table import AGGREGATORS, Row, Seen, norm
from tests.reference.clients import client_info
from tests.reference.problems import identical, largest_gap

CLIENTS, ROUNDS, POISONED = 12, 7, 5
RNG = np.random.default_rng(0)
SIZES = RNG.permutation(np.geomspace(0.1, 30, CLIENTS)).astype(np.float32)  # of the updates, so that some clips bind on some
UPDATES = jax.tree.map(
    lambda leaf: (RNG.normal(size=(CLIENTS, *leaf.shape)) * SIZES.reshape(-1, *(1,) * leaf.ndim) / 3).astype(np.float32), puppet.PARAMS
)
UPDATES["head"][9] = UPDATES["encoder"]["w"][9] = UPDATES["encoder"]["b"][9] = UPDATES["scale"][9] = 0  # an update of norm 0
UPDATES["head"][POISONED, 2] = np.nan
WEIGHTS = RNG.uniform(0.5, 4, (CLIENTS, 3)).astype(np.float32) * (RNG.random((CLIENTS, 3)) < 0.7)
WEIGHTS[[2, 9]] = [[0, 0, 0], [1, 2, 3]]
PRESENT = RNG.random((ROUNDS, CLIENTS)) < 0.6
PRESENT[0], PRESENT[3], PRESENT[4] = True, False, np.arange(CLIENTS) == POISONED  # all, nobody, nobody that counts
PRESENT[5] = np.arange(CLIENTS) == 2  # a client whose weights are all 0


def engine(row: Row, *, lanes: int = 3, devices: int = 1, order: np.ndarray | None = None, present: np.ndarray = PRESENT) -> fe.Engine:
    order = np.arange(CLIENTS) if order is None else order
    mesh = jax.make_mesh((devices,), ("clients",), axis_types=(AxisType.Auto,))
    return fe.Engine(
        puppet.population(UPDATES, WEIGHTS).select(order),
        puppet.algorithm(),
        cohort=fe.cohorts.available(fe.cohorts.everyone(), present[:, order]),
        aggregator=fe.aggregation.chain(puppet.counter(), row.make()),
        plan=fe.ExecutionPlan(lanes=lanes, mesh=mesh, chunk=1),
    )


def history(built: fe.Engine) -> list:
    """(state, info) after each round."""
    state, found = built.init(puppet.PARAMS, seed=2), []
    for _ in range(ROUNDS):
        found.append(built.run(state, 1))
        state = found[-1][0]
    return found


def accepted(number: int) -> np.ndarray:
    return np.nonzero(PRESENT[number] & (np.arange(CLIENTS) != POISONED))[0]


@pytest.fixture(scope="module", params=AGGREGATORS, ids=lambda row: row.name)
def row(request) -> Row:
    return request.param


@pytest.fixture(scope="module")
def straight(row) -> list:
    return history(engine(row))


class Replayed(NamedTuple):
    """What the twin says of a round: what each accepted client sent and reported, and what every client remembers after it."""

    sent: dict
    statistics: dict
    memories: list


@pytest.fixture(scope="module")
def replayed(row, straight) -> list[Replayed]:
    memories, rounds, found = [row.memory] * CLIENTS, 0, []
    ids = puppet.population(UPDATES, WEIGHTS).ids
    for number in range(ROUNDS):
        sent, statistics, memories = {}, {}, list(memories)
        for client in accepted(number):
            update = jax.tree.map(lambda leaf, client=client: leaf[client].astype(np.float64), UPDATES)
            key = fold(straight[0][0].key, Purpose.CLIENT, number, int(ids[client]), 0, ClientPurpose.LINKS)
            seen = Seen(WEIGHTS[client], rounds, key)
            sent[client], memories[client], statistics[client] = row.twin(update, memories[client], seen)
        rounds += bool(sent)
        found.append(Replayed(sent, statistics, memories))
    return found


def test_equals_its_numpy_twin(row, straight, replayed):
    private = public = jax.tree.map(np.asarray, puppet.PARAMS)
    owners = puppet.MODULES.owners(puppet.PARAMS)
    for (state, _), expected in zip(straight, replayed, strict=True):
        clients = list(expected.sent)
        if clients:
            weights = WEIGHTS[clients].astype(np.float64)

            def mean(owner: int, *values, weights: np.ndarray = weights):
                total = weights[:, owner].sum()
                return (
                    sum(weight * value for weight, value in zip(weights[:, owner], values, strict=True)) / total if total else 0 * values[0]
                )

            private = jax.tree.map(mean, owners, *expected.sent.values())
            public = jax.tree.map(lambda leaf, clients=clients: leaf[clients].astype(np.float64).mean(axis=0), UPDATES)
        assert largest_gap(state.params, private) < 1e-6 * SIZES.max()
        assert largest_gap(state.server.public, public) < 1e-6 * SIZES.max()
        memories = jax.tree.map(lambda *leaves: np.stack(leaves), *expected.memories)
        assert largest_gap(jax.tree.leaves(state.links_clients[1:]), jax.tree.leaves(memories)) < 1e-6 * SIZES.max()


def test_statistics_equal_numpy(row, straight, replayed):
    names = set(next(iter(replayed[0].statistics.values())))
    for number, ((_, info), expected) in enumerate(zip(straight, replayed, strict=True)):
        clients = accepted(number)
        assert set(info.links) == {"counter.passed", *names}
        for name in names:
            wanted = np.mean([each[name] for each in expected.statistics.values()]) if len(clients) else 0
            np.testing.assert_allclose(info.links[name], [wanted], rtol=1e-5)
        assert info.links["counter.passed"] == [1.0 if len(clients) else 0.0]
        assert (info.participants[0], info.rejected[0]) == (len(clients), PRESENT[number, POISONED])


def test_bytes_equal_a_count_by_hand(row, straight):
    """Of the public channel a client sends 13 float32; of the private one, modules where it has a weight."""
    for number, (_, info) in enumerate(straight):
        clients = accepted(number)
        assert info.bytes_up == [52 * len(clients) + np.sum((WEIGHTS[clients] > 0) @ np.array(row.bytes))]


def test_states_of_links_change_for_accepted_clients_only(straight):
    passed, rounds = np.zeros(CLIENTS, int), 0
    for number, (state, _) in enumerate(straight):
        passed[accepted(number)] += 1
        rounds += len(accepted(number)) > 0
        np.testing.assert_array_equal(state.links_clients[0], passed)
        assert int(state.links_server[0]) == rounds
        if number:
            others, before = jnp.setdiff1d(np.arange(CLIENTS), accepted(number)), straight[number - 1][0]
            assert identical(trees.index(state.links_clients, others), trees.index(before.links_clients, others))
    assert passed[POISONED] == 0 < PRESENT[:, POISONED].sum()


def test_rounds_without_an_accepted_client_change_nothing(straight):
    for number in (3, 4):
        before, after = straight[number - 1][0], straight[number][0]
        assert identical(after._replace(round=before.round), before)


@pytest.mark.parametrize(("lanes", "devices"), [(CLIENTS, 2), (1, 8)])
def test_layout_does_not_change_results(row, straight, lanes, devices):
    for (state, info), (expected, wanted) in zip(history(engine(row, lanes=lanes, devices=devices)), straight, strict=True):
        assert largest_gap(state, expected) < 1e-6 * SIZES.max()
        assert identical(state.links_clients, expected.links_clients)
        for name in wanted.links:
            np.testing.assert_allclose(info.links[name], wanted.links[name], rtol=1e-5)
        np.testing.assert_array_equal((info.participants, info.rejected), (wanted.participants, wanted.rejected))


def test_neither_order_of_clients_nor_one_lane_change_results(row, straight):
    order = np.random.default_rng(1).permutation(CLIENTS)
    for (state, info), (expected, wanted) in zip(history(engine(row, lanes=1, order=order)), straight, strict=True):
        assert identical((state.server, state.links_server), (expected.server, expected.links_server))
        assert identical(info.links, wanted.links)
        assert identical(state.links_clients, jax.tree.map(lambda leaf: np.asarray(leaf)[order], expected.links_clients))


def test_a_rejected_client_equals_its_absence(row, straight):
    away = PRESENT & (np.arange(CLIENTS) != POISONED)
    for number, ((state, info), (expected, wanted)) in enumerate(zip(history(engine(row, present=away)), straight, strict=True)):
        assert identical(state, expected)
        assert identical(info.links, wanted.links)
        assert (info.rejected[0], wanted.rejected[0]) == (0, PRESENT[number, POISONED])


def client_half(row: Row, value, jitted: bool = True):
    """The client half of a fresh chain on one private value: ``(value, statistics)``."""
    links, modules = row.make(), fe.modules.assign(value)
    info = client_info(len(modules.names))
    server, state = links.init_server(modules.split(value), Meta(np.ones(1, int), modules)), links.init_client(modules.split(value), info)

    def run(value):
        channels, _, statistics = links.client(
            server, state, {"update": Channel(value, jnp.ones(()), True)}, Context(jax.random.key(0), info, modules)
        )
        return channels["update"].value, statistics

    return (jax.jit(run) if jitted else run)(value)


def random_update(scale: float, dtype=jnp.float32, seed: int = 0):
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: jnp.asarray(scale * rng.normal(size=leaf.shape), dtype), puppet.PARAMS)


def size(tree) -> float:
    return norm(jax.tree.map(lambda leaf: np.asarray(leaf).astype(np.float64), tree))


def test_structure_and_dtypes_are_kept(row):
    value = {"a": random_update(2.0), "b": (jnp.ones(3, jnp.bfloat16), jnp.ones((), jnp.float16)), "none": None}
    found, statistics = client_half(row, value)
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), found) == jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), value)
    assert all(statistic.shape == () for statistic in statistics.values())


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_jit_changes_nothing(row, scale):
    value = random_update(scale)
    compiled, eager = client_half(row, value), client_half(row, value, jitted=False)
    assert largest_gap(compiled, eager) <= 1e-6 * scale


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
def test_sensitivity_is_a_bound_and_is_attained(row, dtype):
    assert row.make().sensitivity() == row.sensitivity
    if math.isinf(row.sensitivity):
        return
    largest, smallest = (1e4, 1e-3) if dtype == jnp.float16 else (1e15, 1e-15)
    scales = np.geomspace(smallest, largest, 40)
    norms = np.array([size(client_half(row, random_update(scale, dtype, seed), jitted=False)[0]) for seed, scale in enumerate(scales)])
    assert (norms <= row.sensitivity * (1 + 1e-6)).all()
    if size(random_update(largest, dtype)) > row.sensitivity:
        assert norms.max() > row.sensitivity * (1 - 3 * float(jnp.finfo(dtype).eps) - 1e-6)


def test_a_bound_that_does_not_bind_changes_no_bit(row):
    for dtype in (jnp.float32, jnp.bfloat16):
        small = random_update(1e-4, dtype)
        assert size(small) < row.sensitivity
        assert identical(client_half(row, small)[0], small) == row.transparent


def test_an_update_of_zeros_stays_one(row):
    for dtype in (jnp.float32, jnp.bfloat16):
        zero = jax.tree.map(jnp.zeros_like, random_update(1.0, dtype))
        assert identical(client_half(row, zero)[0], zero)
