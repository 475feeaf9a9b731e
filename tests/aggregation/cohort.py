"""A small federation of puppets for rules that read every update: who is there in each round, what they send, with which weight."""

import jax
import numpy as np
from jax.sharding import AxisType

import fedjax_edu as fe
from fedjax_edu.core.link import Link
from tests.aggregation import puppet

CLIENTS, ROUNDS, POISONED = 12, 7, 5
_RNG = np.random.default_rng(3)
_NUMBERS = _RNG.normal(size=(CLIENTS, 13)) + _RNG.normal(size=13)  # honest clients agree in part
_NUMBERS[[1, 7]] = 20 * _RNG.normal(size=(2, 13))
_NUMBERS[9] = 0
WEIGHTS = _RNG.uniform(0.5, 4, (CLIENTS, 3)).astype(np.float32) * (_RNG.random((CLIENTS, 3)) < 0.8)
WEIGHTS[[2, 9]] = [[0, 0, 0], [1, 2, 3]]
PRESENT = _RNG.random((ROUNDS, CLIENTS)) < 0.7
PRESENT[0], PRESENT[3], PRESENT[4] = True, False, np.arange(CLIENTS) == POISONED  # all, nobody, nobody that counts
PRESENT[5] = np.isin(np.arange(CLIENTS), [2, 3, 8])  # few, one of them without a module


def _updates() -> dict:
    leaves, form = jax.tree.flatten(puppet.PARAMS)
    pieces = np.split(_NUMBERS, np.cumsum([leaf.size for leaf in leaves])[:-1], axis=1)
    shaped = [piece.reshape(CLIENTS, *leaf.shape).astype(np.float32) for piece, leaf in zip(pieces, leaves, strict=True)]
    return jax.tree.unflatten(form, shaped)


UPDATES = _updates()
UPDATES["head"][POISONED, 2] = np.nan
POPULATION = puppet.population(UPDATES, WEIGHTS)


def engine(
    aggregator: Link | fe.aggregation.Chain,
    *,
    lanes: int = 3,
    devices: int = 1,
    order: np.ndarray | None = None,
    present: np.ndarray = PRESENT,
    population: fe.data.Population = POPULATION,
    chunk: int = 1,
    sampler: fe.cohorts.Cohort | None = None,
) -> fe.Engine:
    """An engine over the puppets in any layout; `present` is bool [rounds, clients] in the population's first order."""
    order = np.arange(population.num_clients) if order is None else order
    return fe.Engine(
        population.select(order),
        puppet.algorithm(),
        cohort=sampler or fe.cohorts.available(fe.cohorts.everyone(), present[:, order]),
        aggregator=aggregator,
        plan=fe.ExecutionPlan(lanes=lanes, mesh=jax.make_mesh((devices,), ("clients",), axis_types=(AxisType.Auto,)), chunk=chunk),
    )


def history(built: fe.Engine, rounds: int = ROUNDS) -> list:
    """(state, info) after each round."""
    state, found = built.init(puppet.PARAMS, seed=2), []
    for _ in range(rounds):
        found.append(built.run(state, 1))
        state = found[-1][0]
    return found


def accepted(number: int) -> np.ndarray:
    """Positions of the clients that count in a round, by rising id: the order in which rules see them."""
    there = np.nonzero(PRESENT[number % ROUNDS] & (np.arange(CLIENTS) != POISONED))[0]
    return there[np.argsort(POPULATION.ids[there])]
