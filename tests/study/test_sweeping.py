"""Sweeps as members of one queue: each member is its own run, whatever the others do."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fedjax_edu as fe
from fedjax_edu.study.sweeping import diverged
from tests.engine.test_lanes import ONE_DEVICE, _loops

RANDOM = np.random.default_rng(0)
SIZES = RANDOM.integers(1, 30, 24)
OFFSETS = np.concatenate([[0], np.cumsum(SIZES)])
X = RANDOM.normal(size=(OFFSETS[-1], 4)).astype(np.float32)
Y = (X @ np.arange(4) + 0.3 * RANDOM.normal(size=len(X))).astype(np.float32)
POPULATION = fe.data.Population.from_arrays({"x": X, "y": Y}, offsets=OFFSETS)
PARAMS = {"w": jnp.zeros(4), "head": {"b": jnp.zeros(())}}
LOCAL = fe.LocalTraining(epochs=1, batch_size=8)
RATES, SEEDS = [0.01, 0.02, 0.05, 0.08, 0.1, 0.15, 0.2, 3.0], [0, 1, 2, 3]


def loss(params, batch, key):
    return (batch["x"] @ params["w"] + params["head"]["b"] - batch["y"]) ** 2


def build(make=fe.algorithms.fedavg, *, rate=0.05, links=None, personal="head", plan=None, **options):
    algorithm = make(
        loss,
        client_optimizer=optax.inject_hyperparams(optax.sgd)(learning_rate=rate),
        server_optimizer=optax.inject_hyperparams(optax.sgd)(learning_rate=1.0),
        local=LOCAL,
        **options,
    )
    return fe.Engine(
        POPULATION,
        algorithm,
        cohort=fe.cohorts.uniform(7),
        aggregator=links or fe.aggregation.mean(),
        modules=fe.modules.assign(PARAMS, personal=personal),
        plan=plan or fe.ExecutionPlan(lanes=3),
    )


def relative_gap(found, expected):
    gaps = [0.0]
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        if np.issubdtype(np.asarray(other).dtype, np.floating):
            gaps.append(float(np.max(np.abs(np.asarray(one) - np.asarray(other)), initial=0) / (np.max(np.abs(other), initial=0) + 1e-3)))
    return max(gaps)


def test_each_finite_member_is_its_lone_run_and_a_diverging_one_disturbs_nobody():
    engine = build()
    found = fe.study.sweep(engine, {"client_optimizer.learning_rate": RATES}, SEEDS, params=PARAMS, rounds=12)
    assert found.info.loss.shape == (12, 32) and found.seeds[:4] == (0, 1, 2, 3)
    assert found.finite.sum() == 28 and not found.finite[-4:].any()  # a rate of 3 diverges
    for rate in RATES[:-1]:
        alone = build(rate=rate)  # another engine, whose optimiser was built with the rate
        for seed in SEEDS:
            number = RATES.index(rate) * len(SEEDS) + seed
            assert found.points[number] == {"client_optimizer.learning_rate": rate}
            state, info = alone.run(alone.init(PARAMS, seed=seed), 12)
            member = found.state.member(number)
            assert relative_gap((member.params, member.clients), (state.params, state.clients)) < 1e-6
            assert relative_gap(jax.tree.map(lambda leaf, number=number: leaf[:, number], found.info.loss), info.loss) < 1e-6
            for name in ("participants", "examples", "steps", "bytes_up", "bytes_down", "rejected"):
                np.testing.assert_array_equal(getattr(found.info, name)[:, number], getattr(info, name))


CASES = {
    "client states": (fe.algorithms.scaffold, {}, None),
    "two phases": (fe.algorithms.scaffold, {"option": "I"}, None),
    "clusters": (fe.algorithms.ifca, {"clusters": 2}, None),
    "two stages": (fe.algorithms.mime, {"personal": None}, None),
    "links with states and a rule that keeps every update": (
        fe.algorithms.fedavg,
        {},
        fe.aggregation.chain(fe.aggregation.topk(0.5), fe.aggregation.median()),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_members_are_lone_runs_for_every_kind_of_algorithm(case):
    make, options, links = CASES[case]
    engine = build(make, links=links, **options)
    starts = [engine.init(PARAMS, seed=seed) for seed in range(3)]
    together, info = engine.run(jax.tree.map(lambda *leaves: jnp.stack(leaves), *starts), 5)
    together, _ = engine.run(together, 2)
    for number, start in enumerate(starts):
        state, alone = engine.run(start, 7)
        member = together.member(number)
        assert relative_gap(member._replace(key=None), state._replace(key=None)) < 1e-5
        np.testing.assert_allclose(info.loss[:, number], alone.loss[:5], rtol=1e-5)
        assert int(member.round) == 7


def test_values_of_the_algorithm_and_of_the_server_are_swept():
    engine = build(fe.algorithms.fedprox, mu=0.0)
    grid = [{"mu": 1.0, "server_optimizer.learning_rate": 0.5}, {"mu": 0.0}]
    found = fe.study.sweep(engine, grid, [5], params=PARAMS, rounds=4)
    for number, (mu, rate) in enumerate(((1.0, 0.5), (0.0, 1.0))):
        algorithm = fe.algorithms.fedprox(loss, client_optimizer=optax.sgd(0.05), server_optimizer=optax.sgd(rate), local=LOCAL, mu=mu)
        alone = fe.Engine(POPULATION, algorithm, cohort=fe.cohorts.uniform(7), aggregator=fe.aggregation.mean(), modules=engine._modules)
        state, _ = alone.run(alone.init(PARAMS, seed=5), 4)
        assert relative_gap(found.state.member(number).params, state.params) < 1e-6


def test_the_queue_is_not_batched():
    """Members wait in one queue: no loop of the program has a condition for each member."""
    engine = build(plan=fe.ExecutionPlan(lanes=3, mesh=ONE_DEVICE))
    compiled = engine._compiled(PARAMS)
    chunk = engine._side_by_side(compiled, 4)
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *[engine.init(PARAMS, seed=seed) for seed in range(4)])
    jaxpr = jax.make_jaxpr(lambda *arguments: chunk(*arguments))(stacked, engine._resident, jnp.int32(1), None)
    predicates = [eqn.params["cond_jaxpr"].out_avals[0].shape for eqn in _loops(jaxpr.jaxpr)]
    assert len(predicates) >= 3 and set(predicates) == {()}


def test_a_round_without_participants_is_no_divergence():
    nobody = np.array([[0, 2, 0], [2, 2, 2]])
    losses = np.array([[np.nan, np.nan, np.nan], [1.0, 1.0, 1.0]])
    info = SimpleNamespace(loss=losses, participants=nobody, rejected=np.array([[0, 0, 1], [0, 0, 0]]))
    assert diverged(info).tolist() == [False, True, True]


def test_lanes_of_members_are_shared():
    engine = build(plan=fe.ExecutionPlan(lanes=4))
    found = fe.study.sweep(engine, {"client_optimizer.learning_rate": [0.05]}, range(6), params=PARAMS, rounds=3)
    alone = engine.run(engine.init(PARAMS, seed=0), 3)[1]
    assert (found.info.utilisation == found.info.utilisation[:, :1]).all()
    assert found.info.utilisation.mean() > alone.utilisation.mean()


@pytest.mark.parametrize(
    ("grid", "seeds", "words"),
    [
        ({"learning_rate": [0.1]}, [0], ["grid", "learning_rate", "client_optimizer.learning_rate", "server_optimizer.learning_rate"]),
        ({"client_optimizer.learning_rate": [np.nan]}, [0], ["learning_rate", "nan"]),
        ({"client_optimizer.learning_rate": []}, [0], ["grid", "at least one value"]),
        ({"client_optimizer.learning_rate": [0.1]}, [], ["seeds"]),
        ({"client_optimizer.learning_rate": [0.1]}, [1, 1], ["seeds", "each once"]),
    ],
)
def test_what_cannot_be_swept_says_so(grid, seeds, words):
    with pytest.raises(fe.errors.ArgumentError) as caught:
        fe.study.sweep(build(), grid, seeds, params=PARAMS, rounds=1)
    assert all(word in str(caught.value) for word in words)


def test_stacked_states_are_refused_where_one_is_meant():
    engine = build()
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *[engine.init(PARAMS, seed=seed) for seed in range(2)])
    streaming = build(plan=fe.ExecutionPlan(lanes=3, client_states="host"))
    hosted = jax.tree.map(lambda *leaves: jnp.stack(leaves), *[streaming.init(PARAMS, seed=seed) for seed in range(2)])
    for call in (
        lambda: engine.evaluate(stacked, POPULATION),
        lambda: engine.finalise(stacked),
        lambda: engine.schedule(stacked, 1),
        lambda: streaming.run(hosted, 1),
    ):
        with pytest.raises(fe.errors.ArgumentError, match="2 stacked states"):
            call()


def test_a_schedule_is_not_a_number_to_sweep():
    optimizer = optax.chain(
        optax.inject_hyperparams(optax.trace)(decay=0.5),
        optax.inject_hyperparams(optax.sgd)(learning_rate=optax.linear_schedule(0.1, 0.0, 10)),
        optax.inject_hyperparams(optax.trace)(decay=0.25),
    )
    algorithm = fe.algorithms.fedavg(loss, client_optimizer=optimizer, local=LOCAL)
    engine = fe.Engine(POPULATION, algorithm, cohort=fe.cohorts.uniform(3), aggregator=fe.aggregation.mean())
    state = engine.init(PARAMS)
    values = {name: float(value) for name, value in state.server.client_optimizer.items()}
    assert values == {"decay": 0.5, "decay1": 0.25}
