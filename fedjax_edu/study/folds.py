"""The numbers that are reported: every fold, several seeds, intervals by bootstrap over schools."""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from fedjax_edu.core.errors import ArgumentError
from fedjax_edu.data import Population, Task
from fedjax_edu.study import metrics
from fedjax_edu.study.config import SchoolsConfig
from fedjax_edu.study.estimates import Estimate, by_fold, scores
from fedjax_edu.study.processes import standard_output
from fedjax_edu.study.report import number, with_interval
from fedjax_edu.study.results import MODELS, TESTS, Result
from fedjax_edu.study.run import run_schools
from fedjax_edu.study.run_folder import RunFolder
from fedjax_edu.study.schools import FOLDS, population_of


def run_folds(
    config: SchoolsConfig,
    workdir: str | os.PathLike[str],
    *,
    seeds: int = 1,
    folds: int = FOLDS,
    population: Population | None = None,
    console: Console | None = None,
) -> dict[str, object]:
    """Runs every fold with every seed, then prints means over folds for each task, test and model.

    Args:
        config: the one configuration; its fold is replaced, its seed is the first.
        workdir: holds ``fold1-seed0`` and so on, and ``folds.json``.
        seeds: how many seeds, from the configuration's own upwards.
        folds: how many of the five folds, from the first.
        population: made from tables; None loads the studies that the configuration names.
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
    folder, console = RunFolder(workdir), console or standard_output()
    population = population_of(config) if population is None else population
    results = []
    for fold in range(1, folds + 1):
        for seed in range(config.seed, config.seed + seeds):
            console.rule(f"fold {fold}, seed {seed}")
            run = dataclasses.replace(config, fold=fold, seed=seed)
            results.append(run_schools(run, Path(workdir) / f"fold{fold}-seed{seed}", console, population=population))
    tasks = results[0].compared
    summary: dict[str, object] = {test: _estimates(results, test) for test in TESTS}
    summary["federated_at_least_local"] = {
        "all tasks": _wins(results, [result.federated_at_least_local for result in results]),
        **{task.name: _wins(results, [result.tasks[task.name].federated_at_least_local for result in results]) for task in tasks},
    }
    folder.write_json("folds.json", summary)
    _show(summary, tasks, console)
    return summary


def _estimates(results: Sequence[Result], test: str) -> dict[str, dict[str, Estimate]]:
    """``{task: {model: Estimate}}`` of one test."""
    folds, estimates = [result.fold for result in results], {}
    for position, task in enumerate(results[0].compared):
        runs = [result.predictions[test][position] for result in results]
        estimates[task.name] = scores(runs, folds, [model for model in MODELS if all(model in run.models for run in runs)])
    return estimates


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
    return Estimate(float(wins.mean()), interval, by_fold(wins, [fold for fold, _ in found]))


def _show(summary: dict[str, object], tasks: Sequence[Task], console: Console) -> None:
    for test, title in TESTS.items():
        table = Table(title=f"\n{title}: mean over folds [95 % over schools]", title_justify="left", title_style="bold")
        table.add_column("task")
        table.add_column("model")
        table.add_column("score", justify="right")
        table.add_column("each fold")
        estimates: dict[str, dict[str, Estimate]] = summary[test]  # type: ignore[assignment]
        for task in tasks:
            for model, estimate in estimates[task.name].items():
                title_cell = task.title if model == "federated" else ""
                table.add_row(title_cell, MODELS[model], with_interval(estimate), _folds(estimate))
            table.add_section()
        console.print(table)
    table = Table(title="\nFederated at least as good as local-only, share of schools", title_justify="left", title_style="bold")
    for column in ("task", "share", "each fold"):
        table.add_column(column)
    wins: dict[str, Estimate | None] = summary["federated_at_least_local"]  # type: ignore[assignment]
    titles = {"all tasks": "all of a school's tasks", **{task.name: task.title for task in tasks}}
    for name, title in titles.items():
        if (share := wins[name]) is not None:
            table.add_row(title, with_interval(share), _folds(share))
    console.print(table)


def _folds(estimate: Estimate) -> str:
    return "  ".join(map(number, estimate.folds))
