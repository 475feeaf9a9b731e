"""What a study trains: a network that reads the rows of tables."""

import abc
import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import jax
import numpy as np

from fedjax_edu.core.modules import Selector
from fedjax_edu.core.trees import Tree
from fedjax_edu.data import Feature, Population
from fedjax_edu.study.encoding import Encoding


class Network(abc.ABC):
    """A network, its starting values, and which leaves it reads of a table's rows.

    Args:
        encoding: schema and scales of the table.
        arguments: sizes, plain values.
        seed: of the starting values.

    Attributes:
        encoding: as above.
        arguments: as above.
        params: its starting values.
    """

    params: Tree

    def __init__(self, encoding: Encoding, arguments: Mapping[str, Any], seed: int = 0):
        self.encoding, self.arguments = encoding, dict(arguments)
        self.params = self._build(seed)

    @property
    def tasks(self) -> list[str]:
        """Names of what it predicts, in the order of its outputs."""
        return [task.name for task in self.encoding.schema.tasks]

    @property
    def features(self) -> tuple[Feature, ...]:
        """The inputs that it reads: all numbers and categories."""
        return self.encoding.schema.inputs

    @property
    def frozen(self) -> Selector:
        """Which of its parameters nobody trains, as :func:`fedjax_edu.modules.assign` wants it."""
        return None

    def save(self, folder: Path) -> Mapping[str, Any]:
        """Writes what it starts from beside plain values, and returns the arguments with which :meth:`load` makes it from there.

        What :attr:`frozen` selects starts, and stays, as it is written here.

        Args:
            folder: of an exported model.
        """
        return self.arguments

    @classmethod
    def load(cls, folder: Path, encoding: Encoding, arguments: Mapping[str, Any]) -> Self:
        """The network that :meth:`save` wrote.

        Args:
            folder: as it was written.
            encoding: schema and scales of the table.
            arguments: as they were returned.
        """
        return cls(encoding, arguments)

    def rows(self, population: Population) -> Population:
        """A table's rows as the network trains on them: what it reads, and ``targets`` and ``present``, float32 [rows, tasks] each."""
        targets, present = self.encoding.encode_targets(population)
        return dataclasses.replace(population, arrays={**self.leaves(population), "targets": targets, "present": present}, schema=None)

    @abc.abstractmethod
    def _build(self, seed: int) -> Tree:
        """Makes the model and returns its starting values."""

    @abc.abstractmethod
    def leaves(self, population: Population) -> dict[str, Any]:
        """What it reads of a table's rows, leaves [rows, ...]."""

    @abc.abstractmethod
    def loss(self, weights: np.ndarray) -> Callable[..., Any]:
        """The loss for the engine, with each task's own as a metric.

        Args:
            weights: of the tasks, float32 [tasks].
        """

    @abc.abstractmethod
    def predict(self, params: Tree, batch: Any) -> jax.Array:
        """Standardised scores and log-odds, float32 [B, tasks]."""
