"""What happens when there is more of everything."""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from experiments.benchmarks.errors import BenchmarkError
from experiments.benchmarks.fresh import in_fresh_process, small_clients
from experiments.benchmarks.measure import Spread, spread
from experiments.benchmarks.peers.rivals import ROOT
from experiments.benchmarks.results import Measured, Options, Panel, Part, Table, megabytes, seconds, with_spread
from experiments.benchmarks.suites.many_clients import lazy_clients, personal_heads
from experiments.benchmarks.suites.streaming import streaming
from experiments.benchmarks.suites.sweeping import sweeping
from experiments.benchmarks.suites.weak import collectives, weak_scaling
from experiments.benchmarks.timing import Runner, time_all

TIME_COHORTS = (64, 128, 256, 512, 1024, 2048, 4096, 8192)
MEMORY_COHORTS = (32, 64, 128, 256, 512, 1024, 2048)
CONFIG = "experiments/configs/schools.py"
PATIENCE = 300.0


def time_per_client(options: Options) -> Measured:
    """Small clients, the same number in every repeat whatever the cohort."""
    options.say("time per client")
    clients = small_clients(max(TIME_COHORTS))
    runners = {str(cohort): Runner(clients, cohort, max(TIME_COHORTS) // cohort) for cohort in TIME_COHORTS}
    timings = time_all(runners, "mlp", options.repeats)
    each = {name: _scaled(one.round, 1 / int(name)) for name, one in timings.items()}
    medians = [one.median for one in each.values()]
    rows = tuple((name, with_spread(one), seconds(one.minimum), f"{one.median / min(medians):.2f}") for name, one in each.items())
    return Measured(
        measurements={"time per client": {name: one._asdict() for name, one in each.items()}},
        figures={"time per client/dearest over cheapest": max(medians) / min(medians)},
        tables=(Table("Time per client", ("cohort", "median [quartiles]", "least", "over the cheapest"), rows),),
        panels=(Panel("Time per client by cohort", "seconds", each),),
    )


def _scaled(found: Spread, factor: float) -> Spread:
    return found._replace(**{name: getattr(found, name) * factor for name in ("median", "minimum", "low", "high")})


def memory(options: Options) -> Measured:
    """The most resident memory of a process that trains one cohort, a fresh process for each."""
    found = {cohort: in_fresh_process(options, "memory", cohort)["peak"] for cohort in MEMORY_COHORTS}
    first, last = MEMORY_COHORTS[0], MEMORY_COHORTS[-1]
    known = {} if found[first] is None else {f"memory/{last} over {first}": found[last] / found[first]}
    rows = tuple((str(cohort), megabytes(size)) for cohort, size in found.items())
    return Measured(
        measurements={"memory": found}, figures=known, tables=(Table("Resident memory of a process", ("cohort", "peak"), rows),)
    )


def compiling(options: Options) -> Measured:
    """Seconds that the main job takes before its first round, in fresh processes: without and with a cache of compiled programs."""
    cold, cached = [], []
    with tempfile.TemporaryDirectory() as folder:
        for repeat in range(min(options.repeats, 3)):
            options.say(f"compiling the main job, {repeat + 1}")
            cache = Path(folder) / f"compiled-{repeat}"
            cold.append(compile_seconds(cache, Path(folder) / f"cold-{repeat}"))
            cached.append(compile_seconds(cache, Path(folder) / f"cached-{repeat}"))
    found = {"cold": spread(cold), "cached": spread(cached)}
    rows = tuple((name, with_spread(one), seconds(one.minimum)) for name, one in found.items())
    return Measured(
        measurements={"compile": {name: one._asdict() for name, one in found.items()}},
        figures={f"compile/{name} seconds": one.median for name, one in found.items()},
        tables=(Table("The main job's round, compiled in a fresh process", ("cache", "median [quartiles]", "least"), rows),),
        panels=(Panel("Compiling the main job", "seconds", found),),
    )


def compile_seconds(cache: Path, workdir: Path) -> float:
    """Starts the main job, waits until it says how long its round took to compile, and ends it.

    Args:
        cache: of compiled programs.
        workdir: of the job.

    Returns:
        Seconds.

    Raises:
        BenchmarkError: the job ended before, or took too long.
    """
    command = [sys.executable, "-m", "experiments.train", f"--config={CONFIG}", f"--workdir={workdir}"]
    variables = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(cache)}
    with subprocess.Popen(command, cwd=ROOT, env=variables, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as job:
        try:
            return _first_line(job, workdir / "timing.jsonl")["seconds"]
        finally:
            job.kill()


def _first_line(job: subprocess.Popen, path: Path) -> dict[str, float]:
    deadline = time.monotonic() + PATIENCE
    while job.poll() is None and time.monotonic() < deadline:
        if path.is_file() and (text := path.read_text()).endswith("\n"):
            return json.loads(text.splitlines()[0])
        time.sleep(0.05)
    raise BenchmarkError(f"experiments.train: no compile time in {path}; run it by itself to see why")


PARTS: tuple[Part, ...] = (
    time_per_client,
    memory,
    compiling,
    streaming,
    lazy_clients,
    personal_heads,
    sweeping,
    weak_scaling,
    collectives,
)
