"""What the engine can do and how fast, against rivals and floors: ``python -m experiments.benchmark --suite=cpu --check``.

Suites are ``cpu`` (ours alone), ``model`` (experts, low-rank matrices, a transformer), ``scaling`` (more clients, more rows than memory,
more runs) and ``peers`` (rivals in environments that it makes itself). JSON, Markdown and a plot go to ``--workdir``; with ``--check``
the program ends with 1 if a floor fails.
"""

import sys
from collections.abc import Iterable
from pathlib import Path

import jax
from absl import app, flags, logging
from rich.console import Console

import fedjax_edu as fe
from experiments.benchmarks import report
from experiments.benchmarks.floors import judge
from experiments.benchmarks.peers.rivals import OURS, RIVALS
from experiments.benchmarks.results import Measured, Options, Table, together
from experiments.benchmarks.suites import SUITES
from experiments.benchmarks.workload import CLIENTS, MODELS

ENOUGH = 7
_SUITE = flags.DEFINE_enum("suite", None, sorted(SUITES), "What to run.", required=True)
_CHECK = flags.DEFINE_bool("check", False, f"End with 1 if a floor fails; needs {ENOUGH} repeats.")
_MODELS = flags.DEFINE_list("models", list(MODELS), "Models to measure.")
_COHORTS = flags.DEFINE_list("cohorts", ["32", "128", "512"], "Cohorts to measure.")
_RIVALS = flags.DEFINE_list("rivals", [name for name in RIVALS if name != OURS], "Rivals to compare with.")
_REPEATS = flags.DEFINE_integer("repeats", ENOUGH, "Turns of each measurement.", lower_bound=1)
_WORKDIR = flags.DEFINE_string("workdir", "runs/benchmark", "Where results go.")
_PEERS_DIR = flags.DEFINE_string("peers-dir", "runs/peers", "Where the rivals' environments live; those that are missing are made.")


def main(argv: list[str]) -> None:
    """Measures, reports, judges."""
    logging.set_verbosity(logging.WARNING)
    console = Console()
    options = read_options(console)
    fe.configure()
    found, verdicts = Measured(), []
    for part in SUITES[_SUITE.value](options):
        found = together([found, part])
        verdicts = judge(_SUITE.value, found.figures, jax.__version_info__[:2])
        report.write(options.workdir, _SUITE.value, found, verdicts, report.machine(report.command_line()))  # a suite takes hours
        _print(console, part.tables)
    _print(console, (report.floors_table(verdicts),))
    if _CHECK.value and not all(verdict.passed is not False for verdict in verdicts):
        sys.exit(1)


def _print(console: Console, tables: Iterable[Table]) -> None:
    for table in tables:
        console.print(report.show(table), highlight=False, markup=False)


def read_options(console: Console) -> Options:
    """The flags, checked.

    Args:
        console: where progress goes.

    Returns:
        What suites are told.

    Raises:
        ConfigError: an unknown name, a cohort that cannot be drawn, too few repeats to judge by.
    """
    for flag, known in ((_MODELS, MODELS), (_RIVALS, RIVALS)):
        if unknown := set(flag.value) - set(known):
            raise fe.errors.ConfigError(flag.name, sorted(unknown)[0], f"use any of {', '.join(known)}")
    for cohort in _COHORTS.value:
        if not (cohort.isdigit() and 0 < int(cohort) <= CLIENTS):
            raise fe.errors.ConfigError("cohorts", cohort, f"use integers from 1 to {CLIENTS}, the workload's clients")
    if _CHECK.value and _REPEATS.value < ENOUGH:
        raise fe.errors.ConfigError("repeats", _REPEATS.value, f"use {ENOUGH} or more with --check")
    return Options(
        models=tuple(_MODELS.value),
        cohorts=tuple(map(int, _COHORTS.value)),
        rivals=tuple(_RIVALS.value),
        repeats=_REPEATS.value,
        workdir=Path(_WORKDIR.value),
        peers_dir=Path(_PEERS_DIR.value),
        say=lambda text: console.print(text, style="dim", highlight=False, markup=False),
    )


if __name__ == "__main__":
    try:
        app.run(main)
    except fe.errors.FedjaxEduError as error:
        sys.exit(f"{type(error).__name__}: {error}")
