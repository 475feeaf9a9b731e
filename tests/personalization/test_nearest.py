"""kNN-Per against scikit-learn, one client at a time, and at its limits."""

import numpy as np
import optax
import pytest
from sklearn.neighbors import KNeighborsRegressor

import fedjax_edu as fe
from tests.reference.problems import Linear

CLASSES = 3


def embed(params, batch):
    return batch["x"]


def target(params, batch):
    return batch["label"] == np.arange(CLASSES)[None]


def predict(params, batch):
    return batch["x"] * params["layer"]["w"][None]


@pytest.fixture(scope="module")
def federation():
    """An engine, its first state, and each client's rows as known and asked ones; some clients have none of either."""
    problem = Linear()
    labels = np.random.default_rng(1).integers(CLASSES, size=(len(problem.y), 1))
    population = problem.population(label=labels)
    known, asked = population.split_examples([0.4, 0.6], seed=2)
    algorithm = fe.algorithms.fedavg(problem.loss, client_optimizer=optax.sgd(0.1), local=fe.LocalTraining(epochs=1))
    engine = fe.Engine(population, algorithm, cohort=fe.cohorts.everyone(), aggregator=fe.aggregation.mean())
    return engine, engine.init(problem.params), known, asked


def mixed(federation, **options):
    engine, state, known, asked = federation
    return fe.personalization.nearest_neighbours(engine, state, known, asked, embed=embed, target=target, predict=predict, **options)


def by_client(population):
    for client in range(population.num_clients):
        rows = slice(*population.offsets[client : client + 2])
        yield population.arrays["x"][rows], population.arrays["label"][rows], rows


@pytest.mark.parametrize(("neighbours", "scale"), [(1, 1.0), (3, 0.5), (100, 2.0)])
def test_neighbours_are_weighed_as_by_scikit_learn(federation, neighbours, scale):
    engine, state, known, asked = federation
    weight = np.linspace(0, 1, known.num_clients)
    expected = np.array(engine.predict(state, asked, predict))
    alone = 0
    for client, ((x, y, _), (queried, _, rows)) in enumerate(zip(by_client(known), by_client(asked), strict=True)):
        if len(x) == 0 or len(queried) == 0:
            alone += len(queried)
            continue
        model = KNeighborsRegressor(min(neighbours, len(x)), weights=lambda distances: np.exp(-distances / scale))
        found = model.fit(x, y == np.arange(CLASSES)).predict(queried)
        expected[rows] = weight[client] * found + (1 - weight[client]) * expected[rows]
    assert alone
    np.testing.assert_allclose(mixed(federation, neighbours=neighbours, scale=scale, weight=weight), expected, atol=1e-5)


def test_no_weight_leaves_the_federations_prediction(federation):
    engine, state, _, asked = federation
    np.testing.assert_array_equal(mixed(federation, weight=0.0), engine.predict(state, asked, predict))


def test_all_rows_alike_are_the_histogram_of_the_clients_labels(federation):
    _, _, known, asked = federation
    found = mixed(federation, weight=1.0, neighbours=1000, scale=float("inf"))
    for (_, labels, _), (_, _, rows) in zip(by_client(known), by_client(asked), strict=True):
        if len(labels):
            np.testing.assert_allclose(
                found[rows], np.tile(np.mean(labels == np.arange(CLASSES), axis=0), (len(found[rows]), 1)), atol=1e-6
            )


def test_rows_far_away_still_have_a_nearest_one(federation):
    assert np.isfinite(mixed(federation, weight=1.0, scale=1e-9)).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"neighbours": 0}, "neighbours"),
        ({"weight": 1.5}, "from 0 to 1"),
        ({"weight": -np.ones(12)}, "from 0 to 1"),
        ({"scale": 0.0}, "scale"),
    ],
)
def test_arguments_that_make_no_sense(federation, options, message):
    with pytest.raises(fe.errors.ArgumentError, match=message):
        mixed(federation, **options)


def test_other_clients(federation):
    engine, state, known, asked = federation
    with pytest.raises(fe.errors.ArgumentError, match="in the same order"):
        mixed((engine, state, known, asked.select(np.arange(11, -1, -1))))
