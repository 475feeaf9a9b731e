"""Our engine on the workload: what suites time, and what draws the cohorts that everybody trains."""

from typing import Any

import jax
import numpy as np
import optax

import fedjax_edu as fe
from experiments.benchmarks import models
from experiments.benchmarks.workload import BATCH_SIZE, LEARNING_RATE, Arrays, Workload, start

SEED = 0


def build(
    workload: Workload, cohort: int, *, algorithm: str = "fedavg", population: fe.data.Population | None = None, **plan: Any
) -> tuple[fe.Engine, fe.State]:
    """An engine, and its state before the first round.

    Args:
        workload: the clients.
        cohort: clients a round, drawn uniformly.
        algorithm: ``fedavg`` or ``scaffold``.
        population: the same clients with rows from elsewhere; None takes the workload's arrays.
        **plan: fields of the execution plan.

    Returns:
        The engine and the state.
    """
    engine = fe.Engine(
        fe.data.Population.from_arrays(workload.arrays, workload.offsets) if population is None else population,
        _algorithm(workload.model, algorithm),
        cohort=fe.cohorts.uniform(cohort),
        aggregator=fe.aggregation.mean(),
        plan=fe.ExecutionPlan(**plan),
    )
    return engine, engine.init({"network": start(workload.model)}, seed=SEED)


def _algorithm(model: str, name: str) -> Any:
    def loss(params: dict[str, models.Params], batch: models.Params, key: jax.Array) -> jax.Array:
        return models.losses(model, params["network"], batch, fe.models.conv2d)

    local = fe.LocalTraining(epochs=1, batch_size=BATCH_SIZE[model], shuffle=False)
    make: Any = {"fedavg": fe.algorithms.fedavg, "scaffold": fe.algorithms.scaffold}[name]
    return make(loss, client_optimizer=optax.sgd(LEARNING_RATE), local=local)


def arrays(state: fe.State) -> Arrays:
    """The parameters of a state, as the workload names them."""
    return {name: np.asarray(value) for name, value in state.params["network"].items()}


def cohorts(workload: Workload, cohort: int, rounds: int) -> np.ndarray:
    """Who takes part in the first rounds of :func:`build`'s engine, int32 [rounds, cohort]."""
    engine, state = build(workload, cohort, lanes=1)
    drawn, _ = engine.schedule(state, rounds=rounds)
    return np.stack(drawn)
