"""The numbers that are reported: every fold, several seeds, intervals by bootstrap over schools."""

import dataclasses
import itertools
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from rich.rule import Rule

from fedjax_edu.core.errors import ArgumentError
from fedjax_edu.data import Population
from fedjax_edu.study import metrics, plots
from fedjax_edu.study.calibration import CalibrationReport, measure_calibration
from fedjax_edu.study.comparison import ModelComparison, compare
from fedjax_edu.study.config import SchoolsConfig
from fedjax_edu.study.console import Printer, standard_output
from fedjax_edu.study.fairness import measure_fairness
from fedjax_edu.study.processes import is_first
from fedjax_edu.study.provenance import versions
from fedjax_edu.study.results import MODELS, TESTS, Result
from fedjax_edu.study.run_folder import RunFolder
from fedjax_edu.study.school_run import run_schools
from fedjax_edu.study.schools import FOLDS, population_of, split
from fedjax_edu.study.tables import Estimated, Table, counted
from fedjax_edu.study.task_run import TaskRun

ENOUGH = 3  # seeds, for a number that is reported
ALL_TASKS = "all of a school's tasks"


@dataclasses.dataclass(frozen=True)
class FoldsReport:
    """What runs over folds and seeds found.

    Attributes:
        comparisons: of all models, by test.
        calibration: on held-out schools.
        tables: everything as tables, by the name of their files.
    """

    comparisons: dict[str, ModelComparison]
    calibration: CalibrationReport
    tables: dict[str, Table]


def run_folds(
    config: SchoolsConfig,
    workdir: str | os.PathLike[str],
    *,
    seeds: int = 1,
    folds: int = FOLDS,
    population: Population | None = None,
    console: Printer | None = None,
) -> FoldsReport:
    """Runs every fold with every seed, then compares all models on both tests.

    Args:
        config: the one configuration; its fold is replaced, its seed is the first.
        workdir: holds ``fold1-seed0`` and so on, ``folds.json``, ``report.md``, the folder ``tables`` with each table as CSV and LaTeX, and
            a reliability plot for each binary task.
        seeds: how many seeds, from the configuration's own upwards.
        folds: how many of the five folds, from the first.
        population: made from tables; None loads the studies that the configuration names.
        console: where progress and tables go; None is standard output.

    Raises:
        ArgumentError: seeds or folds out of range, a fold that the population cannot be split into, or a folder that cannot be written.
        DataError: a task that a side of some fold lacks.
    """
    if folds not in range(1, FOLDS + 1):
        raise ArgumentError("folds", folds, f"use 1 .. {FOLDS}")
    if seeds < 1:
        raise ArgumentError("seeds", seeds, "use a positive integer")
    folder, console = RunFolder(workdir), console or standard_output()
    population = population_of(config) if population is None else population
    planned = itertools.product(range(1, folds + 1), range(config.seed, config.seed + seeds))
    runs = [dataclasses.replace(config, fold=fold, seed=seed) for fold, seed in planned]
    for run in runs:
        split(population, run.fold, run.seed, validation=run.validation)  # what cannot be run is said before hours of those that can
    results = []
    for run in runs:
        console.print(Rule(f"fold {run.fold}, seed {run.seed}"))
        results.append(run_schools(run, Path(workdir) / f"fold{run.fold}-seed{run.seed}", console, population=population))
    report = summarise(results, min(seeds, ENOUGH))
    folder.write_json("folds.json", report.comparisons)
    folder.write_text("report.md", _markdown(report, population, seeds, folds))
    files = RunFolder(Path(workdir) / "tables")
    for name, table in report.tables.items():
        files.write_text(f"{name}.csv", table.csv())
        files.write_text(f"{name}.tex", table.latex())
        console.print(f"\n{table.markdown()}", highlight=False, markup=False, soft_wrap=True)
    for task, name in _file_names(report.calibration.reliability).items() if is_first() else ():
        plots.reliability(folder.path / f"reliability-{name}.png", report.calibration, task)
    return report


