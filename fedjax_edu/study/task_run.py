"""What several models predicted for one task in one run: the record from which every table of a study is made."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from fedjax_edu.core.errors import DataError
from fedjax_edu.data.schema import Task
from fedjax_edu.study import metrics


@dataclasses.dataclass(frozen=True)
class TaskRun:
    """Predictions of one task by several models on the same rows, from one fold and one seed.

    Attributes:
        task: what is predicted.
        fold: which schools were held out; None where the rows of all folds stand together.
        seed: of the run.
        school: id of the school of each row, [n].
        targets: [n] in raw units; 0 or 1 of a binary task.
        models: predictions [n] by model, in raw units; probabilities of a binary task. Numbers that are not finite say that the model
            diverged.
        groups: for ``"sex"``, ``"ethnicity"``, ``"ses"``, ``"grade"``: labels or codes [n]. Negative codes, NaN and empty labels are
            missing; floating point numbers are cut into quartiles.
        student: id of the student of each row, [n]; None where every row is somebody else.

    Raises:
        DataError: arrays of different lengths, no rows, targets that are not finite, or a binary target that is neither 0 nor 1.

    >>> run = TaskRun(Task("passed", "binary"), 1, 0, np.array([7, 7, 8]), np.array([0, 1, 1]), {"ridge": np.array([0.2, 0.9, 0.4])})
    >>> run.rows
    3
    """

    task: Task
    fold: int | None
    seed: int
    school: np.ndarray
    targets: np.ndarray
    models: Mapping[str, np.ndarray]
    groups: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    student: np.ndarray | None = None

    def __post_init__(self) -> None:
        if not len(self.targets) or not np.isfinite(self.targets).all():
            raise DataError(f"{self.task.name}.targets", self.targets, "pass at least one row, and only rows that have the target")
        if self.task.binary and not np.isin(self.targets, (0, 1)).all():
            raise DataError(f"{self.task.name}.targets", self.targets, "use 0 and 1 for a binary task")
        for name, values in self._columns().items():
            if np.shape(values) != np.shape(self.targets):
                raise DataError(f"{self.task.name}.{name}", values, f"use one value for each of the {self.rows} rows")

    @property
    def rows(self) -> int:
        """How many there are."""
        return len(self.targets)

    def score(self, model: str, weights: np.ndarray | None = None) -> float:
        """R² or AUC over all rows, each counted as often as `weights` [n] says."""
        return metrics.score(self.task, self.targets, self.models[model], weights)

    def by_school(self, model: str) -> dict[int, float]:
        """R² or AUC of every school with enough rows."""
        return metrics.by_school(self.task, self.school, self.targets, self.models[model])

    def _columns(self) -> dict[str, np.ndarray]:
        columns = {"school": self.school, **{f"models.{name}": values for name, values in self.models.items()}}
        columns |= {f"groups.{name}": values for name, values in self.groups.items()}
        return columns if self.student is None else columns | {"student": self.student}


def by_task(runs: Sequence[TaskRun]) -> dict[str, tuple[TaskRun, ...]]:
    """The runs of each task, in the order in which tasks first appear.

    Raises:
        DataError: no runs, a fold and seed twice, or models or groups that not every run of a task has.
    """
    if not runs:
        raise DataError("runs", "none", "pass the predictions of at least one run")
    found: dict[str, list[TaskRun]] = {}
    for run in runs:
        found.setdefault(run.task.name, []).append(run)
    for name, of_task in found.items():
        _check_alike(name, of_task)
    return {name: tuple(of_task) for name, of_task in found.items()}


def pooled_over_folds(runs: Sequence[TaskRun]) -> tuple[TaskRun, ...]:
    """One task's runs with the rows of all folds together, one entry a seed."""
    return tuple(_joined([run for run in runs if run.seed == seed]) for seed in sorted({run.seed for run in runs}))


def _joined(runs: Sequence[TaskRun]) -> TaskRun:
    first = runs[0]
    return TaskRun(
        task=first.task,
        fold=None,
        seed=first.seed,
        school=np.concatenate([run.school for run in runs]),
        targets=np.concatenate([run.targets for run in runs]),
        models={name: np.concatenate([run.models[name] for run in runs]) for name in first.models},
        groups={name: np.concatenate([run.groups[name] for run in runs]) for name in first.groups},
        student=None if first.student is None else np.concatenate([run.student for run in runs]),
    )


def _check_alike(name: str, runs: Sequence[TaskRun]) -> None:
    first, seen = runs[0], set()
    for run in runs:
        where = f"fold {run.fold}, seed {run.seed}"
        if (run.fold, run.seed) in seen:
            raise DataError(f"runs of {name}", f"{where} twice", "pass the predictions of each fold and seed once")
        seen.add((run.fold, run.seed))
        if run.task.kind != first.task.kind:
            raise DataError(
                f"runs of {name}", f"{run.task.kind} in {where}, {first.task.kind} in another", "give tasks of two kinds two names"
            )
        for what in ("models", "groups"):
            mine, others = set(getattr(run, what)), set(getattr(first, what))
            if mine != others:
                raise DataError(
                    f"runs of {name}", f"{what} {sorted(mine)} in {where}, {sorted(others)} in another", "use the same in all runs"
                )
        if (run.student is None) != (first.student is None):
            raise DataError(f"runs of {name}", f"students in some runs, none in {where}", "name the students in all runs or in none")
