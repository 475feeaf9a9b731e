"""Everybody on the same workload, taking turns."""

import contextlib
import dataclasses
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from experiments.benchmarks import ours, workload
from experiments.benchmarks.measure import Spread, interleave, spread
from experiments.benchmarks.peers.environments import prepare
from experiments.benchmarks.peers.rivals import OURS, RIVALS, Process, Rival
from experiments.benchmarks.results import Measured, Options, Panel, Table, megabytes, seconds, with_spread
from experiments.benchmarks.timing import rounds_a_repeat

COLUMNS = ("", "round, median [quartiles]", "least", "our speed over its", "accuracy", "norm", "prepared in", "first round", "peak bytes")
WRAPS = "fedjax"  # fills short batches with a client's first examples: the same workload but for these


@dataclasses.dataclass(frozen=True)
class Entry:
    """What one rival did.

    Args:
        round: seconds of a round.
        preparation_seconds: until it was ready.
        first_round_seconds: which compiles, where something is compiled.
        accuracy: held out, at the end.
        norm: of the final parameters.
        peak_bytes: of its processes; None where the system does not tell.
    """

    round: Spread
    preparation_seconds: float
    first_round_seconds: float
    accuracy: float
    norm: float
    peak_bytes: int | None


def compare(options: Options) -> Iterator[Measured]:
    """Every rival on every model and cohort."""
    pythons = interpreters(options)
    for model in options.models:
        yield from _compare_model(options, model, pythons)


def interpreters(options: Options) -> dict[str | None, Path]:
    """The interpreter of each environment that the asked rivals need, made where it is missing."""
    names = sorted({rival.environment for name in options.rivals if (rival := RIVALS[name]).environment})
    for name in names:
        options.say(f"environment of {name}")
    return {None: Path(sys.executable)} | {name: prepare(name, options.peers_dir) for name in names}


def _compare_model(options: Options, model: str, pythons: dict[str | None, Path]) -> Iterator[Measured]:
    rivals = {name: RIVALS[name] for name in (OURS, *options.rivals) if model in RIVALS[name].models}
    clients = workload.make(model)
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "workload.npz"
        clients.save(data)
        for cohort in options.cohorts:
            yield report(model, cohort, _compete(options, clients, cohort, data, rivals, pythons))


def _compete(
    options: Options,
    clients: workload.Workload,
    cohort: int,
    data: Path,
    rivals: dict[str, Rival],
    pythons: dict[str | None, Path],
) -> dict[str, Entry]:
    """One cohort: everybody prepares and trains a first round; then they take turns."""
    rounds = rounds_a_repeat(clients.model, cohort)
    schedule = data.with_name(f"cohorts-{cohort}.npy")
    np.save(schedule, ours.cohorts(clients, cohort, 1 + rounds * options.repeats))
    logs = options.workdir / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        running, first = {}, {}
        for name, rival in rivals.items():
            options.say(f"{clients.model}, cohort {cohort}: {name}")
            log = logs / f"{clients.model}-{cohort}-{name.replace(' ', '-')}.log"
            process = Process(name, pythons[rival.environment], rival, data=data, cohorts=schedule, log=log)
            running[name] = stack.enter_context(process)
            (first[name],) = process.train(1)
        repeated = interleave({name: partial(process.train, rounds) for name, process in running.items()}, options.repeats)
        return {name: _entry(process, spread(repeated[name]), first[name], clients, data) for name, process in running.items()}


def _entry(process: Process, found: Spread, first: float, clients: workload.Workload, data: Path) -> Entry:
    params = process.params(data.with_name("params.npz"))
    return Entry(
        round=found,
        preparation_seconds=process.preparation_seconds,
        first_round_seconds=first,
        accuracy=workload.accuracy(clients.model, params, clients.held_out),
        norm=workload.norm(params),
        peak_bytes=process.peak_bytes(),
    )


def report(model: str, cohort: int, entries: dict[str, Entry]) -> Measured:
    """Figures, a table and a panel of one comparison.

    Args:
        model: that was trained.
        cohort: clients a round.
        entries: ours and the rivals'.

    Returns:
        A part of the suite's findings.
    """
    slower = {name: entry.round.median / entries[OURS].round.median for name, entry in entries.items()}
    ordered = sorted(entries, key=lambda name: slower[name])
    rows = tuple(_row(name, entries[name], slower[name], entries[OURS]) for name in ordered)
    return Measured(
        measurements={f"{model}/{cohort}": {name: dataclasses.asdict(entry) for name, entry in entries.items()}},
        figures={f"{model}/{cohort}/{name}": value for name, value in _figures(entries, slower).items()},
        tables=(Table(f"{model}, cohort {cohort}", COLUMNS, rows),),
        panels=(Panel(f"{model}, cohort {cohort}", "seconds", {name: entries[name].round for name in ordered}),),
    )


def _row(name: str, entry: Entry, slower: float, own: Entry) -> tuple[str, ...]:
    return (
        name,
        with_spread(entry.round),
        seconds(entry.round.minimum),
        "–" if entry is own else f"{slower:.2f}",
        f"{entry.accuracy:.2%}",
        f"{entry.norm:.4f}",
        seconds(entry.preparation_seconds),
        seconds(entry.first_round_seconds),
        megabytes(entry.peak_bytes),
    )


def _figures(entries: dict[str, Entry], slower: dict[str, float]) -> dict[str, float]:
    """How many times faster than each family's best we are, and the largest difference in accuracy."""
    rivals = {name: value for name, value in slower.items() if name != OURS}
    families = {
        "over fedjax": "fedjax",
        "over pfl 2 processes": "pfl 2 processes",
        "over flower": "flower",
        "over the best PyTorch loop": "torch",
        "over the best rival": "",
    }
    found = {title: min(own) for title, start in families.items() if (own := [v for name, v in rivals.items() if name.startswith(start)])}
    gaps = {name: 100 * abs(entries[name].accuracy - entries[OURS].accuracy) for name in rivals}
    alike = [gap for name, gap in gaps.items() if not name.startswith(WRAPS)]
    unlike = [gap for name, gap in gaps.items() if name.startswith(WRAPS)]
    return found | ({"accuracy gap": max(alike)} if alike else {}) | ({"accuracy gap of fedjax": max(unlike)} if unlike else {})
