"""FedAvg as the paper writes it, in NumPy, and what changes only its server or its gradient."""

import jax
import numpy as np

from tests.reference.replay import descend, replay
from tests.reference.trees import mean, minus, plus, times, zeros


def fedavg(
    problem,
    params,
    cohorts,
    rows,
    *,
    client_rate: float,
    server_rate: float = 1.0,
    weighting: str = "examples",
    mu: float = 0.0,
    momentum: float = 0.0,
):
    """FedAvg; with ``mu`` FedProx, with ``momentum`` FedAvgM."""
    velocity = zeros(params)

    def round_(w, clients):
        nonlocal velocity
        ends = [descend(problem, w, client.batches, client_rate, lambda y, g, batch: plus(g, minus(y, w), mu)) for client in clients]
        delta = mean([minus(end, w) for end, _, _ in ends], [client.weight for client in clients])
        velocity = plus(times(momentum, velocity), delta)
        return plus(w, velocity, server_rate), [loss for _, loss, _ in ends]

    return replay(problem, params, cohorts, rows, round_, weighting=weighting)


def fedopt(problem, params, cohorts, rows, *, rule: str, client_rate: float, server_rate: float, b1: float, b2: float, tau: float):
    """FedAdagrad, FedAdam, FedYogi as in algorithm 2 of Reddi et al."""
    first, second = zeros(params), jax.tree.map(lambda leaf: np.full_like(leaf, tau**2), params)
    rules = {
        "adagrad": lambda v, d: v + d**2,
        "adam": lambda v, d: b2 * v + (1 - b2) * d**2,
        "yogi": lambda v, d: v - (1 - b2) * d**2 * np.sign(v - d**2),
    }

    def round_(w, clients):
        nonlocal first, second
        ends = [descend(problem, w, client.batches, client_rate) for client in clients]
        delta = mean([minus(end, w) for end, _, _ in ends], [client.weight for client in clients])
        first = plus(times(b1, first), delta, 1 - b1)
        second = jax.tree.map(rules[rule], second, delta)
        w = jax.tree.map(lambda x, m, v: x + server_rate * m / (np.sqrt(v) + tau), w, first, second)
        return w, [loss for _, loss, _ in ends]

    return replay(problem, params, cohorts, rows, round_, weighting="examples")
