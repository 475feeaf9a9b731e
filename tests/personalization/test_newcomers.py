"""Clients that a federation never saw, with a few rows of their own: nothing is k = 0, and k rows are fitted exactly."""

import numpy as np
import optax
import pytest

import fedjax_edu as fe

RANDOM = np.random.default_rng(0)
SIZES = RANDOM.integers(22, 40, size=30)
X = RANDOM.normal(size=SIZES.sum()).astype(np.float32)
Y = (2 * X + np.repeat(RANDOM.normal(size=30), SIZES) + 0.3 * RANDOM.normal(size=len(X))).astype(np.float32)
EVERYBODY = fe.data.Population.from_arrays({"x": X, "y": Y}, np.append(0, np.cumsum(SIZES)))
PARTS = {"cohort": fe.cohorts.everyone(), "aggregator": fe.aggregation.mean()}


def loss(params, batch, key):
    return 0.5 * (params["slope"] * batch["x"] + params["level"] - batch["y"]) ** 2


@pytest.fixture(scope="module")
def trained():
    """The federation of twenty schools, and ten that never took part."""
    members, newcomers = EVERYBODY.split_clients((2 / 3, 1 / 3), seed=0)
    algorithm = fe.algorithms.fedavg(loss, client_optimizer=optax.sgd(0.1), local=fe.LocalTraining(epochs=1, batch_size=8))
    engine = fe.Engine(members, algorithm, **PARTS)
    state, _ = engine.run(engine.init({"slope": np.float32(0), "level": np.float32(0)}, seed=0), 30)
    return engine, state, newcomers


def adapted(engine, state, known):
    """The federation's model, whose level each newcomer fits to its own rows, if it has any."""
    if not known.num_examples:
        return engine, state
    params = state.params
    local = fe.LocalTraining(epochs=1, batch_size=8)
    fine_tuning = fe.LocalTraining(steps=40)
    algorithm = fe.algorithms.fedavg(loss, client_optimizer=optax.sgd(0.5), local=local, fine_tuning=fine_tuning)
    engine = fe.Engine(known, algorithm, modules=fe.modules.assign(params, shared="slope", personal="level"), **PARTS)
    return engine, engine.finalise(engine.init(params, seed=0))


@pytest.mark.parametrize("count", [0, 5, 20])
def test_a_newcomer_fits_its_own_module_to_the_rows_that_it_has(trained, count):
    *federation, newcomers = trained
    known, asked = newcomers.draw_examples(count, seed=1)
    params = federation[1].params
    engine, state = adapted(*federation, known)
    found = engine.predict(state, asked, lambda params, batch: params["slope"] * batch["x"] + params["level"])
    slope, level = float(params["slope"]), float(params["level"])
    for client in range(newcomers.num_clients):
        rows = known.client(client)
        own = float(np.mean(rows["y"] - slope * rows["x"])) if count else level
        mine = slice(*asked.offsets[client : client + 2])
        np.testing.assert_allclose(found[mine], slope * asked.client(client)["x"] + own, rtol=1e-4, atol=1e-4)


def test_more_rows_help_on_the_same_rows_of_others(trained):
    *federation, newcomers = trained
    _, asked = newcomers.draw_examples(20, seed=1)
    losses = []
    for count in (0, 5, 20):
        engine, state = adapted(*federation, newcomers.draw_examples(count, seed=1)[0])
        losses.append(engine.evaluate(state, asked).loss)
        assert engine.evaluate(state, asked, which="global").loss == pytest.approx(losses[0], rel=1e-5)
    assert losses[0] > 2 * losses[1] > 2 * losses[2]
