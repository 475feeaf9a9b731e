"""What the compiled rounds will do, as NumPy arrays: for twins, audits and unit tests."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_edu.core.algorithm import Stage
from fedjax_edu.core.keys import Purpose, fold
from fedjax_edu.core.local import FullPass, LocalTraining
from fedjax_edu.engine.cohorts import Bound
from fedjax_edu.engine.drawing import draw
from fedjax_edu.engine.resident import Resident

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
    sampler: Bound, stages: tuple[Stage, ...], resident: Resident, longest: int, key: jax.Array, round_: jax.Array
) -> tuple[np.ndarray, LocalRows]:
    """Participants of one round and the rows of each of their local steps, drawn by the functions that the engine compiles.

    Returns:
        ``(clients, rows)``: int32 [participants], positions in the population in the order of their ids, and for each the
        rows of each step, stage after stage and phase after phase, padding left out.
    """
    drawn = sampler.draw(fold(key, Purpose.COHORT, round_), round_)
    clients, present = np.asarray(drawn.clients), np.asarray(drawn.present) & ~np.asarray(drawn.overflow)
    clients = clients[present & (np.asarray(resident.examples)[clients] > 0)]
    clients = clients[np.argsort(np.asarray(resident.ids)[clients])]
    rows: LocalRows = [[] for _ in clients]
    if not len(clients):
        return clients, rows
    round_key = fold(key, Purpose.CLIENT, round_)
    for number, stage in enumerate(stages):
        keys = jax.vmap(lambda client, number=number: fold(round_key, client, number))(resident.ids[clients])
        for phase, work in enumerate(stage.phases):
            steps = np.asarray(resident.steps[number])[clients, phase]
            grid = _grid(work.data, keys, phase, jnp.arange(steps.max()), resident.first[clients], resident.examples[clients], longest)
            at, valid = (np.asarray(leaf) for leaf in grid)
            for client, count in enumerate(steps):
                rows[client] += [at[client, step][valid[client, step]] for step in range(count)]
    return clients, rows
