"""The model that readers of school data ask for first: one intercept for each school."""

import dataclasses

import numpy as np

from fedjax_edu.core.errors import DataError
from fedjax_edu.study.multilevel.effects import SchoolEffects, predict, school_effects
from fedjax_edu.study.multilevel.logistic import fit_logistic
from fedjax_edu.study.multilevel.model import MixedModel, fit
from fedjax_edu.study.multilevel.school_statistics import independent, statistics

_TARGET = "target"


@dataclasses.dataclass(frozen=True, eq=False)
class RandomIntercept:
    """A fitted random-intercept model.

    Attributes:
        model: over those inputs that do not depend on others before them; of log-odds for a binary target.
        effects: of the schools it was fitted on.
        icc: intraclass correlation of the targets themselves: that of the model without inputs.
        binary: whether predictions are probabilities.
    """

    model: MixedModel
    effects: SchoolEffects
    icc: float
    binary: bool

    def predict(self, inputs: np.ndarray, schools: np.ndarray) -> np.ndarray:
        """Expected targets, or probabilities of 1.

        Args:
            inputs: [n, p], encoded as those of the fit.
            schools: id of the school of each row, [n]. A school never seen is predicted as one whose effect is 0; for a binary target
                that is the school in the middle, not the mean over schools.

        Returns:
            float64 [n].
        """
        from scipy.special import expit

        expected = predict(self.model, _named(inputs), self.effects, schools)
        return expit(expected) if self.binary else expected


def random_intercept(inputs: np.ndarray, targets: np.ndarray, schools: np.ndarray, *, binary: bool = False) -> RandomIntercept:
    r"""Fits :math:`y_{ij} = x_{ij}^\top \beta + u_j + e_{ij}` by REML, or the logistic model by penalised quasi-likelihood.

    Args:
        inputs: [n, p], finite; encoded as for a network: standardised numbers, categories as indicators of every level, indicators of
            what is missing. Columns that depend on others before them are left out.
        targets: [n]; 0 and 1 if binary.
        schools: id of the school of each row, [n].
        binary: whether to model the probability of 1.

    Raises:
        DataError: arrays of different length, numbers that are not finite, too few rows or schools, no convergence.

    >>> random = np.random.default_rng(0)
    >>> schools = np.repeat(np.arange(50), 20)
    >>> inputs = random.normal(size=(1000, 2))
    >>> targets = inputs @ [1.0, -2.0] + random.normal(size=50)[schools] + random.normal(size=1000)
    >>> fitted = random_intercept(inputs, targets, schools)
    >>> fitted.model.coefficients[1:].round(1).tolist(), round(fitted.model.icc, 1)
    ([1.0, -2.0], 0.5)
    """
    if np.ndim(inputs) != 2 or not np.shape(inputs)[:1] == np.shape(targets) == np.shape(schools):
        shapes = f"shapes {np.shape(inputs)}, {np.shape(targets)} and {np.shape(schools)}"
        raise DataError("inputs, targets and schools", shapes, "pass [n, p], [n] and [n]")
    columns = _named(inputs) | {_TARGET: targets}
    sent = statistics(columns, schools)
    fixed = independent(sent, sent.columns[1:-1])
    if binary:
        null, _ = fit_logistic({_TARGET: targets}, schools, _TARGET)
        variance = null.between[0, 0]
        return RandomIntercept(*fit_logistic(columns, schools, _TARGET, fixed), float(variance / (variance + np.pi**2 / 3)), binary)
    model = fit(sent, _TARGET, fixed)
    return RandomIntercept(model, school_effects(model, sent), fit(sent, _TARGET).icc, binary)


def _named(inputs: np.ndarray) -> dict[str, np.ndarray]:
    return {f"input {position}": column for position, column in enumerate(np.asarray(inputs).T)}
