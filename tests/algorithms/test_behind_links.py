"""Algorithms that send more than updates, behind clips and robust rules: what equals FedAvg alone equals it there too."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fedjax_edu as fe

RULES = {
    "mean": fe.aggregation.mean(),
    "median": fe.aggregation.median(),
    "trimmed_mean": fe.aggregation.trimmed_mean(0.34),
    "krum": fe.aggregation.krum(0),
    "geometric_median": fe.aggregation.geometric_median(),
    "fltrust": fe.aggregation.fltrust(0),
    "clip": fe.aggregation.chain(fe.aggregation.clip(0.15), fe.aggregation.mean()),
    "centered_clip": fe.aggregation.centered_clip(0.15),
}
LOCAL = fe.LocalTraining(steps=1)


def loss(params, batch, key):
    return 0.5 * jnp.sum((params["w"][None] - batch["y"]) ** 2, axis=-1)


def run(targets, name, rule, *, rounds=1, **options):
    """Clients that each want their target, with as many examples; the state and info after some rounds from 0."""
    targets = np.asarray(targets, np.float32)
    population = fe.data.Population.from_arrays({"y": targets[:, None]}, offsets=range(len(targets) + 1))
    cohort = options.pop("cohort", fe.cohorts.everyone())
    algorithm = getattr(fe.algorithms, name)(options.pop("loss", loss), client_optimizer=optax.sgd(0.1), local=LOCAL, **options)
    engine = fe.Engine(population, algorithm, cohort=cohort, aggregator=rule)
    return engine.run(engine.init({"w": jnp.asarray(options.pop("start", [0.0]))}, seed=0), rounds)


@pytest.mark.parametrize("rule", RULES)
def test_what_is_fedavg_alone_is_fedavg_behind_a_rule(rule):
    expected, _ = run([1, 2, 3], "fedavg", RULES[rule])
    found, _ = run([1, 2, 3], "qffl", RULES[rule], q=0.0, lipschitz=10.0)
    np.testing.assert_allclose(found.params["w"], expected.params["w"], rtol=1e-6)
    if "clip" not in rule:  # FedNova's clients send directions: a radius is in other units
        found, _ = run([1, 2, 3], "fednova", RULES[rule])
        np.testing.assert_allclose(found.params["w"], expected.params["w"], rtol=1e-6)


def test_a_tilted_risk_behind_fltrust():
    """Of equal clients it is their common risk; where nobody is trusted it stays what it was."""
    _, info = run([2, 2, 2], "term", RULES["fltrust"], tilt=1.0)
    np.testing.assert_allclose(info.algorithm["tilted_risk"], [2], rtol=1e-6)
    _, info = run([-1, 2, 3], "term", RULES["fltrust"], tilt=1.0, rounds=2)
    np.testing.assert_array_equal(info.algorithm["tilted_risk"], [0, 0])


@pytest.mark.parametrize("rule", RULES)
def test_the_mixture_of_afl_is_projected_losses_whatever_the_rule(rule):
    state, _ = run([0, 1, 2], "afl", RULES[rule], mixture_rate=0.1)
    expected = np.full(3, 1 / 3) + 0.1 * np.array([0, 0.5, 2])
    np.testing.assert_allclose(state.server.mixture, expected - (expected.sum() - 1) / 3, rtol=1e-5)


def test_a_client_of_afl_sends_its_update_and_one_number():
    for clients in (3, 30):
        _, info = run(np.arange(clients), "afl", RULES["mean"], mixture_rate=0.1, cohort=fe.cohorts.uniform(3))
        np.testing.assert_array_equal(info.bytes_up, [3 * (4 + 4)])


def test_no_client_of_ifca_takes_a_cluster_without_a_loss():
    def positive(params, batch, key):
        return jnp.sum((jnp.log(params["w"])[None] - batch["y"]) ** 2, axis=-1)

    population = fe.data.Population.from_arrays({"y": np.array([[1.0], [2.0]], np.float32)}, offsets=[0, 1, 2])
    algorithm = fe.algorithms.ifca(positive, clusters=2, spread=5.0, seed=1, client_optimizer=optax.sgd(0.1), local=LOCAL)
    engine = fe.Engine(population, algorithm, cohort=fe.cohorts.everyone(), aggregator=fe.aggregation.mean())
    state, info = engine.run(engine.init({"w": jnp.array([0.5])}, seed=0), 2)
    assert state.server.clusters.params.shared["w"][1, 0] < 0
    np.testing.assert_array_equal(info.participants, [2, 2])
    np.testing.assert_array_equal(state.clients.cluster, [0, 0])


def test_a_measurement_and_the_training_after_it_draw_by_themselves():
    def noisy(params, batch, key):
        return jnp.broadcast_to(jax.random.uniform(key), batch["y"].shape[:1]) + 0 * jnp.sum(params["w"])

    _, info = run([1], "term", RULES["mean"], tilt=1e-3, loss=noisy, rounds=3)
    assert np.all(np.abs(info.algorithm["tilted_risk"] - info.loss) > 1e-3)


def test_fednova_takes_an_optimiser_that_reads_paths():
    def label(params):
        return dict.fromkeys(params, "fast")

    optimizer = optax.partition({"fast": optax.sgd(0.1)}, label)
    population = fe.data.Population.from_arrays({"y": np.ones((2, 1), np.float32)}, offsets=[0, 1, 2])
    found = []
    for one in (optimizer, optax.sgd(0.1)):
        algorithm = fe.algorithms.fednova(loss, client_optimizer=one, local=LOCAL)
        engine = fe.Engine(population, algorithm, cohort=fe.cohorts.everyone(), aggregator=fe.aggregation.mean())
        found.append(engine.run(engine.init({"w": jnp.zeros(1)}, seed=0), 2)[0].params["w"])
    np.testing.assert_array_equal(*found)
