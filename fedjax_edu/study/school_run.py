"""One run of the school study from configuration to tables."""

import dataclasses
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from fedjax_edu.core.errors import require
from fedjax_edu.data import Population
from fedjax_edu.engine import State
from fedjax_edu.study import baselines, plots, report
from fedjax_edu.study.card import CardFacts
from fedjax_edu.study.config import SchoolsConfig
from fedjax_edu.study.console import Logged, Printer, standard_output
from fedjax_edu.study.exporting import MODEL, check_folder, export
from fedjax_edu.study.identity import digest
from fedjax_edu.study.predictions import PREDICTIONS, Arrays, Predictions
from fedjax_edu.study.processes import is_first
from fedjax_edu.study.profiling import profile
from fedjax_edu.study.provenance import versions
from fedjax_edu.study.records import History
from fedjax_edu.study.results import MODELS, Result, collect, over_tasks, task_result
from fedjax_edu.study.run import Run
from fedjax_edu.study.run_folder import RunFolder, writing
from fedjax_edu.study.schools import SchoolData, Side, population_of, prepare
from fedjax_edu.study.stopping import Requests, leave, stoppable
from fedjax_edu.study.tracking import Tracker
from fedjax_edu.study.training import Personalised, Trained, Trainer

FIGURES = tuple(f"{name}.{suffix}" for name in ("learning_curve", "schools") for suffix in ("png", "pdf", "svg"))
WRITTEN = ("config.json", "versions.json", "schema.json", "scaling.json", "final.json", "metrics.parquet", "profile")
RESULTS = (*WRITTEN, PREDICTIONS, MODEL, *FIGURES)


def run_schools(
    config: SchoolsConfig,
    workdir: str | os.PathLike[str],
    console: Printer | None = None,
    *,
    population: Population | None = None,
    preface: Sequence[str] = (),
    profiled: bool = False,
    trackers: Sequence[Tracker] = (),
    overwrite: bool = False,
) -> Result:
    """Trains the federation and everything it is compared with, prints tables and fills the run folder.

    The folder receives what :class:`fedjax_edu.study.Run` writes, ``config.json``, ``schema.json``, ``scaling.json``, ``final.json``,
    ``metrics.parquet``, ``learning_curve.png``, ``schools.png``, in the folder ``model`` the federation's model as
    :func:`fedjax_edu.export` writes it, and in ``predictions`` what every model predicts for both tests, [rows, tasks] in raw units.
    A run that was ended goes on in its folder; what it has there, predictions too, is not computed again.

    Args:
        config: what to run.
        workdir: the run folder; created where it is missing.
        console: where progress and tables go; None is standard output.
        population: made from tables; None loads the studies that the configuration names.
        preface: what is printed first, such as how a table was read.
        profiled: first say where the time of a round goes, and leave a trace in the folder ``profile``.
        trackers: where else records of rounds go.
        overwrite: remove what the folder has of a run, this one or another.

    Returns:
        The result.

    Raises:
        ArgumentError: a folder that cannot be written, before any work, or in which a process is running; a configuration that cannot be
            run.
        CheckpointError: the folder is of another run; a checkpoint that cannot be written or read.
        MissingDependencyError: a package of the extra `study` is missing.
        Stopped: Ctrl-C, SIGTERM or SIGUSR1 ended the run, whose rounds are saved.
    """
    require("the school study", "study", "matplotlib", "pandas", "pyarrow", "safetensors", "sklearn")
    folder = RunFolder(workdir)
    console = Logged(console or standard_output(), folder)
    check_folder(folder.path / MODEL)
    with folder.locked(), stoppable(console) as requests:
        population = population_of(config) if population is None else population
        data = prepare(population, config.fold, config.seed, validation=config.validation)
        for text in preface:
            console.print(text, highlight=False, markup=False, soft_wrap=True)
        console.print(_describe(data), highlight=False)
        trainer = Trainer(data, config)
        if unread := set(data.encoding.schema.features) - set(trainer.network.features):
            names = ", ".join(sorted(feature.name for feature in unread))
            console.print(
                f"The network reads no texts, so without {names}; config.model.texts of a multi-modal one reads them.", markup=False
            )
        engine, start = trainer.federation()

        def score(state: State) -> dict[str, float]:
            predictions = _decoded(data, Trained(engine, state, trainer), data.held_out)
            return {one.task.name: one.score("federated") for one in collect(data, data.held_out, {"federated": predictions})}

        columns = {feature.name: " ".join((feature.kind, *feature.levels)) for feature in data.encoding.schema.features}
        told = {name: value for name, value in dataclasses.asdict(config).items() if name != "saving"}
        kinds = {task.name: task.kind for task in data.encoding.schema.tasks}
        told |= {"inputs": columns, "targets": kinds, "rows": digest(population)}  # those of the tests too, on which its scores depend
        run = Run(
            engine,
            trainer.network.params,
            folder,
            seed=config.seed,
            config=told,
            saving=config.saving,
            report=config.chunk,
            score=score,
            trackers=trackers,
            console=console,
            overwrite=overwrite,
        )
        run.check()
        if overwrite:
            folder.remove(*RESULTS)
        if profiled:
            profile(engine, start, folder.path / "profile").show(console)
        state, history = run.train(config.rounds, requests)
        folder.write_json("config.json", config)
        folder.write_json("versions.json", versions())
        folder.write_json("schema.json", data.encoding.schema)
        folder.write_json("scaling.json", data.encoding.scales.to_json())
        predictions, icc = _compare(trainer, Trained(engine, state, trainer), Predictions(folder), console, requests)
        result = _result(data, config, predictions, icc, history)
        _leave(folder, trainer, state, result, history)
        if asked := requests.signal:  # while the last baseline was fitted, or since
            leave(asked, int(state.round), console)
    report.show(result, console)
    console.print(f"Everything is in {Path(workdir)}, the model in {Path(workdir) / MODEL}.", highlight=False, markup=False)
    return result


