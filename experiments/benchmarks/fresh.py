"""Measurements that need a process of their own: ``python -m experiments.benchmarks.fresh memory 2048`` prints one line of JSON."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

import fedjax_edu as fe
from experiments.benchmarks import heads, lazy, members, ours, workload
from experiments.benchmarks.errors import BenchmarkError
from experiments.benchmarks.measure import peak_bytes
from experiments.benchmarks.peers.rivals import ROOT
from experiments.benchmarks.results import Options
from experiments.benchmarks.timing import Runner

COHORT_A_DEVICE = 16
POPULATION_A_DEVICE = 64
WEAK_LANES = 8
WEAK_ROUNDS = 10
WEAK_REPEATS = 5


def small_clients(count: int) -> workload.Workload:
    """The images of the workload dealt to clients of 4 to 20 examples, about 8 each; a client is one step.

    Args:
        count: how many clients.

    Returns:
        A workload for the MLP.
    """
    sizes = workload.client_sizes(np.random.default_rng(workload.SEED), count, mean=8.0, smallest=4, largest=20)
    images = workload.make("mlp", clients=1 + int(sizes.sum()) // 100)
    whole = np.arange(sizes.sum()) % len(images.arrays["y"])
    arrays = {name: array[whole] for name, array in images.arrays.items()}
    return workload.Workload("mlp", arrays, np.concatenate([[0], np.cumsum(sizes)]), images.held_out)


def memory(cohort: int) -> dict[str, int | None]:
    """The most memory that training rounds of a cohort takes."""
    engine, state = ours.build(small_clients(2048), cohort)
    engine.run(state, rounds=max(2, 2048 // cohort))
    return {"peak": peak_bytes()}


def weak(devices: int, processes: int = 1, number: int = 0, port: int = 0) -> dict[str, Any]:
    """Rounds of a cohort that grows with the devices, which are divided among processes that meet at a port.

    Returns:
        Lists with an entry a repeat, of seconds and of this process's processor seconds of a round; and bytes by kind of collective.
    """
    fe.configure(devices // processes)
    if processes > 1:
        jax.distributed.initialize(f"127.0.0.1:{port}", processes, number)
    clients = workload.make("mlp", clients=POPULATION_A_DEVICE * devices)
    runner = Runner(clients, COHORT_A_DEVICE * devices, WEAK_ROUNDS, lanes=WEAK_LANES)
    seconds, busy = [], []
    for _ in range(WEAK_REPEATS):
        before = time.process_time()
        seconds.append(runner()[0])
        busy.append((time.process_time() - before) / WEAK_ROUNDS)
    return {"seconds": seconds, "processor seconds": busy, "bytes": runner.collectives()}


def collectives(devices: int, cohort: int) -> dict[str, int]:
    """Bytes that a device contributes to the collectives of a compiled round, by kind."""
    fe.configure(devices)
    engine, _ = ours.build(small_clients(2048), cohort, lanes=WEAK_LANES)
    return engine.collectives({"network": workload.start("mlp")})


WORKS: dict[str, Callable[..., dict[str, Any]]] = {
    "memory": memory,
    "weak": weak,
    "collectives": collectives,
    "lazy": lazy.measure,
    "heads": heads.measure,
    "members": members.train,
}


def command(work: str, *numbers: int) -> list[str]:
    """The command that prints what one of `WORKS` returns."""
    return [sys.executable, "-m", "experiments.benchmarks.fresh", work, *map(str, numbers)]


def in_fresh_process(options: Options, work: str, *numbers: int, **variables: str) -> dict[str, Any]:
    """What one of `WORKS` returns in a process of its own.

    Args:
        options: of the suite.
        work: its name.
        *numbers: its arguments.
        **variables: set in its environment.

    Raises:
        BenchmarkError: the process failed.
    """
    options.say(" ".join(map(str, (work, *numbers))))
    done = subprocess.run(command(work, *numbers), cwd=ROOT, env=os.environ | variables, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchmarkError(f"{work}: ended with {done.returncode}:\n{done.stderr[-1000:]}")
    return json.loads(done.stdout)


if __name__ == "__main__":
    fe.configure()
    print(json.dumps(WORKS[sys.argv[1]](*map(int, sys.argv[2:]))))
