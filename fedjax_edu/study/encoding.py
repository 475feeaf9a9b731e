"""Tables as the arrays a network reads: scaled on training clients only, absent inputs masked."""

import dataclasses
import itertools

import numpy as np

from fedjax_edu.data import Feature, Population, Schema, Standardiser
from fedjax_edu.data.standardiser import schema_of


@dataclasses.dataclass(frozen=True)
class Encoding:
    """One matrix for all numbers and categories of a schema.

    Attributes:
        schema: of the table.
        scales: fitted on training rows.

    Columns stand in the order of the schema: every number with a bit that says whether it is present, every category as one-hot
    levels with one more for missing. Inputs of another study than the row's are zeros, presence bits and levels included. Texts are
    not among the columns.
    """

    schema: Schema
    scales: Standardiser

    @property
    def columns(self) -> list[str]:
        """Names of the encoded columns."""
        names = []
        for feature in self.schema.inputs:
            levels = [f"{feature.name} = {level}" for level in (*feature.levels, "missing")]
            names += [feature.name, f"{feature.name} present"] if feature.kind == "number" else levels
        return names

    @property
    def column_studies(self) -> list[str]:
        """The study of each encoded column."""
        return [feature.study for feature in self.schema.inputs for _ in range(self._width(feature))]

    @property
    def products(self) -> list[tuple[int, int]]:
        """Pairs of columns for varying slopes: every number with every level of the same study's categories.

        A missing level has a slope too.
        """
        columns: dict[tuple[str, str], list[int]] = {}
        start = 0
        for feature in self.schema.inputs:
            width = self._width(feature)
            own = columns.setdefault((feature.study, feature.kind), [])
            own += [start] if feature.kind == "number" else range(start, start + width)  # a number is followed by its presence bit
            start += width
        return [
            pair
            for study in self.schema.studies
            for pair in itertools.product(columns.get((study, "number"), []), columns.get((study, "category"), []))
        ]

    def encode(self, population: Population) -> np.ndarray:
        """Encoded inputs of all rows, float32 [rows, columns]."""
        scaled = self.scales.apply(population)
        encoded = np.zeros((population.num_examples, sum(map(self._width, self.schema.inputs))), np.float32)
        inside = {study: self.inside(population, study) for study in self.schema.studies}
        start = 0
        for feature in self.schema.inputs:
            stop = start + self._width(feature)
            rows = inside[feature.study]
            encoded[rows, start:stop] = _block(scaled, feature, rows)
            start = stop
        return encoded

    def encode_targets(self, population: Population) -> tuple[np.ndarray, np.ndarray]:
        """Standardised targets and whether they are present, float32 [rows, tasks] each; absent targets are zeros."""
        arrays, names = self.scales.apply(population).arrays, [task.name for task in self.schema.tasks]
        present = np.stack([arrays["present"][name] for name in names], axis=1)
        scaled = np.stack([arrays["targets"][name] for name in names], axis=1)
        return np.where(present, scaled, 0.0).astype(np.float32), present.astype(np.float32)

    def decode(self, outputs: np.ndarray) -> np.ndarray:
        """A model's outputs [rows, tasks] in raw units: scores in points, log-odds as probabilities."""
        from scipy.special import expit

        columns = [
            expit(values) if task.binary else self.scales.undo(task.name, values)
            for task, values in zip(self.schema.tasks, outputs.T.astype(np.float64), strict=True)
        ]
        return np.stack(columns, axis=1)

    @staticmethod
    def _width(feature: Feature) -> int:
        return 2 if feature.kind == "number" else len(feature.levels) + 1

    def inside(self, population: Population, study: str) -> np.ndarray:
        """Rows of a study."""
        if len(self.schema.studies) == 1:
            return np.arange(population.num_examples)
        own = population.attributes["study"][population.row_clients]
        return np.flatnonzero(own == self.schema.studies.index(study))


def raw_targets(population: Population) -> np.ndarray:
    """Targets in raw units, float64 [rows, tasks], NaN where a row does not belong to a task."""
    arrays, tasks = population.arrays, schema_of(population).tasks
    columns = [np.where(arrays["present"][task.name], arrays["targets"][task.name], np.nan) for task in tasks]
    return np.stack(columns, axis=1).astype(np.float64)


def _block(scaled: Population, feature: Feature, rows: np.ndarray) -> np.ndarray:
    """The columns of one input for some rows."""
    arrays = scaled.arrays
    if feature.kind == "number":
        return np.stack([arrays["numbers"][feature.name][rows], arrays["present"][feature.name][rows]], axis=1)
    codes, missing = arrays["categories"][feature.name][rows], len(feature.levels)
    return np.where(codes < 0, missing, codes)[:, None] == np.arange(missing + 1)
