"""Examples as the arrays a network reads: scaled on training schools only, absent inputs masked."""

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np

from fedjax_edu.core.errors import DataError
from fedjax_edu.study.examples import Examples
from fedjax_edu.study.tasks import TASKS


@dataclasses.dataclass(frozen=True)
class Scale:
    """Mean and standard deviation of a column over training rows, in the column's own unit."""

    mean: float
    deviation: float

    @classmethod
    def fit(cls, name: str, values: np.ndarray) -> "Scale":
        """The scale of the finite values.

        Raises:
            DataError: nothing finite, or no variation.
        """
        finite = values[np.isfinite(values)]
        if finite.size == 0 or finite.std() == 0:
            raise DataError(name, f"{finite.size} training values without variation", "train on more schools")
        return cls(float(finite.mean()), float(finite.std()))

    def to_standard(self, values: np.ndarray) -> np.ndarray:
        """(values - mean) / deviation."""
        return (values - self.mean) / self.deviation

    def to_raw(self, values: np.ndarray) -> np.ndarray:
        """The inverse of :meth:`to_standard`."""
        return values * self.deviation + self.mean


@dataclasses.dataclass(frozen=True)
class Encoding:
    """Scales of numeric inputs and of targets, fitted for each study on its training rows.

    Attributes:
        inputs: ``{study: {input: Scale}}``.
        targets: ``{task: Scale}``; probabilities keep their own scale.

    Columns are ordered by study: every number with a bit that says whether it is present, every category as one-hot
    levels with one more for missing. Inputs of other studies are zeros, presence bits and levels included.
    """

    inputs: dict[str, dict[str, Scale]]
    targets: dict[str, Scale]

    @classmethod
    def fit(cls, studies: Sequence[Examples], training: Sequence[np.ndarray]) -> "Encoding":
        """Fits the scales.

        Args:
            studies: the examples.
            training: for each study a mask [n] of training rows.
        """
        inputs = {
            examples.study: {name: Scale.fit(f"{examples.study}.{name}", values[rows]) for name, values in examples.numbers.items()}
            for examples, rows in zip(studies, training, strict=True)
        }
        raw = {name: values[rows] for examples, rows in zip(studies, training, strict=True) for name, values in examples.targets.items()}
        binary = {task.name for task in TASKS if task.binary}
        return cls(inputs, {name: Scale(0.0, 1.0) if name in binary else Scale.fit(name, values) for name, values in raw.items()})

    def columns(self, studies: Sequence[Examples]) -> list[str]:
        """Names of the encoded columns."""
        names = []
        for examples in studies:
            for name in examples.numbers:
                names += [f"{examples.study}.{name}", f"{examples.study}.{name} present"]
            for name, levels in examples.levels.items():
                names += [f"{examples.study}.{name} = {level}" for level in [*range(levels), "missing"]]
        return names

    def products(self, studies: Sequence[Examples]) -> list[tuple[int, int]]:
        """Pairs of columns for varying slopes: every number with every level of the same study's categories.

        A missing level has a slope too.
        """
        start = 0
        pairs: list[tuple[int, int]] = []
        for examples in studies:
            numbers = range(start, start + 2 * len(examples.numbers), 2)  # each is followed by its presence bit
            end = numbers.stop + sum(levels + 1 for levels in examples.levels.values())
            pairs += itertools.product(numbers, range(numbers.stop, end))
            start = end
        return pairs

    def encode(self, studies: Sequence[Examples]) -> np.ndarray:
        """Encoded inputs of all rows, float32 [rows of all studies, columns]."""
        blocks = [self._block(examples) for examples in studies]
        encoded = np.zeros((sum(len(block) for block in blocks), sum(block.shape[1] for block in blocks)), np.float32)
        row = column = 0
        for block in blocks:
            encoded[row : row + len(block), column : column + block.shape[1]] = block
            row, column = row + len(block), column + block.shape[1]
        return encoded

    def encode_targets(self, studies: Sequence[Examples]) -> tuple[np.ndarray, np.ndarray]:
        """Standardised targets and whether they are present, float32 [rows, tasks] each; absent targets are zeros."""
        raw = raw_targets(studies)
        present = np.isfinite(raw)
        scaled = np.stack([self.targets[task.name].to_standard(raw[:, position]) for position, task in enumerate(TASKS)], axis=1)
        return np.where(present, scaled, 0.0).astype(np.float32), present.astype(np.float32)

    def decode(self, outputs: np.ndarray) -> np.ndarray:
        """A model's outputs [rows, tasks] in raw units: scores in points, log-odds as probabilities."""
        from scipy.special import expit

        columns = [
            expit(outputs[:, position].astype(np.float64))
            if task.binary
            else self.targets[task.name].to_raw(outputs[:, position].astype(np.float64))
            for position, task in enumerate(TASKS)
        ]
        return np.stack(columns, axis=1)

    def to_json(self) -> dict[str, dict[str, dict[str, float]]]:
        """The scales as plain numbers, to be kept with a run."""
        inputs = {f"inputs.{study}": scales for study, scales in self.inputs.items()}
        return {
            group: {name: dataclasses.asdict(scale) for name, scale in scales.items()}
            for group, scales in {**inputs, "targets": self.targets}.items()
        }

    def _block(self, examples: Examples) -> np.ndarray:
        columns = []
        for name, values in examples.numbers.items():
            present = np.isfinite(values)
            columns += [np.where(present, self.inputs[examples.study][name].to_standard(values), 0.0), present]
        for name, codes in examples.categories.items():
            missing = examples.levels[name]
            columns += [np.where(codes < 0, missing, codes) == level for level in range(missing + 1)]
        return np.stack(columns, axis=1).astype(np.float32)


def raw_targets(studies: Sequence[Examples]) -> np.ndarray:
    """Targets in raw units, float64 [rows of all studies, tasks], NaN where a row does not belong to a task."""
    return np.concatenate(
        [
            np.stack([examples.targets.get(task.name, np.full(len(examples.school), np.nan)) for task in TASKS], axis=1)
            for examples in studies
        ]
    )
