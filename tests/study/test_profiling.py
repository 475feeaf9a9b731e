"""Profiles: the trace is there and holds every part of a round, and seconds go where the program says."""

import gzip
import io
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from rich.console import Console

import fedjax_edu as fe
from fedjax_edu.study import trace

X = np.random.default_rng(0).normal(size=(64, 32)).astype(np.float32)


@pytest.fixture(scope="module")
def engine():
    population = fe.data.Population.from_arrays({"x": X}, offsets=[0, 16, 32, 64])
    algorithm = fe.algorithms.fedavg(
        lambda params, batch, key: ((batch["x"] @ params["w"]) ** 2).sum(1),
        client_optimizer=optax.sgd(1e-4),
        server_optimizer=optax.adam(1e-3),
        local=fe.LocalTraining(epochs=10, batch_size=4),
    )
    plan = fe.ExecutionPlan(lanes=2, mesh=jax.make_mesh((1,), ("clients",)))
    return fe.Engine(population, algorithm, cohort=fe.cohorts.uniform(3), aggregator=fe.aggregation.median(), plan=plan)


@pytest.fixture(scope="module")
def start(engine):
    return engine.init({"w": jnp.ones((32, 256))}, seed=0)


@pytest.fixture(scope="module")
def found(engine, start, tmp_path_factory):
    return fe.study.profile(engine, start, tmp_path_factory.mktemp("profile"), rounds=2)


def test_the_trace_holds_every_part(found):
    assert all(found.seconds[part] > 0 for part in trace.PARTS)
    assert b"/train/" in found.path.read_bytes()
    (events,) = found.path.parent.glob("*.trace.json.gz")  # what Perfetto opens
    names = {event.get("args", {}).get("hlo_module") for event in json.loads(gzip.decompress(events.read_bytes()))["traceEvents"]}
    assert "jit_run_chunk" in names


def test_seconds_are_those_of_the_traced_rounds(found):
    busy = sum(found.seconds.values())
    assert 0.2 * found.traced < busy <= found.traced  # one device; the rest is loops
    assert found.seconds["train"] == max(found.seconds.values())  # 160 steps against one of anything else
    assert found.untraced < 20 * found.traced  # compilation takes a hundred rounds
    assert found.rounds == 2 and found.devices == 1


def test_a_profile_leaves_the_run_alone(engine, start, found):
    state, _ = engine.run(start, 1)
    assert int(start.round) == 0 and int(state.round) == 1


def test_the_table_names_every_part(found):
    text = io.StringIO()
    found.show(Console(file=text, width=160))
    assert all(f" {part} " in text.getvalue() for part in found.seconds)
    assert str(found.path.parent) in text.getvalue().replace("\n", "")


def test_parts_of_a_program_are_those_of_its_scopes(tmp_path):
    """A program whose parts are known: one product in a loop of its own named `train`, a slower one named `server`, one without a name."""

    @jax.jit
    def program(x):
        with jax.named_scope("train"):
            x = jax.lax.fori_loop(0, 4, lambda _, x: jnp.tanh(x @ x), x)
        with jax.named_scope("server"):
            x = jax.lax.fori_loop(0, 40, lambda _, x: jnp.tanh(x @ x), x)
        return jnp.tanh(x @ x)

    x = jnp.asarray(np.random.default_rng(0).normal(size=(256, 256)).astype(np.float32))
    program(x).block_until_ready()
    with jax.profiler.trace(tmp_path):
        program(x).block_until_ready()
    (path,) = tmp_path.glob("plugins/profile/*/*.xplane.pb")
    seconds = trace.seconds_by_part(path)
    assert seconds["sample"] == seconds["flush"] == seconds["aggregate"] == 0
    assert 3 < seconds["server"] / seconds["train"] < 30
    assert 0 < seconds["other"] < seconds["train"]


def test_an_operation_without_a_name_belongs_where_its_neighbourhood_does():
    module = trace._messages()["HloModuleProto"](entry_computation_id=1)

    def add(computation, name, opcode, op_name="", called=()):
        one = computation.instructions.add(name=name, opcode=opcode, called_computation_ids=called)
        one.metadata.op_name = op_name

    fused, body, entry = (module.computations.add(id=number) for number in (3, 2, 1))
    add(fused, "exp", "exponential", "jit(f)/while/body/train/exp")
    add(body, "fusion", "fusion", called=[3])
    add(body, "copy", "copy")
    add(body, "add", "add", "jit(f)/flush/train/add")
    add(entry, "while", "while", "jit(f)/server/while", called=[2])
    add(entry, "copy.1", "copy", "jit(f)/trained/copy")
    parts = trace._parts_of(module)
    assert {name: parts.get(name) for name in ("fusion", "copy", "add", "while", "copy.1")} == {
        "fusion": "train",
        "copy": "server",
        "add": "flush",
        "while": None,
        "copy.1": "other",
    }


def test_a_program_from_the_cache_is_known_by_its_name_and_its_operations():
    def program(*operations):
        module = trace._messages()["HloModuleProto"]()
        inside = module.computations.add()
        for name in operations:
            inside.instructions.add(name=name)
        return module

    one, two, other = program("a", "b"), program("a", "c"), program("a", "b", "c")
    programs = [("f", 5, one), ("f", 8, two), ("g", 9, other)]
    assert trace._program("f", 5, ["a", "c"], programs) is one  # timed under its own id
    assert trace._program("f", 77, ["a", "b"], programs) is one
    assert trace._program("f", 77, ["a"], programs) is two
    assert len(trace._program("h", 5, ["a"], programs).computations) == 0


@pytest.mark.parametrize(("rounds", "folder"), [(0, "profile"), (1, "/dev/null/profile")])
def test_a_profile_that_cannot_work_says_so(engine, start, rounds, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(fe.errors.ArgumentError, match="folder" if rounds else "rounds"):
        fe.study.profile(engine, start, folder, rounds=rounds)
