"""What one process does for all: it prints, and it writes the run folder."""

import jax
import numpy as np
from jax.experimental import multihost_utils
from rich.console import Console


def is_first() -> bool:
    """Whether this process speaks for all of them."""
    return jax.process_index() == 0


def standard_output() -> Console:
    """A console that only the first process is heard on."""
    return Console(quiet=not is_first())


def any_of_all(flag: bool) -> bool:
    """Whether a flag is set in any process; all of them ask at the same point of the program."""
    return bool(multihost_utils.process_allgather(np.int32(flag)).any())
