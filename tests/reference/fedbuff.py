"""FedBuff and the clock it runs on as the paper writes them, in NumPy and with a queue of events."""

import heapq

import jax
import numpy as np


class Clock:
    """`concurrency` clients that train all the time; in absolute time, one event after another."""

    def __init__(self, clients, seconds, ids):
        self.seconds, self.ids, self.time, self.version = seconds, ids, 0.0, 0
        self.training = []
        for client in clients:
            self.start(int(client), 0)

    def start(self, client: int, version: int) -> None:
        heapq.heappush(self.training, (self.time + float(self.seconds[client]), int(self.ids[client]), client, version))

    def round(self, newcomers, applied: bool = True) -> tuple[list[int], list[int], float]:
        """(clients in the order of their arrival, their staleness, seconds until the last) of one buffer."""
        began, clients, staleness = self.time, [], []
        for number, newcomer in enumerate(newcomers, start=1):
            self.time, _, client, version = heapq.heappop(self.training)
            clients.append(client)
            staleness.append(self.version - version)
            if number == len(newcomers) and applied:  # the server steps before it hands out parameters again
                self.version += 1
            self.start(int(newcomer), self.version)
        return clients, staleness, self.time - began


def fedbuff(problem, params, cohorts, rows, staleness, *, client_rate, server_rate=1.0, weighting="uniform", max_staleness=20):
    """Replays a schedule whose clients (by position) are so stale; returns the parameters and the mean training loss of each round."""
    versions, history = [params], []
    for cohort, cohort_rows, ages in zip(cohorts, rows, staleness, strict=True):
        total, shares, losses, reported = jax.tree.map(np.zeros_like, params), 0.0, 0.0, 0.0
        for client, steps in zip(cohort, cohort_rows, strict=True):
            age, weight = ages[client], float(np.diff(problem.offsets)[client]) if weighting == "examples" else 1.0
            start = versions[-1 - min(age, max_staleness)]
            local, seen = start, []
            for batch in steps:
                seen.append(problem.losses(local, batch))
                local = jax.tree.map(lambda w, g: w - client_rate * g, local, problem.gradient(local, batch))
            losses, reported = losses + weight * np.concatenate(seen).mean(), reported + weight
            if age <= max_staleness:
                scale = weight / np.sqrt(1 + age)
                total = jax.tree.map(lambda t, new, old, scale=scale: t + scale * (new - old), total, local, start)
                shares += weight
        if shares:
            params = jax.tree.map(lambda w, t, shares=shares: w + server_rate * t / shares, params, total)
        versions.append(params)
        history.append((params, losses / reported))
    return history
