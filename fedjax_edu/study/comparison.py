"""Several models on several tasks: means over folds and seeds, intervals over schools, differences, and where the spread comes from."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fedjax_edu.core.errors import ArgumentError, check_integer
from fedjax_edu.data.schema import Task
from fedjax_edu.study.intervals import draw_schools, holm, interval, p_value, standard_error
from fedjax_edu.study.metrics import MIN_ROWS, Interval
from fedjax_edu.study.school_sums import school_sums
from fedjax_edu.study.tables import Cell, Estimated, PValue, Table, counted
from fedjax_edu.study.task_run import TaskRun, by_task

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclasses.dataclass(frozen=True)
class Difference:
    """How far a model's mean score lies above the reference's on the same rows.

    Attributes:
        mean: of the differences.
        interval: 95 %, paired: both models are scored under the same draws of schools.
        p: two-sided p-value; below .05 exactly where the interval leaves out 0.
        adjusted_p: by Holm's correction over all differences of the comparison.
    """

    mean: float
    interval: Interval
    p: float
    adjusted_p: float

    @property
    def clear(self) -> bool:
        """Whether the interval leaves out 0: tables print such differences, and no others, in bold."""
        return self.interval.low > 0 or self.interval.high < 0


@dataclasses.dataclass(frozen=True)
class ModelScore:
    r"""One model on one task.

    Attributes:
        task: what was predicted.
        model: by which model.
        mean: R² or AUC over all test rows of a run, mean over runs (folds and seeds); NaN where a run diverged.
        interval: 95 % of the mean, by bootstrap over schools.
        difference: from the reference; None for the reference itself.
        school_variance: of the mean, due to which schools there are: over draws of schools, with the trained models as they are.
        seed_variance: of the mean, due to the seeds: with :math:`s_f^2` the variance over the :math:`K_f` seeds of fold *f* and *R* runs,
            :math:`\sum_f K_f s_f^2 / R^2`; NaN where a fold has one seed. The two variances are of the same number, and add up.
        schools: how many have a score of their own: at least ``MIN_ROWS`` test rows.
        quantiles: over those schools at 5, 25, 50, 75 and 95 %, each counting with its mean over runs.
        worst_tenth: mean over the lowest tenth of those schools, rounded up to whole schools.
    """

    task: Task
    model: str
    mean: float
    interval: Interval
    difference: Difference | None
    school_variance: float
    seed_variance: float
    schools: int
    quantiles: tuple[float, ...]
    worst_tenth: float


@dataclasses.dataclass(frozen=True)
class ModelComparison:
    """What :func:`compare` found.

    Attributes:
        reference: the model that the others are measured against.
        scores: one entry a task and model.
        draws: of schools.
    """

    reference: str
    scores: tuple[ModelScore, ...]
    draws: int

    def of(self, task: str, model: str) -> ModelScore:
        """One model on one task, by name."""
        return next(score for score in self.scores if (score.task.name, score.model) == (task, model))

    def table(self, titles: Mapping[str, str] | None = None) -> Table:
        """Scores and differences.

        Args:
            titles: how the table calls models; their names unless given.
        """
        titles = titles or {}
        reference = titles.get(self.reference, self.reference)
        columns = ("task", "model", "score", f"above {reference}", "p", "Holm", "error, schools", "error, seeds")
        rows = [(*_names(score, titles), *_score_cells(score)) for score in self.scores]
        compared = sum(score.difference is not None and np.isfinite(score.difference.p) for score in self.scores)
        note = (
            f"Means over folds and seeds [95 % by bootstrap over schools, {self.draws:,} draws]; differences are paired. Bold: the "
            f"interval of the difference leaves out 0. Holm: p-values adjusted over the family of all {compared} differences of this "
            "table. Errors: standard errors of the mean due to which schools there are, and due to seeds."
        )
        return Table("Scores", columns, rows, note)

    def schools_table(self, titles: Mapping[str, str] | None = None) -> Table:
        """How scores vary from school to school; arguments as for :meth:`table`."""
        columns = ("task", "model", "schools", *(f"{quantile:.0%}" for quantile in QUANTILES), "worst 10 %")
        rows: list[tuple[Cell, ...]] = [(*_names(one, titles or {}), one.schools, *one.quantiles, one.worst_tenth) for one in self.scores]
        note = f"Quantiles over schools with at least {MIN_ROWS} test rows, and the mean of the lowest tenth of them."
        return Table("Scores of schools", columns, rows, note)


def compare(
    runs: Sequence[TaskRun], reference: str = "federated", *, seeds_at_least: int = 3, draws: int = 10_000, seed: int = 0
) -> ModelComparison:
    """Compares models on every task over folds and seeds.

    The schools of a task are drawn for all its runs and models at once, since a school's pupils test in several. Draws vary the schools
    that models are tested on; what they were trained on stays as it was.

    Args:
        runs: of all tasks, folds and seeds; those of one task have the same models.
        reference: the model that the others are measured against.
        seeds_at_least: how many seeds each fold must have.
        draws: of schools.
        seed: of the draws.

    Returns:
        Scores of each task, in the order of the runs, and model.

    Raises:
        DataError: no runs, the same twice, or runs of a task that differ in their models.
        ArgumentError: a fold with too few seeds, a reference that a task lacks, or too few draws.

    >>> rng = np.random.default_rng(0)
    >>> def run(seed):
    ...     school, targets = np.repeat(np.arange(30), 20), rng.normal(size=600)
    ...     models = {"federated": targets + rng.normal(size=600), "pooled": targets + 0.4 * rng.normal(size=600)}
    ...     return TaskRun(Task("math", "regression"), 1, seed, school, targets, models)
    >>> found = compare([run(seed) for seed in range(3)]).of("math", "pooled")
    >>> round(found.mean, 1), found.difference.clear
    (0.8, True)
    """
    check_integer("draws", draws, at_least=100)
    check_integer("seeds_at_least", seeds_at_least)
    tasks = by_task(runs)
    for name, of_task in tasks.items():
        _check_seeds(name, of_task, seeds_at_least)
        if reference not in of_task[0].models:
            raise ArgumentError("reference", reference, f"name a model that {name} has: {', '.join(of_task[0].models)}")
    scores = [score for of_task in tasks.values() for score in _of_task(of_task, reference, draws, seed)]
    return ModelComparison(reference, _adjusted(scores), draws)


def _check_seeds(name: str, runs: Sequence[TaskRun], at_least: int) -> None:
    for fold in {run.fold for run in runs}:
        if (seeds := sum(run.fold == fold for run in runs)) < at_least:
            found = f"{counted(seeds, 'seed')} of {name} in fold {fold}"
            raise ArgumentError("runs", found, f"run at least {at_least}, or say seeds_at_least={seeds}")


def _of_task(runs: Sequence[TaskRun], reference: str, draws: int, seed: int) -> list[ModelScore]:
    models, schools = list(runs[0].models), np.unique(np.concatenate([run.school for run in runs]))
    found, drawn, of_schools = _scored(runs, models, schools, draw_schools(len(schools), draws, seed))
    base, folds = models.index(reference), [run.fold for run in runs]
    scores = []
    for position, model in enumerate(models):
        mean, error = float(found[:, position].mean()), standard_error(drawn[:, position], len(schools))
        score = ModelScore(
            task=runs[0].task,
            model=model,
            mean=mean,
            interval=interval(mean, error, len(schools)),
            difference=None,
            school_variance=error**2,
            seed_variance=_seed_variance(found[:, position], folds),
            **_over_schools(of_schools[:, position]),
        )
        if position != base:
            apart = found[:, position] - found[:, base], drawn[:, position] - drawn[:, base]
            score = dataclasses.replace(score, difference=_difference(*apart, len(schools)))
        scores.append(score)
    return scores


def _difference(found: np.ndarray, drawn: np.ndarray, schools: int) -> Difference:
    """From differences of runs [runs] and of draws [draws]; correction for the family comes later."""
    mean, error = float(found.mean()), standard_error(drawn, schools)
    return Difference(mean, interval(mean, error, schools), p_value(mean, error, schools), adjusted_p=float("nan"))


def _over_schools(scores: np.ndarray) -> dict[str, Any]:
    """How the scores of schools [schools] spread; NaN has none."""
    scores = np.sort(scores[np.isfinite(scores)])
    nothing = {"schools": 0, "quantiles": (float("nan"),) * len(QUANTILES), "worst_tenth": float("nan")}
    worst = -(-len(scores) // 10)
    found = {"quantiles": tuple(np.quantile(scores, QUANTILES).tolist()), "worst_tenth": float(scores[:worst].mean())} if worst else {}
    return nothing | {"schools": len(scores)} | found


def _scored(
    runs: Sequence[TaskRun], models: list[str], schools: np.ndarray, times: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores [runs, models], their means over runs under each draw [draws, models], and each school's mean over runs [schools, models]."""
    found, drawn, by_school = [], [], np.full((len(runs), len(schools), len(models)), np.nan)
    for run, own in zip(runs, by_school, strict=True):
        positions = np.searchsorted(schools, np.unique(run.school))
        sums = school_sums(run, models, schools[positions])
        found.append(sums.scores(np.ones((1, len(positions))))[0])
        drawn.append(sums.scores(times[:, positions]))
        own[positions] = sums.by_school()
    return np.array(found), _mean(np.array(drawn)), _mean(by_school)


