"""Measurements that need a process of their own: ``python -m experiments.benchmarks.fresh memory 2048`` prints one line of JSON."""

import json
import sys

import numpy as np

import fedjax_edu as fe
from experiments.benchmarks import ours, workload
from experiments.benchmarks.measure import peak_bytes


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


if __name__ == "__main__":
    print(json.dumps({"memory": memory}[sys.argv[1]](*sys.argv[2:])))
