"""What the compiled rounds will do, as NumPy arrays: for twins, audits and unit tests."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_edu.core.algorithm import Stage
from fedjax_edu.core.keys import Purpose, fold
from fedjax_edu.core.local import FullPass, LocalTraining
from fedjax_edu.engine.cohorts.sampler import Bound, untrained
from fedjax_edu.engine.drawing import draw, order_number
from fedjax_edu.engine.resident import Resident
from fedjax_edu.engine.state import State

LocalRows = list[list[np.ndarray]]


@partial(jax.jit, static_argnums=(0, 2, 6))
def _grid(
    data: LocalTraining | FullPass, keys: jax.Array, phase: int, steps: jax.Array, first: jax.Array, examples: jax.Array, longest: int
) -> tuple[jax.Array, jax.Array]:
    def one(key: jax.Array, step: jax.Array, first: jax.Array, examples: jax.Array) -> tuple[jax.Array, jax.Array]:
        rows, valid = draw(data, key, phase, step, examples, longest)
        return first + rows, valid

    return jax.vmap(jax.vmap(one, (None, 0, None, None)), (0, None, 0, 0))(keys, steps, first, examples)


def replay_round(
    sampler: Bound,
    stages: tuple[Stage, ...],
    resident: Resident,
    longest: int,
    losses: Callable[[jax.Array], jax.Array],
    state: State,
) -> tuple[np.ndarray, LocalRows, State]:
    """Participants of one round and the rows of each of their local steps, drawn by the functions that the engine compiles.

    Returns:
        ``(clients, rows, state)``: int32 [participants], positions in the population in the order of their ids; for each the
        rows of each step, stage after stage and phase after phase, padding left out; and the state with which the next
        round is drawn if this one is applied.
    """
    drawn, cohort = sampler.draw(state.cohort, fold(state.key, Purpose.COHORT, state.round), state.round, losses)
    examples = resident.examples[drawn.clients]
    present = drawn.present & (examples > 0) & ~drawn.overflow
    learned = untrained(state.round, drawn.clients, present, examples)
    after = state._replace(round=state.round + 1, cohort=sampler.learn(cohort, learned))
    clients = np.asarray(drawn.clients)[np.asarray(present)]
    clients = clients[np.argsort(np.asarray(resident.ids)[clients])]
    rows: LocalRows = [[] for _ in clients]
    if not len(clients):
        return clients, rows, after
    round_key = fold(state.key, Purpose.CLIENT, state.round)
    for number, stage in enumerate(stages):
        keys = jax.vmap(lambda client, number=number: fold(round_key, client, number))(resident.ids[clients])
        for phase, work in enumerate(stage.phases):
            steps = np.asarray(resident.steps[number])[clients, phase]
            order = order_number(stage.phases, phase)
            grid = _grid(work.data, keys, order, jnp.arange(steps.max()), resident.first[clients], resident.examples[clients], longest)
            at, valid = (np.asarray(leaf) for leaf in grid)
            for client, count in enumerate(steps):
                rows[client] += [at[client, step][valid[client, step]] for step in range(count)]
    return clients, rows, after
