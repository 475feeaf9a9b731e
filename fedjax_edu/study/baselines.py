"""What a federation is measured against without a network: a constant, ridge on all rows, ridge in every school."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from fedjax_edu.data import Task
from fedjax_edu.study.schools import SchoolData, Side

ALPHAS = np.logspace(-2, 3, 12)


def constant(data: SchoolData, side: Side) -> np.ndarray:
    """The mean of the training targets for every row, float64 [rows, tasks] in raw units."""
    means = np.nanmean(data.targets[data.train.rows], axis=0)
    return np.broadcast_to(means[None, :], (len(side.rows), len(data.tasks)))


def ridge(data: SchoolData, side: Side) -> np.ndarray:
    """Ridge regression, or logistic regression for a binary task, on all training rows in one place.

    Args:
        data: the split data.
        side: which rows to predict.

    Returns:
        float64 [rows, tasks] in raw units; NaN where a row does not belong to a task.
    """
    predictions = np.full((len(side.rows), len(data.tasks)), np.nan)
    for position, task in enumerate(data.tasks):
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
    for position, task in enumerate(data.tasks):
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
    """The inputs of one task's study as a plain table of numbers and codes, addressed by row number among all examples."""

    def __init__(self, data: SchoolData, task: Task):
        self._targets = data.targets[:, data.tasks.index(task)]
        arrays, rows = data.population.arrays, np.flatnonzero(np.isfinite(self._targets))
        own = [feature for feature in data.encoding.schema.features if feature.study == task.study]
        shown = {name: known[rows].any() for name, known in arrays["present"].items()}  # a number may be hidden from a task
        seen = [feature.name for feature in own if feature.kind == "number" and shown[feature.name]]
        numbers = [np.where(arrays["present"][name], arrays["numbers"][name], np.nan) for name in seen]
        codes = [arrays["categories"][feature.name] for feature in own if feature.kind == "category"]
        self._inputs, self.numbers = np.stack([*numbers, *codes], axis=1).astype(np.float64), len(numbers)

    def has_target(self, rows: np.ndarray) -> np.ndarray:
        return np.isfinite(self._targets[rows])

    def targets(self, rows: np.ndarray) -> np.ndarray:
        return self._targets[rows]

    def inputs(self, rows: np.ndarray) -> np.ndarray:
        return self._inputs[rows]


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
