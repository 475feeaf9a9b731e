"""Client states on several devices: rows that devices share against NumPy, what travels for them, and what is copied."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, PartitionSpec

import fedjax_edu as fe
from fedjax_edu.engine import store

SEATS, CLIENTS, WIDTH = 8, 17, 500


def mesh(devices):
    return jax.make_mesh((devices,), ("clients",), axis_types=(AxisType.Auto,))


def content(clients):
    random = np.random.default_rng(clients)
    values = random.normal(size=(clients, 3)).astype(np.float32)
    values[1, 0], values[2, 1] = np.nan, np.inf
    return {"values": values, "count": random.integers(-9, 9, clients).astype(np.int32), "flag": random.random(clients) < 0.5}


@pytest.mark.parametrize("devices", [2, 8])
def test_devices_share_what_each_has_changed(devices):
    """Each device writes the rows of its own seats; in the end all have all of them, and nothing of those that were not kept."""
    whole, new = content(CLIENTS), {name: leaf[:SEATS][::-1] for name, leaf in content(40).items()}
    rows = np.random.default_rng(0).permutation(CLIENTS)[:SEATS].astype(np.int32)
    kept = np.arange(SEATS) % 3 > 0

    def on_device(held, rows, new, kept):
        written = jax.tree.map(lambda leaf, value: leaf.at[jnp.where(kept, rows, store.NOWHERE)].set(value), held, new)
        return jax.tree.map(lambda leaf: leaf[None], store.share(written, (rows,), kept, "clients"))

    split, everywhere = PartitionSpec("clients"), PartitionSpec()
    specs = {"in_specs": (everywhere, split, split, split), "out_specs": split, "check_vma": False}
    found = jax.jit(jax.shard_map(on_device, mesh=mesh(devices), **specs))(whole, rows, new, kept)
    for name, leaf in whole.items():
        expected = leaf.copy()
        expected[rows[kept]] = new[name][kept]
        assert found[name].dtype == leaf.dtype
        for device in range(devices):
            np.testing.assert_array_equal(found[name][device], expected)


def build(make, clients, cohort, devices=8, **switches):
    population = fe.data.Population.from_arrays({"x": np.ones((clients, WIDTH), np.float32)}, offsets=np.arange(clients + 1))
    algorithm = make(
        lambda params, batch, key: (batch["x"] @ params["w"]) ** 2, client_optimizer=optax.sgd(0.1), local=fe.LocalTraining(steps=1)
    )
    plan = fe.ExecutionPlan(lanes=2, mesh=mesh(devices), **switches)
    engine = fe.Engine(population, algorithm, cohort=fe.cohorts.uniform(cohort), aggregator=fe.aggregation.mean(), plan=plan)
    return engine, engine.init({"w": jnp.zeros(WIDTH)})


def compiled(engine, state):
    return engine._compiled(state.params).chunk.lower(state, engine._resident, jnp.int32(1), None).compile()


def travelling(make, clients, cohort):
    """Numbers in the largest array that a collective of a compiled round moves, and how many collectives there are."""
    text = compiled(*build(make, clients, cohort)).as_text()
    found = re.findall(r"= \(?\w+\[([\d,]*)\].* (?:all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter)(?:-start)?\(", text)
    return max(int(np.prod([int(size) for size in shape.split(",") if size])) for shape in found), len(found)


def test_no_state_travels_where_clients_are_at_home():
    """SCAFFOLD's collectives are FedAvg's and one more model: the sum of what control variates changed by."""
    (fedavg, few), (scaffold, more) = (travelling(make, 64, 16) for make in (fe.algorithms.fedavg, fe.algorithms.scaffold))
    assert fedavg == scaffold == WIDTH and more <= few + 1
    assert travelling(fe.algorithms.scaffold, 4096, 16) == travelling(fe.algorithms.scaffold, 64, 32) == (scaffold, more)


def test_a_cohort_travels_where_every_device_has_all_states():
    assert travelling(fe.algorithms.scaffold, 65, 16)[0] <= 16 * WIDTH


def test_a_round_copies_the_store_once_and_writes_the_copy_in_place():
    clients = 4096
    engine, _ = build(fe.algorithms.scaffold, clients, 16, devices=1)
    assert engine.memory({"w": jnp.zeros(WIDTH)})["temporary"] < 0.05 * 4 * clients * WIDTH


def test_a_plan_that_donates_needs_no_second_store():
    make = partial(build, fe.algorithms.scaffold, 64, 16, devices=2)
    (engine, state), (other, same) = make(), make(donate=True)
    found, _ = engine.run(state, 3)
    donated, _ = other.run(same, 3)
    jax.tree.map(np.testing.assert_array_equal, found._replace(key=0), donated._replace(key=0))
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(same.clients))
    with pytest.raises(fe.errors.ArgumentError, match="state: got one that rounds have written over; use the state that came back"):
        other.run(same, 3)
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(state.clients))
