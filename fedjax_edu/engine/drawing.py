"""Which rows a local step sees: computed from the client's key, stored nowhere."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from fedjax_edu.core.algorithm import Phase
from fedjax_edu.core.keys import ClientPurpose, fold, permute
from fedjax_edu.core.local import FullPass, LocalTraining


class Rows(NamedTuple):
    """Rows of one local step: `at` int32 [B], positions within the client; `valid` bool [B], False on padding."""

    at: jax.Array
    valid: jax.Array


def order_number(phases: tuple[Phase, ...], number: int) -> int:
    """What a phase draws its order by: its number among the training phases, so that a full pass before it changes nothing."""
    return sum(isinstance(phase.data, LocalTraining) for phase in phases[:number])


def step_purpose(phases: tuple[Phase, ...], number: int) -> tuple[int, int]:
    """What a phase folds into the keys of its steps: a full pass shares no draw with the training beside it, nor changes one."""
    if isinstance(phases[number].data, LocalTraining):
        return ClientPurpose.STEP, order_number(phases, number)
    return ClientPurpose.PASS, number


def batch_size(data: LocalTraining | FullPass, longest: int) -> int:
    """Rows of a batch; `longest` is the largest client of the population, what a whole-client batch must hold."""
    return data.batch_size or max(longest, 1)


def draw(data: LocalTraining | FullPass, key: jax.Array, phase: int, step: jax.Array, examples: jax.Array, longest: int) -> Rows:
    """Positions within a client of the rows of one local step.

    Position p of an epoch holds row ``permutation(key, epoch, p)``, so that each epoch visits every row once.

    Args:
        data: what the phase asks for.
        key: the client's key of this round.
        phase: its :func:`order_number`, so that phases draw independently.
        step: int32 scalar, local steps of this phase done before.
        examples: int32 scalar, size of the client.
        longest: largest client of the population.

    Returns:
        The rows; padding repeats real rows of the client.
    """
    size = batch_size(data, longest)
    count = jnp.maximum(examples, 1)
    batches = -(-count // size)
    epoch = step // batches
    position = (step % batches) * size + jnp.arange(size, dtype=jnp.int32)
    rows = position % count
    if data.shuffle:
        rows = permute(fold(key, ClientPurpose.ORDER, phase, epoch), rows, count)
    return Rows(rows, position < examples)
