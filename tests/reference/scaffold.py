"""SCAFFOLD as algorithm 1 of its paper, with the client's own number of steps, and weights."""

import numpy as np

from tests.reference.replay import descend, replay
from tests.reference.trees import mean, minus, plus, times, zeros


def scaffold(problem, params, cohorts, rows, *, client_rate: float, server_rate: float, weighting: str, option: str):
    sizes = np.diff(problem.offsets)
    population = float(sizes.sum()) if weighting == "examples" else float((sizes > 0).sum())
    c, own = zeros(params), {position: zeros(params) for position in range(len(sizes))}

    def round_(w, clients):
        nonlocal c
        ends, losses, changes = [], [], []
        for client in clients:
            c_k = own[client.position]
            y, loss, _ = descend(problem, w, client.batches, client_rate, lambda y, g, batch, c_k=c_k: plus(minus(g, c_k), c))
            if option == "I":
                new = problem.gradient(w, np.concatenate(client.full))
            else:
                new = plus(minus(c_k, c), minus(w, y), 1 / (len(client.batches) * client_rate))
            ends.append(y)
            losses.append(loss)
            changes.append(minus(new, c_k))
            own[client.position] = new
        weights = [client.weight for client in clients]
        for change, weight in zip(changes, weights, strict=True):
            c = plus(c, change, weight / population)
        return plus(w, mean([minus(y, w) for y in ends], weights), server_rate), losses

    return replay(problem, params, cohorts, rows, round_, weighting=weighting, full_pass=option == "I")


def feddyn(problem, params, cohorts, rows, *, client_rate: float, alpha: float, weighting: str):
    """FedDyn with gradient descent as its local solver."""
    sizes = np.diff(problem.offsets)
    population = float(sizes.sum()) if weighting == "examples" else float((sizes > 0).sum())
    h, own = zeros(params), {position: zeros(params) for position in range(len(sizes))}

    def round_(w, clients):
        nonlocal h
        ends, losses = [], []
        for client in clients:
            g_k = own[client.position]
            y, loss, _ = descend(
                problem, w, client.batches, client_rate, lambda y, g, batch, g_k=g_k: plus(minus(g, g_k), minus(y, w), alpha)
            )
            own[client.position] = plus(g_k, minus(y, w), -alpha)
            h = plus(h, minus(y, w), -alpha * client.weight / population)
            ends.append(y)
            losses.append(loss)
        return plus(mean(ends, [client.weight for client in clients]), times(-1 / alpha, h)), losses

    return replay(problem, params, cohorts, rows, round_, weighting=weighting)
