"""Scores of predictions, over all rows and for every school, with intervals by bootstrap over schools."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from fedjax_edu.data import Task

MIN_ROWS = 20  # schools with fewer test rows are left out of statistics over schools
RESAMPLES = 1000


def score(task: Task, targets: np.ndarray, predictions: np.ndarray, weights: np.ndarray | None = None) -> float:
    """R² or AUC, exactly; NaN where it does not exist: no variation in the targets, or a prediction that is not finite.

    Args:
        task: says which.
        targets: [n] in raw units.
        predictions: [n].
        weights: [n] multiplicity of each row; None counts each once.
    """
    from sklearn.metrics import r2_score, roc_auc_score

    seen = targets if weights is None else targets[weights > 0]
    if len(seen) < 2 or seen.min() == seen.max() or not np.isfinite(predictions).all():
        return float("nan")
    return float((roc_auc_score if task.binary else r2_score)(targets, predictions, sample_weight=weights))


def by_school(task: Task, school: np.ndarray, targets: np.ndarray, predictions: np.ndarray, min_rows: int = MIN_ROWS) -> dict[int, float]:
    """The score of every school with at least `min_rows` rows for which it exists."""
    scores = {}
    for one in np.unique(school):
        rows = school == one
        if rows.sum() >= min_rows and np.isfinite(value := score(task, targets[rows], predictions[rows])):
            scores[int(one)] = value
    return scores


def tenth_quantile(scores: dict[int, float]) -> float:
    """The 10 % quantile of the schools' scores: a tenth of them stay below; NaN without schools."""
    return float(np.quantile(list(scores.values()), 0.1)) if scores else float("nan")


@dataclasses.dataclass(frozen=True)
class Interval:
    """A 95 % interval."""

    low: float
    high: float


def resampled(school: np.ndarray, statistic: Callable[[np.ndarray], Any], seed: int, resamples: int = RESAMPLES) -> np.ndarray:
    """A statistic of rows under draws of schools with replacement.

    Args:
        school: of each row, [n].
        statistic: from how often each row is drawn, float [n], to one or several numbers [...].
        seed: of the draws.
        resamples: how many draws.

    Returns:
        float64 [resamples, ...].
    """
    _, owner = np.unique(school, return_inverse=True)
    count, rng = owner.max() + 1, np.random.default_rng(seed)
    drawn = (np.bincount(rng.integers(count, size=count), minlength=count)[owner].astype(np.float64) for _ in range(resamples))
    return np.array([statistic(times) for times in drawn])


def interval(draws: np.ndarray) -> Interval:
    """The percentile interval of draws [resamples]."""
    return Interval(*(float(value) for value in np.nanquantile(draws, [0.025, 0.975])))


def over_schools(school: np.ndarray, statistic: Callable[[np.ndarray], float], seed: int, resamples: int = RESAMPLES) -> Interval:
    """Percentile bootstrap of one statistic; arguments as for :func:`resampled`."""
    return interval(resampled(school, statistic, seed, resamples))


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Two models on the same rows, school by school.

    Attributes:
        schools: how many schools count.
        wins: share of schools where the first is at least as good, ties counting half.
        wins_interval: 95 % by bootstrap over schools.
        difference: mean over schools of the first's score minus the second's.
        difference_interval: 95 % by paired bootstrap over schools.
    """

    schools: int
    wins: float
    wins_interval: Interval
    difference: float
    difference_interval: Interval


def compare(first: dict[int, float], second: dict[int, float], seed: int = 0) -> Comparison:
    """Compares the scores of two models by school; schools that either lacks are left out."""
    common = sorted(first.keys() & second.keys())
    difference = np.array([first[school] - second[school] for school in common])
    if not common:
        nothing = Interval(float("nan"), float("nan"))
        return Comparison(0, float("nan"), nothing, float("nan"), nothing)
    won = np.where(difference == 0, 0.5, difference > 0)

    def around(values: np.ndarray) -> Interval:
        return over_schools(np.array(common), lambda weight: float(np.average(values, weights=weight)), seed)

    return Comparison(len(common), float(won.mean()), around(won), float(difference.mean()), around(difference))
