"""Averages of groups of clients, and of clients of several widths, in NumPy."""

import numpy as np

from tests.reference.replay import descend, replay
from tests.reference.trees import mean, minus, plus


def heterofl(problem, params, cohorts, rows, *, client_rate: float):
    """HeteroFL; client k has the first 1 + k mod 3 slopes."""

    def train(w, client):
        there = np.arange(3) < 1 + client.position % 3

        def cut(tree):
            return tree | {"layer": {"w": np.where(there, tree["layer"]["w"], 0)}}

        end, loss, _ = descend(problem, cut(w), client.batches, client_rate, lambda _, g, batch: cut(g))
        return there, minus(end, cut(w)), loss

    def round_(w, clients):
        there, changes, losses = zip(*(train(w, client) for client in clients), strict=True)
        weights = np.array([client.weight for client in clients])
        total = np.sum(np.stack(there) * weights[:, None], axis=0)
        slopes = np.sum([weight * change["layer"]["w"] for weight, change in zip(weights, changes, strict=True)], axis=0)
        slopes = np.divide(slopes, total, out=np.zeros_like(slopes), where=total > 0)
        head = mean([change["head"] for change in changes], weights)
        return plus(w, {"layer": {"w": slopes}, "head": head}), list(losses)

    return replay(problem, params, cohorts, rows, round_, weighting="examples")


def routed(problem, params, cohorts, rows, *, client_rate: float):
    """Each of the three slopes is an expert, which reads the rows whose number at its place is the largest."""

    def round_(w, clients):
        ends = [descend(problem, w, client.batches, client_rate) for client in clients]
        read = [np.concatenate(client.batches) for client in clients]
        tokens = [np.bincount(np.argmax(np.abs(problem.x[seen]), axis=1), minlength=3) / len(seen) for seen in read]
        weights = np.array([client.weight for client in clients])[:, None] * np.stack(tokens)
        changes = [minus(end, w) for end, _, _ in ends]
        slopes = np.sum(weights * [change["layer"]["w"] for change in changes], axis=0)
        slopes = np.divide(slopes, weights.sum(0), out=np.zeros_like(slopes), where=weights.sum(0) > 0)
        head = mean([change["head"] for change in changes], [client.weight for client in clients])
        return plus(w, {"layer": {"w": slopes}, "head": head}), [loss for _, loss, _ in ends]

    return replay(problem, params, cohorts, rows, round_, weighting="examples")


def hierarchy(problem, params, cohorts, rows, *, client_rate: float, every: int, groups: int):
    """A client's group is its position modulo `groups`; returned parameters are those of the last meeting."""
    own, seen = [params] * groups, [0.0] * groups
    rounds = 0

    def round_(w, clients):
        nonlocal own, seen, rounds
        ends = [descend(problem, own[client.position % groups], client.batches, client_rate) for client in clients]
        starts = own
        own, rounds = list(own), rounds + 1
        for group in range(groups):
            mine = [(client, end) for client, (end, _, _) in zip(clients, ends, strict=True) if client.position % groups == group]
            if mine:
                weights = [client.weight for client, _ in mine]
                own[group] = plus(starts[group], mean([minus(end, starts[group]) for _, end in mine], weights))
                seen[group] += sum(weights)
        if rounds % every == 0:
            w = mean(own, seen)
            own, seen = [w] * groups, [0.0] * groups
        return w, [loss for _, loss, _ in ends]

    return replay(problem, params, cohorts, rows, round_, weighting="examples")
