"""Algorithms that weigh clients by their losses at w: q-FedAvg, TERM, AFL; and IFCA, which chooses by them."""

import numpy as np
from scipy.optimize import brentq

from tests.reference.replay import descend, replay
from tests.reference.trees import mean, minus, plus, square_norm, times, zeros


def _risk(problem, w, client) -> float:
    return float(problem.losses(w, np.concatenate(client.full)).mean())


def qffl(problem, params, cohorts, rows, *, client_rate: float, q: float, lipschitz: float):
    def round_(w, clients):
        numerator, denominator, losses = zeros(w), 0.0, []
        for client in clients:
            y, loss, _ = descend(problem, w, client.batches, client_rate)
            risk, step = _risk(problem, w, client), times(lipschitz, minus(w, y))
            numerator = plus(numerator, step, risk**q)
            denominator += q * risk ** (q - 1) * square_norm(step) + lipschitz * risk**q
            losses.append(loss)
        return plus(w, numerator, -1 / denominator), losses

    return replay(problem, params, cohorts, rows, round_, weighting="uniform", full_pass=True)


def term(problem, params, cohorts, rows, *, client_rate: float, tilt: float):
    def round_(w, clients):
        ends = [descend(problem, w, client.batches, client_rate) for client in clients]
        weights = [client.weight * np.exp(tilt * _risk(problem, w, client)) for client in clients]
        return plus(w, mean([minus(end, w) for end, _, _ in ends], weights)), [loss for _, loss, _ in ends]

    return replay(problem, params, cohorts, rows, round_, weighting="examples", full_pass=True)


def simplex(point: np.ndarray) -> np.ndarray:
    """Projection on the probability simplex: the shift that makes the positive part sum to 1, by bisection."""
    shift = brentq(lambda shift: np.maximum(point - shift, 0).sum() - 1, point.min() - 1, point.max(), xtol=1e-15)
    return np.maximum(point - shift, 0)


def afl(problem, params, cohorts, rows, *, client_rate: float, mixture_rate: float):
    sizes = np.diff(problem.offsets)
    holders = np.flatnonzero(sizes)
    mixture = np.where(sizes > 0, 1 / len(holders), 0.0)

    def round_(w, clients):
        ends = [descend(problem, w, client.batches, client_rate) for client in clients]
        risks = [_risk(problem, w, client) for client in clients]
        shares = np.array([mixture[client.position] for client in clients])
        for client, risk in zip(clients, risks, strict=True):
            mixture[client.position] += mixture_rate * risk
        mixture[holders] = simplex(mixture[holders])
        losses = [loss for _, loss, _ in ends]
        return (plus(w, mean([minus(end, w) for end, _, _ in ends], shares)) if shares.sum() else w), losses

    return replay(problem, params, cohorts, rows, round_, weighting="uniform", full_pass=True)


def ifca(problem, starts, cohorts, rows, *, client_rate: float):
    """`starts`: parameters of each cluster; the history holds those of the cluster that weighed most so far."""
    models, weight = list(starts), np.zeros(len(starts))

    def round_(w, clients):
        chosen = [int(np.argmin([_risk(problem, model, client) for model in models])) for client in clients]
        ends = [descend(problem, models[j], client.batches, client_rate) for j, client in zip(chosen, clients, strict=True)]
        for j, model in enumerate(list(models)):
            members = [number for number, choice in enumerate(chosen) if choice == j]
            if members:
                weights = [clients[number].weight for number in members]
                models[j] = plus(model, mean([minus(ends[number][0], model) for number in members], weights))
                weight[j] += sum(weights)
        return models[int(np.argmax(weight))], [loss for _, loss, _ in ends]

    return replay(problem, starts[0], cohorts, rows, round_, weighting="examples", full_pass=True)
