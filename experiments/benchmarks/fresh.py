"""Measurements that need a process of their own: ``python -m experiments.benchmarks.fresh memory 2048`` prints one line of JSON."""

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

import fedjax_edu as fe
from experiments.benchmarks import ours, workload
from experiments.benchmarks.measure import peak_bytes
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


def memory(cohort: str) -> dict[str, int | None]:
    """The most memory that training rounds of a cohort takes."""
    fe.configure()
    engine, state = ours.build(small_clients(2048), int(cohort))
    engine.run(state, rounds=max(2, 2048 // int(cohort)))
    return {"peak": peak_bytes()}


def weak(devices: str, processes: str = "1", number: str = "0", coordinator: str = "") -> dict[str, Any]:
    """Rounds of a cohort that grows with the devices, which are divided among processes that meet at the coordinator.

    Returns:
        Lists with an entry a repeat, of seconds and of this process's processor seconds of a round; and bytes by kind of collective.
    """
    fe.configure(int(devices) // int(processes))
    if int(processes) > 1:
        jax.distributed.initialize(coordinator, int(processes), int(number))
    clients = workload.make("mlp", clients=POPULATION_A_DEVICE * int(devices))
    runner = Runner(clients, COHORT_A_DEVICE * int(devices), WEAK_ROUNDS, lanes=WEAK_LANES)
    seconds, busy = [], []
    for _ in range(WEAK_REPEATS):
        before = time.process_time()
        seconds.append(runner()[0])
        busy.append((time.process_time() - before) / WEAK_ROUNDS)
    return {"seconds": seconds, "processor seconds": busy, "bytes": runner.collectives()}


def collectives(devices: str, cohort: str) -> dict[str, int]:
    """Bytes that a device contributes to the collectives of a compiled round, by kind."""
    fe.configure(int(devices))
    engine, _ = ours.build(small_clients(2048), int(cohort), lanes=WEAK_LANES)
    return engine.collectives({"network": workload.start("mlp")})


if __name__ == "__main__":
    measurements: dict[str, Callable[..., dict[str, Any]]] = {"memory": memory, "weak": weak, "collectives": collectives}
    print(json.dumps(measurements[sys.argv[1]](*sys.argv[2:])))
