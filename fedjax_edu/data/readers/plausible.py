"""Plausible values: one estimate out of the estimates that each of them gives."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fedjax_edu.core.errors import ArgumentError


class PlausibleEstimate(NamedTuple):
    """What all plausible values say together.

    Attributes:
        estimate: of the quantity, [...].
        variance: of the estimate, [...].
    """

    estimate: np.ndarray
    variance: np.ndarray


def combine_plausible_values(estimates: Sequence[float] | np.ndarray, variances: Sequence[float] | np.ndarray) -> PlausibleEstimate:
    """The estimate and its variance from one analysis for each plausible value, by Rubin's rules.

    With estimates Q₁ ... Q_M of variances U₁ ... U_M, the estimate is Q̄ = Σ Q_m / M and its variance
    T = Ū + (1 + 1/M) B, with Ū = Σ U_m / M within and B = Σ (Q_m - Q̄)² / (M - 1) between the analyses.

    Args:
        estimates: what each analysis gives, [M, ...], M at least 2.
        variances: their sampling variances, the same shape.

    Raises:
        ArgumentError: fewer than two estimates, shapes that differ, or a variance below 0.

    >>> combined = combine_plausible_values([1.0, 2.0, 3.0], [1.0, 1.0, 1.0])
    >>> float(combined.estimate), round(float(combined.variance), 6)
    (2.0, 2.333333)

    Reference: Rubin, Multiple Imputation for Nonresponse in Surveys, 1987, section 3.1.
    """
    values, squares = np.asarray(estimates, np.float64), np.asarray(variances, np.float64)
    if values.ndim == 0 or len(values) < 2:
        raise ArgumentError("estimates", estimates, "pass the estimate of each plausible value, two or more")
    if squares.shape != values.shape:
        raise ArgumentError("variances", squares, f"pass one variance for each estimate, shape {list(values.shape)}")
    if not (squares >= 0).all():
        raise ArgumentError("variances", squares, "pass variances, squares of standard errors, 0 or more")
    between = values.var(axis=0, ddof=1)
    return PlausibleEstimate(values.mean(axis=0), squares.mean(axis=0) + (1 + 1 / len(values)) * between)
