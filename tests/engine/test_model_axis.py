"""A model split over the devices that train a client together: the same results, slices on each device, collectives counted."""

import functools
import math
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, PartitionSpec

import fedjax_edu as fe
from fedjax_edu.core.errors import ArgumentError
from fedjax_edu.engine import evaluation, tiles
from fedjax_edu.engine.timetable import Timetable, timetable
from fedjax_edu.engine.tuning import count_ticks

RANDOM = np.random.default_rng(0)
SIZES = (30, 0, 12, 1, 5, 20, 3, 9, 0, 14, 2, 6, 8, 1, 1, 8)  # the devices' queues are of very different length
OFFSETS = np.concatenate([[0], np.cumsum(SIZES)])
X, Y = (RANDOM.normal(size=(OFFSETS[-1], width)).astype(np.float32) for width in (6, 3))
POPULATION = fe.data.Population.from_arrays({"x": X, "y": Y}, offsets=OFFSETS)
UP, DOWN = ((RANDOM.normal(size=shape) / 3).astype(np.float32) for shape in ((6, 24), (24, 3)))
PARAMS = {"up": {"w": UP, "b": np.zeros(24, np.float32)}, "down": {"w": DOWN, "b": np.zeros((1, 3), np.float32)}}
LOCAL = fe.LocalTraining(epochs=1, batch_size=5)
SGD = optax.inject_hyperparams(optax.sgd)(learning_rate=0.1)
FULL = r"\[(?:\d+,)*(?:6,24|24,6|24,3|3,24)\]"  # no other array of these programs has such dimensions


def mesh(clients: int, model: int | None = None) -> jax.sharding.Mesh:
    sizes = (clients,) if model is None else (clients, model)
    return jax.make_mesh(sizes, ("clients", "model")[: len(sizes)], axis_types=(AxisType.Auto,) * len(sizes))


ONE, FOUR, GRID = mesh(1), mesh(4), mesh(4, 2)


def predict(params, batch):
    hidden = jnp.tanh(batch["x"] @ params["up"]["w"] + params["up"]["b"][None])
    return hidden @ params["down"]["w"] + params["down"]["b"]


def loss(params, batch, key):
    return jnp.mean((predict(params, batch) - batch["y"]) ** 2, axis=1)


def rolling(params, batch, key):
    """Neighbours along the dimension that is split: the compiler moves their borders by collective-permutes of the whole mesh."""
    weights = params["up"]["w"] + 0.5 * jnp.roll(params["up"]["w"], 1, axis=1)
    return loss({**params, "up": {**params["up"], "w": weights}}, batch, key)


def build(
    where, make=fe.algorithms.fedavg, *, objective=loss, links=None, personal=None, size=11, measure_after=False, algorithm=None, **plan
):
    return fe.Engine(
        POPULATION,
        make(objective, client_optimizer=SGD, local=LOCAL, **(algorithm or {})),
        cohort=fe.cohorts.uniform(size),
        aggregator=links or fe.aggregation.mean(),
        modules=fe.modules.assign(PARAMS, personal=personal),
        plan=fe.ExecutionPlan(**{"lanes": 2, "chunk": 2, "mesh": where} | plan),
        measure_after=measure_after,
    )


def trained(engine: fe.Engine) -> tuple[Any, Any]:
    state, info = engine.run(engine.init(PARAMS, seed=3), 3)
    return state._replace(key=None), info


def assert_close(found, expected, tolerance=1e-5):
    """All but the utilisation, which depends on how many devices train."""
    found, expected = ((state, info._replace(utilisation=None)) for state, info in (found, expected))
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(np.asarray(one), np.asarray(other), rtol=tolerance, atol=tolerance)


A, G = fe.algorithms, fe.aggregation
CASES = {
    "collectives of the whole mesh": {"objective": rolling},
    "client states, personal modules, residuals and moments": {
        "make": A.scaffold,
        "links": G.chain(G.topk(0.2), G.mean()),
        "personal": "down",
        "algorithm": {"server_optimizer": optax.adam(0.1)},
    },
    "three phases": {"make": A.scaffold, "algorithm": {"option": "I"}, "measure_after": True, "objective": rolling},
    "a rule that keeps every update": {"links": G.chain(G.clip(1.0), G.median()), "lanes": "auto"},
    "rows and states from the host": {"make": A.scaffold, "resident_bytes": 8000, "client_states": "host"},
}


@functools.cache
def on_one_device(case: str) -> tuple[Any, Any]:
    return trained(build(ONE, **CASES[case]))


