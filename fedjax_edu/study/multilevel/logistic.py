"""Multilevel models of yes-no targets."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fedjax_edu.core.errors import DataError
from fedjax_edu.study.multilevel.effects import SchoolEffects, predict, school_effects
from fedjax_edu.study.multilevel.model import MixedModel, fit
from fedjax_edu.study.multilevel.school_statistics import statistics

_ROUNDS = 200
_TOLERANCE = 1e-7  # of a probability, from one round to the next
_FARTHEST = 10.0  # log-odds that stand for all beyond them: where columns tell targets apart without error, they would grow for ever


def fit_logistic(
    columns: Mapping[str, Any], schools: Any, target: str, fixed: Sequence[str] = (), *, method: str = "ml"
) -> tuple[MixedModel, SchoolEffects]:
    r"""A logistic random-intercept model, by penalised quasi-likelihood.

    :math:`\log\frac{\mu}{1 - \mu} = X \beta + u_j`, linearised around the present estimate: the linear model is fitted to
    :math:`\eta + (y - \mu) / w` with weights :math:`w = \mu (1 - \mu)`, again and again until probabilities stay as they are. A school
    knows its own η from the model and its own effect, so that each fit is one round of :func:`statistics`. The variance around the
    school is free (1 without over- or underdispersion). Effects of schools with few rows each are estimated too small (Breslow & Lin
    1995, Biometrika 82).

    Args:
        columns: numbers [n] by name, the target of 0 and 1 among them.
        schools: id of the school of each row [n].
        target: the column to predict.
        fixed: columns of X besides the intercept.
        method: ``"reml"`` or ``"ml"`` for each fit.

    Returns:
        The last model, on the scale of log-odds, and the schools' effects. The model's deviance is that of a linearised target.

    Raises:
        ArgumentError: an unknown column or method.
        DataError: a target that is not 0 or 1, or not both; columns that depend on each other; no convergence.

    >>> columns = {"leaves": [0, 0, 0, 1, 0, 1, 1, 1] * 5}
    >>> model, effects = fit_logistic(columns, ["A", "A", "A", "A", "B", "B", "B", "B"] * 5, "leaves")
    >>> effects.effects.round(1).tolist()
    [[-0.9], [0.9]]

    Reference: Breslow & Clayton (1993), Journal of the American Statistical Association 88; Venables & Ripley (2002), Modern Applied
    Statistics with S, whose ``glmmPQL`` this follows.
    """
    from scipy.special import expit

    wanted = np.asarray(columns[target], np.float64)
    if not np.isin(wanted, (0, 1)).all() or wanted.min() == wanted.max():
        raise DataError(f"columns.{target}", wanted, "pass 0 and 1, and both of them")
    probability = (wanted + 0.5) / 2
    log_odds = np.log(probability / (1 - probability))
    for _ in range(_ROUNDS):
        weight = probability * (1 - probability)
        linear = {**columns, target: log_odds + (wanted - probability) / weight}
        sent = statistics(linear, schools, weight)
        model = fit(sent, target, fixed, method=method)
        effects = school_effects(model, sent)
        log_odds = np.clip(predict(model, columns, effects, schools), -_FARTHEST, _FARTHEST)
        before, probability = probability, expit(log_odds)
        if np.abs(probability - before).max() < _TOLERANCE:
            return model, effects
    moved = np.abs(probability - before).max()
    raise DataError(
        f"columns.{target}", f"probabilities that move by {moved:.1g} after {_ROUNDS} rounds", "leave out rare columns of fixed"
    )
