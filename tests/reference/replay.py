"""What every twin does: replay a schedule round by round, one client after another."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from tests.reference.trees import plus


class Client(NamedTuple):
    """A participant of one round.

    Args:
        position: in the population.
        examples: n.
        weight: as the algorithm weighs it.
        full: batches of its pass over all examples, if the algorithm makes one, in stored order.
        batches: rows of each local step.
    """

    position: int
    examples: int
    weight: float
    full: list[np.ndarray]
    batches: list[np.ndarray]


def replay(problem, params, cohorts, rows, round_: Callable, *, weighting: str, full_pass: bool = False):
    """``round_(params, [Client]) -> (params, [mean training loss of each client])`` over a schedule.

    Returns:
        ``[(params, weighted mean training loss)]``, one a round.
    """
    history, sizes = [], np.diff(problem.offsets)
    for cohort, seen in zip(cohorts, rows, strict=True):
        clients = []
        for position, steps in zip(cohort, seen, strict=True):
            count = int(np.searchsorted(np.cumsum([len(step) for step in steps]), sizes[position])) + 1 if full_pass else 0
            weight = float(sizes[position]) if weighting == "examples" else 1.0
            clients.append(Client(int(position), int(sizes[position]), weight, steps[:count], steps[count:]))
        loss = np.nan
        if clients:
            params, losses = round_(params, clients)
            loss = np.average(losses, weights=[client.weight for client in clients])
        history.append((params, loss))
    return history


def descend(problem, start, batches, rate: float, correct: Callable = lambda w, g, batch: g):
    """Gradient descent over batches; ``correct(w, gradient, batch)`` may change the gradient.

    Returns:
        ``(end, mean loss of all rows seen, sum of the gradients before correction)``.
    """
    w, losses, total = start, [], None
    for batch in batches:
        losses.append(problem.losses(w, batch))
        gradient = problem.gradient(w, batch)
        total = gradient if total is None else plus(total, gradient)
        w = plus(w, correct(w, gradient, batch), -rate)
    return w, np.concatenate(losses).mean(), total
