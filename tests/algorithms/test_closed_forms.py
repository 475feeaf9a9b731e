"""Algorithms on quadratics: published first rounds, fixed points by linear algebra, invariants, and limits that are FedAvg."""

from functools import partial
from typing import NamedTuple

import jax
import numpy as np
import optax
import pytest
from jax.sharding import AxisType

import fedjax_edu as fe
from tests.reference.problems import Linear, Quadratic, largest_gap

A = fe.algorithms
ETA, STEPS = 0.1, 5
SGD = optax.sgd(ETA)
LOCAL = fe.LocalTraining(steps=STEPS)
EXACT = fe.LocalTraining(steps=400)


def engine(problem, algorithm, *, lanes: int = 3) -> fe.Engine:
    mesh = jax.make_mesh((1,), ("clients",), axis_types=(AxisType.Auto,))
    plan = fe.ExecutionPlan(lanes=lanes, mesh=mesh)
    return fe.Engine(problem.population(), algorithm, cohort=fe.cohorts.everyone(), aggregator=fe.aggregation.mean(), plan=plan)


def pair(curvatures, minima) -> Quadratic:
    """Two clients with one example each: f_k = a_k / 2 (x - b_k)^2."""
    return Quadratic(np.array(curvatures, float).reshape(-1, 1, 1), np.array(minima, float).reshape(-1, 1), np.arange(3))


