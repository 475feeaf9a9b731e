"""Whom a model serves worse: scores, calibration gaps and ABROCA of groups of students, with small groups kept from view."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from fedjax_edu.core.errors import ArgumentError, require
from fedjax_edu.data.schema import Task
from fedjax_edu.study import metrics
from fedjax_edu.study.tables import Cell, Table
from fedjax_edu.study.task_run import TaskRun, by_task, pooled_over_folds

SMALLEST = 20  # students of a cell that may be shown
SUPPRESSED = f"<{SMALLEST}"
SCHOOL_SIZE = "school size"
MISSING = "missing"
_QUARTILES = ("1st quartile", "2nd quartile", "3rd quartile", "4th quartile")


@dataclasses.dataclass(frozen=True)
class Served:
    """How well a model serves a group; means over seeds.

    Attributes:
        students: in the group; its rows where every row is somebody else.
        score: R² or AUC within the group.
        gap: mean prediction minus mean target, in the target's unit.
        abroca: area between the group's ROC curve and that of the largest group shown; NaN for that group, and of a regression task.
    """

    students: int
    score: float
    gap: float
    abroca: float


@dataclasses.dataclass(frozen=True)
class GroupRow:
    """One group in one task for one model.

    Attributes:
        task: what is predicted.
        model: by which model.
        grouping: ``"sex"``, ``"ethnicity"``, ``"ses"``, ``"grade"`` or ``"school size"``.
        group: a label of it.
        served: None where the group is suppressed: nothing is kept of it but its name.
    """

    task: Task
    model: str
    grouping: str
    group: str
    served: Served | None


@dataclasses.dataclass(frozen=True)
class FairnessReport:
    """What :func:`measure_fairness` found: a row for each task, model, grouping and group."""

    rows: tuple[GroupRow, ...]

    def table(self, titles: Mapping[str, str] | None = None) -> Table:
        """The rows; `titles` says how it calls models."""
        titles = titles or {}
        rows = [(row.task.title, titles.get(row.model, row.model), row.grouping, row.group, *_cells(row.served)) for row in self.rows]
        note = (
            "Over the rows of all folds together, means over seeds. Gap: mean prediction minus mean target. ABROCA: area between the ROC "
            f"curves of the group and of the largest group shown. {SUPPRESSED}: the group, or one of its two classes, has fewer than "
            f"{SMALLEST} students; or it is hidden beside such a group, which totals would give away."
        )
        return Table("Groups of students", ("task", "model", "by", "group", "students", "score", "gap", "ABROCA"), rows, note)


def measure_fairness(runs: Sequence[TaskRun], models: Sequence[str] | None = None) -> FairnessReport:
    """How well models serve groups of students, by every grouping of the runs and by quartile of school size.

    The rows of all folds stand together, seed by seed: a group may be small in one fold. A group is suppressed with fewer than 20
    students, or of a binary task, fewer than 20 in either class. Since the total over groups is known from other tables, one hidden group
    could be found by subtraction; so the smallest groups shown are hidden as well until at least two are, with 20 students or more
    together. A school's size is its number of students, or rows, in the runs.

    Args:
        runs: of all tasks, folds and seeds, with the same groups for each task.
        models: which; all unless given.

    Raises:
        ArgumentError: a model that a task lacks.
        DataError: runs that do not belong together.
        MissingDependencyError: scikit-learn is missing.
    """
    require("fairness", "study", "sklearn")
    rows: list[GroupRow] = []
    for name, of_task in by_task(runs).items():
        for model in of_task[0].models if models is None else models:
            if model not in of_task[0].models:
                raise ArgumentError("models", model, f"name models that {name} has: {', '.join(of_task[0].models)}")
            rows += _of_model(pooled_over_folds(of_task), model)
    return FairnessReport(tuple(rows))


def abroca(targets: np.ndarray, predictions: np.ndarray, other_targets: np.ndarray, other_predictions: np.ndarray) -> float:
    r"""Absolute area between two ROC curves, :math:`\int_0^1 |ROC_1(t) - ROC_2(t)| \, dt`, exactly: both are piecewise linear.

    Args:
        targets: 0 or 1 with both among them, [n].
        predictions: [n].
        other_targets: of the other group, [m].
        other_predictions: [m].

    Returns:
        Between 0 and 1; 0 where the curves are the same, which equal areas under them do not say.

    Reference: Gardner, Brooks and Baker, "Evaluating the fairness of predictive student models through slicing analysis", 2019.

    >>> abroca(np.array([0, 1]), np.array([0.2, 0.7]), np.array([0, 1]), np.array([0.7, 0.2]))
    1.0
    """
    from sklearn.metrics import roc_curve

    first = roc_curve(targets, predictions, drop_intermediate=False)[:2]
    second = roc_curve(other_targets, other_predictions, drop_intermediate=False)[:2]
    grid = np.union1d(first[0], second[0])
    left = _height(first, grid[:-1], "right") - _height(second, grid[:-1], "right")
    right = _height(first, grid[1:], "left") - _height(second, grid[1:], "left")
    total = np.abs(left) + np.abs(right)
    crossing = np.divide(left**2 + right**2, total, out=np.zeros_like(total), where=total > 0)  # two triangles, each as wide as it is high
    return float(np.sum(np.diff(grid) * np.where(left * right < 0, crossing, total) / 2))


def labels_of(values: np.ndarray) -> np.ndarray:
    """A grouping's values as labels, [n].

    Words and codes name groups as they are; negative codes and empty words are missing. Floating point numbers are cut at the quartiles
    of those that are not NaN; a number on a cut belongs below it.

    >>> labels_of(np.array([1.0, 2.0, 3.0, 4.0, np.nan])).tolist()
    ['1st quartile', '2nd quartile', '3rd quartile', '4th quartile', 'missing']
    >>> labels_of(np.array([0, 3, -1])).tolist(), labels_of(np.array(["boy", ""])).tolist()
    (['0', '3', 'missing'], ['boy', 'missing'])
    """
    values = np.asarray(values)
    if values.dtype.kind == "f":
        return _quartiles(values, values[np.isfinite(values)])
    missing = values < 0 if values.dtype.kind == "i" else np.array([value in ("", None) for value in values])
    return np.where(missing, MISSING, values.astype(str))


def _height(curve: tuple[np.ndarray, np.ndarray], at: np.ndarray, side: Literal["left", "right"]) -> np.ndarray:
    """A curve's limit from one side: where it rises straight up, its upper end from the right, its lower end from the left."""
    x, y = curve
    after = np.searchsorted(x, at, side)
    before = after - 1
    return y[before] + (y[after] - y[before]) * (at - x[before]) / (x[after] - x[before])


