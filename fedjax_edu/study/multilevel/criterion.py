"""The deviance of a multilevel model as a function of the variances between schools, and its minimum."""

from collections.abc import Sequence
from typing import NamedTuple, Self

import numpy as np

from fedjax_edu.core.errors import DataError
from fedjax_edu.study.multilevel.school_statistics import NOTHING, SchoolStatistics

_STARTS = (0.5, 0.1, 2.0)  # of the factor of D
_CONVEX = 1e-4  # how far the deviance may fall with D, for each school, at what counts as its minimum


class Profile(NamedTuple):
    """The deviance at one D, minimised over β and σ².

    Args:
        deviance: minus twice the logarithm of the (restricted) likelihood.
        slope: its derivative in D, [q, q], symmetric.
        coefficients: β, [p].
        inverse: of S_XX, [p, p]: the covariance of β over σ².
        squares: r².
    """

    deviance: float
    slope: np.ndarray
    coefficients: np.ndarray
    inverse: np.ndarray
    squares: float


class Criterion(NamedTuple):
    """What a model reads of the statistics, with columns of Z turned and scaled to be orthonormal over all rows.

    Args:
        varying: Z'Z, [schools, q, q].
        mixed: Z'[X y], [schools, q, p + 1].
        total: [X y]'[X y], summed over schools, [p + 1, p + 1].
        basis: [q, q], by which the columns of Z are multiplied.
        freedom: what r² is divided by: N - p, or N.
        restricted: whether the likelihood is.
    """

    varying: np.ndarray
    mixed: np.ndarray
    total: np.ndarray
    basis: np.ndarray
    freedom: int
    restricted: bool

    @classmethod
    def of(cls, statistics: SchoolStatistics, target: str, fixed: Sequence[str], random: Sequence[str], restricted: bool) -> Self:
        """Those of a model: arguments as for :func:`~fedjax_edu.study.multilevel.fit`, with intercepts."""
        read = (*fixed, target)
        varying, rows = statistics.block(random, random), int(statistics.rows.sum())
        basis = np.linalg.inv(np.linalg.cholesky(varying.sum(axis=0) / rows)).T
        return cls(
            varying=basis.T @ varying @ basis,
            mixed=basis.T @ statistics.block(random, read),
            total=statistics.block(read, read).sum(axis=0),
            basis=basis,
            freedom=rows - len(fixed) if restricted else rows,
            restricted=restricted,
        )

    def check(self, target: str, random: Sequence[str]) -> None:
        """Makes sure that the deviance has a lower bound and depends on D.

        Raises:
            DataError: it has none, or does not.
        """
        alone = np.linalg.pinv(self.varying, hermitian=True) @ self.mixed
        inside = self.total - np.tensordot(self.mixed, alone, axes=((0, 1), (0, 1)))
        explained = inside[-1, :-1] @ np.linalg.pinv(inside[:-1, :-1], rcond=NOTHING, hermitian=True) @ inside[:-1, -1]
        if inside[-1, -1] - explained < NOTHING * self.total[-1, -1]:
            remedy = "pass more rows a school, or subtract a constant from it"
            raise DataError(target, "a column of which fixed and the schools' effects leave nothing", remedy)
        flat = np.abs(np.diag(self.profile(np.zeros_like(self.basis)).slope)) < NOTHING * np.diag(self.varying.sum(axis=0))
        if flat.any():
            column = random[int(np.argmax(flat))]
            remedy = "pass more schools, or fewer columns in fixed"
            raise DataError("random", f"{column!r}, whose variance these schools cannot tell", remedy)

    def profile(self, relative: np.ndarray) -> Profile:
        """The deviance and its slope at D = `relative`, [q, q] in the basis."""
        inner = np.eye(len(relative)) + self.varying @ relative
        inverted = np.linalg.inv(inner)
        solved = inverted @ self.mixed
        left = self.total - np.tensordot(self.mixed, relative @ solved, axes=((0, 1), (0, 1)))
        inverse = np.linalg.inv(left[:-1, :-1])
        coefficients = inverse @ left[:-1, -1]
        squares = left[-1, -1] - left[-1, :-1] @ coefficients
        deviance = np.linalg.slogdet(inner)[1].sum() + self.freedom * (1 + np.log(2 * np.pi * squares / self.freedom))
        residual = np.append(-coefficients, 1)
        pull = self.freedom / squares * np.outer(residual, residual)  # derivative of the rest of the deviance in `left`
        if self.restricted:
            deviance += np.linalg.slogdet(left[:-1, :-1])[1]
            pull[:-1, :-1] += inverse
        slope = (inverted @ self.varying).sum(axis=0) - np.tensordot(solved @ pull, solved, axes=((0, 2), (0, 2)))
        return Profile(float(deviance), slope, coefficients, inverse, float(squares))


def minimise(criterion: Criterion) -> tuple[np.ndarray, float]:
    """The D of the smallest deviance, [q, q] in the basis, and by how much another step would lower it.

    BFGS moves the Cholesky factor of D, which is free, so that D cannot leave the positive semi-definite matrices. The gain is Newton's,
    from the curvature there. A long first step may end on a boundary that D should not lie on and its factor cannot leave: the next start
    is smaller, or larger; after the last, the gain is infinite.
    """
    import scipy.optimize

    schools, size, _ = criterion.varying.shape
    lower = np.tril_indices(size)

    def factor(entries: np.ndarray) -> np.ndarray:
        matrix = np.zeros((size, size))
        matrix[lower] = entries
        return matrix

    def by_school(entries: np.ndarray) -> tuple[float, np.ndarray]:
        root = factor(entries)
        found = criterion.profile(root @ root.T)
        return found.deviance / schools, (2 * found.slope @ root)[lower] / schools

    for start in _STARTS:
        found = scipy.optimize.minimize(by_school, start * np.eye(size)[lower], jac=True, method="BFGS", options={"gtol": 1e-9})
        entries, relative = found.x, factor(found.x) @ factor(found.x).T
        if np.linalg.eigvalsh(criterion.profile(relative).slope)[0] >= -_CONVEX * schools:
            break
    else:
        return relative, np.inf
    slope = by_school(entries)[1]
    curvature = np.atleast_2d(scipy.optimize.approx_fprime(entries, lambda near: by_school(near)[1]))
    step = np.linalg.lstsq(curvature, slope, rcond=1e-8)[0]
    return relative, float(schools * abs(slope @ step) / 2)
