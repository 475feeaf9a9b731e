"""Who competes, and a rival's process as the benchmark sees it."""

import contextlib
import dataclasses
import json
import os
import select
import signal
import subprocess
import time
from pathlib import Path
from typing import Any, Self

import numpy as np

from experiments.benchmarks.errors import BenchmarkError
from experiments.benchmarks.measure import peak_bytes
from experiments.benchmarks.workload import MODELS, Arrays

ROOT = Path(__file__).resolve().parents[3]
PATIENCE = 1800.0  # seconds that a rival may take to answer
QUIET = {"FLWR_TELEMETRY_ENABLED": "0", "RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}


@dataclasses.dataclass(frozen=True)
class Rival:
    """One way to train the workload.

    Args:
        worker: module that its process runs.
        variant: what the worker is told to be.
        environment: name of its virtual environment; None is this one.
        variables: set in its environment.
        models: that it competes on.
    """

    worker: str
    variant: str
    environment: str | None
    variables: dict[str, str] = dataclasses.field(default_factory=dict)
    models: tuple[str, ...] = MODELS


ONE_THREAD = {"OMP_NUM_THREADS": "1"}
OURS = "ours"
PEERS = "experiments.benchmarks.peers"
RIVALS = {
    OURS: Rival(f"{PEERS}.ours_worker", "auto", None),
    "fedjax jit": Rival(f"{PEERS}.fedjax_worker", "jit", "fedjax"),
    "fedjax pmap": Rival(f"{PEERS}.fedjax_worker", "pmap", "fedjax"),
    "pfl 2 processes": Rival(f"{PEERS}.pfl_worker", "processes_2", "pfl", ONE_THREAD),
    "pfl 1 process": Rival(f"{PEERS}.pfl_worker", "processes_1", "pfl", models=("cnn",)),
    "flower": Rival(f"{PEERS}.flower_worker", "actors_2", "flwr", QUIET | ONE_THREAD),
    "torch 1 thread": Rival(f"{PEERS}.torch_worker", "threads_1", "pfl"),
    "torch 2 threads": Rival(f"{PEERS}.torch_worker", "threads_2", "pfl"),
    "torch 2 processes": Rival(f"{PEERS}.torch_worker", "processes_2", "pfl", ONE_THREAD),
}


class Process:
    """A rival at work; a context that ends with the process.

    Args:
        name: for messages.
        python: the interpreter of its environment.
        rival: who it is.
        data: file of the workload.
        cohorts: file of the schedule.
        log: file that receives what it prints.
    """

    def __init__(self, name: str, python: Path, rival: Rival, *, data: Path, cohorts: Path, log: Path):
        self._name, self._log = name, log
        command = [python, "-m", rival.worker]
        options = [f"--variant={rival.variant}", f"--data={data}", f"--cohorts={cohorts}"]
        with log.open("w") as file:
            self._process = subprocess.Popen(
                [*map(str, command), *options],
                cwd=ROOT,
                env=os.environ | {"PYTHONPATH": str(ROOT)} | rival.variables,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                text=True,
                start_new_session=True,
            )
        begin = time.perf_counter()
        self._receive("ready")
        self.preparation_seconds = time.perf_counter() - begin

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def train(self, rounds: int) -> list[float]:
        """Trains rounds and returns the seconds of each."""
        return self._ask("seconds", rounds=rounds)

    def params(self, path: Path) -> Arrays:
        """The present parameters, by way of a file."""
        self._ask("saved", save=str(path))
        with np.load(path) as file:
            return dict(file)

    def peak_bytes(self) -> int | None:
        """The most memory that it and its children have held, or None where the system does not tell."""
        return peak_bytes(self._process.pid)

    def close(self) -> None:
        """Ends the process, with a minute's grace."""
        if self._process.poll() is None:
            try:
                self._send({"quit": True})
                self._process.wait(timeout=60)
            except (OSError, subprocess.TimeoutExpired):
                self._kill()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()

    def _ask(self, answer: str, **order: Any) -> Any:
        self._send(order)
        return self._receive(answer)

    def _send(self, order: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()

    def _receive(self, name: str) -> Any:
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], PATIENCE)
        line = self._process.stdout.readline() if ready else ""
        if not line:
            raise self._error("ended" if ready else f"has not answered for {PATIENCE:.0f} seconds")
        return json.loads(line)[name]

    def _kill(self) -> None:
        """Ends it and the processes that it has started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _error(self, what: str) -> BenchmarkError:
        self._kill()
        tail = "\n".join(self._log.read_text(errors="replace").splitlines()[-12:])
        return BenchmarkError(f"{self._name}: its process {what}; the end of {self._log}:\n{tail}")
