"""Means over folds and seeds, with intervals by bootstrap over schools."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from fedjax_edu.study import metrics
from fedjax_edu.study.task_run import TaskRun

RESAMPLES = 200  # an AUC is sorted anew for each draw, run and model


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A mean over folds and seeds.

    Attributes:
        mean: the estimate.
        interval: 95 % by bootstrap over schools.
        folds: means over seeds of each fold.
    """

    mean: float
    interval: metrics.Interval
    folds: tuple[float, ...]


def by_fold(values: np.ndarray, folds: Sequence[int]) -> tuple[float, ...]:
    """Means over the seeds of each fold, from values [runs] and the fold of each."""
    return tuple(float(values[np.array(folds) == fold].mean()) for fold in sorted(set(folds)))


def scores(runs: Sequence[TaskRun], folds: Sequence[int], models: Sequence[str]) -> dict[str, Estimate]:
    """Mean scores of models over runs of one task.

    Args:
        runs: predictions of the task, one entry a run; each has all models.
        folds: of each run.
        models: which.
    """
    found, draws = _found(runs, models), _draws(runs, models)
    return {model: _estimate(found[:, number], draws[:, number], folds) for number, model in enumerate(models)}


def against(runs: Sequence[TaskRun], folds: Sequence[int], models: Sequence[str], reference: str) -> dict[str, tuple[Estimate, Estimate]]:
    """Mean scores, and how far they lie above those of one of the models on the same rows and under the same draws."""
    found, draws, base = _found(runs, models), _draws(runs, models), list(models).index(reference)
    apart, drawn_apart = (values - values[:, base : base + 1] for values in (found, draws))
    return {
        model: (_estimate(found[:, number], draws[:, number], folds), _estimate(apart[:, number], drawn_apart[:, number], folds))
        for number, model in enumerate(models)
    }


def _estimate(found: np.ndarray, draws: np.ndarray, folds: Sequence[int]) -> Estimate:
    return Estimate(float(found.mean()), metrics.interval(draws), by_fold(found, folds))


def _found(runs: Sequence[TaskRun], models: Sequence[str]) -> np.ndarray:
    return np.array([[run.score(model) for model in models] for run in runs])


def _draws(runs: Sequence[TaskRun], models: Sequence[str]) -> np.ndarray:
    """Mean scores under draws, [draws, models]; schools are drawn for all runs at once, since their pupils test in several."""
    school = np.concatenate([run.school for run in runs])
    cuts = np.cumsum([len(run.school) for run in runs])[:-1]

    def means(times: np.ndarray) -> np.ndarray:
        parts = np.split(times, cuts)
        return np.nanmean([[run.score(model, part) for model in models] for run, part in zip(runs, parts, strict=True)], axis=0)

    return metrics.resampled(school, means, seed=0, resamples=RESAMPLES)
