"""Where the time of a round goes: a trace of a few rounds, and its seconds by the part of a round."""

import dataclasses
import os
import time
from pathlib import Path

import jax
from rich.table import Table

from fedjax_edu.core.errors import ArgumentError, check_integer
from fedjax_edu.engine import Engine, State
from fedjax_edu.study.console import Printer
from fedjax_edu.study.trace import seconds_by_part

WORDS = {
    "sample": "draw the cohort, sort it, find its rows",
    "train": "local steps of clients, in lanes",
    "flush": "a client's end in its lane and the next one's start: links, running sums, states",
    "aggregate": "the server's half of the links; rules that keep every update",
    "server": "the server's step",
    "other": "what the compiler put between them, gathering and scattering client states",
}


@dataclasses.dataclass(frozen=True)
class Profile:
    """Where time went.

    Attributes:
        seconds: busy seconds of a round by part, over all threads or streams of all devices.
        rounds: how many were traced.
        traced: seconds of a traced round by the clock.
        untraced: seconds of a round by the clock without the tracer.
        devices: how many worked.
        path: the trace, a file that XProf opens; the ``.trace.json.gz`` beside it is for Perfetto.
    """

    seconds: dict[str, float]
    rounds: int
    traced: float
    untraced: float
    devices: int
    path: Path

    def show(self, console: Printer) -> None:
        """Prints a table."""
        busy = sum(self.seconds.values())
        table = Table(title="\nWhere a round's time goes", title_justify="left", title_style="bold")
        for column, side in (("part", "left"), ("ms a round, all devices", "right"), ("share", "right"), ("what it is", "left")):
            table.add_column(column, justify=side)  # type: ignore[arg-type]
        for part, words in WORDS.items():
            seconds = self.seconds[part]
            table.add_row(part, f"{1e3 * seconds:,.2f}", f"{seconds / busy:.1%}" if busy else "–", words)
        console.print(table)
        idle = max(0.0, 1 - busy / (self.traced * self.devices))
        console.print(
            f"A round takes {1e3 * self.untraced:,.2f} ms, and {1e3 * self.traced:,.2f} ms while it is traced; then {self.devices} "
            f"{'device is' if self.devices == 1 else 'devices are'} idle, or busy with loops, for {idle:.0%} of the time.\n"
            f"The trace is in {self.path.parent}.",
            highlight=False,
        )


def profile(engine: Engine, state: State, folder: str | os.PathLike[str], *, rounds: int = 3) -> Profile:
    """Traces a few rounds once they are compiled; the state stays as it is.

    Args:
        engine: what to run.
        state: where to start, one or several stacked ones.
        folder: receives ``plugins/profile/TIME/``, as ``jax.profiler`` names it.
        rounds: how many; a trace holds every operation of each.

    Raises:
        ArgumentError: not a positive number of rounds, or a folder that cannot be written.

    >>> import optax, tempfile, numpy as np, fedjax_edu as fe
    >>> population = fe.data.Population.from_arrays({"y": np.arange(6.0)}, offsets=[0, 2, 6])
    >>> algorithm = fe.algorithms.fedavg(
    ...     lambda params, batch, key: 0.5 * (params["mean"] - batch["y"]) ** 2,
    ...     client_optimizer=optax.sgd(1.0), local=fe.LocalTraining(epochs=1))
    >>> engine = fe.Engine(population, algorithm, cohort=fe.cohorts.everyone(), aggregator=fe.aggregation.mean())
    >>> found = profile(engine, engine.init({"mean": np.float32(0)}, seed=0), tempfile.mkdtemp())
    >>> sorted(found.seconds)
    ['aggregate', 'flush', 'other', 'sample', 'server', 'train']
    """
    rounds = check_integer("rounds", rounds)
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ArgumentError("folder", str(folder), f"name a folder you may write to ({error})") from error
    engine.run(state, 1)  # compiles, and warms caches up
    untraced = _clock(engine, state, rounds)
    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0
    with jax.profiler.trace(folder, profiler_options=options):
        traced = _clock(engine, state, rounds)
    path = max(Path(folder).glob("plugins/profile/*/*.xplane.pb"), key=lambda path: path.stat().st_mtime)
    seconds = {part: total / rounds for part, total in seconds_by_part(path).items()}
    return Profile(seconds, rounds, traced / rounds, untraced / rounds, engine.layout.mesh.size, path)


def _clock(engine: Engine, state: State, rounds: int) -> float:
    started = time.perf_counter()
    jax.block_until_ready(engine.run(state, rounds))
    return time.perf_counter() - started
