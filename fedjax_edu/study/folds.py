"""The numbers that are reported: every fold, several seeds, intervals by bootstrap over schools."""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from fedjax_edu.core.errors import ArgumentError
from fedjax_edu.study import metrics
from fedjax_edu.study.config import SchoolsConfig
from fedjax_edu.study.report import number
from fedjax_edu.study.results import MODELS, TESTS, Predictions, Result
from fedjax_edu.study.run import run_schools
from fedjax_edu.study.run_folder import RunFolder
from fedjax_edu.study.schools import FOLDS
from fedjax_edu.study.tasks import TASKS

RESAMPLES = 200  # an AUC is sorted anew for each draw, fold and model


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


def run_folds(
    config: SchoolsConfig, workdir: str | os.PathLike[str], *, seeds: int = 1, folds: int = FOLDS, console: Console | None = None
) -> dict[str, object]:
    """Runs every fold with every seed, then prints means over folds for each task, test and model.

    Args:
        config: the one configuration; its fold is replaced, its seed is the first.
        workdir: holds ``fold1-seed0`` and so on, and ``folds.json``.
        seeds: how many seeds, from the configuration's own upwards.
        folds: how many of the five folds, from the first.
        console: where progress and tables go; None is standard output.

    Returns:
        What ``folds.json`` holds: ``{test: {task: {model: Estimate}}}`` and the share of schools where the federated model
        is at least as good as local-only.

    Raises:
        ArgumentError: seeds or folds out of range, or a folder that cannot be written.
    """
    if folds not in range(1, FOLDS + 1):
        raise ArgumentError("folds", folds, f"use 1 .. {FOLDS}")
    if seeds < 1:
        raise ArgumentError("seeds", seeds, "use a positive integer")
    folder, console = RunFolder(workdir), console or Console()
    results = []
    for fold in range(1, folds + 1):
        for seed in range(config.seed, config.seed + seeds):
            console.rule(f"fold {fold}, seed {seed}")
            run = dataclasses.replace(config, fold=fold, seed=seed)
            results.append(run_schools(run, Path(workdir) / f"fold{fold}-seed{seed}", console))
    summary: dict[str, object] = {test: _estimates(results, test) for test in TESTS}
    summary["federated_at_least_local"] = {
        "all tasks": _wins(results, [result.federated_at_least_local for result in results]),
        **{task.name: _wins(results, [result.tasks[task.name].federated_at_least_local for result in results]) for task in TASKS},
    }
    folder.write_json("folds.json", summary)
    _show(summary, console)
    return summary


def _estimates(results: Sequence[Result], test: str) -> dict[str, dict[str, Estimate]]:
    """``{task: {model: Estimate}}`` of one test."""
    estimates: dict[str, dict[str, Estimate]] = {}
    for position, task in enumerate(TASKS):
        runs = [result.predictions[test][position] for result in results]
        estimates[task.name] = {model: _estimate(results, runs, model) for model in MODELS if all(model in run.models for run in runs)}
    return estimates


def _estimate(results: Sequence[Result], runs: Sequence[Predictions], model: str) -> Estimate:
    """Mean over runs; schools are drawn for all runs at once, since a school's pupils test in several of them."""
    scores = np.array([run.score(model) for run in runs])
    school = np.concatenate([run.school for run in runs])
    cuts = np.cumsum([len(run.school) for run in runs])[:-1]

    def mean(weights: np.ndarray) -> float:
        return float(np.nanmean([run.score(model, part) for run, part in zip(runs, np.split(weights, cuts), strict=True)]))

    return Estimate(
        mean=float(scores.mean()),
        interval=metrics.over_schools(school, mean, seed=0, resamples=RESAMPLES),
        folds=_by_fold(scores, [result.fold for result in results]),
    )


def _wins(results: Sequence[Result], comparisons: Sequence[metrics.Comparison | None]) -> Estimate | None:
    """Share of schools where the federated model is at least as good as local-only; None where schools are too small."""
    pairs = zip(results, comparisons, strict=True)
    found = [(result.fold, comparison) for result, comparison in pairs if comparison is not None and comparison.schools]
    if not found:
        return None
    wins = np.array([comparison.wins for _, comparison in found])
    interval = metrics.Interval(
        *(float(np.mean([getattr(comparison.wins_interval, end) for _, comparison in found])) for end in ("low", "high"))
    )
    return Estimate(float(wins.mean()), interval, _by_fold(wins, [fold for fold, _ in found]))


def _by_fold(values: np.ndarray, folds: Sequence[int]) -> tuple[float, ...]:
    return tuple(float(values[np.array(folds) == fold].mean()) for fold in sorted(set(folds)))


def _show(summary: dict[str, object], console: Console) -> None:
    for test, title in TESTS.items():
        table = Table(title=f"\n{title}: mean over folds [95 % over schools]", title_justify="left", title_style="bold")
        table.add_column("task")
        table.add_column("model")
        table.add_column("score", justify="right")
        table.add_column("each fold")
        estimates: dict[str, dict[str, Estimate]] = summary[test]  # type: ignore[assignment]
        for task in TASKS:
            for model, estimate in estimates[task.name].items():
                title_cell = task.title if model == "federated" else ""
                table.add_row(title_cell, MODELS[model], _interval(estimate), _folds(estimate))
            table.add_section()
        console.print(table)
    table = Table(title="\nFederated at least as good as local-only, share of schools", title_justify="left", title_style="bold")
    for column in ("task", "share", "each fold"):
        table.add_column(column)
    wins: dict[str, Estimate | None] = summary["federated_at_least_local"]  # type: ignore[assignment]
    titles = {"all tasks": "all of a school's tasks", **{task.name: task.title for task in TASKS}}
    for name, title in titles.items():
        if (share := wins[name]) is not None:
            table.add_row(title, _interval(share), _folds(share))
    console.print(table)


def _folds(estimate: Estimate) -> str:
    return "  ".join(map(number, estimate.folds))


def _interval(estimate: Estimate) -> str:
    return f"{number(estimate.mean)} [{number(estimate.interval.low)}, {number(estimate.interval.high)}]"
