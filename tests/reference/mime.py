"""Mime and MimeLite with momentum as the optimiser to imitate: m stays fixed during local steps."""

import numpy as np

from tests.reference.replay import descend, replay
from tests.reference.trees import mean, minus, plus, zeros


def mime(problem, params, cohorts, rows, *, client_rate: float, momentum: float, lite: bool):
    m = zeros(params)

    def round_(w, clients):
        nonlocal m
        weights = [client.weight for client in clients]
        c = mean([problem.gradient(w, np.concatenate(client.full)) for client in clients], weights)

        def direction(y, g, batch):
            g = g if lite else plus(minus(g, problem.gradient(w, batch)), c)
            return plus(g, m, momentum)

        ends = [descend(problem, w, client.batches, client_rate, direction) for client in clients]
        m = plus(c, m, momentum)
        return plus(w, mean([minus(end, w) for end, _, _ in ends], weights)), [loss for _, loss, _ in ends]

    return replay(problem, params, cohorts, rows, round_, weighting="examples", full_pass=True)
