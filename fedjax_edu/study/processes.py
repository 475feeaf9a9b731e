"""What one process does for all: it prints, and it writes the run folder."""

import jax
import numpy as np
from jax.experimental import multihost_utils


def is_first() -> bool:
    """Whether this process speaks for all of them."""
    return jax.process_index() == 0


def meet(place: str) -> None:
    """Returns when every process has come to the same place of the program."""
    multihost_utils.sync_global_devices(place)


def sum_of_all(numbers: np.ndarray) -> np.ndarray:
    """The sums, modulo 2^64, of the numbers (uint64) that the processes have; all of them ask at the same point of the program."""
    if jax.process_count() == 1:
        return numbers
    halves = multihost_utils.process_allgather(numbers.view(np.uint32))  # JAX would take 64 bits for 32
    return halves.view(np.uint64).reshape(jax.process_count(), -1).sum(axis=0, dtype=np.uint64)


def most_of_all(number: int) -> int:
    """The largest of the numbers that the processes have; all of them ask at the same point of the program."""
    return int(multihost_utils.process_allgather(np.int32(number)).max())
