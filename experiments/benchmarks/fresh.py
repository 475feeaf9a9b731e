"""Measurements that need a process of their own: ``python -m experiments.benchmarks.fresh memory 2048`` prints one line of JSON."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

import fedjax_edu as fe
from experiments.benchmarks import heads, lazy, members, ours, workload
from experiments.benchmarks.errors import BenchmarkError
from experiments.benchmarks.measure import peak_bytes
from experiments.benchmarks.peers.rivals import ROOT
from experiments.benchmarks.results import Options


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


WORKS: dict[str, Callable[..., dict[str, Any]]] = {"memory": memory, "lazy": lazy.measure, "heads": heads.measure, "members": members.train}


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
