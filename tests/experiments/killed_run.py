"""A run whose process a test kills: ``python -m tests.experiments.killed_run FOLDER ROUNDS [DEVICES [COORDINATOR PROCESSES ID]]``."""

import sys

import jax
import numpy as np
import optax
from rich.console import Console

import fedjax_edu as fe

SIZES = np.arange(1, 17)
PARAMS = {"w": np.zeros(4, np.float32)}


def loss(params, batch, key):
    return 0.5 * (batch["x"] @ params["w"] + 0.1 * jax.random.normal(key, batch["y"].shape) - batch["y"]) ** 2


def main(folder: str, rounds: str, devices: str = "1", *process: str) -> None:
    jax.config.update("jax_num_cpu_devices", int(devices))  # of each process
    if process:
        coordinator, count, number = process
        jax.distributed.initialize(coordinator, int(count), int(number))
    x = np.random.default_rng(0).normal(size=(SIZES.sum(), 4)).astype(np.float32)
    population = fe.data.Population.from_arrays({"x": x, "y": x.sum(1)}, offsets=np.concatenate([[0], np.cumsum(SIZES)]))
    engine = fe.Engine(
        population,
        fe.algorithms.scaffold(loss, client_optimizer=optax.sgd(0.05), local=fe.LocalTraining(epochs=1, batch_size=4)),
        cohort=fe.cohorts.uniform(4),
        aggregator=fe.aggregation.mean(),
        plan=fe.ExecutionPlan(lanes=2),
    )
    saving = fe.study.Saving(rounds=2, last=2)
    fe.study.Run(engine, PARAMS, folder, saving=saving, report=3, console=Console(quiet=True)).train(int(rounds))


if __name__ == "__main__":
    main(*sys.argv[1:])
