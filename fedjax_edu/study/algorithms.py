"""Every algorithm on the same schools: scores on either test, means over folds and seeds."""

import dataclasses
import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from fedjax_edu.core.errors import ArgumentError, ConfigError, require
from fedjax_edu.data import Task
from fedjax_edu.study.choice import check_algorithm
from fedjax_edu.study.config import Config, FederatedConfig, SchoolsConfig
from fedjax_edu.study.console import Printer, standard_output
from fedjax_edu.study.estimates import Estimate, against
from fedjax_edu.study.metrics import MIN_ROWS
from fedjax_edu.study.provenance import versions
from fedjax_edu.study.report import with_interval
from fedjax_edu.study.results import collect
from fedjax_edu.study.run_folder import RunFolder
from fedjax_edu.study.schools import FOLDS, SchoolData, population_of, prepare
from fedjax_edu.study.tables import Table, counted, number
from fedjax_edu.study.task_run import TaskRun
from fedjax_edu.study.training import Trained, Trainer

REFERENCE = "fedavg"
TESTS = {"held_out": "Held-out schools", "within": "Other pupils of the schools that took part"}
QUANTILES = (0.1, 0.5, 0.9)


@dataclasses.dataclass(frozen=True, kw_only=True)
class MethodConfig(FederatedConfig):
    """How an algorithm trains, and what schools have of their own.

    Attributes:
        personal: paths of the modules that stay with a school; ``...`` for all of them, which is training alone.
        tuning_epochs: of each school on the whole model, once the federation is done; 0: none.
    """

    personal: list[str]
    tuning_epochs: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class AlgorithmsConfig(Config):
    """What is compared.

    Attributes:
        schools: everything but how the federation trains.
        test: "held_out" schools, or other pupils "within" the schools that took part.
        settings: how each algorithm trains.
        grids: for tuning, values to try by algorithm and field of its settings, or argument of its own.
    """

    schools: SchoolsConfig
    test: str
    settings: dict[str, MethodConfig]
    grids: dict[str, dict[str, list[int | float | str]]]

    def __post_init__(self) -> None:
        if self.test not in TESTS:
            raise ConfigError("config.test", self.test, f"use one of {', '.join(TESTS)}")


@dataclasses.dataclass(frozen=True)
class Score:
    """An algorithm on one task.

    Attributes:
        score: R² or AUC over all rows of the test.
        difference: from FedAvg's, paired.
        quantiles: of the scores of single schools, those of :data:`QUANTILES`, means over runs.
    """

    score: Estimate
    difference: Estimate
    quantiles: tuple[float, ...]


def run_algorithms(
    config: AlgorithmsConfig, workdir: str | os.PathLike[str], *, seeds: int = 3, folds: int = FOLDS, console: Printer | None = None
) -> dict[str, dict[str, Score]]:
    """Trains every algorithm with its settings in every fold with every seed.

    Args:
        config: what to compare; one of the settings is ``fedavg``.
        workdir: receives ``algorithms.json``, ``algorithms.md``, ``config.json`` and ``versions.json``.
        seeds: how many, from the configuration's own upwards.
        folds: how many of the five, from the first.
        console: where progress and the table go; None is standard output.

    Returns:
        ``{algorithm: {task: Score}}``.

    Raises:
        ArgumentError: seeds or folds out of range, or a folder that cannot be written.
        ConfigError: FedAvg is missing, or an algorithm's arguments are wrong.
    """
    require("the school study", "study", "matplotlib", "pandas", "sklearn")
    if REFERENCE not in config.settings:
        raise ConfigError("config.settings", sorted(config.settings), f"add {REFERENCE}: the others are measured against it")
    for settings in config.settings.values():
        check_algorithm(settings)
    folder, console = RunFolder(workdir), console or standard_output()
    folder.write_json("config.json", config)
    folder.write_json("versions.json", versions())
    runs: list[tuple[TaskRun, ...]] = []
    fold_of_run = []
    for data, schools in splits(config.schools, seeds=seeds, folds=folds):
        outputs = {name: predict(data, schools, one, config.test) for name, one in config.settings.items()}
        runs.append(collect(data, data.sides[config.test], outputs))
        fold_of_run.append(schools.fold)
        console.print(f"fold {schools.fold}, seed {schools.seed}: {len(outputs)} algorithms", highlight=False)
    found: dict[str, dict[str, Score]] = {name: {} for name in config.settings}
    tasks = [one.task for one in runs[0]]
    for position, task in enumerate(tasks):
        of_task = [run[position] for run in runs]
        for name, (score, difference) in against(of_task, fold_of_run, list(config.settings), REFERENCE).items():
            schools_of_runs = [list(run.by_school(name).values()) for run in of_task]
            each = [np.quantile(one, QUANTILES) if one else np.full(len(QUANTILES), np.nan) for one in schools_of_runs]
            found[name][task.name] = Score(score, difference, tuple(np.mean(each, axis=0).tolist()))
    folder.write_json("algorithms.json", found)
    text = _markdown(found, tasks, config.test, seeds, folds)
    folder.write_text("algorithms.md", text)
    console.print(text, highlight=False)
    return found


