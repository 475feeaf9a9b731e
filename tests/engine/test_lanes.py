"""The work queue: how well lanes are used, how much memory a round takes, what crosses devices."""

import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AxisType

import fedjax_edu as fe
from fedjax_edu.core.keys import Purpose, fold

ONE_DEVICE = jax.make_mesh((1,), ("clients",), axis_types=(AxisType.Auto,))
BATCH = 10


def toy(sizes: np.ndarray, cohort: fe.cohorts.Cohort, lanes: int, mesh=ONE_DEVICE) -> fe.Engine:
    population = fe.data.Population.from_arrays({"y": np.zeros(sizes.sum(), np.float32)}, offsets=np.concatenate([[0], np.cumsum(sizes)]))
    local = fe.LocalTraining(epochs=1, batch_size=BATCH)
    algorithm = fe.algorithms.fedavg(
        lambda params, batch, key: (params["a"][None] - batch["y"]) ** 2, client_optimizer=optax.sgd(0.1), local=local
    )
    return fe.Engine(
        population, algorithm, cohort=cohort, aggregator=fe.aggregation.mean(), plan=fe.ExecutionPlan(lanes=lanes, mesh=mesh, chunk=128)
    )


def bound(steps: np.ndarray, lanes: int) -> float:
    """The best utilisation of any schedule: one giant client sets it."""
    return steps.sum() / (lanes * max(math.ceil(steps.sum() / lanes), steps.max()))