def _mean(values: np.ndarray) -> np.ndarray:
    """Over the first axis, of what there is; NaN where there is nothing."""
    there = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        return np.where(there, values, 0.0).sum(0) / there.sum(0)


def _seed_variance(scores: np.ndarray, folds: Sequence[int | None]) -> float:
    total = 0.0
    for fold in set(folds):
        of_seeds = scores[[one == fold for one in folds]]
        total += len(of_seeds) * of_seeds.var(ddof=1) if len(of_seeds) > 1 else np.nan
    return float(total / len(scores) ** 2)


def _adjusted(scores: Sequence[ModelScore]) -> tuple[ModelScore, ...]:
    adjusted = iter(holm(np.array([score.difference.p for score in scores if score.difference is not None])))
    return tuple(
        score
        if score.difference is None
        else dataclasses.replace(score, difference=dataclasses.replace(score.difference, adjusted_p=float(next(adjusted))))
        for score in scores
    )


def _names(score: ModelScore, titles: Mapping[str, str]) -> tuple[str, str]:
    return f"{score.task.title}, {score.task.metric.replace('R2', 'R²')}", titles.get(score.model, score.model)


def _score_cells(score: ModelScore) -> tuple[Cell, ...]:
    estimate, difference = Estimated(score.mean, score.interval.low, score.interval.high), score.difference
    errors = math.sqrt(score.school_variance), math.sqrt(score.seed_variance)
    if difference is None:
        return estimate, "", "", "", *errors
    apart = Estimated(difference.mean, difference.interval.low, difference.interval.high, bold=difference.clear)
    return estimate, apart, PValue(difference.p), PValue(difference.adjusted_p), *errors