def tune_algorithms(config: AlgorithmsConfig, *, names: Sequence[str] = (), folds: int = 2, console: Printer | None = None) -> None:
    """Prints the mean score over tasks of every point of the grids, on inner splits of the folds' training schools.

    Args:
        config: settings around which the grids vary.
        names: of the algorithms to tune; none names all that have a grid.
        folds: how many of the five, from the first; their test rows are left out.
        console: where lines go; None is standard output.

    Raises:
        ArgumentError: folds out of range, or a name without settings or grid.
        ConfigError: an algorithm's arguments are wrong.
    """
    names, console = names or list(config.grids), console or standard_output()
    for name in names:
        if name not in config.settings or name not in config.grids:
            known = sorted(set(config.settings) & set(config.grids))
            raise ArgumentError("names", name, f"use algorithms with settings and a grid: {', '.join(known)}")
    inner = list(splits(dataclasses.replace(config.schools, validation=True), seeds=1, folds=folds))
    for name in names:
        for point in _points(config.grids[name]):
            settings = _with(config.settings[name], point)
            scores = []
            for data, schools in inner:
                outputs = predict(data, schools, settings, config.test)
                scores.append([one.score(name) for one in collect(data, data.sides[config.test], {name: outputs})])
            each = "  ".join(map(number, np.mean(scores, axis=0)))
            console.print(f"{name:<12} {number(float(np.mean(scores)))}   {each}   {point}", highlight=False)


def splits(config: SchoolsConfig, *, seeds: int, folds: int) -> Iterator[tuple[SchoolData, SchoolsConfig]]:
    """Every fold with every seed, split, and the configuration that says so.

    Raises:
        ArgumentError: seeds or folds out of range.
    """
    if folds not in range(1, FOLDS + 1):
        raise ArgumentError("folds", folds, f"use 1 .. {FOLDS}")
    if seeds < 1:
        raise ArgumentError("seeds", seeds, "use a positive integer")
    population = population_of(config)
    for fold, seed in itertools.product(range(1, folds + 1), range(config.seed, config.seed + seeds)):
        yield prepare(population, fold, seed, validation=config.validation), dataclasses.replace(config, fold=fold, seed=seed)


def predict(data: SchoolData, config: SchoolsConfig, method: MethodConfig, test: str) -> np.ndarray:
    """Predictions of a federation for one of the tests, [rows, tasks] in raw units.

    Args:
        data: the split.
        config: everything but how the federation trains.
        method: how it does.
        test: of :data:`TESTS`.
    """
    trainer = Trainer(data, dataclasses.replace(config, federated=method))
    engine, state = trainer.federation(personal=method.personal)
    state, _ = engine.run(state, rounds=config.rounds)
    trained = Trained(engine, state, trainer)
    if method.tuning_epochs:
        trained = trainer.tuned(trained, method.tuning_epochs)
    return data.encoding.decode(trained.outputs(data.sides[test]))


def _points(grid: Mapping[str, Sequence[Any]]) -> Iterator[dict[str, Any]]:
    for values in itertools.product(*grid.values()):
        yield dict(zip(grid, values, strict=True))


def _with(settings: MethodConfig, point: Mapping[str, Any]) -> MethodConfig:
    """Settings with some fields replaced; names that are no field are arguments of the algorithm."""
    fields = {field.name for field in dataclasses.fields(MethodConfig)}
    own = {name: value for name, value in point.items() if name not in fields}
    others = {name: value for name, value in point.items() if name in fields}
    return dataclasses.replace(settings, arguments={**settings.arguments, **own}, **others)


def _markdown(found: Mapping[str, Mapping[str, Score]], tasks: Sequence[Task], test: str, seeds: int, folds: int) -> str:
    titles = [f"{task.title} ({task.metric.replace('R2', 'R²')})" for task in tasks]
    scores = [[name, *map(_cell, of_task.values())] for name, of_task in found.items()]
    schools = [[name, *(" ".join(map(number, one.quantiles)) for one in of_task.values())] for name, of_task in found.items()]
    runs, whom = f"{counted(folds, 'fold')} and {counted(seeds, 'seed')}", TESTS[test]
    quantiles = ", ".join(f"{one:.0%}" for one in QUANTILES)
    return (
        f"{whom}, mean over {runs} [95 % over schools]. ▲ or ▼: above or below FedAvg on the same rows, the 95 % interval of the paired "
        f"difference leaving out 0.\n\n{Table('', ['algorithm', *titles], scores).markdown()}\nSchools one by one: the scores that "
        f"{quantiles} of the schools with {MIN_ROWS} rows or more stay below.\n\n{Table('', ['algorithm', *titles], schools).markdown()}"
    )


def _cell(one: Score) -> str:
    low, high = one.difference.interval.low, one.difference.interval.high
    if np.isnan(one.score.mean):
        return with_interval(one.score)
    return with_interval(one.score) + (" ▲" if low > 0 else " ▼" if high < 0 else "")
