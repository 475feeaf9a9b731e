"""What a federation is measured against without a network, fitted on training rows: each gives a function that predicts a side.

Predictions are float64 [rows of the side, tasks] in raw units, NaN where a row does not belong to a task.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from fedjax_edu.core.errors import DataError
from fedjax_edu.data import Task
from fedjax_edu.study import multilevel
from fedjax_edu.study.schools import SchoolData, Side

Predict = Callable[[Side], np.ndarray]
ALPHAS = np.logspace(-2, 3, 12)


def constant(data: SchoolData) -> Predict:
    """The mean of the training targets."""
    means = np.nanmean(data.targets[data.train.rows], axis=0)
    return lambda side: np.where(np.isfinite(data.targets[side.rows]), means, np.nan)


def ridge(data: SchoolData) -> Predict:
    """Ridge regression, or logistic regression for a binary task, on all training rows in one place."""

    def fit(task: Task, inputs: np.ndarray, targets: np.ndarray, schools: np.ndarray) -> Any:
        fitted = _linear(task, inputs, targets)
        return lambda rows, schools: _expected(task, fitted, rows)

    return _by_task(data, fit, _encoded)


def boosting(data: SchoolData) -> Predict:
    """Histogram gradient boosting on all training rows in one place."""
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
    from threadpoolctl import threadpool_limits  # scikit-learn needs it too

    def fit(task: Task, inputs: np.ndarray, targets: np.ndarray, schools: np.ndarray) -> Any:
        seen = np.isfinite(inputs).any(axis=0)  # it refuses a column that is hidden from a task
        kind = HistGradientBoostingClassifier if task.binary else HistGradientBoostingRegressor
        lonely = task.binary and np.bincount(targets.astype(int)).min() == 1  # nothing of that class could be set aside
        stopping = False if lonely else "auto"
        unfitted = kind(max_iter=150, learning_rate=0.06, early_stopping=stopping, random_state=data.seed)
        with threadpool_limits(1):  # threads that wait for each other spin: beside other work on the same cores a second becomes minutes
            fitted = unfitted.fit(inputs[:, seen], targets)

        def predict(rows: np.ndarray, schools: np.ndarray) -> np.ndarray:
            with threadpool_limits(1):
                return _expected(task, fitted, rows[:, seen])

        return predict

    return _by_task(data, fit, _columns)


def random_intercept(data: SchoolData) -> tuple[Predict, dict[str, float]]:
    """The multilevel model with an intercept for each school, and the intraclass correlation of each task's targets.

    A task that it cannot be fitted to, with two schools or a target that inputs give away, has neither.
    """
    icc = {}

    def fit(task: Task, inputs: np.ndarray, targets: np.ndarray, schools: np.ndarray) -> Any:
        try:
            fitted = multilevel.random_intercept(inputs, targets, schools, binary=task.binary)
        except DataError:
            return lambda rows, schools: np.full(len(rows), np.nan)
        icc[task.name] = fitted.icc
        return fitted.predict

    return _by_task(data, fit, _encoded), icc


def local_ridge(data: SchoolData) -> Predict:
    """Ridge or logistic regression in every school alone; its mean where its targets do not vary, that of all where it has none."""
    overall = constant(data)

    def predict(side: Side) -> np.ndarray:
        predictions = overall(side)
        for position, task in enumerate(data.tasks):
            inputs, columns = side.population.arrays["inputs"], _own(data, task)
            wanted = np.isfinite(predictions[:, position])
            for school in np.unique(side.school[wanted]):
                tested = np.flatnonzero(wanted & (side.school == school))
                trained, targets = _training_rows(data, position, school)
                if targets.size and targets.min() == targets.max():
                    predictions[tested, position] = targets[0]
                elif targets.size:
                    fitted = _linear(task, data.train.population.arrays["inputs"][trained][:, columns], targets)
                    predictions[tested, position] = _expected(task, fitted, inputs[tested][:, columns])
        return predictions

    return predict


def _by_task(data: SchoolData, fit: Callable[..., Any], inputs_of: Callable[[SchoolData, Side, Task], np.ndarray]) -> Predict:
    """A model for each task, fitted on the training rows that belong to it."""
    fitted = []
    for position, task in enumerate(data.tasks):
        rows, targets = _training_rows(data, position)
        fitted.append(fit(task, inputs_of(data, data.train, task)[rows], targets, data.train.school[rows]))

    def predict(side: Side) -> np.ndarray:
        predictions = np.full((len(side.rows), len(data.tasks)), np.nan)
        for position, (task, expected) in enumerate(zip(data.tasks, fitted, strict=True)):
            wanted = np.isfinite(data.targets[side.rows, position])
            predictions[wanted, position] = expected(inputs_of(data, side, task)[wanted], side.school[wanted])
        return predictions

    return predict


def _training_rows(data: SchoolData, position: int, school: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Positions on the training side of the rows that belong to a task, of one school or all, and their targets."""
    targets = data.targets[data.train.rows, position]
    own = np.isfinite(targets) if school is None else np.isfinite(targets) & (data.train.school == school)
    return np.flatnonzero(own), targets[own]


def _own(data: SchoolData, task: Task) -> np.ndarray:
    """Encoded columns of the task's study."""
    return np.flatnonzero(np.array(data.encoding.column_studies) == task.study)


def _encoded(data: SchoolData, side: Side, task: Task) -> np.ndarray:
    return side.population.arrays["inputs"][:, _own(data, task)].astype(np.float64)


def _columns(data: SchoolData, side: Side, task: Task) -> np.ndarray:
    """Numbers and codes of the task's study as they are, NaN where missing."""
    arrays, columns = data.population.arrays, []
    for feature in data.encoding.schema.features:
        if feature.study == task.study and feature.kind != "text":
            values = arrays["numbers" if feature.kind == "number" else "categories"][feature.name][side.rows]
            columns.append(np.where(arrays["present"][feature.name][side.rows], values, np.nan))
    return np.stack(columns, axis=1)


def _linear(task: Task, inputs: np.ndarray, targets: np.ndarray) -> Any:
    from sklearn.linear_model import LogisticRegression, RidgeCV

    return (LogisticRegression(max_iter=500) if task.binary else RidgeCV(ALPHAS)).fit(inputs, targets)


def _expected(task: Task, fitted: Any, inputs: np.ndarray) -> np.ndarray:
    return fitted.predict_proba(inputs)[:, 1] if task.binary else fitted.predict(inputs)
