"""Whether predictions mean what they say: Brier score, calibration slope and intercept, reliability."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from fedjax_edu.core.errors import DataError, require
from fedjax_edu.data.schema import Task
from fedjax_edu.study.metrics import MIN_ROWS
from fedjax_edu.study.tables import Table
from fedjax_edu.study.task_run import TaskRun, by_task, pooled_over_folds

BINS = 10
_SURE = 1e-6  # probabilities nearer to 0 or 1 count as this near: their log-odds would be infinite


@dataclasses.dataclass(frozen=True)
class Calibration:
    r"""How the targets follow a model's predictions.

    Of a binary task, with :math:`\ell = \operatorname{logit} \hat p`, slope and intercept are those of two logistic regressions without
    penalty: *b* of :math:`\operatorname{logit} P(y = 1) = a + b \ell`, and *a* of :math:`\operatorname{logit} P(y = 1) = a + \ell`. Of a
    regression task they are those of the line :math:`y = a + b \hat y`. Perfect are 1 and 0: a slope below 1 says that predictions are too
    extreme, an intercept above 0 that they are too low.

    Attributes:
        brier: mean squared error of the probabilities; NaN of a regression task.
        slope: NaN where predictions do not vary, or separate the classes.
        intercept: NaN likewise, or where a binary target does not vary.

    Reference: Cox, "Two further applications of a model for binary regression", 1958; Van Calster et al., "Calibration: the Achilles
    heel of predictive analytics", 2019.
    """

    brier: float
    slope: float
    intercept: float


@dataclasses.dataclass(frozen=True)
class Reliability:
    """Predictions against what happened, in bins of about equally many rows.

    Attributes:
        predicted: mean prediction of each bin, [bins].
        observed: mean target of each bin, [bins].
        count: rows of each bin, int [bins].
    """

    predicted: np.ndarray
    observed: np.ndarray
    count: np.ndarray


@dataclasses.dataclass(frozen=True)
class CalibrationReport:
    """What :func:`measure_calibration` found.

    Attributes:
        tasks: by name.
        found: ``{task: {model: Calibration}}``, means over seeds.
        reliability: ``{task: {model: Reliability}}``, the rows of all seeds together; without models that diverged.
    """

    tasks: Mapping[str, Task]
    found: Mapping[str, Mapping[str, Calibration]]
    reliability: Mapping[str, Mapping[str, Reliability]]

    def table(self, titles: Mapping[str, str] | None = None) -> Table:
        """A row for each task and model; `titles` says how it calls models."""
        rows = [
            (self.tasks[task].title, (titles or {}).get(model, model), *dataclasses.astuple(one))
            for task, models in self.found.items()
            for model, one in models.items()
        ]
        note = "Over the rows of all folds together, means over seeds. Perfect calibration has slope 1 and intercept 0."
        return Table("Calibration", ("task", "model", "Brier", "slope", "intercept"), rows, note)


def measure_calibration(runs: Sequence[TaskRun]) -> CalibrationReport:
    """Calibration of every model on every task.

    Args:
        runs: of all tasks, folds and seeds; predictions of binary tasks are probabilities.

    Raises:
        DataError: a prediction of a binary task that is no probability, or runs that do not belong together.
        MissingDependencyError: scikit-learn is missing.
    """
    require("calibration", "study", "sklearn")
    of_tasks = {name: pooled_over_folds(of_task) for name, of_task in by_task(runs).items()}
    found: dict[str, dict[str, Calibration]] = {name: {} for name in of_tasks}
    curves: dict[str, dict[str, Reliability]] = {name: {} for name in of_tasks}
    for name, seeds in of_tasks.items():
        for model in seeds[0].models:
            each = [dataclasses.astuple(calibrated(run.task, run.targets, run.models[model])) for run in seeds]
            found[name][model] = Calibration(*(float(value) for value in np.mean(each, axis=0)))
            predictions = np.concatenate([run.models[model] for run in seeds])
            if np.isfinite(predictions).all():
                curves[name][model] = reliability(np.concatenate([run.targets for run in seeds]), predictions)
    return CalibrationReport({name: seeds[0].task for name, seeds in of_tasks.items()}, found, curves)


def calibrated(task: Task, targets: np.ndarray, predictions: np.ndarray) -> Calibration:
    """Calibration of one model on one task.

    Args:
        task: says whether it is binary.
        targets: [n].
        predictions: [n]; probabilities of a binary task.

    Raises:
        DataError: a prediction of a binary task that is no probability.
    """
    if not np.isfinite(predictions).all():
        return Calibration(*[float("nan")] * 3)
    targets, predictions = np.asarray(targets, np.float64), np.asarray(predictions, np.float64)
    return _of_probabilities(task, targets, predictions) if task.binary else _of_line(targets, predictions)


def reliability(targets: np.ndarray, predictions: np.ndarray, bins: int = BINS) -> Reliability:
    """Mean targets over bins between quantiles of the predictions.

    Args:
        targets: [n].
        predictions: [n], finite.
        bins: how many; fewer where they would hold under ``MIN_ROWS`` rows, or where equal predictions make edges equal.
    """
    bins = min(bins, max(1, len(targets) // MIN_ROWS))
    edges = np.quantile(predictions, np.linspace(0, 1, bins + 1))
    position = np.searchsorted(edges[1:-1], predictions)
    count = np.bincount(position, minlength=bins)
    sums = [np.bincount(position, values, bins)[count > 0] for values in (predictions, targets)]
    count = count[count > 0]
    return Reliability(sums[0] / count, sums[1] / count, count)


def _of_line(targets: np.ndarray, predictions: np.ndarray) -> Calibration:
    from scipy import stats

    if len(targets) < 2 or predictions.min() == predictions.max():
        return Calibration(*[float("nan")] * 3)
    line = stats.linregress(predictions, targets)
    return Calibration(float("nan"), float(line.slope), float(line.intercept))


def _of_probabilities(task: Task, targets: np.ndarray, predictions: np.ndarray) -> Calibration:
    from scipy.special import logit
    from sklearn.metrics import brier_score_loss

    if predictions.min() < 0 or predictions.max() > 1:
        raise DataError(f"predictions of {task.name}", predictions, "pass probabilities, not log-odds")
    log_odds = logit(np.clip(predictions, _SURE, 1 - _SURE))
    brier = float(brier_score_loss(targets, predictions, pos_label=1))
    if targets.min() == targets.max():
        return Calibration(brier, float("nan"), float("nan"))
    return Calibration(brier, _slope(targets, log_odds), _intercept(targets, log_odds))


def _slope(targets: np.ndarray, log_odds: np.ndarray) -> float:
    from sklearn.linear_model import LogisticRegression

    upper, lower = log_odds[targets == 1], log_odds[targets == 0]
    if upper.min() >= lower.max() or lower.min() >= upper.max():  # also where predictions do not vary
        return float("nan")
    fitted = LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-8).fit(log_odds[:, None], targets)
    return float(fitted.coef_[0, 0])


def _intercept(targets: np.ndarray, log_odds: np.ndarray) -> float:
    """Where the mean probability equals the share of ones: the likelihood's equation for a constant beside an offset."""
    from scipy.optimize import brentq
    from scipy.special import expit, logit

    share = targets.mean()
    return float(brentq(lambda a: expit(a + log_odds).mean() - share, logit(share) - log_odds.max() - 1, logit(share) - log_odds.min() + 1))
