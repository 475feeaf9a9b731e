"""kNN-Per: predictions mixed with the targets of a client's own rows that look alike."""

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.spatial import KDTree

from fedjax_edu.core.errors import ArgumentError, check_integer, check_share
from fedjax_edu.data.population import Population
from fedjax_edu.engine import Engine, State

Function = Callable[..., Any]


def nearest_neighbours(
    engine: Engine,
    state: State,
    known: Population,
    asked: Population,
    *,
    embed: Function,
    target: Function,
    predict: Function,
    neighbours: int = 10,
    weight: float | np.ndarray = 0.5,
    scale: float = 1.0,
) -> np.ndarray:
    r"""Predictions of a model, mixed with what each client's most similar known rows turned out to be.

    .. math:: \lambda_k \frac{\sum_{i \in \mathrm{kNN}(x)} y_i e^{-d(x, x_i) / s}}{\sum_{i \in \mathrm{kNN}(x)} e^{-d(x, x_i) / s}}
        + (1 - \lambda_k) p(x)

    with Euclidean distances d between embeddings, among the rows of the same client alone. Nothing is trained and nothing leaves a client.

    Args:
        engine: the federation.
        state: of the federation, trained.
        known: rows whose targets are known.
        asked: rows to predict, of the same clients in the same order.
        embed: ``(params, batch)`` to embeddings [B, d].
        target: ``(params, batch)`` to targets, [B] or [B, classes], in the units of the predictions.
        predict: ``(params, batch)`` to predictions p like the targets.
        neighbours: k; a client with fewer known rows uses all of them, and one without any p alone.
        weight: :math:`\lambda`, of all clients or [clients]; 0 leaves p.
        scale: s, in units of the embeddings; infinite weighs all neighbours alike.

    Returns:
        Array like the predictions, [rows of `asked`, ...], in its row order.

    Raises:
        ArgumentError: other clients, a number of neighbours below 1, a weight outside [0, 1], a scale that is not positive.

    Reference: Marfoq et al. (2022), "Personalized federated learning through local memorization", arXiv:2111.09360.
    """
    if not np.array_equal(known.ids, asked.ids):
        raise ArgumentError(
            "asked", f"{asked.num_clients} clients", "pass the clients of `known` in the same order: Population.split_examples"
        )
    neighbours, weights = check_integer("neighbours", neighbours), np.broadcast_to(np.asarray(weight, float), asked.num_clients)
    for one in weights:
        check_share("weight", float(one))
    if not scale > 0:
        raise ArgumentError("scale", scale, "use a positive number")
    ours, targets = (np.asarray(engine.predict(state, known, function)) for function in (embed, target))
    theirs, mixed = (np.array(engine.predict(state, asked, function)) for function in (embed, predict))
    for client in np.flatnonzero((known.sizes > 0) & (asked.sizes > 0)):
        stored, queried = (slice(*population.offsets[client : client + 2]) for population in (known, asked))
        found = _weighted(ours[stored], targets[stored], theirs[queried], min(neighbours, known.sizes[client]), scale)
        mixed[queried] += weights[client] * (found - mixed[queried])
    return mixed


def _weighted(stored: np.ndarray, targets: np.ndarray, queried: np.ndarray, neighbours: int, scale: float) -> np.ndarray:
    """Means of the targets of the nearest stored rows, by how near they are."""
    distances, rows = KDTree(stored).query(queried, k=range(1, neighbours + 1))
    nearness = np.exp(-(distances - distances[:, :1]) / scale)  # the nearest one's factor cancels, and keeps far ones from underflowing
    return np.einsum("qk,qk...->q...", nearness / nearness.sum(axis=1, keepdims=True), targets[rows])
