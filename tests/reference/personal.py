"""Algorithms that leave something with the client, in NumPy."""

import jax
import numpy as np

from tests.reference.replay import descend, replay
from tests.reference.trees import mean, minus, plus


def fedrep(problem, params, cohorts, rows, *, client_rate: float, head_steps: int):
    """FedRep on a layer that is shared and a head that is not; the first steps of a client are those on its head."""
    heads = {}

    def train(w, client):
        head, layer, losses = heads.get(client.position, w["head"]), w["layer"], []
        for batch in client.batches[:head_steps]:
            head = plus(head, problem.gradient({"layer": layer, "head": head}, batch)["head"], -client_rate)
        for batch in client.batches[head_steps:]:
            now = {"layer": layer, "head": head}
            losses.append(problem.losses(now, batch))
            layer = plus(layer, problem.gradient(now, batch)["layer"], -client_rate)
        heads[client.position] = head
        return layer, np.concatenate(losses).mean()

    def round_(w, clients):
        ends = [train(w, client) for client in clients]
        delta = mean([minus(layer, w["layer"]) for layer, _ in ends], [client.weight for client in clients])
        return {"layer": plus(w["layer"], delta), "head": w["head"]}, [loss for _, loss in ends]

    return replay(problem, params, cohorts, rows, round_, weighting="examples")


def pfedme(problem, params, cohorts, rows, *, client_rate: float, pull: float, rate: float, solver_steps: int, own: dict | None = None):
    """pFedMe; `own` collects the clients' models by position."""
    own = {} if own is None else own

    def train(w, client):
        near = theta = w
        losses = []
        for batch in client.batches:
            losses.append(problem.losses(theta, batch))
            for _ in range(solver_steps):
                theta = plus(theta, plus(problem.gradient(theta, batch), minus(theta, near), pull), -client_rate)
            near = plus(near, minus(near, theta), -rate * pull)
        own[client.position] = theta
        return minus(near, w), np.concatenate(losses).mean()

    def round_(w, clients):
        ends = [train(w, client) for client in clients]
        return plus(w, mean([delta for delta, _ in ends], [client.weight for client in clients])), [loss for _, loss in ends]

    return replay(problem, params, cohorts, rows, round_, weighting="examples")


def apfl(
    problem, params, cohorts, rows, *, client_rate: float, mixing: float, mixing_rate: float, by_module: bool, own: dict | None = None
):
    """APFL on a model whose modules are its first keys; `own` collects ``(model, {module: mixing})`` by position."""
    own = {} if own is None else own

    def inner(left, right) -> float:
        return sum(float(np.sum(left[name] * right[name])) for name in left)

    def train(w, client):
        v, alpha = own.get(client.position, (params, dict.fromkeys(params, mixing)))
        losses = []
        for batch in client.batches:
            losses.append(problem.losses(w, batch))
            apart = minus(v, w)
            slope = problem.gradient({name: plus(w[name], apart[name], alpha[name]) for name in w}, batch)
            w = plus(w, problem.gradient(w, batch), -client_rate)
            v = {name: plus(v[name], slope[name], -client_rate * alpha[name]) for name in v}
            gains = {name: inner(slope[name], apart[name]) for name in w}
            if not by_module:
                gains = dict.fromkeys(w, sum(gains.values()))
            alpha = {name: min(max(alpha[name] - mixing_rate * gains[name], 0), 1) for name in w}
        own[client.position] = (v, alpha)
        return w, np.concatenate(losses).mean()

    def round_(w, clients):
        ends = [train(w, client) for client in clients]
        return plus(w, mean([minus(end, w) for end, _ in ends], [client.weight for client in clients])), [loss for _, loss in ends]

    return replay(problem, params, cohorts, rows, round_, weighting="examples")


def tap(problem, params, cohorts, rows, *, client_rate: float, margin: float, uses: tuple[str, ...], own: dict | None = None):
    """TAP with one task, the absolute error; `own` collects ``(model, its loss, how often it was replaced)`` by position."""
    own = {} if own is None else own

    def train(w, batches):
        seen = []
        for batch in batches:
            seen.append(problem.losses(w, batch))
            w = plus(w, problem.gradient(w, batch), -client_rate)
        seen = np.concatenate(seen)
        return w, seen.mean(), np.sqrt(2 * seen).mean()

    def step(w, client):
        half = len(client.batches) // 2
        end, loss, followed = train(w, client.batches[:half])
        mine, history, count = own.get(client.position, (params, np.inf, 0))
        behind = followed + margin < history
        if behind:
            mine = mine | {name: end[name] for name in uses}
        mine, _, history = train(mine, client.batches[half:])
        own[client.position] = (mine, history, count + behind)
        return minus(end, w), loss

    def round_(w, clients):
        ends = [step(w, client) for client in clients]
        return plus(w, mean([delta for delta, _ in ends], [client.weight for client in clients])), [loss for _, loss in ends]

    return replay(problem, params, cohorts, rows, round_, weighting="examples")


def ditto(problem, params, cohorts, rows, *, client_rate: float, pull: float, own: dict | None = None):
    """Ditto; the second half of a client's steps are those on its own model, which `own` collects by position."""
    own = {} if own is None else own

    def train(w, client):
        half = len(client.batches) // 2
        end, loss, _ = descend(problem, w, client.batches[:half], client_rate)
        start = own.get(client.position, params)
        own[client.position], *_ = descend(
            problem, start, client.batches[half:], client_rate, lambda v, g, batch: plus(g, minus(v, w), pull)
        )
        return minus(end, w), loss

    def round_(w, clients):
        ends = [train(w, client) for client in clients]
        return plus(w, mean([delta for delta, _ in ends], [client.weight for client in clients])), [loss for _, loss in ends]

    return replay(problem, params, cohorts, rows, round_, weighting="examples")


def fedmsplit(problem, params, cohorts, rows, *, client_rate: float, sharpness: float):
    """Module by module, a graph of everybody who was ever there; returned parameters are the mean of their models."""
    own, mixed = {}, {}

    def flat(tree):
        return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])

    def cosine(one, other):
        size = np.linalg.norm(one) * np.linalg.norm(other)
        return one @ other / size if size > 0 else 0.0

    def round_(w, clients):
        ends = {client.position: descend(problem, mixed.get(client.position, w), client.batches, client_rate) for client in clients}
        own.update({position: end for position, (end, _, _) in ends.items()})
        for k in own:
            parts = {}
            for module in params:
                scores = np.array([np.exp(sharpness * cosine(flat(own[k][module]), flat(other[module]))) for other in own.values()])
                parts[module] = mean([other[module] for other in own.values()], scores / scores.sum())
            mixed[k] = parts
        return mean(list(own.values()), np.ones(len(own))), [loss for _, loss, _ in ends.values()]

    return replay(problem, params, cohorts, rows, round_, weighting="uniform")
