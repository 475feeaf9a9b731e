"""What a run found: scores of every model on both tests, and the federation against schools alone."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from fedjax_edu.core.errors import DataError
from fedjax_edu.data import Task
from fedjax_edu.study import metrics
from fedjax_edu.study.schools import SchoolData, Side, groups_of
from fedjax_edu.study.task_run import TaskRun

MODELS = {
    "federated": "federated",
    "pooled": "pooled, same network",
    "local_network": "local-only network",
    "local_ridge": "local-only ridge",
    "random_intercept": "random intercept",
    "boosting": "gradient boosting",
    "ridge": "ridge",
    "constant": "constant",
}
LOCAL = ("local_network", "local_ridge")
TESTS = {"held_out": "held-out schools", "within": "within-school test"}


@dataclasses.dataclass(frozen=True)
class Score:
    """A model on one test.

    Attributes:
        score: over all rows.
        tenth_quantile: the score that a tenth of the schools stay below; NaN where no school has enough rows.
    """

    score: float
    tenth_quantile: float


@dataclasses.dataclass(frozen=True)
class TaskResult:
    """One task.

    Attributes:
        metric: R2 or AUC.
        held_out: scores by model on schools that took no part.
        within: scores by model on other pupils of the schools that took part.
        local_only: which local-only model counts: the one whose mean over schools is higher on the within-school test.
        federated_at_least_local: federated against that one, school by school on the within-school test.
    """

    metric: str
    held_out: dict[str, Score]
    within: dict[str, Score]
    local_only: str | None
    federated_at_least_local: metrics.Comparison | None


@dataclasses.dataclass(frozen=True)
class Result:
    """What a run found.

    Attributes:
        fold: which schools were held out.
        seed: of the run.
        rounds: rounds done.
        bytes_up: bytes that schools sent.
        bytes_down: bytes that schools received.
        tasks: results by task.
        federated_at_least_local: federated against local-only, a school's score being the mean over its tasks.
        icc: intraclass correlation of each task's targets in the training schools.
        predictions: ``{test: one entry a task}``.
    """

    fold: int
    seed: int
    rounds: int
    bytes_up: int
    bytes_down: int
    tasks: dict[str, TaskResult]
    federated_at_least_local: metrics.Comparison | None
    icc: dict[str, float]
    predictions: dict[str, tuple[TaskRun, ...]]

    @property
    def compared(self) -> tuple[Task, ...]:
        """What was predicted."""
        return tuple(one.task for one in self.predictions["held_out"])

    @property
    def finite(self) -> bool:
        """Whether all predictions of the federation are finite numbers: training did not diverge."""
        runs = [run for of_test in self.predictions.values() for run in of_test]
        return all(np.isfinite(run.models["federated"]).all() for run in runs)

    def summary(self) -> dict[str, object]:
        """Everything but the predictions."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.name != "predictions"}


def collect(data: SchoolData, side: Side, models: Mapping[str, np.ndarray]) -> tuple[TaskRun, ...]:
    """TaskRun [rows of the side, tasks] of each model, divided by task and cut to the rows that belong to it."""
    collected = []
    for position, task in enumerate(data.tasks):
        rows = np.flatnonzero(np.isfinite(data.targets[side.rows, position]))
        whole = side.rows[rows]
        run = TaskRun(
            task=task,
            fold=data.fold,
            seed=data.seed,
            school=side.school[rows],
            targets=data.targets[whole, position],
            models={name: values[rows, position] for name, values in models.items()},
            groups={group: values[whole] for group, values in groups_of(data.population, task).items()},
            student=data.students[whole],
        )
        collected.append(run)
    return tuple(collected)


def with_row(result: Result, model: str, others: Sequence[Result]) -> Result:
    """A result whose predictions have one more model: what the federations of other runs predicted for the same rows.

    Args:
        result: of a run.
        model: the new model's name.
        others: of runs on the same split; each task belongs to one of them at most, those of none stay without the model.

    Raises:
        DataError: a task that two of the others have, or rows that are not the same.
    """
    predictions = {
        test: tuple(_with_model(run, model, [one for other in others for one in other.predictions[test]]) for run in runs)
        for test, runs in result.predictions.items()
    }
    return dataclasses.replace(result, predictions=predictions)


def _with_model(run: TaskRun, model: str, others: Sequence[TaskRun]) -> TaskRun:
    found = [one for one in others if one.task.name == run.task.name]
    if not found:
        return run
    if len(found) > 1:
        raise DataError(f"{model}.{run.task.name}", f"{len(found)} runs", "let one run have the task")
    same = np.array_equal(found[0].school, run.school) and np.array_equal(found[0].targets, run.targets)
    if not same or (found[0].fold, found[0].seed) != (run.fold, run.seed):
        raise DataError(f"{model}.{run.task.name}", "other rows", "split the same schools by the same fold and seed")
    return dataclasses.replace(run, models={**run.models, model: found[0].models["federated"]})


def task_result(held_out: TaskRun, within: TaskRun) -> TaskResult:
    """Scores and comparison of one task from its predictions on both tests."""
    local = stronger_local(within)
    return TaskResult(
        metric=held_out.task.metric,
        held_out=_scores(held_out),
        within=_scores(within),
        local_only=local,
        federated_at_least_local=metrics.compare(within.by_school("federated"), within.by_school(local)) if local else None,
    )


def stronger_local(within: TaskRun) -> str | None:
    """The local-only model with the higher mean over schools, over all rows where no school has enough; None without any."""

    def strength(model: str) -> float:
        scores = within.by_school(model)
        return float(np.mean(list(scores.values()))) if scores else within.score(model)

    return max((model for model in LOCAL if model in within.models), key=strength, default=None)


def over_tasks(within: Sequence[TaskRun]) -> metrics.Comparison | None:
    """Federated against local-only by school: the mean difference over the tasks for which the school has enough rows."""
    pairs = [(one.by_school("federated"), one.by_school(local)) for one in within if (local := stronger_local(one))]
    if not pairs:
        return None
    schools = sorted({school for first, second in pairs for school in first.keys() & second.keys()})
    difference = {
        school: float(np.mean([first[school] - second[school] for first, second in pairs if school in first and school in second]))
        for school in schools
    }
    return metrics.compare(difference, dict.fromkeys(schools, 0.0))


def _scores(predictions: TaskRun) -> dict[str, Score]:
    return {model: Score(predictions.score(model), metrics.tenth_quantile(predictions.by_school(model))) for model in predictions.models}
