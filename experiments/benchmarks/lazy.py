"""Small clients that are made when they are asked for: a million of them, visited once, beside a few that are visited often."""

from functools import partial
from typing import Any

import jax
import numpy as np
import optax

import fedjax_edu as fe
from experiments.benchmarks.errors import BenchmarkError
from experiments.benchmarks.measure import clock, peak_bytes, resident_bytes

COHORT = 1000
CHUNK = 10
TURNS = 10
INPUTS = 16
HIDDEN = 32
BATCH_SIZE = 4
LEARNING_RATE = 0.05
BUDGET = 16 * 2**20


def measure(many: int, few: int, *, cohort: int = COHORT, turns: int = TURNS) -> dict[str, Any]:
    """Both populations take turns; a turn is the same number of visits to clients.

    Args:
        many: clients that take part once.
        few: clients that take part ``many / few`` times.
        cohort: clients a round.
        turns: of each.

    Returns:
        Seconds of a visit for each turn of ``many`` and of ``few``, and for each turn the ``peak`` and the ``resident`` memory after it.

    Raises:
        BenchmarkError: a client took part less or more often.
    """
    populations = {"many": Visits(many, cohort), "few": Visits(few, cohort)}
    rounds = many // cohort // turns
    found: dict[str, Any] = {"many": [], "few": [], "peak": [], "resident": []}
    for _ in range(turns):
        for name, visits in populations.items():
            found[name].append(clock(partial(visits, rounds)) / (rounds * cohort))
        found["peak"].append(peak_bytes())
        found["resident"].append(resident_bytes())
    for name, times in (("many", 1), ("few", many // few)):
        check_counts(populations[name].counts(), times)
    return found


def check_counts(counts: np.ndarray, times: int) -> None:
    """Makes sure that everyone took part so many times.

    Raises:
        BenchmarkError: a client did not.
    """
    if not np.all(counts == times):
        raise BenchmarkError(f"clients took part {counts.min():g} to {counts.max():g} times instead of {times}")


class Visits:
    """Rounds of so many clients, in turn; a chunk of rounds has no client twice, so that nobody's rows are made for two visits.

    A module that each client keeps to itself counts its local steps.

    Args:
        clients: how many.
        cohort: of them a round.
    """

    def __init__(self, clients: int, cohort: int):
        self._population = fe.data.Population.from_loader(load, sizes_of(np.arange(clients)))
        local = fe.LocalTraining(epochs=1, batch_size=BATCH_SIZE)
        self._steps = local.steps_of(self._population.sizes)
        params = {"hidden": np.full((INPUTS, HIDDEN), 0.1), "output": np.full(HIDDEN, 0.1), "steps": np.zeros(())}
        self._engine = fe.Engine(
            self._population,
            fe.algorithms.fedavg(loss, client_optimizer=optax.sgd(LEARNING_RATE), local=local),
            cohort=fe.cohorts.round_robin(cohort),
            aggregator=fe.aggregation.mean(),
            modules=fe.modules.assign(params, personal="steps"),
            plan=fe.ExecutionPlan(lanes=8, resident_bytes=BUDGET, chunk=min(CHUNK, clients // cohort)),
        )
        self._state = self._engine.init(jax.tree.map(np.float32, params))
        self._engine.run(self._state, rounds=0)

    def __call__(self, rounds: int) -> None:
        """The next rounds."""
        self._state, _ = self._engine.run(self._state, rounds)

    def counts(self) -> np.ndarray:
        """How often each client has taken part, [clients]."""
        return np.asarray(self._state.clients["steps"]) / self._steps


def loss(params: dict[str, jax.Array], batch: dict[str, jax.Array], key: jax.Array) -> fe.Loss:
    """Squared errors of a small network, and a slope for the counter that lets each local step add 1 to it."""
    outputs = jax.nn.relu(batch["x"] @ params["hidden"]) @ params["output"]
    return fe.Loss((outputs - batch["y"]) ** 2, regulariser=-params["steps"] / LEARNING_RATE)


def sizes_of(clients: np.ndarray) -> np.ndarray:
    """Rows of clients, 2 to 6."""
    return 2 + clients % 5


def load(clients: np.ndarray) -> dict[str, np.ndarray]:
    """The rows of clients, made from their numbers by a multiplicative hash.

    >>> load(np.array([3, 0]))["x"].shape
    (7, 16)
    """
    sizes = sizes_of(clients)
    row = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    number = np.repeat(clients, sizes) * 2654435761 + row * 40503
    hashed = (number[:, None] + 69069 * np.arange(INPUTS)) & 0xFFFF
    x = hashed.astype(np.float32) / 2**16 - 0.5
    return {"x": x, "y": x @ np.linspace(-1, 1, INPUTS, dtype=np.float32)}
