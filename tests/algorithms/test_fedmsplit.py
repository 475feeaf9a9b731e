"""FedMSplit where its answer is known: no graph, two camps, modules that some lack, what travels."""

import jax
import numpy as np
import optax
import pytest
from scipy.special import softmax

import fedjax_edu as fe
from tests.reference.problems import Linear, largest_gap

PROBLEM = Linear()
LOCAL = fe.LocalTraining(steps=3, batch_size=4)
OPTIONS = {"client_optimizer": optax.sgd(0.05), "local": LOCAL}
MEAN = fe.aggregation.mean()
PLACES = np.diff(PROBLEM.offsets) > 0


def run(algorithm, population=None, rounds=3, cohort=None):
    engine = fe.Engine(population or PROBLEM.population(), algorithm, cohort=cohort or fe.cohorts.everyone(), aggregator=MEAN)
    return engine, *engine.run(engine.init(PROBLEM.params, seed=1), rounds)


def test_without_sharpness_everybody_has_the_plain_mean():
    _, state, _ = run(fe.algorithms.fedmsplit(Linear.loss, sharpness=0.0, **OPTIONS))
    _, expected, _ = run(fe.algorithms.fedavg(Linear.loss, weighting="uniform", **OPTIONS))
    assert largest_gap(state.params, expected.params) < 1e-5
    everybody = jax.tree.map(lambda leaf: np.broadcast_to(leaf, (len(PLACES), *np.shape(leaf))), expected.params)
    assert largest_gap(state.server.mixed, everybody) < 1e-5


def test_two_camps_part():
    """Clients want 1 or -1 in all numbers: with a sharp graph each camp has its own mean, and newcomers the mean of all."""

    def loss(params, batch, key):
        return 0.5 * ((params["w"][None] - batch["y"]) ** 2).sum(axis=1)

    camp = np.where(np.arange(8) < 3, 1.0, -1.0).astype(np.float32)
    population = fe.data.Population.from_arrays({"y": np.repeat(camp[:, None], 4, axis=1)}, np.arange(9))
    algorithm = fe.algorithms.fedmsplit(loss, sharpness=50.0, client_optimizer=optax.sgd(0.5), local=fe.LocalTraining(steps=1))
    engine = fe.Engine(population, algorithm, cohort=fe.cohorts.everyone(), aggregator=MEAN)
    state, _ = engine.run(engine.init({"w": np.zeros(4, np.float32)}, seed=0), 12)
    np.testing.assert_allclose(state.server.mixed["w"], np.repeat(camp[:, None], 4, axis=1), atol=1e-3)
    np.testing.assert_allclose(state.params["w"], np.full(4, camp.mean()), atol=1e-3)
    own, together = (engine.evaluate(state, population, which=which).loss for which in ("personal", "global"))
    assert own < 1e-5 < together


@pytest.mark.parametrize("cohort", [fe.cohorts.everyone(), fe.cohorts.uniform(4)], ids=["all", "few"])
def test_each_module_has_a_graph_of_those_who_hold_it(cohort):
    """From what the state says that clients sent, in NumPy; who was not heard of has the mean."""
    holders = np.arange(len(PLACES)) % 3 > 0
    algorithm = fe.algorithms.fedmsplit(Linear.loss, sharpness=2.0, **OPTIONS)
    _, state, _ = run(algorithm, PROBLEM.population().holding({"head": holders}), cohort=cohort)
    heard = np.asarray(state.server.heard)
    names = state.server.modules.names
    assert not heard[~holders, names.index("head")].any() and heard[:, names.index("layer")].any()

    def flat(table):
        return np.concatenate([np.asarray(leaf, float).reshape(len(PLACES), -1) for leaf in jax.tree.leaves(table)], axis=1)

    for module in names:
        own, mixed = flat(state.server.own[module]), flat(state.server.mixed[module])
        there = heard[:, names.index(module)]
        units = own / np.linalg.norm(own, axis=1, keepdims=True)
        for client in range(len(PLACES)):
            shares = softmax(2.0 * units[there] @ units[client]) if there[client] else np.full(there.sum(), 1 / there.sum())
            np.testing.assert_allclose(mixed[client], shares @ own[there], rtol=1e-4, atol=1e-5)


def test_a_client_sends_and_receives_one_model():
    _, _, info = run(fe.algorithms.fedmsplit(Linear.loss, sharpness=1.0, **OPTIONS), rounds=1)
    size = 4 * sum(np.size(leaf) for leaf in jax.tree.leaves(PROBLEM.params))
    np.testing.assert_array_equal(info.bytes_up, [PLACES.sum() * size])
    np.testing.assert_array_equal(info.bytes_down, [PLACES.sum() * size])


def test_a_negative_sharpness_is_refused():
    with pytest.raises(fe.errors.ArgumentError, match=r"^sharpness: got -1"):
        fe.algorithms.fedmsplit(Linear.loss, sharpness=-1.0, **OPTIONS)
