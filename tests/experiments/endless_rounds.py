"""A program of several processes that runs rounds until somebody ends it, and says after the first ones who it is."""

import os

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import app

import fedjax_edu as fe
from experiments import processes


def loss(params, batch, key):
    return (params["mean"] - batch["y"]) ** 2


def main(argv):
    processes.HEARTBEAT_SECONDS = 5
    fe.configure(1)
    with processes.together():
        population = fe.data.Population.from_arrays({"y": np.arange(8, dtype=np.float32)}, offsets=np.arange(0, 9, 2))
        algorithm = fe.algorithms.fedavg(loss, client_optimizer=optax.sgd(0.1), local=fe.LocalTraining(steps=1))
        engine = fe.Engine(population, algorithm, cohort=fe.cohorts.everyone(), aggregator=fe.aggregation.mean())
        state, _ = engine.run(engine.init({"mean": jnp.zeros(())}), rounds=1)
        print(f"{jax.process_count()} processes, {os.getpid()}", flush=True)
        while argv[1:] != ["once"]:
            state, _ = engine.run(state, rounds=64)


if __name__ == "__main__":
    app.run(main)