@pytest.mark.parametrize("case", CASES)
def test_results_are_those_of_one_device(case):
    assert_close(trained(build(GRID, **CASES[case])), on_one_device(case))


@pytest.mark.parametrize("where", [mesh(2, 4), mesh(1, 2)], ids=["2 x 4", "1 x 2"])
def test_any_mesh_will_do(where):
    found, expected = trained(build(where, objective=rolling)), on_one_device("collectives of the whole mesh")
    assert_close(found, expected)
    if where.shape["clients"] == 1:
        np.testing.assert_array_equal(found[1].utilisation, expected[1].utilisation)  # two devices are one trainer


def test_members_of_a_sweep():
    rates = {"client_optimizer.learning_rate": [0.05, 0.1]}
    found, expected = (fe.study.sweep(build(where), rates, [0], params=PARAMS, rounds=2) for where in (GRID, ONE))
    assert_close(*((swept.state._replace(key=None), swept.info) for swept in (found, expected)))
    assert found.state.params["up"]["w"].sharding.shard_shape((2, 6, 24)) == (2, 6, 12)


def test_each_device_holds_a_slice():
    """Half of each matrix, of its moments, of the control variates and of the residuals, which are split over the clients too."""
    links = G.chain(G.topk(0.2), G.mean())
    engine = build(GRID, A.scaffold, links=links, algorithm={"server_optimizer": optax.adam(0.1)})
    start = engine.init(PARAMS)
    for state in (start, engine.run(start, 1)[0]):
        shapes = {}
        for path, leaf in jax.tree_util.tree_leaves_with_path(state):
            if leaf.ndim >= 2:
                shapes.setdefault((leaf.shape, leaf.sharding.shard_shape(leaf.shape)), []).append(jax.tree_util.keystr(path))
        assert set(shapes) == {
            ((6, 24), (6, 12)),
            ((24, 3), (12, 3)),
            ((1, 3), (1, 3)),  # two divides neither
            ((16, 6, 24), (4, 6, 12)),
            ((16, 24, 3), (4, 12, 3)),
            ((16, 24), (4, 24)),  # vectors stay whole
            ((16, 1, 3), (4, 1, 3)),
        }
        assert len(shapes[(6, 24), (6, 12)]) == 4  # parameters, two moments, the server's variate
        assert len(shapes[(16, 6, 24), (4, 6, 12)]) == 2  # variates and residuals


def test_a_rule_says_what_is_split():
    def rule(name, leaf):
        return PartitionSpec("model") if name == "up.w" else PartitionSpec()

    state = build(GRID, partition=rule).init(PARAMS)
    shapes = {name: state.params[name]["w"].sharding.shard_shape(state.params[name]["w"].shape) for name in ("up", "down")}
    assert shapes == {"up": (3, 24), "down": (24, 3)}


def compiled_round(engine: fe.Engine) -> str:
    state = engine.init(PARAMS)
    return engine._compiled(state.params).chunk.lower(state, engine._resident, jnp.int32(1), None).compile().as_text()


def collectives(text: str) -> list[tuple[str, int, bool]]:
    """Each collective of a program: its kind, how many devices exchange something, and whether it stands inside a round's loops."""
    found = []
    for line in text.splitlines():
        kind = re.search(r" (all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter)(?:-start)?\(", line)
        if kind:
            found.append((kind.group(1), group_size(line), re.search(r'op_name="[^"]*while[^"]*while', line) is not None))
    return sorted(found)


def group_size(line: str) -> int:
    """Devices of a group, in any of the three ways in which XLA writes groups; a collective-permute is of the whole mesh."""
    if listed := re.search(r"replica_groups=\{\{([\d,]+)\}", line):
        return len(listed.group(1).split(","))
    if counted := re.search(r"replica_groups=\[\d+,(\d+)\]<=", line):
        return int(counted.group(1))
    if named := re.search(r"replica_groups=mesh\[([^\]]*)\].*? \{('[^}]*)\}", line):
        sizes = dict(re.findall(r"'(\w+)'=(\d+)", named.group(1)))
        return math.prod(int(sizes[axis]) for axis in re.findall(r"'(\w+)'", named.group(2)))
    return GRID.size


