"""What a federation is measured against without a network: a constant, ridge on all rows, ridge in every school."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from fedjax_edu.study.examples import Examples
from fedjax_edu.study.schools import SchoolData, Side
from fedjax_edu.study.tasks import TASKS, Task

ALPHAS = np.logspace(-2, 3, 12)


def constant(data: SchoolData, side: Side) -> np.ndarray:
    """The mean of the training targets for every row, float64 [rows, tasks] in raw units."""
    means = np.nanmean(data.targets[data.train.rows], axis=0)
    return np.broadcast_to(means[None, :], (len(side.rows), len(TASKS)))


def ridge(data: SchoolData, side: Side) -> np.ndarray:
    """Ridge regression, or logistic regression for a binary task, on all training rows in one place.

    Args:
        data: the split data.
        side: which rows to predict.

    Returns:
        float64 [rows, tasks] in raw units; NaN where a row does not belong to a task.
    """
    predictions = np.full((len(side.rows), len(TASKS)), np.nan)
    for position, task in enumerate(TASKS):
        table = _Table(data, task)
        wanted = table.has_target(side.rows)
        fitted = _fit(task, table, data.train.rows[table.has_target(data.train.rows)])
        predictions[wanted, position] = _predict(task, fitted, table.inputs(side.rows[wanted]))
    return predictions


def local_ridge(data: SchoolData, side: Side) -> np.ndarray:
    """The same in every school alone, fitted on its own training rows; the mean of all where a school has too few of them.

    Returns:
        float64 [rows, tasks] in raw units; NaN where a row does not belong to a task.
    """
    predictions = np.where(np.isfinite(data.targets[side.rows]), constant(data, side), np.nan)
    for position, task in enumerate(TASKS):
        table = _Table(data, task)
        for tested, trained in _schools(table, side, data.train):
            targets = table.targets(trained)
            if len(targets) < 2 or targets.min() == targets.max():
                predictions[tested, position] = targets.mean() if len(targets) else predictions[tested, position]
                continue
            fitted = _fit(task, table, trained)
            predictions[tested, position] = _predict(task, fitted, table.inputs(side.rows[tested]))
    return predictions


class _Table:
    """The examples of one task's study as a plain table of numbers and codes, addressed by row number among all studies."""

    def __init__(self, data: SchoolData, task: Task):
        position = [examples.study for examples in data.studies].index(task.study)
        study = data.studies[position]
        self._first = sum(len(examples.school) for examples in data.studies[:position])
        self._targets = data.targets[:, TASKS.index(task)]
        self._inputs, self.numbers = _columns(study, self.has_target(self._first + np.arange(len(study.school))))

    def has_target(self, rows: np.ndarray) -> np.ndarray:
        return np.isfinite(self._targets[rows])

    def targets(self, rows: np.ndarray) -> np.ndarray:
        return self._targets[rows]

    def inputs(self, rows: np.ndarray) -> np.ndarray:
        return self._inputs[rows - self._first]


def _columns(examples: Examples, rows: np.ndarray) -> tuple[np.ndarray, int]:
    """Numbers, then codes; numbers that the task may not see (absent in all of its rows) are left out."""
    numbers = [values for values in examples.numbers.values() if np.isfinite(values[rows]).any()]
    return np.stack([*numbers, *examples.categories.values()], axis=1).astype(np.float64), len(numbers)


def _schools(table: _Table, side: Side, train: Side) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """For each school with something to predict: positions in `side`, and rows to train on."""
    tested, trained = table.has_target(side.rows), table.has_target(train.rows)
    for school in np.unique(side.school[tested]):
        yield np.flatnonzero(tested & (side.school == school)), train.rows[trained & (train.school == school)]


def _fit(task: Task, table: _Table, rows: np.ndarray) -> Any:
    from sklearn.compose import make_column_transformer
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression, RidgeCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    numbers = make_pipeline(SimpleImputer(add_indicator=True, keep_empty_features=True), StandardScaler())
    codes = OneHotEncoder(handle_unknown="ignore", min_frequency=min(5, len(rows)))
    inputs, width = table.inputs(rows), table.numbers
    columns = make_column_transformer((numbers, slice(0, width)), (codes, slice(width, inputs.shape[1])))
    model = LogisticRegression(max_iter=500) if task.binary else RidgeCV(ALPHAS)
    return make_pipeline(columns, model).fit(inputs, table.targets(rows))


def _predict(task: Task, fitted: Any, inputs: np.ndarray) -> np.ndarray:
    return fitted.predict_proba(inputs)[:, 1] if task.binary else fitted.predict(inputs)
