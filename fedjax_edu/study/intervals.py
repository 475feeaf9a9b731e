"""Intervals and p-values by bootstrap over schools, and Holm's correction."""

import numpy as np

from fedjax_edu.study.metrics import Interval

LEVEL = 0.95


def draw_schools(schools: int, draws: int, seed: int) -> np.ndarray:
    """How often each school is drawn, with replacement and as many as there are, uint16 [draws, schools]."""
    rng = np.random.default_rng(seed)
    drawn = (np.bincount(rng.integers(schools, size=schools), minlength=schools) for _ in range(draws))
    return np.fromiter(drawn, np.dtype((np.uint16, schools)), draws)


def interval(draws: np.ndarray, estimate: float, schools: int) -> Interval:
    r"""The 95 % interval of a statistic: bias-corrected percentiles of its draws, expanded for few schools.

    Percentiles are taken at :math:`\Phi(2 z_0 \pm z)`. :math:`z_0 = \Phi^{-1}(\text{share of draws below the estimate})` corrects the bias
    that a score has on few schools, which draws of schools have twice. :math:`z = t_{S-1, .975} \sqrt{S / (S - 1)}` takes the place of
    1.96, because draws of *S* schools vary by :math:`(S - 1) / S` of what new schools would, and their spread is itself an estimate.
    Over 80 schools in five folds the plain percentile interval covers too little: a fold of 16 schools is biased.

    Args:
        draws: of the statistic, [draws]; NaN where it does not exist.
        estimate: the statistic on all schools.
        schools: how many were drawn.

    Returns:
        The interval; NaN at both ends where the estimate is NaN or there are fewer than two schools.

    Reference: Efron, "Better bootstrap confidence intervals", 1987; Hesterberg, "What teachers should know about the bootstrap", 2015.
    """
    from scipy import stats

    draws = draws[np.isfinite(draws)]
    if not np.isfinite(estimate) or schools < 2 or not draws.size:
        return Interval(float("nan"), float("nan"))
    width = stats.t.ppf((1 + LEVEL) / 2, schools - 1) * np.sqrt(schools / (schools - 1))
    levels = stats.norm.cdf(2 * _normal_share(draws, estimate) + np.array([-width, width]))
    return Interval(*(float(value) for value in np.quantile(draws, levels)))


def p_value(draws: np.ndarray, estimate: float, schools: int) -> float:
    """How far the intervals of :func:`interval` can be narrowed before they leave out 0: the two-sided p-value of a difference.

    It is below .05 where the 95 % interval leaves out 0, up to interpolation between draws, and never below what the number of draws
    can show.

    Args:
        draws: of the difference, [draws].
        estimate: the difference on all schools.
        schools: how many were drawn.

    Returns:
        The p-value; NaN where the interval does not exist.
    """
    from scipy import stats

    draws = draws[np.isfinite(draws)]
    if not np.isfinite(estimate) or schools < 2 or not draws.size:
        return float("nan")
    distance = 2 * _normal_share(draws, estimate) - _normal_share(draws, 0.0)
    return float(2 * stats.t.sf(abs(distance) * np.sqrt((schools - 1) / schools), schools - 1))


def holm(p_values: np.ndarray) -> np.ndarray:
    """Holm's step-down correction: what each p-value of a family is worth when the chance of any false alarm is to be held.

    The *i*-th smallest of *m* becomes the largest of :math:`(m - j + 1) p_j` over the *j* up to *i*, at most 1. Comparisons that could not be made
    (NaN) are no part of the family.

    Args:
        p_values: [comparisons].

    Returns:
        Adjusted p-values, [comparisons].

    Reference: Holm, "A simple sequentially rejective multiple test procedure", 1979.

    >>> holm(np.array([0.01, 0.04, 0.03, 0.005])).round(3).tolist()
    [0.03, 0.06, 0.06, 0.02]
    """
    adjusted = np.full(len(p_values), np.nan)
    order = np.argsort(p_values)[: np.isfinite(p_values).sum()]  # NaN comes last
    raised = np.maximum.accumulate(p_values[order] * np.arange(len(order), 0, -1))
    adjusted[order] = np.minimum(raised, 1.0)
    return adjusted


def _normal_share(draws: np.ndarray, value: float) -> float:
    """The normal quantile of the share of draws below a value, ties counting half; finite, as if one draw more lay on either side."""
    from scipy import stats

    below = ((draws < value).sum() + (draws <= value).sum()) / 2
    return float(stats.norm.ppf(np.clip(below / len(draws), 1 / (len(draws) + 1), len(draws) / (len(draws) + 1))))
