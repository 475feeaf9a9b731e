"""Clients with a head of their own, kept on the host: bytes here and there, seconds, and whether each head is its client's."""

from typing import Any

import jax
import numpy as np
import optax

import fedjax_edu as fe
from experiments.benchmarks.errors import BenchmarkError
from experiments.benchmarks.lazy import BATCH_SIZE, BUDGET, INPUTS, LEARNING_RATE, load, sizes_of
from experiments.benchmarks.measure import clock, peak_bytes, resident_bytes

COHORT = 1000
CHUNK = 2
HIDDEN = 32
TURNS = 5
LONE = 3


def measure(count: int, outputs: int, *, cohort: int = COHORT, turns: int = TURNS) -> dict[str, Any]:
    """Every client takes part once, in `turns` runs of as many rounds.

    Args:
        count: of clients.
        outputs: numbers of a head are `HIDDEN` times these.
        cohort: clients a round.
        turns: runs.

    Returns:
        ``seconds`` of a client for each turn; bytes of all ``heads``, of a ``device`` while it runs a chunk (by the compiler's account,
        rows and the population's table left out), of this process after each turn (``resident``), and its ``peak``.

    Raises:
        BenchmarkError: a head that is not its client's.
    """
    params = start(outputs)
    engine = build(fe.data.Population.from_loader(load, sizes_of(np.arange(count))), fe.cohorts.round_robin(cohort), params)
    state = engine.init(params)
    engine.run(state, rounds=0)
    state, _ = engine.run(state, rounds=1)
    check_lone(engine, state, params, np.linspace(0, cohort - 1, LONE, dtype=int))
    rounds = count // cohort // turns
    seconds, resident = [], []
    for turn in range(turns):
        left = rounds - (turn == 0)

        def run(left: int = left) -> None:
            nonlocal state
            state, _ = engine.run(state, left)

        seconds.append(clock(run) / (left * cohort))
        resident.append(resident_bytes())
    check_own(heads(state), params["head"])
    found = {"seconds": seconds, "heads": heads(state).nbytes, "resident": resident, "peak": peak_bytes()}
    return found | {"device": engine.memory(params)["peak"]}


def start(outputs: int) -> dict[str, np.ndarray]:
    """A shared layer and a head."""
    random = np.random.default_rng(0)
    return {
        "hidden": random.normal(0, 0.3, (INPUTS, HIDDEN)).astype(np.float32),
        "head": random.normal(0, 0.3, (HIDDEN, outputs)).astype(np.float32),
    }


def build(population: fe.data.Population, cohort: Any, params: dict[str, np.ndarray]) -> fe.Engine:
    """Federated averaging of the layer, heads on the host."""
    local = fe.LocalTraining(epochs=1, batch_size=BATCH_SIZE)
    return fe.Engine(
        population,
        fe.algorithms.fedavg(loss, client_optimizer=optax.sgd(LEARNING_RATE), local=local),
        cohort=cohort,
        aggregator=fe.aggregation.mean(),
        modules=fe.modules.assign(params, personal="head"),
        plan=fe.ExecutionPlan(lanes=8, resident_bytes=BUDGET, client_states="host", chunk=CHUNK),
    )


def loss(params: dict[str, jax.Array], batch: dict[str, jax.Array], key: jax.Array) -> jax.Array:
    """Squared errors of the outputs, all of which want the same."""
    outputs = jax.nn.relu(batch["x"] @ params["hidden"]) @ params["head"]
    return ((outputs - batch["y"][:, None]) ** 2).sum(axis=1)


def heads(state: fe.State) -> np.ndarray:
    """All heads, [clients, HIDDEN, outputs], where they live.

    Raises:
        BenchmarkError: not on the host.
    """
    found = state.clients["head"]
    if not isinstance(found, np.ndarray):
        raise BenchmarkError(f"heads are {type(found).__name__}, not arrays of the host")
    return found


def check_lone(engine: fe.Engine, state: fe.State, params: dict[str, np.ndarray], clients: np.ndarray) -> None:
    """Makes sure that some clients of the first round have the heads that each would have as the only client of a federation.

    Raises:
        BenchmarkError: one has another.
    """
    for client in clients:
        alone = build(engine.population.read([client]), fe.cohorts.everyone(), params)
        after, _ = alone.run(alone.init(params), rounds=1)
        if not np.allclose(heads(state)[client], heads(after)[0], rtol=1e-5, atol=1e-6):
            raise BenchmarkError(f"client {client} has another head than it would have by itself")


def check_own(found: np.ndarray, first: np.ndarray) -> None:
    """Makes sure that everyone has trained, and that no two have the same head.

    Args:
        found: [clients, HIDDEN, outputs].
        first: what each started from.

    Raises:
        BenchmarkError: otherwise.
    """
    marks = np.einsum("cho,ho->c", found - first, np.random.default_rng(1).normal(size=first.shape))
    if not np.all(marks) or len(np.unique(marks)) < len(marks):
        raise BenchmarkError(f"{np.sum(marks == 0)} heads are as they were, {len(np.unique(marks))} of {len(marks)} differ")
