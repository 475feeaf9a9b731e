"""Models of clients' own: closed forms, NumPy twins, and what they are for."""

from functools import partial

import jax
import numpy as np
import optax
import pytest

import fedjax_edu as fe
from tests.algorithms.test_closed_forms import EXACT, Q2, SGD, engine
from tests.reference.personal import apfl, ditto, pfedme
from tests.reference.problems import Linear, largest_gap

A = fe.algorithms
ONE = fe.LocalTraining(steps=1)


@pytest.mark.parametrize(("pull", "expected"), [(1.0, [4.0, 9.6]), (0.0, [0.0, 10.0]), (4.0, [6.4, 9.0])])
def test_ditto_on_two_quadratics(pull, expected):
    """The federation's w = 8 is the optimum that single steps reach; v = (a b + pull w) / (a + pull)."""
    with jax.enable_x64(True):
        built = engine(Q2, A.ditto(Q2.loss, pull=pull, client_optimizer=SGD, local=ONE, personal=EXACT))
        state, _ = built.run(built.init({"w": np.zeros(1)}), 80)
        np.testing.assert_allclose(state.params["w"], [8.0], atol=1e-7)
        np.testing.assert_allclose(state.clients["w"][:, 0], expected, atol=1e-6)
        seen = built.predict(state, Q2.population(), lambda params, batch: np.zeros(len(batch["b"])) + params["w"])
        np.testing.assert_allclose(seen, expected, atol=1e-6)


OWN = {"ditto": (A.ditto, ditto, {"pull": 0.7}), "pfedme": (A.pfedme, pfedme, {"pull": 0.7, "rate": 0.3, "solver_steps": 3})}
MIXED = {"mixing": 0.4, "mixing_rate": 0.05}


def _after_four_rounds(make, twin, **options):
    """Client states, and what the twin says that clients have."""
    problem, local = Linear(np.float64), fe.LocalTraining(epochs=1, batch_size=4)
    algorithm = make(problem.loss, client_optimizer=SGD, local=local, **options)
    built = fe.Engine(problem.population(), algorithm, cohort=fe.cohorts.uniform(6), aggregator=fe.aggregation.mean())
    start = built.init(problem.params, seed=5)
    own: dict = {}
    twin(problem, problem.params, *built.schedule(start, 4), client_rate=0.1, own=own, **options)
    assert 6 < len(own) < 12
    state, _ = built.run(start, 4)
    return [jax.tree.map(lambda leaf, at=at: np.asarray(leaf[at]), state.clients) for at in range(12)], own


@pytest.mark.parametrize("name", OWN)
def test_models_of_ones_own_equal_their_numpy_twin(name):
    make, twin, options = OWN[name]
    with jax.enable_x64(True):
        clients, own = _after_four_rounds(make, twin, **options)
    for position, client in enumerate(clients):
        assert largest_gap(client, own.get(position, Linear(np.float64).params)) < 1e-12


@pytest.mark.parametrize("by_module", [False, True])
def test_mixtures_equal_their_numpy_twin(by_module):
    with jax.enable_x64(True):
        clients, own = _after_four_rounds(A.apfl, apfl, by_module=by_module, **MIXED)
    for position, client in enumerate(clients):
        model, mixing = own.get(position, (Linear(np.float64).params, {"head": 0.4, "layer": 0.4}))
        assert largest_gap(client.own, model) < 1e-12
        np.testing.assert_allclose(client.mixing, [mixing["head"], mixing["layer"]], rtol=1e-12)


def test_pfedme_on_two_quadratics():
    """w = sum p a b / (a + 1) over sum p a / (a + 1), and theta = (a b + w) / (a + 1)."""
    with jax.enable_x64(True):
        built = engine(Q2, A.pfedme(Q2.loss, pull=1.0, rate=0.5, solver_steps=400, client_optimizer=SGD, local=ONE))
        state, _ = built.run(built.init({"w": np.zeros(1)}), 80)
        w = 80 / 13
        np.testing.assert_allclose(state.params["w"], [w], atol=1e-9)
        np.testing.assert_allclose(state.clients["w"][:, 0], [w / 2, (40 + w) / 5], atol=1e-9)


def test_apfl_is_fedavg_without_a_model_of_ones_own_and_local_training_with_nothing_else():
    problem, local = Linear(), fe.LocalTraining(epochs=1, batch_size=4)
    train = partial(_everyone, problem, rounds=3)
    _, fedavg = train(A.fedavg(problem.loss, client_optimizer=SGD, local=local))
    built, none = train(A.apfl(problem.loss, mixing=0.0, client_optimizer=SGD, local=local))
    assert largest_gap(none.params, fedavg.params) < 1e-6
    assert largest_gap(built.predict(none, problem.population(), _scores), _by_hand(problem, [fedavg.params] * 12)) < 1e-5
    built, alone = train(A.apfl(problem.loss, mixing=1.0, client_optimizer=SGD, local=local))
    personal = fe.modules.assign(problem.params, personal=...)
    _, kept = train(A.fedavg(problem.loss, client_optimizer=SGD, local=local), modules=personal)
    assert largest_gap(alone.clients.own, kept.clients) < 1e-6
    assert largest_gap(alone.clients.own, jax.tree.map(lambda leaf: leaf[None], problem.params)) > 0.01
    own = [jax.tree.map(lambda leaf, at=at: np.asarray(leaf[at]), kept.clients) for at in range(12)]
    assert largest_gap(built.predict(alone, problem.population(), _scores), _by_hand(problem, own)) < 1e-5


