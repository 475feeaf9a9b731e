r"""What can be known of abilities from what a student shows: posteriors on a grid, and the best predictions of each task from them."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

GRID = np.linspace(-4.5, 4.5, 61)
ROWS = 4096  # at a time


class Seen(NamedTuple):
    """What some rows show of one ability through one modality.

    Args:
        rows: int [k], which.
        likelihood: log-likelihood of each ability of the grid when it was recorded, [k, G].
        kept: correlation of that ability with the present one, [k]; 1 for what is fresh.
    """

    rows: np.ndarray
    likelihood: np.ndarray
    kept: np.ndarray


def posterior(mean: np.ndarray, deviation: np.ndarray, seen: Iterable[Seen]) -> np.ndarray:
    """Probabilities of one ability on the grid, [n, G], of a normal prior and what is seen."""
    total = -0.5 * ((GRID - mean[:, None]) / deviation[:, None]) ** 2
    for part in seen:
        total[part.rows] += _now(part.likelihood, part.kept)
    chances = np.exp(total - total.max(axis=1, keepdims=True))
    return chances / chances.sum(axis=1, keepdims=True)


def _now(likelihood: np.ndarray, kept: np.ndarray) -> np.ndarray:
    r"""Log-likelihood of the present ability: over what it was, :math:`\theta_{old} \sim N(\kappa\theta, 1 - \kappa^2)`."""
    result = likelihood.copy()
    for one in np.unique(kept[kept < 1]):
        rows = kept == one
        moved = np.exp(-0.5 * (GRID - one * GRID[:, None]) ** 2 / (1 - one**2))
        moved /= moved.sum(axis=1, keepdims=True)
        top = likelihood[rows].max(axis=1, keepdims=True)
        result[rows] = np.log(np.exp(likelihood[rows] - top) @ moved.T + 1e-300) + top
    return result


def expectation(of: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Mean of a function of both abilities, ``of`` [G, G], under independent posteriors [n, G] each."""
    return np.concatenate(
        [
            np.einsum("ng,gh,nh->n", first[start : start + ROWS], of, second[start : start + ROWS], optimize=True)
            for start in range(0, len(first), ROWS)
        ]
    )
