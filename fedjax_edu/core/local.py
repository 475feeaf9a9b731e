"""How much of its own data a client sees in one phase of local work."""

import dataclasses
from typing import NamedTuple

import jax
import numpy as np

from fedjax_edu.core.errors import ArgumentError, check_flag, check_integer
from fedjax_edu.core.trees import Tree


@dataclasses.dataclass(frozen=True, kw_only=True)
class LocalTraining:
    """Passes over a client's data in batches, drawn without replacement within an epoch.

    A client of n examples has ``ceil(n / batch_size)`` batches an epoch; the last one is padded and its padding is
    masked. Exactly one of `epochs` and `steps` is given.

    Args:
        epochs: whole passes over the client's data.
        steps: optimiser steps, whatever the size of the client; epochs follow one another as needed.
        batch_size: examples a step, or None for all examples of the client in one step.
        shuffle: a fresh order each epoch; False keeps the stored order.

    Raises:
        ArgumentError: both or neither of `epochs` and `steps`, or a number below 1.

    >>> LocalTraining(epochs=2, batch_size=20).steps_of(np.array([45, 0, 20])).tolist()
    [6, 0, 2]
    """

    epochs: int | None = None
    steps: int | None = None
    batch_size: int | None = None
    shuffle: bool = True

    def __post_init__(self) -> None:
        if (self.epochs is None) == (self.steps is None):
            raise ArgumentError("epochs, steps", (self.epochs, self.steps), "give exactly one of the two")
        for name in ("epochs", "steps", "batch_size"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, check_integer(name, getattr(self, name)))
        check_flag("shuffle", self.shuffle)

    def steps_of(self, examples: np.ndarray) -> np.ndarray:
        """Local steps of clients with so many `examples`; 0 for a client without any."""
        if self.steps is not None:
            return np.where(examples > 0, self.steps, 0)
        return self.epochs * _batches(examples, self.batch_size)


@dataclasses.dataclass(frozen=True, kw_only=True)
class FullPass:
    """One pass over a client's data in stored order, for work that sums over examples (a full gradient, a measurement).

    >>> FullPass(batch_size=4).steps_of(np.array([9, 0])).tolist()
    [3, 0]
    """

    batch_size: int | None = None
    shuffle = False

    def __post_init__(self) -> None:
        if self.batch_size is not None:
            object.__setattr__(self, "batch_size", check_integer("batch_size", self.batch_size))

    def steps_of(self, examples: np.ndarray) -> np.ndarray:
        """Batches that clients with so many `examples` have."""
        return _batches(examples, self.batch_size)


def _batches(examples: np.ndarray, batch_size: int | None) -> np.ndarray:
    return (examples > 0).astype(int) if batch_size is None else -(-examples // batch_size)


class Batch(NamedTuple):
    """Rows of one local step: `examples` is a pytree of [B, ...]; `valid` bool [B] is False on padding (copies of real rows)."""

    examples: Tree
    valid: jax.Array
