"""Lanes by measurement: what is counted, what is measured, what is remembered."""

import itertools
import json
import logging
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType

import fedjax_edu as fe
from fedjax_edu.engine import tuning

SIZES = np.random.default_rng(0).integers(1, 60, 40)


def build(width: int, lanes: int | str = "auto", clients: int = 12, devices: int = 1) -> tuple[fe.Engine, dict]:
    """A dense layer of `width` inputs and outputs."""
    rows = np.ones((SIZES.sum(), width), np.float32)
    population = fe.data.Population.from_arrays({"x": rows}, offsets=np.concatenate([[0], np.cumsum(SIZES)]))
    algorithm = fe.algorithms.fedavg(
        lambda params, batch, key: jnp.square(batch["x"] @ params["w"]).sum(1),
        client_optimizer=optax.sgd(1e-6),
        local=fe.LocalTraining(epochs=1, batch_size=16),
    )
    plan = fe.ExecutionPlan(lanes=lanes, mesh=jax.make_mesh((devices,), ("clients",), axis_types=(AxisType.Auto,)))
    engine = fe.Engine(population, algorithm, cohort=fe.cohorts.uniform(clients), aggregator=fe.aggregation.mean(), plan=plan)
    return engine, {"w": jnp.zeros((width, width))}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("FEDJAX_EDU_DATA", str(tmp_path))
    return tmp_path / "lanes"


def no_clock(self, lanes):
    raise AssertionError(f"timed {lanes} lanes")


@pytest.mark.parametrize("lanes", [1, 2, 3, 7, 40])
def test_ticks_are_those_of_the_engine(lanes):
    population = fe.data.Population.from_arrays({"x": np.ones((SIZES.sum(), 1), np.float32)}, np.concatenate([[0], np.cumsum(SIZES)]))
    algorithm = fe.algorithms.fedavg(
        lambda params, batch, key: batch["x"] @ params, client_optimizer=optax.sgd(0.1), local=fe.LocalTraining(epochs=1, batch_size=4)
    )
    plan = fe.ExecutionPlan(lanes=lanes, mesh=jax.make_mesh((1,), ("clients",), axis_types=(AxisType.Auto,)))
    engine = fe.Engine(population, algorithm, cohort=fe.cohorts.everyone(), aggregator=fe.aggregation.mean(), plan=plan)
    _, info = engine.run(engine.init(jnp.zeros(1)), 1)
    queue = np.sort(-(-SIZES // 4))[::-1]
    assert info.utilisation[0] == pytest.approx(queue.sum() / (lanes * tuning.count_ticks(queue, lanes)))


def test_the_fastest_is_taken_and_remembered(folder, monkeypatch, caplog):
    seconds = {1: 1.0, 2: 1.1, 4: 3.0, 8: 20.0}
    timed = []

    def clock(self, lanes):
        timed.append(lanes)
        return seconds[lanes]

    monkeypatch.setattr(tuning._Rehearsal, "seconds_a_tick", clock)
    engine, params = build(256)
    assert engine.layout.lanes is None
    with caplog.at_level(logging.INFO, "fedjax_edu"):
        engine.init(params)
    queue = tuning.typical_queue(-(-SIZES // 16), 12)
    expected = min(seconds, key=lambda lanes: seconds[lanes] * tuning.count_ticks(queue, lanes))
    assert engine.layout.lanes == expected == 2 and "measured now" in engine.layout.reason
    assert timed == [1, 2, 4, 8][: len(timed)] and len(timed) < 5  # more lanes than are hopeless are not tried
    assert "2 lanes on each of 1 devices: expected time" in caplog.text
    (file,) = folder.iterdir()
    assert json.loads(file.read_text()) == {str(lanes): seconds[lanes] for lanes in timed}

    monkeypatch.setattr(tuning._Rehearsal, "seconds_a_tick", no_clock)
    again, _ = build(256)
    again.init(params)
    assert again.layout.lanes == 2 and "measured before" in again.layout.reason


def test_another_step_is_measured_anew_and_a_damaged_file_too(folder, monkeypatch):
    monkeypatch.setattr(tuning._Rehearsal, "seconds_a_tick", lambda self, lanes: float(lanes))
    for width in (256, 260):
        engine, params = build(width)
        engine.init(params)
    files = list(folder.iterdir())
    assert len(files) == 2
    for file, text in zip(files, ("{", "[1]"), strict=True):
        file.write_text(text)
    engine, params = build(256)
    engine.init(params)
    assert "measured now" in engine.layout.reason


def test_nothing_is_timed_where_lanes_are_given(folder, monkeypatch):
    """As on resume, from a checkpoint's plan."""
    monkeypatch.setattr(tuning._Rehearsal, "seconds_a_tick", no_clock)
    engine, params = build(256, lanes=3)
    engine.init(params)
    assert engine.layout.lanes == 3 and engine.layout.reason == "as asked for"


def test_a_small_step_is_not_timed(folder, monkeypatch):
    monkeypatch.setattr(tuning._Rehearsal, "seconds_a_tick", no_clock)
    engine, params = build(4)
    engine.init(params)
    assert engine.layout.lanes == 8 and "too few to be worth timing" in engine.layout.reason
    assert not folder.exists()


def test_a_folder_that_cannot_be_written_is_no_obstacle(folder, monkeypatch, caplog):
    folder.write_text("a file where the folder should be")
    monkeypatch.setattr(tuning._Rehearsal, "seconds_a_tick", lambda self, lanes: float(lanes))
    engine, params = build(256)
    with caplog.at_level(logging.INFO, "fedjax_edu"):
        engine.init(params)
    assert engine.layout.lanes == 1 and "cannot be written" in caplog.text


@pytest.mark.parametrize("devices", [1, 2])
def test_the_real_step_is_timed(devices):
    """Seconds of a tick grow with the work in it."""
    found = []
    for width in (64, 512):
        engine, params = build(width, devices=devices)
        begin = partial(engine._begin, engine._resident, key=jax.random.key(0), clients=jnp.arange(3))
        shapes = jax.eval_shape(begin, params)
        rehearsal = tuning._Rehearsal(engine._stages[0], shapes, engine._resident, engine.population, engine.layout)
        assert rehearsal.flop == pytest.approx(16 * 2 * 2 * width**2, rel=0.2)
        found.append(rehearsal.seconds_a_tick(2))
    assert 0 < found[0] < found[1]


def test_a_typical_queue_holds_the_extremes():
    queue = tuning.typical_queue(SIZES, 5)
    assert (queue[0], queue[-1], len(queue)) == (SIZES.max(), SIZES.min(), 5) and all(a >= b for a, b in itertools.pairwise(queue))