def test_a_round_holds_slices_only_and_its_collectives_do_not_grow_with_the_cohort():
    wanted = (GRID, 5), (GRID, 16), (FOUR, 5)
    few, many, alone = (compiled_round(build(where, A.scaffold, objective=rolling, size=size)) for where, size in wanted)
    assert not re.findall(FULL, few) and re.findall(FULL.replace("24", "12"), few)
    assert collectives(few) == collectives(many)
    across = [kind for kind, size, inside in collectives(few) if size > 2 and not inside]
    assert across == sorted(["all-gather", *(kind for kind, _, _ in collectives(alone))])  # the timetable is the one more
    inside = {(kind, size) for kind, size, inside in collectives(few) if inside}
    assert inside == {("all-reduce", 2), ("collective-permute", GRID.size)}  # the latter is what queues walk in step for


def test_evaluation_and_prediction_are_right_and_hold_slices_only():
    engine = build(GRID)
    state = engine.init(PARAMS)
    arrays, cut, *_ = next(engine._tiled(POPULATION, None))
    static = tiles.Models(engine._algorithm.model, GRID), engine._algorithm.loss
    text = evaluation.losses.lower(*static, state.server, state.clients, arrays, cut, state.key).compile().as_text()
    assert not re.findall(FULL, text) and re.findall(FULL.replace("24", "12"), text)
    outputs = np.tanh(X @ UP) @ DOWN
    np.testing.assert_allclose(engine.predict(state, POPULATION, predict), outputs, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(engine.evaluate(state, POPULATION).loss, np.mean((outputs - Y) ** 2), rtol=1e-5)


def test_an_axis_of_one_is_no_axis():
    one, none = (build(where).layout.mesh for where in (mesh(8, 1), mesh(8)))
    assert one == none


@pytest.mark.parametrize(
    ("spec", "shown"),
    [
        (PartitionSpec("clients"), "clients"),
        (PartitionSpec(("model", "clients")), "clients"),
        (PartitionSpec("model", "model"), "model"),
        (PartitionSpec(None, None, "model"), "[6, 24]"),
        (PartitionSpec(None, "rows"), "rows"),
        ((None, "model"), "(None, 'model')"),
        (None, "None"),
    ],
)
def test_specs_that_cannot_work(spec, shown):
    engine = build(GRID, partition=lambda name, leaf: spec if name == "up.w" else PartitionSpec())
    with pytest.raises(ArgumentError, match=re.escape(shown)) as caught:
        engine.init(PARAMS)
    assert caught.value.argument == "partition of up.w"


def test_a_dimension_that_the_axis_does_not_divide():
    with pytest.raises(ArgumentError, match=r"split a dimension that 2 divides: the leaf's shape is \[1, 3\]"):
        build(GRID, partition=lambda name, leaf: PartitionSpec(*[None] * (leaf.ndim - 1), "model")).init(PARAMS)


def test_a_queue_is_told_in_advance():
    """Against a plain simulation of lanes that take one client after another."""
    for _ in range(6):
        clients, phases, lanes = RANDOM.integers(1, 9), RANDOM.integers(1, 4), int(RANDOM.integers(1, 5))
        steps = RANDOM.integers(0, 5, (clients, phases)).astype(np.int32)
        count = int(RANDOM.integers(0, clients + 1))
        free, expected = [0] * lanes, []
        for client in steps[:count]:
            lane = free.index(min(free))
            expected.append(free[lane] + np.concatenate([[0], np.cumsum(np.maximum(client, 1))]))
            free[lane] = int(expected[-1][-1])
        found = np.asarray(timetable(jnp.asarray(steps), jnp.int32(count), lanes))
        np.testing.assert_array_equal(found[:count], np.reshape(expected, (count, phases + 1)))
        assert (found[count:] == -1).all()
        assert max(free) == count_ticks(np.maximum(steps[:count], 1).sum(1), lanes) == Timetable(jnp.asarray(found)[None]).ticks


def test_devices_take_as_many_turns_as_the_busiest():
    """Two queues: client a trains ticks 0-1 and 2, b 0 and 1-2 on one device; c trains 0 and 1, nobody else on the other."""
    together = Timetable(jnp.array([[[0, 2, 3], [0, 1, 3]], [[0, 1, 2], [-1, -1, -1]]]))
    assert together.ticks == 3
    assert [int(together.entering(jnp.int32(tick))) for tick in (1, 2, 3)] == [1, 1, 0]
    assert [int(together.leaving(jnp.int32(tick))) for tick in (1, 2, 3)] == [0, 1, 2]
    assert [[bool(together.busy(jnp.int32(tick), phase)) for tick in (0, 1, 2)] for phase in (0, 1)] == [[1, 1, 0], [0, 1, 1]]