def summarise(results: Sequence[Result], seeds_at_least: int = ENOUGH) -> FoldsReport:
    """Tables over runs.

    Args:
        results: of every fold and seed.
        seeds_at_least: how many seeds each fold must have.
    """
    runs = {test: [run for result in results for run in result.predictions[test]] for test in TESTS}
    comparisons = {test: compare(of_test, seeds_at_least=seeds_at_least) for test, of_test in runs.items()}
    calibration = measure_calibration([run for run in runs["held_out"] if run.task.binary]) if _binary(runs["held_out"]) else None
    tables = {"tasks": _tasks(results)}
    for test, title in TESTS.items():
        for name, table in {"scores": comparisons[test].table(MODELS), "schools": comparisons[test].schools_table(MODELS)}.items():
            tables[f"{name}_{test}"] = dataclasses.replace(table, title=f"{table.title}: {title}")
    tables["federated_at_least_local"] = _wins(results)
    if calibration is not None:
        tables["calibration"] = calibration.table(MODELS)
    tables["groups"] = measure_fairness(runs["held_out"], ["federated"]).table(MODELS)
    return FoldsReport(comparisons, calibration or CalibrationReport({}, {}, {}), tables)


def _file_names(tasks: Iterable[str]) -> dict[str, str]:
    """Names of tasks as parts of names of files: short, of letters and digits, each another one.

    >>> _file_names(["star.math", "a/b", "a b"])
    {'star.math': 'star-math', 'a/b': 'a-b', 'a b': 'a-b-2'}
    """
    names: dict[str, str] = {}
    for position, task in enumerate(tasks):
        plain = re.sub(r"[^\w-]+", "-", task)[:60]
        names[task] = f"{plain}-{position}" if plain in names.values() else plain
    return names


def _binary(runs: Sequence[TaskRun]) -> bool:
    return any(run.task.binary for run in runs)


def _tasks(results: Sequence[Result]) -> Table:
    """What is predicted, for how many rows and schools, and how much schools differ."""
    rows: list[tuple[str, str, int, int, float]] = []
    for position, task in enumerate(results[0].compared):
        once = [result.predictions["held_out"][position] for result in results if result.seed == results[0].seed]
        schools = len(np.unique(np.concatenate([run.school for run in once])))
        icc = [result.icc[task.name] for result in results if task.name in result.icc]
        rows.append((task.title, task.unit, sum(run.rows for run in once), schools, float(np.mean(icc)) if icc else float("nan")))
    note = "ICC: share of the variance that lies between schools, in the multilevel model without inputs; of log-odds for a yes or no."
    return Table("Tasks", ("task", "unit", "rows", "schools", "ICC"), rows, note)


def _wins(results: Sequence[Result]) -> Table:
    """Shares of schools where the federated model is at least as good as local-only."""
    comparisons = {ALL_TASKS: [result.federated_at_least_local for result in results]}
    comparisons |= {task.title: [result.tasks[task.name].federated_at_least_local for result in results] for task in results[0].compared}
    rows = []
    for title, each in comparisons.items():
        found = [one for one in each if one is not None and one.schools]
        if found:
            low, high = (float(np.mean([getattr(one.wins_interval, end) for one in found])) for end in ("low", "high"))
            rows.append((title, Estimated(float(np.mean([one.wins for one in found])), low, high), len(found)))
    note = f"Within-school test, schools with at least {metrics.MIN_ROWS} test rows; ties count half. Means over runs [95 % over schools]."
    return Table("Federated at least as good as local-only, share of schools", ("task", "share", "runs"), rows, note)


def _markdown(report: FoldsReport, population: Population, seeds: int, folds: int) -> str:
    installed = ", ".join(f"{name} {version}" for name, version in versions().items())
    head = (
        f"{population.num_clients:,} schools, {population.num_examples:,} examples; {counted(folds, 'fold')} by school and "
        f"{counted(seeds, 'seed')}. Models other than the local-only ones see all training schools; the federated model's schools share "
        f"parameters, never rows.\n\nMade with {installed}.\n"
    )
    tables = (f"## {table.title}\n\n{dataclasses.replace(table, title='').markdown()}" for table in report.tables.values())
    return "\n".join([head, *tables])
