"""What is particular to a school, and predictions with it."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from fedjax_edu.core.errors import ArgumentError
from fedjax_edu.study.multilevel.model import MixedModel
from fedjax_edu.study.multilevel.school_statistics import INTERCEPT, SchoolStatistics, table_of


@dataclasses.dataclass(frozen=True, eq=False)
class SchoolEffects:
    """Empirical Bayes estimates of what is particular to each school.

    Attributes:
        schools: [schools], ids.
        effects: float64 [schools, random], expectation of u given the school's rows, in units of the target.
        reliability: float64 [schools, random], 0 to 1: the share of an effect's variance that the school's rows settle.
    """

    schools: np.ndarray
    effects: np.ndarray
    reliability: np.ndarray


def school_effects(model: MixedModel, statistics: SchoolStatistics) -> SchoolEffects:
    r"""What each school adds to the fixed part, shrunk towards nothing where it has few rows.

    .. math:: \hat u_j = D (I + Z_j^\top Z_j D)^{-1} Z_j^\top (y_j - X_j \hat\beta)

    With a random intercept alone that is the school's mean residual times its reliability
    :math:`\lambda_j = \tau / (\tau + \sigma^2 / n_j)`. It takes the model and the school's own statistics, so that a school can compute
    it itself.

    Args:
        model: the fitted model.
        statistics: of the schools asked for, whether they took part in the fit or not.

    Raises:
        ArgumentError: statistics without a column that the model reads.

    >>> from fedjax_edu.study.multilevel import fit, statistics
    >>> sent = statistics({"score": [1.0, 3.0, 4.0, 8.0]}, schools=["A", "A", "B", "B"])
    >>> found = school_effects(fit(sent, "score"), sent)
    >>> found.effects.round(4).tolist(), found.reliability.round(4).tolist()
    ([[-1.375], [1.375]], [[0.6875], [0.6875]])
    """
    for name in (model.target, *model.fixed, *model.random):
        if name not in statistics.columns:
            raise ArgumentError("statistics", f"columns {statistics.columns}", f"send {name!r} too: the model reads it")
    relative = model.between / model.within
    shrinkage = relative @ np.linalg.inv(np.eye(len(relative)) + statistics.block(model.random, model.random) @ relative)
    residuals = statistics.block(model.random, (*model.fixed, model.target)) @ np.append(-model.coefficients, 1)
    prior, posterior = np.diag(relative), np.diagonal(shrinkage, axis1=1, axis2=2)
    reliability = 1 - np.divide(posterior, prior, out=np.ones_like(posterior), where=prior > 0)
    return SchoolEffects(statistics.schools, np.einsum("jqr,jr->jq", shrinkage, residuals), reliability)


def predict(model: MixedModel, columns: Mapping[str, Any], effects: SchoolEffects, schools: Any) -> np.ndarray:
    """Expected targets: the fixed part, and what is particular to the school where that is known.

    Args:
        model: the fitted model.
        columns: numbers [n] by name; those that the model does not read are left alone.
        effects: of schools.
        schools: id of the school of each row [n]; one without effects is predicted by the fixed part.

    Returns:
        float64 [n] in units of the target.

    Raises:
        ArgumentError: a column that the model reads is absent.
        DataError: columns of different length, or with numbers that are not finite.

    >>> from fedjax_edu.study.multilevel import fit, statistics
    >>> sent = statistics({"score": [1.0, 3.0, 4.0, 8.0], "age": [7, 8, 7, 8]}, schools=["A", "A", "B", "B"])
    >>> model = fit(sent, "score", ["age"])
    >>> predict(model, {"age": [7, 7, 7]}, school_effects(model, sent), ["A", "B", "C"]).round(2).tolist()
    [0.63, 4.37, 2.5]
    """
    read = [name for name in dict.fromkeys((*model.fixed, *model.random)) if name != INTERCEPT]
    for name in read:
        if name not in columns:
            raise ArgumentError("columns", list(columns), f"pass {name!r} too: the model reads it")
    owner = np.asarray(schools)
    table = dict(zip((INTERCEPT, *read), table_of({name: columns[name] for name in read}, owner.size).T, strict=True))
    x, z = (np.stack([table[name] for name in names], axis=1) for names in (model.fixed, model.random))
    place = {school: position for position, school in enumerate(effects.schools.tolist())}
    known = np.append(effects.effects, np.zeros((1, len(model.random))), axis=0)
    return x @ model.coefficients + np.sum(z * known[[place.get(school, -1) for school in owner.tolist()]], axis=1)
