"""FedNova as its paper writes it, with the closed form of the path's length under momentum."""

import numpy as np

from tests.reference.replay import replay
from tests.reference.trees import mean, minus, plus, times, zeros


def fednova(problem, params, cohorts, rows, *, client_rate: float, momentum: float, weighting: str):
    """w <- w - tau_eff sum p_k d_k, with d_k = (w - y_k) / a_k and tau_eff = sum p_k a_k."""

    def round_(w, clients):
        directions, lengths, losses = [], [], []
        for client in clients:
            y, velocity, seen = w, zeros(w), []
            for batch in client.batches:
                seen.append(problem.losses(y, batch))
                velocity = plus(times(momentum, velocity), problem.gradient(y, batch))
                y = plus(y, velocity, -client_rate)
            tau, rho = len(client.batches), momentum
            lengths.append((tau - rho * (1 - rho**tau) / (1 - rho)) / (1 - rho))
            directions.append(times(1 / lengths[-1], minus(w, y)))
            losses.append(np.concatenate(seen).mean())
        weights = np.array([client.weight for client in clients])
        effective = np.average(lengths, weights=weights)
        return plus(w, mean(directions, weights), -effective), losses

    return replay(problem, params, cohorts, rows, round_, weighting=weighting)
