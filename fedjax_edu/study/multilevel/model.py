"""Multilevel models, fitted from the statistics of schools."""

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np

from fedjax_edu.core.errors import ArgumentError, DataError
from fedjax_edu.study.multilevel.criterion import Criterion, minimise
from fedjax_edu.study.multilevel.school_statistics import INTERCEPT, SchoolStatistics, independent

_GAIN = 1e-5  # what the deviance may have left to fall: estimates are then off by less than .004 standard errors


@dataclasses.dataclass(frozen=True, eq=False)
class MixedModel:
    r"""A fitted multilevel model.

    Attributes:
        target: the column that it predicts.
        fixed: columns of X, the intercept first.
        random: columns of Z, the intercept first.
        method: ``"reml"`` or ``"ml"``.
        coefficients: float64 [fixed], :math:`\hat\beta`.
        covariance: float64 [fixed, fixed], of the coefficients.
        between: float64 [random, random], T: covariance of a school's effects.
        within: :math:`\sigma^2`, variance of a pupil around the school.
        deviance: minus twice the logarithm of the (restricted) likelihood, constants included.
        gain: by how much another step would lower the deviance; nearly 0.
    """

    target: str
    fixed: tuple[str, ...]
    random: tuple[str, ...]
    method: str
    coefficients: np.ndarray
    covariance: np.ndarray
    between: np.ndarray
    within: float
    deviance: float
    gain: float

    @property
    def standard_errors(self) -> np.ndarray:
        """Of the coefficients, float64 [fixed]."""
        return np.sqrt(np.diag(self.covariance))

    @property
    def icc(self) -> float:
        r"""Intraclass correlation :math:`T_{00} / (T_{00} + \sigma^2)`: the share of schools in the variance that X leaves.

        So much are two pupils of one school correlated; with random slopes, two for whom the other columns of Z are 0.
        """
        return float(self.between[0, 0] / (self.between[0, 0] + self.within))

    @property
    def singular(self) -> bool:
        """Whether T lies on the boundary: a school's effects, or some combination of them, do not vary."""
        scale = np.sqrt(np.diag(self.between) + 1e-6 * self.within)
        return bool(np.linalg.eigvalsh(self.between / np.outer(scale, scale))[0] < 1e-6)


def fit(
    statistics: SchoolStatistics, target: str, fixed: Sequence[str] = (), random: Sequence[str] = (), *, method: str = "reml"
) -> MixedModel:
    r"""Fits a multilevel model by (restricted) maximum likelihood.

    Let S be the sum over schools of :math:`[X_j\ y_j]^\top (I + Z_j D Z_j^\top)^{-1} [X_j\ y_j]`, and
    :math:`r^2 = S_{yy} - S_{yX} S_{XX}^{-1} S_{Xy}`. With p columns in X, N rows, and the best β and σ² for each D, the deviance is

    .. math:: \sum_j \log|I + Z_j^\top Z_j D| + \log|S_{XX}| + (N - p)\Bigl(1 + \log\frac{2 \pi r^2}{N - p}\Bigr).

    Maximum likelihood leaves :math:`\log|S_{XX}|` out and has N for N - p.

    Args:
        statistics: of all schools. Of weighted ones, the deviance lacks the logarithms of the weights.
        target: the column to predict.
        fixed: columns of X besides the intercept.
        random: columns of Z besides the intercept; none gives the random-intercept model.
        method: ``"reml"`` or ``"ml"``.

    Returns:
        The model; T may lie on the boundary (:attr:`MixedModel.singular`).

    Raises:
        ArgumentError: an unknown column or method.
        DataError: columns that depend on each other, too few rows or schools for the model, no convergence.

    >>> from fedjax_edu.study.multilevel import statistics
    >>> model = fit(statistics({"score": [1.0, 3.0, 4.0, 8.0]}, schools=["A", "A", "B", "B"]), "score")
    >>> model.coefficients.round(4).tolist(), model.between.round(4).tolist(), round(model.within, 4), round(model.icc, 4)
    ([4.0], [[5.5]], 5.0, 0.5238)

    Reference: Bates, Mächler, Bolker & Walker (2015), Journal of Statistical Software 67(1), whose criterion this is; Raudenbush & Bryk
    (2002), Hierarchical Linear Models. We differ in the minimiser, which has the gradient, and in refusing what did not converge.
    """
    if method not in ("reml", "ml"):
        raise ArgumentError("method", method, "use 'reml' or 'ml'")
    fixed, random = (INTERCEPT, *fixed), (INTERCEPT, *random)
    check_columns(statistics, target, fixed, random)
    criterion = Criterion.of(statistics, target, fixed, random, method == "reml")
    criterion.check(target, random)
    relative, gain = minimise(criterion)
    if not gain < _GAIN:
        remedy = "leave out columns of random that schools can hardly tell apart"
        raise DataError(target, f"no minimum of the deviance: another step would gain {gain:.1g}", remedy)
    found = criterion.profile(relative)
    within = found.squares / criterion.freedom
    between = within * criterion.basis @ relative @ criterion.basis.T
    return MixedModel(target, fixed, random, method, found.coefficients, within * found.inverse, between, within, found.deviance, gain)


def check_columns(statistics: SchoolStatistics, target: str, fixed: Sequence[str], random: Sequence[str]) -> None:
    """Makes sure that a model can read the statistics.

    Raises:
        ArgumentError: an unknown column.
        DataError: columns that depend on each other, or no more rows than columns.
    """
    for argument, names in (("target", (target,)), ("fixed", fixed[1:]), ("random", random[1:])):
        for name in names:
            if name not in statistics.columns[1:]:
                raise ArgumentError(argument, name, f"use {', '.join(statistics.columns[1:])}")
    if target in (*fixed, *random):
        raise ArgumentError("target", target, "leave it out of fixed and random")
    if (rows := int(statistics.rows.sum())) <= len(fixed):
        raise DataError("statistics", f"{rows} rows", f"pass more than {len(fixed)}, or fewer columns in fixed")
    for argument, names in (("fixed", fixed[1:]), ("random", random[1:])):
        kept = independent(statistics, names)
        if len(kept) < len(names):
            name = next(name for name, same in itertools.zip_longest(names, kept) if name != same)
            raise DataError(argument, f"{name!r}, a combination of a constant and the columns before it", "leave it out")
