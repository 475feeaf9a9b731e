"""What devices send each other, counted by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType

import fedjax_edu as fe
from fedjax_edu.engine.collectives import count_bytes


def sent(cohort: int, width: int, devices: int = 8) -> dict[str, int]:
    population = fe.data.Population.from_arrays({"x": np.ones((64, width), np.float32)}, offsets=np.arange(65))
    algorithm = fe.algorithms.fedavg(
        lambda params, batch, key: (batch["x"] @ params["w"]) ** 2, client_optimizer=optax.sgd(0.1), local=fe.LocalTraining(steps=1)
    )
    mesh = jax.make_mesh((devices,), ("clients",), axis_types=(AxisType.Auto,))
    plan = fe.ExecutionPlan(lanes=1, mesh=mesh)
    engine = fe.Engine(population, algorithm, cohort=fe.cohorts.uniform(cohort), aggregator=fe.aggregation.mean(), plan=plan)
    return engine.collectives({"w": jnp.zeros(width)})


def test_fedavg_sends_the_model_once_whatever_the_cohort():
    small, large_cohort, large_model = sent(8, 5), sent(32, 5), sent(8, 105)
    assert small == large_cohort
    assert set(small) == {"all-reduce"}
    assert large_model["all-reduce"] - small["all-reduce"] == 100 * 4  # float32
    assert 5 * 4 < small["all-reduce"] < 5 * 4 + 100  # a few counters


def test_one_device_sends_nothing():
    assert sent(8, 5, devices=1) == {}


@pytest.mark.parametrize(("kind", "bytes_"), [("all-gather", 16 * 4 // 8), ("reduce-scatter", 16 * 4 * 8), ("all-to-all", 16 * 4)])
def test_a_device_counts_what_it_contributes(kind, bytes_):
    assert count_bytes(f"%one = f32[16]{{0}} {kind}(%two), channel_id=1", devices=8) == {kind: bytes_}
