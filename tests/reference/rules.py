"""Robust rules and attacks in plain NumPy: loops over clients and coordinates, no masks; every row is a client that is there."""

import math
from itertools import pairwise

import numpy as np
from scipy import stats


def median(updates, weights):
    return np.median(updates, axis=0)


def trimmed_mean(fraction):
    def rule(updates, weights):
        return stats.trim_mean(updates, fraction, axis=0)

    return rule


def krum_scores(updates, f):
    scores = []
    for i, update in enumerate(updates):
        distances = sorted(float(np.sum((update - other) ** 2)) for j, other in enumerate(updates) if j != i)
        scores.append(sum(distances[: len(updates) - f - 2]))
    return scores


def multi_krum(f, keep):
    def rule(updates, weights):
        n = len(updates)
        if n < 2 * f + 3:
            sizes = np.linalg.norm(updates, axis=1)
            typical = np.median(sizes)
            return np.mean([u * min(1, typical / size) if size else u for u, size in zip(updates, sizes, strict=True)], axis=0)
        scores = krum_scores(updates, f)
        ranked = sorted(range(n), key=lambda i: (scores[i], i))
        return np.mean(updates[ranked[: min(keep, n - f)]], axis=0)

    return rule


def weiszfeld(iterations, smoothing):
    def rule(updates, weights):
        z = np.average(updates, axis=0, weights=weights)
        for _ in range(iterations):
            beta = [w / max(smoothing, np.linalg.norm(u - z)) for u, w in zip(updates, weights, strict=True)]
            z = sum(b * u for b, u in zip(beta, updates, strict=True)) / sum(beta)
        return z

    return rule


def clipped(vector, radius):
    size = np.linalg.norm(vector)
    return vector * min(1, radius / size) if size else vector


def centered_clip(updates, centre, radius, iterations=1, buckets=None):
    """`buckets` are lists of rows; None puts each row in its own."""
    buckets = buckets or [[i] for i in range(len(updates))]
    means = [np.mean(updates[bucket], axis=0) for bucket in buckets]
    v = np.array(centre, float)
    for _ in range(iterations):
        v = v + np.mean([clipped(y - v, radius) for y in means], axis=0)
    return v


def consecutive(order, size):
    """Buckets of `size` out of an order; the last may be smaller."""
    edges = [*range(0, len(order), size), len(order)]
    return [list(order[first:end]) for first, end in pairwise(edges)]


def fltrust(updates, root):
    """`root` is a row; None where nobody is trusted."""
    g0 = updates[root]
    total, trust = np.zeros_like(g0), 0.0
    for i, g in enumerate(updates):
        if i != root and np.linalg.norm(g) * np.linalg.norm(g0) > 0:
            score = max(0.0, float(g @ g0) / (np.linalg.norm(g) * np.linalg.norm(g0)))
            total, trust = total + score * np.linalg.norm(g0) / np.linalg.norm(g) * g, trust + score
    return total / trust if trust > 0 else None


def alie_deviations(n, f):
    s = math.floor(n / 2 + 1) - f
    return float(stats.norm.ppf((n - f - s) / (n - f)))


def alie(updates, liars, deviations=None):
    """`liars` is a boolean for each row."""
    if liars.all() or not liars.any():
        return updates
    z = alie_deviations(len(updates), int(liars.sum())) if deviations is None else deviations
    honest = updates[~liars]
    return np.where(liars[:, None], honest.mean(0) - z * honest.std(0), updates)


def ipm(updates, liars, scale):
    if liars.all() or not liars.any():
        return updates
    return np.where(liars[:, None], -scale * updates[~liars].mean(0), updates)
