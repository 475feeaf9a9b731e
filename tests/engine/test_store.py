"""Rows of the stacked client states against NumPy, and how much travels for them."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import fedjax_edu as fe
from fedjax_edu.engine import store

SEATS = 8


def mesh(devices):
    return jax.make_mesh((devices,), ("clients",), axis_types=(AxisType.Auto,))


def content(clients):
    random = np.random.default_rng(clients)
    values = random.normal(size=(clients, 3)).astype(np.float32)
    values[1, 0], values[2, 1] = np.nan, np.inf
    return {"values": values, "count": random.integers(-9, 9, clients).astype(np.int32), "flag": random.random(clients) < 0.5}


@pytest.mark.parametrize("devices", [1, 2, 8])
@pytest.mark.parametrize("clients", [16, 17], ids=["split", "not split"])
def test_rows_are_taken_and_given_back(devices, clients):
    here, random = mesh(devices), np.random.default_rng(0)
    whole, new = content(clients), {name: leaf[:SEATS][::-1] for name, leaf in content(40).items()}
    split = store.is_split(clients, here)
    assert split == (clients % devices == 0)
    held = jax.device_put(whole, NamedSharding(here, PartitionSpec("clients") if split else PartitionSpec()))
    rows = random.permutation(clients)[:SEATS].astype(np.int32)
    taken = jax.jit(lambda held, rows: store.take(held, rows, here))(held, jnp.asarray(rows))
    places = np.where(np.arange(SEATS) % 3 == 0, store.NOWHERE, rows).astype(np.int32)
    given = jax.jit(lambda *arguments: store.give(*arguments, here))(held, jnp.asarray(places), new)
    for name, leaf in whole.items():
        np.testing.assert_array_equal(taken[name], leaf[rows])
        expected = leaf.copy()
        expected[rows[np.arange(SEATS) % 3 > 0]] = new[name][np.arange(SEATS) % 3 > 0]
        np.testing.assert_array_equal(given[name], expected)
        assert taken[name].dtype == given[name].dtype == leaf.dtype


def travelling(clients: int, cohort: int) -> tuple[int, int]:
    """Collectives of a compiled SCAFFOLD round, and the numbers of the largest array that one of them moves."""
    population = fe.data.Population.from_arrays({"x": np.ones((clients, 5), np.float32)}, offsets=np.arange(clients + 1))
    algorithm = fe.algorithms.scaffold(
        lambda params, batch, key: (batch["x"] @ params["w"]) ** 2, client_optimizer=optax.sgd(0.1), local=fe.LocalTraining(steps=1)
    )
    plan = fe.ExecutionPlan(lanes=2, mesh=mesh(8))
    engine = fe.Engine(population, algorithm, cohort=fe.cohorts.uniform(cohort), aggregator=fe.aggregation.mean(), plan=plan)
    state = engine.init({"w": jnp.zeros(5)})
    text = engine._compiled(state.params).chunk.lower(state, engine._resident, jnp.int32(1), None).compile().as_text()
    found = re.findall(r"= \(?\w+\[([\d,]*)\].* (?:all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter)(?:-start)?\(", text)
    return len(found), max(int(np.prod([int(size) for size in shape.split(",") if size])) for shape in found)


def test_a_cohort_travels_and_not_the_store():
    few, many, larger_cohort = travelling(64, 16), travelling(4096, 16), travelling(64, 32)
    assert few == many and few[0] == larger_cohort[0]
    assert few[1] <= 16 * 5
