"""Scores from sums over each school's rows, so that schools can be drawn thousands of times without looking at rows again."""

from collections.abc import Callable
from typing import Protocol

import numpy as np

from fedjax_edu.study.metrics import MIN_ROWS
from fedjax_edu.study.task_run import TaskRun

_BLOCK = 1000  # draws at a time: their multiplicities and products stay in a few megabytes
_NO_VARIATION = 1e-10  # share of the sum of squares that rounding may leave where targets do not vary


class SchoolSums(Protocol):
    """All that the score of several models depends on, school by school."""

    def scores(self, times: np.ndarray) -> np.ndarray:
        """The scores with each school's rows repeated, [draws, models]; NaN where a score does not exist.

        Args:
            times: how often each school is drawn, [draws, schools].
        """

    def by_school(self) -> np.ndarray:
        """The scores of each school alone, [schools, models]; NaN where it has fewer than `MIN_ROWS` rows, or no score."""


class SquaredErrors:
    r"""R² of several models from four sums a school.

    With :math:`w_s` the times that school *s* is drawn, and sums over its rows,

    .. math:: R^2 = 1 - \frac{\sum_s w_s \sum (y - \hat y)^2}{\sum_s w_s \sum y^2 - (\sum_s w_s \sum y)^2 / \sum_s w_s n_s}.

    Args:
        school: position of each row's school, int [n].
        schools: how many there are.
        targets: [n].
        predictions: [models, n].
    """

    def __init__(self, school: np.ndarray, schools: int, targets: np.ndarray, predictions: np.ndarray):
        centred = targets - targets.mean()  # squares of numbers far from zero lose digits, and R² does not know its origin
        columns = [np.ones_like(centred), centred, centred**2, *(targets - predictions) ** 2]
        self.sums = np.stack([np.bincount(school, column, schools) for column in columns], axis=1)

    def scores(self, times: np.ndarray) -> np.ndarray:
        """As in :class:`SchoolSums`."""
        return _r2(_in_blocks(times, lambda block: block @ self.sums))

    def by_school(self) -> np.ndarray:
        """As in :class:`SchoolSums`."""
        return np.where(self.sums[:, :1] >= MIN_ROWS, _r2(self.sums), np.nan)


class PairsWon:
    r"""AUC of several models from how many pairs of rows they put in order, school by school.

    With :math:`C_{st}` the number of pairs of a positive of school *s* and a negative of school *t* of which the positive has the higher
    prediction, ties counting half, and :math:`P_s, N_t` the numbers of positives and negatives,

    .. math:: AUC = \frac{\sum_{st} w_s w_t C_{st}}{\sum_s w_s P_s \, \sum_t w_t N_t}.

    Args:
        school: position of each row's school, int [n].
        schools: how many there are.
        targets: 0 or 1, [n].
        predictions: [models, n].
    """

    def __init__(self, school: np.ndarray, schools: int, targets: np.ndarray, predictions: np.ndarray):
        positive = targets == 1
        self.positives, self.negatives = (np.bincount(school[rows], minlength=schools).astype(float) for rows in (positive, ~positive))
        self.won = np.stack([_pairs_won(school, schools, positive, values) for values in predictions])

    def scores(self, times: np.ndarray) -> np.ndarray:
        """As in :class:`SchoolSums`."""

        def of_block(block: np.ndarray) -> np.ndarray:
            pairs = (block @ self.positives) * (block @ self.negatives)
            return _divided(np.stack([((block @ won) * block).sum(1) for won in self.won], axis=1), pairs)

        return _in_blocks(times, of_block)

    def by_school(self) -> np.ndarray:
        """As in :class:`SchoolSums`."""
        enough = self.positives + self.negatives >= MIN_ROWS
        own = np.diagonal(self.won, axis1=1, axis2=2).T
        return np.where(enough[:, None], _divided(own, self.positives * self.negatives), np.nan)


def school_sums(run: TaskRun, models: list[str], schools: np.ndarray) -> SchoolSums:
    """What the scores of models in one run depend on.

    Args:
        run: the rows.
        models: which, in order.
        schools: ids of the run's schools, sorted.
    """
    kind = PairsWon if run.task.binary else SquaredErrors
    predictions = np.stack([_finite(np.asarray(run.models[model], np.float64)) for model in models])
    return kind(np.searchsorted(schools, run.school), len(schools), np.asarray(run.targets, np.float64), predictions)


def _finite(predictions: np.ndarray) -> np.ndarray:
    """The predictions of a model; NaN all over where it diverged: it has no score, whatever schools are drawn."""
    return predictions if np.isfinite(predictions).all() else np.full_like(predictions, np.nan)


def _r2(sums: np.ndarray) -> np.ndarray:
    count, total, squares = sums[:, :3].T
    with np.errstate(invalid="ignore", divide="ignore"):
        variation = squares - total**2 / count
        return 1 - _divided(sums[:, 3:], np.where(variation > _NO_VARIATION * squares, variation, 0.0))


def _pairs_won(school: np.ndarray, schools: int, positive: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """[schools, schools]; NaN all over where predictions are."""
    if np.isnan(predictions).any():
        return np.full((schools, schools), np.nan)
    won = np.zeros((schools, schools))
    upper = np.flatnonzero(positive)[np.argsort(predictions[positive])]  # sorted: neighbours are sought in the same place
    for one in np.unique(school[~positive]):
        lower = np.sort(predictions[~positive & (school == one)])
        beaten = [np.searchsorted(lower, predictions[upper], side) for side in ("left", "right")]
        won[:, one] = np.bincount(school[upper], (beaten[0] + beaten[1]) / 2, schools)
    return won


def _divided(values: np.ndarray, by: np.ndarray) -> np.ndarray:
    """[..., models] over [...]; NaN where the divisor is 0."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(by[:, None] > 0, values / by[:, None], np.nan)


def _in_blocks(times: np.ndarray, function: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    parts = range(0, len(times), _BLOCK)
    return np.concatenate([function(times[start : start + _BLOCK].astype(np.float64)) for start in parts])
