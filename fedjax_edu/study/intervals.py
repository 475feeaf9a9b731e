r"""Intervals and p-values by bootstrap over schools, and Holm's correction.

Draws of schools give the standard error of a score; the 95 % interval is :math:`\text{estimate} \pm t_{S-1, .975} \, \text{error}`, and a
p-value is that of the *t* test with the same error, so that an interval of a difference leaves out 0 exactly where p < .05. Percentiles
of the draws are no interval here: a mean over folds is a little biased since each fold has few schools, draws of schools have that bias
once more, and so percentiles stand beside the truth (over 60 schools in five folds they cover 90 %).
"""

import math

import numpy as np

from fedjax_edu.study.metrics import Interval

LEVEL = 0.95


def draw_schools(schools: int, draws: int, seed: int) -> np.ndarray:
    """How often each school is drawn, with replacement and as many as there are, uint16 [draws, schools]."""
    rng = np.random.default_rng(seed)
    drawn = (np.bincount(rng.integers(schools, size=schools), minlength=schools) for _ in range(draws))
    return np.fromiter(drawn, np.dtype((np.uint16, schools)), draws)


def standard_error(draws: np.ndarray, schools: int) -> float:
    r"""The standard deviation of a statistic's draws, times :math:`\sqrt{S / (S - 1)}`.

    Draws of the *S* schools at hand vary less than other schools would.

    Args:
        draws: of the statistic, [draws]; NaN where it does not exist.
        schools: how many were drawn.

    Returns:
        The standard error; NaN with fewer than two schools, or fewer than two draws in which the statistic exists.
    """
    draws = draws[np.isfinite(draws)]
    return float(draws.std(ddof=1) * math.sqrt(schools / (schools - 1))) if schools > 1 and len(draws) > 1 else float("nan")


def interval(estimate: float, error: float, schools: int) -> Interval:
    """The 95 % interval of a statistic.

    Args:
        estimate: the statistic on all schools.
        error: its standard error.
        schools: how many there are.

    >>> interval(0.5, 0.1, schools=61)
    Interval(low=0.2999..., high=0.7000...)
    """
    from scipy import stats

    half = error * stats.t.ppf((1 + LEVEL) / 2, schools - 1)
    return Interval(float(estimate - half), float(estimate + half))


def p_value(difference: float, error: float, schools: int) -> float:
    """The two-sided p-value of a difference; arguments as for :func:`interval`. Models that never differ have 1.

    >>> round(p_value(0.2, 0.1, schools=61), 3), p_value(0.0, 0.0, schools=61)
    (0.05, 1.0)
    """
    from scipy import stats

    return 1.0 if difference == 0 else float(2 * stats.t.sf(abs(difference) / error if error else math.inf, schools - 1))


def holm(p_values: np.ndarray) -> np.ndarray:
    """Holm's step-down correction: what each p-value of a family is worth when the chance of any false alarm is to be held.

    The *i*-th smallest of *m* becomes the largest of :math:`(m - j + 1) p_j` over the *j* up to *i*, at most 1. Comparisons that could
    not be made (NaN) are no part of the family.

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
