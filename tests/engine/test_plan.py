"""The execution plan: what it decides, what it refuses, and what `configure` does to a fresh process."""

import os
import subprocess
import sys

import jax
import optax
import pytest
from jax.sharding import AxisType, Mesh

import fedjax_edu as fe
from fedjax_edu.core.errors import ArgumentError
from tests.reference.problems import Linear, identical


def mesh(devices: int, kind: AxisType = AxisType.Auto, name: str = "clients") -> Mesh:
    return jax.make_mesh((devices,), (name,), axis_types=(kind,))


@pytest.mark.parametrize(
    ("devices", "lanes", "capacity", "expected"),
    [
        (1, "auto", 1000, None),
        (1, "auto", 1, 1),
        (2, "auto", 9, None),
        (8, "auto", 5, 1),
        (1, 3, 1000, 3),
        (1, 3, 2, 2),
        (4, 3, 9, 3),
        (4, 3, 5, 2),
        (1, 1000, 1000, 1000),
        (1, "auto", 0, 1),
    ],
)
def test_lanes_are_never_more_than_a_device_has_work_for(devices, lanes, capacity, expected):
    layout = fe.ExecutionPlan(lanes=lanes, mesh=mesh(devices), chunk=5).resolve(capacity)
    assert (layout.lanes, layout.mesh.size, layout.chunk) == (expected, devices, 5)


def test_without_a_mesh_all_devices_are_used():
    layout = fe.ExecutionPlan().resolve(100)
    assert layout.mesh.size == jax.device_count() == 8
    assert layout.mesh.axis_names == ("clients",)
    assert layout.mesh.axis_types == (AxisType.Auto,)


def test_a_plan_is_frozen_and_compares_by_value():
    assert fe.ExecutionPlan(lanes=4) == fe.ExecutionPlan(lanes=4) != fe.ExecutionPlan(lanes=5)
    with pytest.raises(AttributeError):
        fe.ExecutionPlan().lanes = 3


@pytest.mark.parametrize(
    ("options", "argument"),
    [
        ({"lanes": 0}, "lanes"),
        ({"lanes": -1}, "lanes"),
        ({"lanes": "many"}, "lanes"),
        ({"lanes": True}, "lanes"),
        ({"chunk": 0}, "chunk"),
        ({"mesh": mesh(2, name="data")}, "mesh"),
        ({"mesh": jax.make_mesh((2, 2), ("clients", "data"), axis_types=(AxisType.Auto,) * 2)}, "mesh"),
        ({"mesh": jax.make_mesh((2, 2), ("model", "clients"), axis_types=(AxisType.Auto,) * 2)}, "mesh"),
        ({"mesh": mesh(2), "partition": lambda name, leaf: None}, "mesh"),
    ],
)
def test_plans_that_cannot_work(options, argument):
    with pytest.raises(ArgumentError) as caught:
        fe.ExecutionPlan(**options)
    assert caught.value.argument == argument


def test_explicit_axes_are_taken_as_automatic_ones():
    problem, devices = Linear(), 4
    algorithm = fe.algorithms.fedavg(problem.loss, client_optimizer=optax.sgd(0.1), local=fe.LocalTraining(epochs=1, batch_size=4))
    results = []
    for kind in (AxisType.Auto, AxisType.Explicit):
        plan = fe.ExecutionPlan(lanes=2, mesh=mesh(devices, kind))
        assert plan.resolve(10).mesh == mesh(devices)
        cohort, aggregator = fe.cohorts.uniform(7), fe.aggregation.mean()
        engine = fe.Engine(problem.population(), algorithm, cohort=cohort, aggregator=aggregator, plan=plan)
        results.append(engine.run(engine.init(problem.params, seed=0), 2))
    assert identical(*results)


def fresh(program: str) -> list[str]:
    """Lines that a program prints in a process of its own, where JAX has not started."""
    environment = {name: value for name, value in os.environ.items() if name not in ("JAX_NUM_CPU_DEVICES", "XLA_FLAGS")}
    start = f"import logging, os, sys\nsys.path[:0] = {sys.path!r}\nimport jax, fedjax_edu as fe\n"
    done = subprocess.run(
        [sys.executable, "-c", start + program], env=environment | {"JAX_PLATFORMS": "cpu"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_configure_makes_every_core_a_device():
    found = fresh("print(fe.configure()); print(fe.configure()); print(len(os.sched_getaffinity(0))); print(len(jax.devices()))")
    assert len(set(found)) == 1


def test_configure_takes_a_number_and_changes_it_until_jax_starts():
    program = """
print(fe.configure(5), fe.configure(cpu_devices=3))
print(jax.device_count(), fe.ExecutionPlan().resolve(100).mesh.size)
print(fe.configure(3), fe.configure(3))
try:
    fe.configure(4)
except fe.errors.ArgumentError as error:
    print(error)
print(jax.device_count())
"""
    *before, message, after = fresh(program)
    assert before == ["5 3", "3 3", "3 3"]
    assert message == "cpu_devices: got 4; call fe.configure() before JAX starts; it runs with 3 already"
    assert after == "3"


def test_values_of_the_wrong_type_are_typed_errors():
    """In a process of its own: here beartype would speak first."""
    program = """
import numpy as np
calls = [lambda value=value: fe.configure(value) for value in (0, -2, 1.5, True, "two")]
calls += [lambda value=value: fe.ExecutionPlan(**value) for value in ({"lanes": 2.0}, {"chunk": None}, {"mesh": 3}, {"lanes": None})]
for call in calls:
    try:
        print("accepted", call())
    except fe.errors.ArgumentError as error:
        print(error.argument)
print(fe.ExecutionPlan(lanes=np.int64(4)) == fe.ExecutionPlan(lanes=4))
"""
    assert fresh(program) == ["cpu_devices"] * 5 + ["lanes", "chunk", "mesh", "lanes", "True"]


WARNED = """
messages = []
handler = logging.Handler()
handler.emit = lambda record: messages.append(record.getMessage())
logging.getLogger("fedjax_edu").addHandler(handler)
os.cpu_count = lambda: {cores}
{before}
for capacity in (1, 5, 5, 100):
    fe.ExecutionPlan().resolve(capacity)
fe.ExecutionPlan(lanes=2).resolve(7)
print(len(messages), *messages)
"""


def test_one_device_on_many_cores_is_said_exactly_once():
    (line,) = fresh(WARNED.format(cores=6, before=""))
    count, message = line.split(" ", 1)
    assert count == "1"
    assert "one CPU device of a machine with 6 cores" in message
    assert "fe.configure()" in message


@pytest.mark.parametrize(("cores", "before"), [(1, ""), (6, "fe.configure(2)")])
def test_nothing_is_said_where_nothing_is_wasted(cores, before):
    assert fresh(WARNED.format(cores=cores, before=before)) == ["0"]
