"""FedAvg on random quadratics against the formula of its rounds and of its fixed point, to 1e-9 in float64."""

import jax
import numpy as np
import optax
import pytest
from jax.sharding import AxisType

import fedjax_edu as fe
from tests.reference.problems import Quadratic

RATE, STEPS = 0.1, 5


def affine_round(problem: Quadratic, weighting: str) -> tuple[np.ndarray, np.ndarray]:
    """(A, c) of x -> A x + c: one round is the weighted mean of b_k + (I - rate H_k)^K (x - b_k)."""
    clients = problem.clients()
    weights = np.array([n if weighting == "examples" else 1 for n, _, _ in clients], float)
    shrink = [np.linalg.matrix_power(np.eye(len(b)) - RATE * h, STEPS) for _, h, b in clients]
    linear = np.einsum("k,kij->ij", weights / weights.sum(), np.stack(shrink))
    constant = sum(w * (b - m @ b) for w, m, (_, _, b) in zip(weights / weights.sum(), shrink, clients, strict=True))
    return linear, constant


def engine(problem: Quadratic, weighting: str, lanes: int, devices: int = 1) -> fe.Engine:
    algorithm = fe.algorithms.fedavg(
        problem.loss, client_optimizer=optax.sgd(RATE), local=fe.LocalTraining(steps=STEPS), weighting=weighting
    )
    mesh = jax.make_mesh((devices,), ("clients",), axis_types=(AxisType.Auto,))
    plan = fe.ExecutionPlan(lanes=lanes, mesh=mesh)
    return fe.Engine(problem.population(), algorithm, cohort=fe.cohorts.everyone(), aggregator=fe.aggregation.mean(), plan=plan)


@pytest.mark.parametrize(("weighting", "lanes", "devices"), [("examples", 1, 1), ("uniform", 3, 1), ("examples", 2, 2), ("uniform", 5, 1)])
@pytest.mark.parametrize("seed", [0, 1])
def test_rounds_and_fixed_point_follow_the_formula(seed, weighting, lanes, devices):
    problem = Quadratic.random(seed)
    linear, constant = affine_round(problem, weighting)
    start = np.random.default_rng(seed).normal(size=3)
    with jax.enable_x64(True):
        built = engine(problem, weighting, lanes, devices)
        state = built.init({"w": start})
        expected = start
        for _ in range(3):
            state, info = built.run(state, 1)
            before, expected = expected, linear @ expected + constant
            np.testing.assert_allclose(state.params["w"], expected, atol=1e-9)
            np.testing.assert_allclose(info.update_norm[0], np.linalg.norm(expected - before), atol=1e-9)
        state, _ = built.run(state, 400)
        fixed_point = np.linalg.solve(np.eye(3) - linear, constant)
        np.testing.assert_allclose(state.params["w"], fixed_point, atol=1e-9)


def test_one_local_step_is_gradient_descent_on_the_pooled_objective():
    problem = Quadratic.random(7)
    with jax.enable_x64(True):
        algorithm = fe.algorithms.fedavg(problem.loss, client_optimizer=optax.sgd(0.2), local=fe.LocalTraining(epochs=1))
        built = fe.Engine(problem.population(), algorithm, cohort=fe.cohorts.everyone(), aggregator=fe.aggregation.mean())
        state, _ = built.run(built.init({"w": np.zeros(3)}), 10)
        x = np.zeros(3)
        for _ in range(10):
            x = x - 0.2 * np.mean(np.einsum("nij,nj->ni", problem.h, x - problem.b), axis=0)
        np.testing.assert_allclose(state.params["w"], x, atol=1e-12)


def test_server_optimiser_sees_the_negative_mean_update_as_its_gradient():
    problem = Quadratic.random(3)
    linear, constant = affine_round(problem, "examples")
    optimizer, x = optax.adam(0.05), np.ones(3)
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        algorithm = fe.algorithms.fedavg(
            problem.loss, client_optimizer=optax.sgd(RATE), server_optimizer=optimizer, local=fe.LocalTraining(steps=STEPS)
        )
        built = fe.Engine(problem.population(), algorithm, cohort=fe.cohorts.everyone(), aggregator=fe.aggregation.mean())
        state, _ = built.run(built.init({"w": x}), 4)
        moments = optimizer.init(x)
        for _ in range(4):
            updates, moments = optimizer.update(x - (linear @ x + constant), moments, x)
            x = x + np.asarray(updates)
        np.testing.assert_allclose(state.params["w"], x, atol=1e-9)
