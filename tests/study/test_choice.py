"""A configuration names an algorithm: what it gets, and what is refused."""

import dataclasses

import jax
import numpy as np
import optax
import pytest

import fedjax_edu as fe
from experiments.configs.algorithms import get_config
from fedjax_edu.study.algorithms import AlgorithmsConfig
from fedjax_edu.study.choice import ALGORITHMS, make_algorithm, make_cohort, make_local

COMPARED = AlgorithmsConfig.from_mapping(get_config().to_dict())


def loss(params, batch, key):
    return (params["w"] - batch["x"]) ** 2


@pytest.fixture(scope="module")
def population():
    return fe.data.Population.from_arrays({"x": np.arange(24, dtype=np.float32)}, [0, 4, 12, 24])


OF_CLIENTS_OWN = {"apfl", "ditto", "fedmsplit", "fedrep", "pfedme", "tap"}  # the comparison is on schools that took no part
OF_OTHER_MODELS = {"fedex_lora", "flexlora", "flora", "heterofl", "hierarchy"}  # with low-rank matrices, or clients of several kinds


def test_every_algorithm_is_compared():
    assert sorted(COMPARED.settings) == sorted(set(ALGORITHMS) - OF_CLIENTS_OWN - OF_OTHER_MODELS)
    assert COMPARED.grids.keys() == COMPARED.settings.keys()
    assert not {"Distillation", "with_representations", "with_routed_tokens"} & set(ALGORITHMS)


@pytest.mark.parametrize("name", sorted(COMPARED.settings))
def test_the_committed_settings_fit_the_algorithm_and_lie_on_its_grid(name):
    settings = COMPARED.settings[name]
    make_algorithm(loss, settings, rounds=10)
    for field, values in COMPARED.grids[name].items():
        assert (settings.arguments[field] if field in settings.arguments else getattr(settings, field)) in values


def test_the_servers_rate_is_constant_for_half_of_the_rounds_and_falls_to_zero(config, population):
    settings = dataclasses.replace(config.federated, algorithm="fedavg", arguments={}, server_learning_rate=0.5)
    client, rates = optax.sgd(settings.client_learning_rate), np.array([0.5, 0.5, 0.5, 0.5, 0.375, 0.25, 0.125, 0.0])
    schedule = optax.piecewise_interpolate_schedule("linear", 0.5, {3: 1.0, 7: 0.0})
    ours = make_algorithm(loss, settings, rounds=7)
    plain = fe.algorithms.fedavg(loss, client_optimizer=client, server_optimizer=optax.sgd(schedule), local=make_local(settings))

    def history(algorithm):
        engine = fe.Engine(population, algorithm, cohort=fe.cohorts.everyone(), aggregator=fe.aggregation.mean())
        state, found = engine.init({"w": np.float32(100.0)}, seed=0), []
        for _ in rates:
            state, _ = engine.run(state, rounds=1)
            found.append(float(state.params["w"]))
        return np.array(found)

    found = history(ours)
    np.testing.assert_allclose(found, history(plain), rtol=1e-6)
    np.testing.assert_array_equal(np.diff(found) == 0, rates[1:] == 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"algorithm": "fedawg"}, "^federated.algorithm: got fedawg; use one of afl, "),
        ({"algorithm": "fedprox", "arguments": {}}, "^federated.arguments: got for fedprox: missing a required .*'mu'; it takes mu, "),
        ({"algorithm": "fedavg", "arguments": {"mu": 1.0}}, "^federated.arguments: got for fedavg: .*'mu'; it takes client_optimizer, "),
        (
            {"algorithm": "feddyn", "arguments": {"alpha": 1.0}},
            "^federated.arguments: got for feddyn: .*'server_optimizer'; ",
        ),
    ],
)
def test_settings_that_are_no_algorithms(change, message, config):
    with pytest.raises(fe.errors.ConfigError, match=message):
        make_algorithm(loss, dataclasses.replace(config.federated, **change), rounds=2)


def test_concurrency_is_a_virtual_clock(config, population):
    assert make_cohort(config.federated, 2, population).name == fe.cohorts.uniform(2).name
    settings = dataclasses.replace(
        config.federated, algorithm="fedbuff", arguments={}, server_learning_rate=1.0, concurrency=2, batch_size=4
    )
    algorithm = make_algorithm(loss, settings, rounds=4)
    engine = fe.Engine(population, algorithm, cohort=make_cohort(settings, 1, population), aggregator=fe.aggregation.mean())
    _, info = engine.run(engine.init({"w": np.float32(0.0)}, seed=0), rounds=4)
    assert set(np.asarray(info.cohort["seconds"]).tolist()) <= {0.0, 1.0, 2.0, 3.0}  # ceil(4 / 4), ceil(8 / 4), ceil(12 / 4)
    assert jax.numpy.any(info.cohort["staleness"] > 0)
