"""Scales of a table's numbers, fitted on training clients alone, and the way back to the units of the table."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Self

import numpy as np

from fedjax_edu.core.errors import ArgumentError, DataError
from fedjax_edu.data.population import Population
from fedjax_edu.data.schema import Schema, Task


@dataclasses.dataclass(frozen=True)
class Scale:
    """Mean and standard deviation of a column over training rows, in the column's own unit; a deviation of 0 makes everything the mean."""

    mean: float
    deviation: float

    def to_standard(self, values: np.ndarray) -> np.ndarray:
        """(values - mean) / deviation; 0 without a deviation, since no model has learnt what a difference means."""
        return (values - self.mean) / self.deviation if self.deviation else np.zeros_like(values)

    def to_raw(self, values: np.ndarray) -> np.ndarray:
        """The inverse of :meth:`to_standard`."""
        return values * self.deviation + self.mean


@dataclasses.dataclass(frozen=True)
class Standardiser:
    r"""Gives numbers and regression targets mean 0 and deviation 1 on the rows it was fitted on, and takes it back.

    .. math:: z = (x - \mu) / \sigma

    with the mean and the standard deviation of the rows that have a value. A column belongs to one study, so studies have scales of
    their own. Binary targets, categories and texts stay as they are. What is missing stays 0.

    Attributes:
        inputs: a scale for each number.
        targets: a scale for each regression task.

    >>> table = {"school": [1, 1, 2], "ses": [1.0, 3.0, 9.0], "score": [10.0, 30.0, 50.0]}
    >>> population = Population.from_table(table, client="school", tasks={"score": "regression"}, say=None)
    >>> scales = Standardiser.fit(population.select([0]))
    >>> scales.apply(population).arrays["numbers"]["ses"].tolist()
    [-1.0, 1.0, 7.0]
    >>> scales.undo("score", np.array([0.0, 1.0])).tolist()
    [20.0, 30.0]
    """

    inputs: Mapping[str, Scale]
    targets: Mapping[str, Scale]

    @classmethod
    def fit(cls, population: Population) -> Self:
        """The scales of a population of training clients.

        A number without variation among them is 0 for everybody.

        Args:
            population: made from tables.

        Raises:
            ArgumentError: a population without a schema.
            DataError: a regression target without variation.
        """
        schema, arrays = schema_of(population), population.arrays
        inputs = {name: _scale(values[arrays["present"][name]]) for name, values in arrays.get("numbers", {}).items()}
        return cls(inputs, {task.name: _target_scale(task, arrays) for task in schema.tasks if not task.binary})

    def apply(self, population: Population) -> Population:
        """The population on the standard scale."""
        arrays = population.arrays
        scaled = {
            group: {name: self._standard(scales, name, values, arrays["present"][name]) for name, values in arrays[group].items()}
            for group, scales in (("numbers", self.inputs), ("targets", self.targets))
            if group in arrays
        }
        return dataclasses.replace(population, arrays={**arrays, **scaled})

    def undo(self, task: str, values: np.ndarray) -> np.ndarray:
        """Predictions of a task in the unit of the table; those of a binary task as they are.

        Args:
            task: its name.
            values: standardised, [n].
        """
        return self.targets[task].to_raw(values) if task in self.targets else values

    def to_json(self) -> dict[str, dict[str, dict[str, float]]]:
        """The scales as plain numbers, to be kept with a run."""
        groups = {"inputs": self.inputs, "targets": self.targets}
        return {group: {name: dataclasses.asdict(scale) for name, scale in scales.items()} for group, scales in groups.items()}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """The inverse of :meth:`to_json`."""
        inputs, targets = ({name: Scale(**scale) for name, scale in value[group].items()} for group in ("inputs", "targets"))
        return cls(inputs, targets)

    @staticmethod
    def _standard(scales: Mapping[str, Scale], name: str, values: np.ndarray, present: np.ndarray) -> np.ndarray:
        if name not in scales:
            return values
        return np.where(present, scales[name].to_standard(values.astype(np.float64)), 0.0).astype(np.float32)


def schema_of(population: Population) -> Schema:
    """The schema of a population made from tables.

    Raises:
        ArgumentError: a population that was not.
    """
    if population.schema is None:
        raise ArgumentError("population", population, "make it from a table, with Population.from_table or fe.data.load('k12')")
    return population.schema


def _scale(values: np.ndarray) -> Scale:
    values = values.astype(np.float64)
    return Scale(float(values.mean()), float(values.std())) if values.size else Scale(0.0, 0.0)


def _target_scale(task: Task, arrays: Mapping[str, Any]) -> Scale:
    values = arrays["targets"][task.name][arrays["present"][task.name]].astype(np.float64)
    if values.size == 0 or values.std() == 0:
        raise DataError(f"targets.{task.name}", f"{values.size} training values without variation", "train on more clients")
    return Scale(float(values.mean()), float(values.std()))
