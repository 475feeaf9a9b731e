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


def most_of_all(number: int) -> int:
    """The largest of the numbers that the processes have; all of them ask at the same point of the program."""
    return int(multihost_utils.process_allgather(np.int32(number)).max())