def _leave(folder: RunFolder, trainer: Trainer, state: State, result: Result, history: History) -> None:
    """The result, the model and what is drawn."""
    data, config = trainer.data, trainer.config
    folder.write_json("final.json", result.summary())  # finds out whether the folder is still this run's
    export(
        state,
        folder.path / MODEL,
        network=trainer.network,
        facts=_facts(data, config, result),
    )
    if is_first():
        with writing(folder.path):
            _draw(folder.path, result, history)


def _draw(folder: Path, result: Result, history: History) -> None:
    """The records as a table, and figures."""
    history.to_pandas().to_parquet(folder / "metrics.parquet")
    plots.learning_curve(folder / "learning_curve.png", history, result)
    plots.schools(folder / "schools.png", result.predictions["held_out"], result.predictions["within"], result)


ICC = "icc"
Outputs = dict[str, Arrays]  # test -> model -> [rows, tasks] in raw units


def _compare(
    trainer: Trainer, federated: Trained, kept: Predictions, console: Printer, requests: Requests
) -> tuple[Outputs, dict[str, float]]:
    """What the federation predicts, and everything that it is compared with; and intraclass correlations."""
    data = trainer.data

    def both(predict: Callable[[Side], np.ndarray]) -> Arrays:
        return {test: predict(side) for test, side in data.sides.items()}

    def within(predict: Callable[[Side], np.ndarray]) -> Arrays:
        return {"within": predict(data.sides["within"])}

    def network(trained: Trained | Personalised) -> Callable[[Side], np.ndarray]:
        return lambda side: _decoded(data, trained, side)

    def random_intercept() -> Arrays:
        predict, correlations = baselines.random_intercept(data)
        return both(predict) | {ICC: np.array([correlations.get(task.name, np.nan) for task in data.tasks])}

    steps: dict[str, Callable[[], Arrays]] = {
        "pooled": lambda: both(network(trainer.personalised(trainer.pooled()))),
        "local_network": lambda: within(network(trainer.local_only())),
        "local_ridge": lambda: within(baselines.local_ridge(data)),
        "random_intercept": random_intercept,
        "boosting": lambda: both(baselines.boosting(data)),
        "ridge": lambda: both(baselines.ridge(data)),
        "constant": lambda: both(baselines.constant(data)),
    }
    found = {"federated": kept.of("federated", lambda: both(network(trainer.personalised(federated))))}
    for name in (name for name in steps if name in trainer.config.compared):
        if asked := requests.signal:
            leave(asked, int(federated.state.round), console)
        console.print(f"baseline: {MODELS[name]}", highlight=False)
        found[name] = kept.of(name, steps[name])
    correlations = found.get("random_intercept", {}).get(ICC, np.zeros(0))
    icc = {task.name: float(value) for task, value in zip(data.tasks, correlations, strict=False) if np.isfinite(value)}
    return {test: {name: arrays[test] for name, arrays in found.items() if test in arrays} for test in data.sides}, icc


def _decoded(data: SchoolData, trained: Trained | Personalised, side: Side) -> np.ndarray:
    return data.encoding.decode(trained.outputs(side))


def _result(data: SchoolData, config: SchoolsConfig, outputs: Outputs, icc: dict[str, float], history: History) -> Result:
    predictions = {test: collect(data, side, outputs[test]) for test, side in data.sides.items()}
    pairs = zip(data.tasks, predictions["held_out"], predictions["within"], strict=True)
    return Result(
        fold=config.fold,
        seed=config.seed,
        rounds=len(history.rounds),
        bytes_up=history.total("bytes_up"),
        bytes_down=history.total("bytes_down"),
        tasks={task.name: task_result(held_out, within) for task, held_out, within in pairs},
        federated_at_least_local=over_tasks(predictions["within"]),
        icc=icc,
        predictions=predictions,
    )


def _facts(data: SchoolData, config: SchoolsConfig, result: Result) -> CardFacts:
    """What the model's card says beside the schema; the aggregator of the study is the plain mean."""
    train, held_out, federated = data.train.population, data.held_out.population, config.federated
    return CardFacts(
        clients=train.num_clients,
        rows=train.num_examples,
        training=f"{federated.algorithm}, {min(config.cohort, train.num_clients)} clients a round, local epochs: {federated.local_epochs}",
        held_out=(held_out.num_clients, held_out.num_examples),
        scores={name: task.held_out["federated"] for name, task in result.tasks.items()},
    )


def _describe(data: SchoolData) -> str:
    train, within, held_out = (side.population for side in (data.train, data.within, data.held_out))
    schools = train.num_clients + held_out.num_clients
    return (
        f"{schools} schools: {train.num_clients} train on {train.num_examples:,} examples and test on {within.num_examples:,} "
        f"of their own pupils; {held_out.num_clients} with {held_out.num_examples:,} examples are held out"
    )