def _quartiles(values: np.ndarray, distribution: np.ndarray) -> np.ndarray:
    edges = np.quantile(distribution, (0.25, 0.5, 0.75)) if distribution.size else np.zeros(3)
    return np.where(np.isfinite(values), np.array(_QUARTILES)[np.searchsorted(edges, values)], MISSING)


def _of_model(seeds: Sequence[TaskRun], model: str) -> list[GroupRow]:
    rows = []
    for grouping in (*seeds[0].groups, SCHOOL_SIZE):
        labels = [_school_sizes(run) if grouping == SCHOOL_SIZE else labels_of(run.groups[grouping]) for run in seeds]
        groups = np.unique(np.concatenate(labels)).tolist()
        students = {group: min(_students(run, own == group) for run, own in zip(seeds, labels, strict=True)) for group in groups}
        cells = {group: min(_smallest_cell(run, own == group) for run, own in zip(seeds, labels, strict=True)) for group in groups}
        shown = _shown(students, cells)
        for group in groups:
            served = _served(seeds, model, labels, group, shown[-1], students[group]) if group in shown else None
            rows.append(GroupRow(seeds[0].task, model, grouping, group, served))
    return rows


def _shown(students: Mapping[str, int], cells: Mapping[str, int]) -> list[str]:
    """Groups that may be shown, the largest last."""
    by_size = sorted(students, key=lambda group: (students[group], group))
    shown = [group for group in by_size if cells[group] >= SMALLEST]
    hidden = [group for group in by_size if cells[group] < SMALLEST]
    while hidden and shown and (len(hidden) < 2 or sum(students[group] for group in hidden) < SMALLEST):
        hidden.append(shown.pop(0))
    return shown


def _students(run: TaskRun, rows: np.ndarray) -> int:
    return int(rows.sum()) if run.student is None else len(np.unique(run.student[rows]))


def _smallest_cell(run: TaskRun, rows: np.ndarray) -> int:
    """Students of the group, or of its smaller class."""
    classes = [rows & (run.targets == value) for value in (0, 1)] if run.task.binary else []
    return min(_students(run, cell) for cell in (rows, *classes))


def _school_sizes(run: TaskRun) -> np.ndarray:
    """The quartile of each row's school among schools, by size."""
    schools, owner = np.unique(run.school, return_inverse=True)
    sizes = np.array([_students(run, run.school == school) for school in schools], np.float64)
    return _quartiles(sizes, sizes)[owner]


def _served(seeds: Sequence[TaskRun], model: str, labels: Sequence[np.ndarray], group: str, largest: str, students: int) -> Served:
    found = []
    for run, own in zip(seeds, labels, strict=True):
        (targets, predictions), rest = ((run.targets[own == one], run.models[model][own == one]) for one in (group, largest))
        compared = run.task.binary and group != largest and np.isfinite(np.concatenate([predictions, rest[1]])).all()
        apart = abroca(targets, predictions, *rest) if compared else float("nan")
        found.append((metrics.score(run.task, targets, predictions), predictions.mean() - targets.mean(), apart))
    return Served(students, *(float(value) for value in np.mean(found, axis=0)))


def _cells(served: Served | None) -> tuple[Cell, ...]:
    return (SUPPRESSED,) * 4 if served is None else dataclasses.astuple(served)
