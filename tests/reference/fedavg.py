"""FedAvg as the paper writes it, in NumPy, one client after another."""

import jax
import numpy as np


def fedavg(problem, params, cohorts, rows, *, client_rate: float, server_rate: float = 1.0, weighting: str = "examples"):
    """Replays a schedule; returns the parameters and the weighted mean training loss after each round."""
    history = []
    for cohort, cohort_rows in zip(cohorts, rows, strict=True):
        total, weights, losses = jax.tree.map(np.zeros_like, params), 0.0, 0.0
        for client, steps in zip(cohort, cohort_rows, strict=True):
            weight = float(np.diff(problem.offsets)[client]) if weighting == "examples" else 1.0
            local, seen = params, []
            for batch in steps:
                seen.append(problem.losses(local, batch))
                local = jax.tree.map(lambda w, g: w - client_rate * g, local, problem.gradient(local, batch))
            total = jax.tree.map(lambda t, new, old, weight=weight: t + weight * (new - old), total, local, params)
            weights, losses = weights + weight, losses + weight * np.concatenate(seen).mean()
        if weights:
            params = jax.tree.map(lambda w, t, weights=weights: w + server_rate * t / weights, params, total)
        history.append((params, losses / weights if weights else np.nan))
    return history