def test_utilisation_is_near_its_bound_on_heavy_tails():
    sizes = np.maximum(np.round(np.random.default_rng(0).lognormal(3.0, 1.5, 4096)), 1).astype(int)
    engine = toy(sizes, fe.cohorts.uniform(256), lanes=8)
    state = engine.init({"a": jnp.zeros(())}, seed=1)
    _, info = engine.run(state, 100)

    def drawn(number):
        return engine._sampler.draw((), fold(state.key, Purpose.COHORT, number), number, jnp.zeros_like)[0].clients

    cohorts = np.asarray(jax.jit(jax.vmap(drawn))(jnp.arange(100)))
    bounds = np.array([bound(-(-sizes[cohort] // BATCH), 8) for cohort in cohorts])
    assert np.percentile(info.utilisation / bounds, 5) >= 0.98
    assert (info.utilisation <= bounds + 1e-6).all()
    np.testing.assert_array_equal(info.steps, (-(-sizes[cohorts] // BATCH)).sum(1))


def test_utilisation_counts_idle_lanes():
    engine = toy(np.array([40, 10, 10]), fe.cohorts.everyone(), lanes=2)
    _, info = engine.run(engine.init({"a": jnp.zeros(())}), 1)
    assert info.utilisation[0] == (4 + 1 + 1) / (2 * 4)


def mlp_memory(cohort: int) -> int:
    sizes = np.clip(np.round(np.random.default_rng(0).lognormal(2.0, 0.7, 8192)), 1, 60).astype(int)
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    arrays = {"x": np.broadcast_to(np.float32(0), (offsets[-1], 784)), "y": np.zeros(offsets[-1], np.int32)}
    population = fe.data.Population.from_arrays(arrays, offsets=offsets)
    params = [{"w": jnp.zeros((i, o)), "b": jnp.zeros((1, o))} for i, o in ((784, 200), (200, 200), (200, 62))]

    def loss(params, batch, key):
        hidden = batch["x"]
        for layer in params[:-1]:
            hidden = jax.nn.relu(hidden @ layer["w"] + layer["b"])
        logits = hidden @ params[-1]["w"] + params[-1]["b"]
        return jax.nn.logsumexp(logits, axis=-1) - jnp.take_along_axis(logits, batch["y"][:, None], 1)[:, 0]

    algorithm = fe.algorithms.fedavg(loss, client_optimizer=optax.sgd(0.05), local=fe.LocalTraining(epochs=1, batch_size=20))
    plan = fe.ExecutionPlan(lanes=8, mesh=ONE_DEVICE)
    engine = fe.Engine(population, algorithm, cohort=fe.cohorts.uniform(cohort), aggregator=fe.aggregation.mean(), plan=plan)
    return engine.memory(params)["peak"]


def test_memory_of_a_round_does_not_grow_with_the_cohort():
    small, large = mlp_memory(32), mlp_memory(4096)
    assert small > 8 * 210_000 * 4 and large <= 1.05 * small


def collectives(cohort: int) -> int:
    mesh = jax.make_mesh((8,), ("clients",), axis_types=(AxisType.Auto,))
    engine = toy(np.arange(1, 65), fe.cohorts.uniform(cohort), lanes=2, mesh=mesh)
    state = engine.init({"a": jnp.zeros(())})
    text = engine._compiled(state.params).chunk.lower(state, engine._resident, jnp.int32(1), None).compile().as_text()
    return len(re.findall(r" (?:all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter)(?:-start)?\(", text))


def test_collectives_do_not_grow_with_the_cohort():
    few, many = collectives(16), collectives(64)
    assert few == many == 2  # one sum over devices, of floats and of integers


def test_client_states_are_split_over_devices():
    mesh = jax.make_mesh((8,), ("clients",), axis_types=(AxisType.Auto,))
    population = fe.data.Population.from_arrays({"y": np.zeros(32, np.float32)}, offsets=np.arange(17) * 2)
    algorithm = fe.algorithms.fedavg(
        lambda params, batch, key: (params["a"] + params["b"] - batch["y"][:, None]).sum(1) ** 2,
        client_optimizer=optax.sgd(0.01),
        local=fe.LocalTraining(epochs=1),
    )
    params = {"a": jnp.zeros((1, 3)), "b": jnp.ones((1, 3))}
    modules = fe.modules.assign(params, personal="b")
    engine = fe.Engine(
        population,
        algorithm,
        cohort=fe.cohorts.uniform(8),
        aggregator=fe.aggregation.mean(),
        modules=modules,
        plan=fe.ExecutionPlan(mesh=mesh),
    )
    state, _ = engine.run(engine.init(params), 2)
    store = state.clients["b"]
    assert store.sharding.shard_shape(store.shape) == (2, 1, 3)
    assert state.params["a"].sharding.is_fully_replicated


def test_lane_loop_is_not_batched():
    """A batched loop would turn every branch into a select that copies whole carries: the queue must stay out of vmap."""
    engine = toy(np.arange(1, 9), fe.cohorts.uniform(4), lanes=2)
    state = engine.init({"a": jnp.zeros(())})
    chunk = engine._compiled(state.params).chunk
    jaxpr = jax.make_jaxpr(lambda *arguments: chunk(*arguments))(state, engine._resident, jnp.int32(1), None)
    predicates = [eqn.params["cond_jaxpr"].out_avals[0].shape for eqn in _loops(jaxpr.jaxpr)]
    assert len(predicates) >= 3 and set(predicates) == {()}


def _loops(jaxpr):
    for eqn in jaxpr.eqns:
        if eqn.primitive.name == "while":
            yield eqn
        for value in eqn.params.values():
            for inner in value if isinstance(value, (tuple, list)) else (value,):
                if hasattr(inner, "jaxpr"):
                    yield from _loops(inner.jaxpr)
                elif hasattr(inner, "eqns"):
                    yield from _loops(inner)


def test_parts_of_a_round_are_named_for_profilers():
    population = fe.data.Population.from_arrays({"y": np.zeros(8, np.float32)}, offsets=np.arange(5) * 2)
    algorithm = fe.algorithms.fedavg(
        lambda params, batch, key: (params["a"] - batch["y"]) ** 2, client_optimizer=optax.sgd(0.1), local=fe.LocalTraining(steps=1)
    )
    links = fe.aggregation.chain(fe.aggregation.clip(1.0), fe.aggregation.median())
    plan = fe.ExecutionPlan(lanes=2, mesh=ONE_DEVICE)
    engine = fe.Engine(population, algorithm, cohort=fe.cohorts.uniform(3), aggregator=links, plan=plan)
    state = engine.init({"a": jnp.zeros(())})
    text = engine._compiled(state.params).chunk.lower(state, engine._resident, jnp.int32(1), None).as_text(debug_info=True)
    assert all(f"/{scope}/" in text for scope in ("sample", "train", "flush", "aggregate", "server"))
