"""Every rule and attack of the table: its NumPy twin, layouts, order, rejection, rounds without anybody, jit, dtypes, recompilation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fedjax_edu as fe
from fedjax_edu.core.algorithm import Meta
from fedjax_edu.core.stack import Stack
from tests.aggregation import cohort, puppet
from tests.aggregation.table_rules import LIARS, RULES, Row
from tests.reference.problems import identical, largest_gap

TOLERANCE = 1e-5 * max(float(np.nanmax(np.abs(leaf))) for leaf in jax.tree.leaves(cohort.UPDATES))
OWNERS = puppet.MODULES.owners(puppet.PARAMS)


@pytest.fixture(scope="module", params=RULES, ids=lambda row: row.name)
def row(request) -> Row:
    return request.param


@pytest.fixture(scope="module")
def built(row):
    return cohort.engine(row.make())


@pytest.fixture(scope="module")
def straight(built) -> list:
    return cohort.history(built)


def module_rows(owner: int, clients: np.ndarray) -> np.ndarray:
    """One module's numbers of some clients, float64 [n, d]."""
    members = [leaf for leaf, each in zip(jax.tree.leaves(cohort.UPDATES), jax.tree.leaves(OWNERS), strict=True) if each == owner]
    return np.concatenate([leaf[clients].reshape(len(clients), -1) for leaf in members], axis=1).astype(np.float64)


def twin_history(row: Row) -> list[dict[int, np.ndarray]]:
    """Each module's mean after each round, in NumPy."""
    modules = range(len(puppet.MODULES.names))
    memory = dict.fromkeys(modules)
    means = {owner: np.zeros(module_rows(owner, np.arange(1)).shape[1]) for owner in modules}
    found = []
    for number in range(cohort.ROUNDS):
        clients = cohort.accepted(number)
        if len(clients):
            for owner in modules:
                holders = clients[cohort.WEIGHTS[clients, owner] > 0]
                answer = None
                if len(holders):
                    weights = cohort.WEIGHTS[holders, owner].astype(np.float64)
                    rows = module_rows(owner, holders)
                    memory[owner], answer = row.twin(memory[owner], rows, weights, cohort.POPULATION.ids[holders])
                means[owner] = np.zeros_like(means[owner]) if answer is None else answer
        found.append(dict(means))
    return found


def test_equals_its_numpy_twin(row, straight):
    for (state, info), expected in zip(straight, twin_history(row), strict=True):
        for owner, wanted in expected.items():
            pairs = zip(jax.tree.leaves(state.params), jax.tree.leaves(OWNERS), strict=True)
            found = np.concatenate([np.ravel(leaf) for leaf, each in pairs if each == owner])
            np.testing.assert_allclose(found, wanted, atol=TOLERANCE)
        assert np.isfinite(info.update_norm).all()


def test_public_channels_are_plain_means(straight):
    for number, (state, _) in enumerate(straight):
        clients = cohort.accepted(number)
        if len(clients):
            expected = jax.tree.map(lambda leaf, clients=clients: leaf[clients].mean(0), cohort.UPDATES)
            assert largest_gap(state.server.public, expected) < TOLERANCE


def test_rounds_without_an_accepted_client_change_nothing(straight):
    for number in (3, 4):
        before, after = straight[number - 1][0], straight[number][0]
        assert identical(after._replace(round=before.round), before)


@pytest.mark.parametrize(("lanes", "devices"), [(cohort.CLIENTS, 2), (1, 8)])
def test_layout_and_padding_do_not_change_results(row, straight, lanes, devices):
    """On 8 devices a cohort of 12 has 16 seats."""
    moved = cohort.history(cohort.engine(row.make(), lanes=lanes, devices=devices))
    for (state, info), (expected, wanted) in zip(moved, straight, strict=True):
        assert largest_gap((state.server, state.links_server), (expected.server, expected.links_server)) < TOLERANCE
        np.testing.assert_array_equal((info.participants, info.rejected), (wanted.participants, wanted.rejected))
        np.testing.assert_array_equal(info.bytes_up, wanted.bytes_up)


def test_order_of_clients_lanes_and_absence_in_place_of_rejection_do_not_change_a_bit(row, straight):
    order = np.random.default_rng(1).permutation(cohort.CLIENTS)
    away = cohort.PRESENT & (np.arange(cohort.CLIENTS) != cohort.POISONED)
    moved = cohort.history(cohort.engine(row.make(), lanes=1, order=order, present=away))
    for number, ((state, info), (expected, wanted)) in enumerate(zip(moved, straight, strict=True)):
        assert identical((state.server, state.links_server), (expected.server, expected.links_server))
        assert (info.rejected[0], wanted.rejected[0]) == (0, cohort.PRESENT[number, cohort.POISONED])


def test_any_number_of_rounds_reuses_one_program(built, straight):
    state, _ = built.run(straight[0][0], 3)
    assert built._compiled(state.params).chunk._cache_size() == 1
    assert identical(state, straight[3][0])


def test_states_keep_shapes_and_dtypes(built, straight):
    start = built.init(puppet.PARAMS, seed=2)
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), straight[-1][0]) == jax.tree.map(
        lambda leaf: (leaf.shape, leaf.dtype), start
    )


def reduced(row: Row, dtype: jnp.dtype):
    """The chain's answer to one stack of honest updates and liars."""
    links = row.make()
    rng = np.random.default_rng(4)
    params = {"w": jnp.zeros((2, 2), dtype), "b": jnp.zeros((), dtype)}
    modules = fe.modules.assign(params)
    values = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=(9, *leaf.shape)), dtype), params)
    ids = jnp.asarray(np.sort(np.concatenate([LIARS, cohort.POPULATION.ids[[4]], 200 + np.arange(6)])), jnp.uint32)
    state = links.init_server(modules.split(params), Meta(np.ones(9, int), modules))

    def run(values, state):
        return links.reduce(state, {"update": Stack(values, jnp.ones((9, 2)), ids, modules)}, jax.random.key(0))

    return run, values, state


def test_jit_changes_nothing(row):
    run, values, state = reduced(row, jnp.float32)
    assert largest_gap(jax.jit(run)(values, state), run(values, state)) < 1e-5


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
def test_sums_are_at_least_of_single_precision_and_states_keep_their_type(row, dtype):
    run, values, state = reduced(row, dtype)
    after, found = jax.eval_shape(run, values, state)
    assert {leaf.dtype for leaf in jax.tree.leaves(found["update"].total)} == {jnp.dtype(jnp.float32)}
    assert jax.tree.map(lambda leaf: leaf.dtype, after) == jax.tree.map(lambda leaf: leaf.dtype, state)