Q2 = pair([1, 4], [0, 10])
PUBLISHED = {
    "fedavg": (partial(A.fedavg, client_optimizer=SGD, local=LOCAL), [4.6112, 6.1519172, 6.66670933445]),
    "fedavg of one step": (partial(A.fedavg, client_optimizer=SGD, local=fe.LocalTraining(steps=1)), [2.0]),
    "fedprox": (partial(A.fedprox, mu=1, client_optimizer=SGD, local=LOCAL), [3.875]),
    "fedprox, exact": (partial(A.fedprox, mu=1, client_optimizer=SGD, local=EXACT), [4.0]),
    "scaffold II": (partial(A.scaffold, client_optimizer=SGD, local=LOCAL), [4.6112, 6.97709144, 7.8530540875556, 8.067955568]),
    "scaffold I": (
        partial(A.scaffold, client_optimizer=SGD, local=LOCAL, option="I"),
        [4.6112, 7.9414172, 8.43524534195, 8.153288893924],
    ),
    "mime": (partial(A.mime, client_optimizer=SGD, local=LOCAL), [6.4007, 7.68027993875, 7.936083963255, 7.987222385304]),
    "feddyn 2": (
        partial(A.feddyn, alpha=2, client_optimizer=SGD, local=EXACT),
        [6.666666667, 7.777777778, 8.148148148, 8.209876543],
    ),
    "feddyn .5": (
        partial(A.feddyn, alpha=0.5, client_optimizer=SGD, local=EXACT),
        [8.888888889, 7.407407407, 7.242798354, 7.352537723],
    ),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_first_rounds_on_two_quadratics(name):
    make, expected = PUBLISHED[name]
    with jax.enable_x64(True):
        built = engine(Q2, make(Q2.loss))
        state = built.init({"w": np.zeros(1)})
        for value in expected:
            state, _ = built.run(state, 1)
            np.testing.assert_allclose(state.params["w"], [value], rtol=0, atol=2e-9)


def test_a_servers_rate_may_begin_with_zero():
    """FedAvg's round on Q2 is x -> 4.6112 + s x; rates of 0, 1/2 and 1 take that part of the way to it."""
    slope = (0.9**STEPS + 0.6**STEPS) / 2
    warm_up = A.fedavgm(Q2.loss, client_optimizer=SGD, server_learning_rate=optax.linear_schedule(0.0, 1.0, 2), momentum=0.0, local=LOCAL)
    with jax.enable_x64(True):
        built = engine(Q2, warm_up)
        state = built.init({"w": np.zeros(1)})
        for value in (0.0, 2.3056, 4.6112 + slope * 2.3056):
            state, _ = built.run(state, 1)
            np.testing.assert_allclose(state.params["w"], [value], rtol=0, atol=2e-9)


class Clients(NamedTuple):
    """A problem's clients as arrays: weights p (sum 1), H, minimisers b, and (I - eta H)^K."""

    p: np.ndarray
    h: np.ndarray
    b: np.ndarray
    shrink: np.ndarray

    @classmethod
    def of(cls, problem: Quadratic, weighting: str, steps: int = STEPS, extra: float = 0.0) -> "Clients":
        found = problem.clients()
        weights = np.array([n if weighting == "examples" else 1 for n, _, _ in found], float)
        h, b = np.stack([h for _, h, _ in found]), np.stack([b for _, _, b in found])
        eye = np.eye(h.shape[1])
        shrink = np.stack([np.linalg.matrix_power(eye - ETA * (each + extra * eye), steps) for each in h])
        return cls(weights / weights.sum(), h, b, shrink)

    def optimum(self) -> np.ndarray:
        """Minimiser of sum p_k f_k."""
        return np.linalg.solve(np.einsum("k,kij->ij", self.p, self.h), np.einsum("k,kij,kj->i", self.p, self.h, self.b))

    def gradients(self, x: np.ndarray) -> np.ndarray:
        return np.einsum("kij,kj->ki", self.h, x - self.b)

    def balance(self, pull: np.ndarray, target: np.ndarray) -> np.ndarray:
        """x with sum p_k pull_k (x - target_k) = 0."""
        return np.linalg.solve(np.einsum("k,kij->ij", self.p, pull), np.einsum("k,kij,kj->i", self.p, pull, target))


def fedavg_point(problem, weighting):
    clients = Clients.of(problem, weighting)
    return clients.balance(np.eye(3) - clients.shrink, clients.b)


def fedprox_point(problem, weighting):
    """y_K - x = (I - shrink) (x_k - x) with x_k = (H + mu)^-1 (H b + mu x), so pull_k = (I - shrink) (H + mu)^-1 H."""
    clients = Clients.of(problem, weighting, extra=2.0)
    return clients.balance((np.eye(3) - clients.shrink) @ np.linalg.inv(clients.h + 2.0 * np.eye(3)) @ clients.h, clients.b)


def fedprox_exact_point(problem, weighting):
    clients = Clients.of(problem, weighting)
    return clients.balance(np.linalg.inv(clients.h + 2.0 * np.eye(3)) @ clients.h, clients.b)


def optimum(problem, weighting):
    return Clients.of(problem, weighting).optimum()


FIXED_POINTS = {
    "fedavgm": (partial(A.fedavgm, client_optimizer=SGD, momentum=0.5, local=LOCAL), "examples", fedavg_point),
    "fedprox": (partial(A.fedprox, mu=2, client_optimizer=SGD, local=LOCAL), "examples", fedprox_point),
    "fedprox, exact": (partial(A.fedprox, mu=2, client_optimizer=SGD, local=EXACT), "uniform", fedprox_exact_point),
    "scaffold II": (partial(A.scaffold, client_optimizer=SGD, local=LOCAL), "examples", optimum),
    "scaffold II, uniform": (partial(A.scaffold, client_optimizer=SGD, local=LOCAL), "uniform", optimum),
    "scaffold I": (partial(A.scaffold, client_optimizer=SGD, local=LOCAL, option="I"), "examples", optimum),
    "scaffold with momentum": (partial(A.scaffold, client_optimizer=optax.sgd(0.03, momentum=0.5), local=LOCAL), "uniform", optimum),
    "mime": (partial(A.mime, client_optimizer=SGD, local=LOCAL), "examples", optimum),
    "mimelite": (partial(A.mimelite, client_optimizer=SGD, local=LOCAL), "examples", fedavg_point),
    "feddyn": (partial(A.feddyn, alpha=1.5, client_optimizer=SGD, local=EXACT), "uniform", optimum),
    "feddyn, examples": (partial(A.feddyn, alpha=1.5, client_optimizer=SGD, local=EXACT), "examples", optimum),
}


@pytest.mark.parametrize("name", FIXED_POINTS)
def test_fixed_points_on_random_quadratics(name):
    make, weighting, point = FIXED_POINTS[name]
    problem = Quadratic.random(4)
    with jax.enable_x64(True):
        built = engine(problem, make(problem.loss, weighting=weighting))
        state, _ = built.run(built.init({"w": np.ones(3)}), 150 if make.keywords["local"] is EXACT else 600)
        np.testing.assert_allclose(state.params["w"], point(problem, weighting), rtol=0, atol=1e-9)


@pytest.mark.parametrize(("local", "momentum"), [(fe.LocalTraining(epochs=3, batch_size=1), 0.0), (fe.LocalTraining(epochs=2), 0.9)])
def test_fednova_weighs_paths_of_every_length_alike(local, momentum):
    """Two clients with equal curvature: the closed form of a round, with paths of different length."""
    h = np.full((5, 1, 1), 0.5)
    problem = Quadratic(h, np.array([[0.0], [10.0], [10.0], [10.0], [10.0]]), np.array([0, 1, 5]))
    with jax.enable_x64(True):
        built = engine(problem, A.fednova(problem.loss, client_optimizer=optax.sgd(0.01, momentum=momentum), local=local))
        state, info = built.run(built.init({"w": np.zeros(1)}), 1)
    steps = [3, 12] if local.batch_size else [2, 2]
    ends, paths = [], []
    for count, b in zip(steps, (0.0, 10.0), strict=True):
        y = velocity = path = ruler = 0.0
        for _ in range(count):
            velocity = momentum * velocity + 0.5 * (y - b)
            ruler = momentum * ruler + 1
            y, path = y - 0.01 * velocity, path + ruler
        ends.append(y)
        paths.append(path)
    p = np.array([0.2, 0.8])
    expected = (p @ paths) * (p @ (np.array(ends) / paths))
    np.testing.assert_allclose(state.params["w"], [expected], rtol=0, atol=1e-12)
    np.testing.assert_allclose(info.algorithm["path"], [0.01 * (p @ paths)], rtol=1e-12)


def test_scaffold_control_is_the_mean_of_the_clients_controls():
    problem = Quadratic.random(2)
    with jax.enable_x64(True):
        for weighting in ("examples", "uniform"):
            built = engine(problem, A.scaffold(problem.loss, client_optimizer=SGD, local=LOCAL, weighting=weighting))
            state = built.init({"w": np.ones(3)})
            sizes = np.diff(problem.offsets)
            weights = sizes if weighting == "examples" else sizes > 0
            for _ in range(4):
                state, _ = built.run(state, 1)
                mean = np.average(state.clients.control["w"], axis=0, weights=weights)
                np.testing.assert_allclose(state.server.control["w"], mean, rtol=0, atol=1e-12)
            state, _ = built.run(state, 600)
            clients = Clients.of(problem, weighting)
            np.testing.assert_allclose(state.server.control["w"], np.zeros(3), atol=1e-9)
            holders = np.asarray(state.clients.control["w"])[sizes > 0]
            np.testing.assert_allclose(holders, clients.gradients(clients.optimum()), rtol=0, atol=1e-8)


def test_feddyn_gradients_sum_to_zero_at_the_fixed_point():
    problem = Quadratic.random(2)
    with jax.enable_x64(True):
        built = engine(problem, A.feddyn(problem.loss, alpha=1.5, client_optimizer=SGD, local=EXACT))
        state, info = built.run(built.init({"w": np.ones(3)}), 150)
    clients = Clients.of(problem, "uniform")
    found = np.asarray(state.clients.gradient["w"])[np.diff(problem.offsets) > 0]
    np.testing.assert_allclose(found, clients.gradients(clients.optimum()), rtol=0, atol=1e-8)
    np.testing.assert_allclose(found.sum(0), 0, atol=1e-8)
    np.testing.assert_allclose(info.algorithm["memory_norm"][-1], 0, atol=1e-8)


LIMITS = {
    "fedavgm without momentum": partial(A.fedavgm, momentum=0),
    "fedprox without pull": partial(A.fedprox, mu=0),
    "one cluster": partial(A.ifca, clusters=1),
    "tilt 0": partial(A.term, tilt=0),
    "fedbuff in step": partial(A.fedbuff, weighting="examples"),
    "mimelite of plain SGD": A.mimelite,
    "fednova with equal paths": A.fednova,
    "q 0": partial(A.qffl, q=0, lipschitz=3.0, weighting="examples"),
}
UNIFORM_LIMITS = {"q 0, uniform": partial(A.qffl, q=0, lipschitz=3.0), "afl that stands still": partial(A.afl, mixture_rate=0)}


@pytest.mark.parametrize("name", [*LIMITS, *UNIFORM_LIMITS])
def test_limits_that_are_fedavg(name):
    make, weighting = ({**LIMITS, **UNIFORM_LIMITS}[name], "examples" if name in LIMITS else "uniform")
    with jax.enable_x64(True):
        problem, local = Linear(np.float64), fe.LocalTraining(steps=3, batch_size=4)
        found, _ = _run(problem, make(problem.loss, client_optimizer=SGD, local=local))
        plain, _ = _run(problem, A.fedavg(problem.loss, client_optimizer=SGD, local=local, weighting=weighting))
        assert largest_gap(found.params, plain.params) < 1e-12


def _run(problem, algorithm):
    built = engine(problem, algorithm)
    return built.run(built.init(problem.params, seed=1), 3)


def test_ifca_finds_two_groups_of_clients():
    """Eight clients around -5 and +5: each group gets its own model, and each client the one of its group."""
    rng = np.random.default_rng(0)
    centres = np.repeat([[-5.0], [5.0]], 4, axis=0)
    b = (centres[:, None] + 0.1 * rng.normal(size=(8, 6, 1))).reshape(-1, 1)
    problem = Quadratic(np.ones((48, 1, 1)), b, np.arange(0, 49, 6))
    with jax.enable_x64(True):
        built = engine(problem, A.ifca(problem.loss, clusters=2, spread=1.0, client_optimizer=SGD, local=LOCAL))
        state, info = built.run(built.init({"w": np.zeros(1)}), 60)
        chosen = np.asarray(built.finalise(state).clients.cluster)
        losses = built.evaluate(state, problem.population()).per_client.loss
    assert len(set(chosen[:4])) == len(set(chosen[4:])) == 1
    assert chosen[0] != chosen[4]
    means = [b[:24].mean(), b[24:].mean()]
    np.testing.assert_allclose(np.sort(state.server.clusters.params.shared["w"][:, 0]), means, atol=1e-9)
    np.testing.assert_allclose(info.algorithm["largest"][-1], 0.5)
    assert (losses < 0.05).all()


def test_afl_equalises_the_losses_of_two_clients():
    """f_1 = x^2 / 2 and f_2 = (x - 1)^2 / 2: the minimax point is 1/2, where both weigh the same."""
    problem = pair([1, 1], [0, 1])
    with jax.enable_x64(True):
        algorithm = A.afl(problem.loss, mixture_rate=0.2, client_optimizer=SGD, local=fe.LocalTraining(steps=1))
        built = engine(problem, algorithm)
        state, _ = built.run(built.init({"w": np.full(1, 3.0)}), 2000)
    np.testing.assert_allclose(state.params["w"], [0.5], atol=1e-6)
    np.testing.assert_allclose(state.server.mixture, [0.5, 0.5], atol=1e-6)


@pytest.mark.parametrize(("tilt", "value"), [(-2, 1.484752), (-1, 1.749600), (1, 3.071234), (2, 3.460984), (10, 3.890139)])
def test_term_reports_the_tilted_risk(tilt, value):
    """Three clients with losses 1, 2, 4."""
    problem = Quadratic(np.ones((3, 1, 1)), np.sqrt(2 * np.array([[1.0], [2.0], [4.0]])), np.arange(4))
    with jax.enable_x64(True):
        algorithm = A.term(problem.loss, tilt=tilt, client_optimizer=optax.sgd(0.0), local=fe.LocalTraining(steps=1))
        built = engine(problem, algorithm)
        _, info = built.run(built.init({"w": np.zeros(1)}), 2)
    np.testing.assert_allclose(info.algorithm["tilted_risk"], value, atol=1e-6)


def test_term_survives_exponents_that_overflow():
    problem = Quadratic(np.ones((2, 1, 1), np.float32), np.array([[100.0], [200.0]], np.float32), np.arange(3))
    algorithm = A.term(problem.loss, tilt=5.0, client_optimizer=optax.sgd(0.01), local=fe.LocalTraining(steps=1))
    built = engine(problem, algorithm)
    state, info = built.run(built.init({"w": np.zeros(1, np.float32)}), 3)
    assert (info.rejected == 0).all()
    assert np.isfinite(state.params["w"]).all()
