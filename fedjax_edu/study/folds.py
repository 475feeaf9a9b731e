"""The numbers that are reported: every fold, several seeds, intervals by bootstrap over schools."""

import dataclasses
import itertools
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from fedjax_edu.core.errors import ArgumentError
from fedjax_edu.data import Population
from fedjax_edu.study import metrics, plots
from fedjax_edu.study.calibration import CalibrationReport, measure_calibration
from fedjax_edu.study.comparison import ModelComparison, compare
from fedjax_edu.study.config import SchoolsConfig
from fedjax_edu.study.console import Printer, standard_output
from fedjax_edu.study.fairness import measure_fairness
from fedjax_edu.study.federations import Federations, file_names
from fedjax_edu.study.processes import is_first
from fedjax_edu.study.provenance import versions
from fedjax_edu.study.results import MODELS, TESTS, Result
from fedjax_edu.study.run_folder import RunFolder
from fedjax_edu.study.schools import FOLDS
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
    beside: Mapping[str, Sequence[SchoolsConfig]] | None = None,
    seeds: int = 1,
    folds: int = FOLDS,
    population: Population | None = None,
    console: Printer | None = None,
) -> FoldsReport:
    """Runs every fold with every seed, then compares all models on both tests.

    Args:
        config: of the federation that all others are compared with; its fold is replaced, its seed is the first.
        workdir: holds ``fold1-seed0`` and so on, ``folds.json``, ``report.md``, the folder ``tables`` with each table as CSV and LaTeX, and
            a reliability plot for each binary task.
        beside: further federations by the name of their row in the tables, see :class:`fedjax_edu.study.StudyConfig`; their folders are
            ``fold1-seed0-NAME-1``.
        seeds: how many seeds, from the configuration's own upwards.
        folds: how many of the five folds, from the first.
        population: made from tables; None loads the studies that the configuration names.
        console: where progress and tables go; None is standard output.

    Raises:
        ArgumentError: seeds or folds out of range, a row that :class:`fedjax_edu.study.federations.Federations` refuses, a fold that the
            population cannot be split into, or a folder that cannot be written.
        ConfigError: a task without an entry, an unknown algorithm or arguments that are not its own.
        DataError: a task that a side of some fold lacks.
    """
    if folds not in range(1, FOLDS + 1):
        raise ArgumentError("folds", folds, f"use 1 .. {FOLDS}")
    if seeds < 1:
        raise ArgumentError("seeds", seeds, "use a positive integer")
    folder, console = RunFolder(workdir), console or standard_output()
    federations = Federations(config, beside or {}, population)
    cells = list(itertools.product(range(1, folds + 1), range(config.seed, config.seed + seeds)))
    for fold, seed in cells:
        federations.check(fold, seed)  # what cannot be run is said before hours of those that can
    results = [federations.run(fold, seed, folder.path, console) for fold, seed in cells]
    report = summarise(results, min(seeds, ENOUGH))
    folder.write_json("folds.json", report.comparisons)
    folder.write_text("report.md", _markdown(report, federations.population, seeds, folds))
    files = RunFolder(Path(workdir) / "tables")
    for name, table in report.tables.items():
        files.write_text(f"{name}.csv", table.csv())
        files.write_text(f"{name}.tex", table.latex())
        console.print(f"\n{table.markdown()}", highlight=False, markup=False, soft_wrap=True)
    for task, name in file_names(report.calibration.reliability).items() if is_first() else ():
        plots.reliability(folder.path / f"reliability-{name}.png", report.calibration, task)
    return report


def summarise(results: Sequence[Result], seeds_at_least: int = ENOUGH) -> FoldsReport:
    """Tables over runs.

    Args:
        results: of every fold and seed.
        seeds_at_least: how many seeds each fold must have.
    """
    titles = MODELS | {name: name for run in results[0].predictions["held_out"] for name in run.models if name not in MODELS}
    runs = {test: [run for result in results for run in result.predictions[test]] for test in TESTS}
    comparisons = {test: compare(of_test, seeds_at_least=seeds_at_least) for test, of_test in runs.items()}
    calibration = measure_calibration([run for run in runs["held_out"] if run.task.binary]) if _binary(runs["held_out"]) else None
    tables = {"tasks": _tasks(results)}
    for test, title in TESTS.items():
        for name, table in {"scores": comparisons[test].table(titles), "schools": comparisons[test].schools_table(titles)}.items():
            tables[f"{name}_{test}"] = dataclasses.replace(table, title=f"{table.title}: {title}")
    tables["federated_at_least_local"] = _wins(results)
    if calibration is not None:
        tables["calibration"] = calibration.table(titles)
    tables["groups"] = measure_fairness(runs["held_out"], ["federated"]).table(MODELS)
    return FoldsReport(comparisons, calibration or CalibrationReport({}, {}, {}), tables)


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