def test_mixing_moves_where_clients_differ():
    """Slopes are common to all, intercepts are not: more so for those far from the mean."""
    problem = intercepts()
    algorithm = A.apfl(problem.loss, mixing_rate=0.02, by_module=True, client_optimizer=optax.sgd(0.05), local=fe.LocalTraining(steps=10))
    _, state = _everyone(problem, algorithm, rounds=60)
    mixing = dict(zip(state.server.modules.names, np.asarray(state.clients.mixing).T, strict=True))
    assert np.all(mixing["head"][[0, 1, -2, -1]] > 0.9) and np.all(mixing["head"][2:-2] < 0.99)
    assert np.all(mixing["layer"] < 0.1)


def _everyone(problem, algorithm, *, rounds: int, modules=None):
    everyone, mean = fe.cohorts.everyone(), fe.aggregation.mean()
    built = fe.Engine(problem.population(), algorithm, cohort=everyone, aggregator=mean, modules=modules)
    return built, built.run(built.init(problem.params, seed=5), rounds)[0]


def _scores(params, batch):
    return batch["x"] @ params["layer"]["w"] + params["head"]["b"]


def _by_hand(problem, models) -> np.ndarray:
    owner = np.repeat(np.arange(12), np.diff(problem.offsets))
    return np.array([row @ models[one]["layer"]["w"] + models[one]["head"]["b"] for row, one in zip(problem.x, owner, strict=True)])


def intercepts() -> Linear:
    """Clients that share slopes and differ in their intercepts; no noise."""
    problem = Linear(sizes=(30,) * 8)
    slopes = np.array([1.0, -2.0, 0.5], np.float32)
    problem.y = (problem.x @ slopes + np.repeat(np.linspace(-3, 3, 8), 30)).astype(np.float32)
    return problem


def test_fedrep_finds_what_is_shared_and_what_is_not():
    problem = intercepts()
    algorithm = A.fedrep(problem.loss, client_optimizer=optax.sgd(0.2), head=fe.LocalTraining(steps=20), local=fe.LocalTraining(steps=5))
    modules = fe.modules.assign(problem.params, personal="head")
    everyone, mean = fe.cohorts.everyone(), fe.aggregation.mean()
    built = fe.Engine(problem.population(), algorithm, cohort=everyone, aggregator=mean, modules=modules)
    state, _ = built.run(built.init(problem.params, seed=0), 40)
    np.testing.assert_allclose(state.params["layer"]["w"], [1.0, -2.0, 0.5], atol=1e-3)
    np.testing.assert_allclose(state.clients["head"]["b"], np.linspace(-3, 3, 8), atol=1e-3)


def test_clients_may_be_asked_with_the_federations_model():
    """Ditto's w is FedAvg's, and so is what clients predict with it."""
    problem, local = Linear(), fe.LocalTraining(epochs=1, batch_size=4)
    built, state = _everyone(problem, A.ditto(problem.loss, pull=0.1, client_optimizer=SGD, local=local), rounds=3)
    plain, fedavg = _everyone(problem, A.fedavg(problem.loss, client_optimizer=SGD, local=local), rounds=3)
    population = problem.population()
    ours, theirs = built.evaluate(state, population, which="global"), plain.evaluate(fedavg, population)
    np.testing.assert_allclose(ours.per_client.loss, theirs.per_client.loss, rtol=1e-5)
    seen = built.predict(state, population, _scores, which="global")
    np.testing.assert_allclose(seen, plain.predict(fedavg, population, _scores), atol=1e-6)
    assert largest_gap(seen, built.predict(state, population, _scores)) > 0.01
    with pytest.raises(fe.errors.ArgumentError, match="use one of personal, global"):
        built.evaluate(state, population, which="local")


def test_modules_that_an_algorithm_needs_or_cannot_have():
    problem = Linear()
    personal = fe.modules.assign(problem.params, personal="head")
    begin = partial(fe.Engine, problem.population(), cohort=fe.cohorts.everyone(), aggregator=fe.aggregation.mean())
    with pytest.raises(fe.errors.ArgumentError, match="assign personal modules, the heads for instance, or use fedavg"):
        begin(A.fedrep(problem.loss, client_optimizer=SGD, head=ONE, local=ONE)).init(problem.params)
    with pytest.raises(fe.errors.ArgumentError, match="each client has a second copy"):
        begin(A.ditto(problem.loss, pull=1.0, client_optimizer=SGD, local=ONE), modules=personal).init(problem.params)
    with pytest.raises(fe.errors.ArgumentError, match="pull"):
        A.ditto(problem.loss, pull=-1.0, client_optimizer=SGD, local=ONE)
