"""One study's examples under the school protocol: which rows are kept, which inputs a model may see, what it must predict."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fedjax_edu.data.population import Population
from fedjax_edu.data.schema import Feature, Schema, Task

ID_STRIDE = 1_000_000  # school numbers of different studies overlap
PUPIL_STRIDE = 100_000_000


@dataclasses.dataclass(frozen=True)
class Examples:
    """The examples of one study; every array has one entry a row.

    Attributes:
        study: the study's name.
        school: number of the school in its study, int64 [n].
        pupil: number of the pupil, int64 [n].
        numbers: numeric inputs by name, float64 [n], NaN where missing or not to be seen.
        categories: categorical inputs by name, int64 [n] codes, -1 where missing or not to be seen.
        levels: what the codes of each category mean.
        targets: what is to be predicted by name, float64 [n], NaN where the row does not belong to the task.
        tasks: the targets, in the same order.
        groups: the input that holds ``sex``, ``ethnicity`` or ``ses``.
        classroom: number of the pupil's classroom within the school, int64 [n].
        series: for each numeric input that is one of several measurements of the same: what is measured, and how many records earlier.
        texts: textual inputs by name, strings [n].
    """

    study: str
    school: np.ndarray
    pupil: np.ndarray
    numbers: Mapping[str, np.ndarray]
    categories: Mapping[str, np.ndarray]
    levels: Mapping[str, tuple[str, ...]]
    targets: Mapping[str, np.ndarray]
    tasks: tuple[Task, ...]
    groups: Mapping[str, str]
    classroom: np.ndarray
    series: Mapping[str, tuple[str, int]] = dataclasses.field(default_factory=dict)
    texts: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)

    @property
    def features(self) -> tuple[Feature, ...]:
        """The inputs, numbers first, texts last; their names start with that of the study."""
        categories = [Feature(f"{self.study}.{name}", "category", tuple(self.levels[name]), study=self.study) for name in self.categories]
        texts = [Feature(f"{self.study}.{name}", "text", study=self.study) for name in self.texts]
        return (*map(self._number, self.numbers), *categories, *texts)

    def _number(self, name: str) -> Feature:
        series, lag = self.series.get(name, ("", 0))
        return Feature(f"{self.study}.{name}", "number", study=self.study, series=series and f"{self.study}.{series}", lag=lag)


def join(studies: Sequence[Examples], order: Sequence[str]) -> Population:
    """Studies as one population: a client for each school, which has the inputs and tasks of its study; all others are absent.

    Args:
        studies: with their rows in any order.
        order: names of all studies there are: a school's id is its number, and a million for each study before its own.

    Returns:
        A population with the layout of :class:`Schema`, clients ordered by id, rows of a client in the study's order.
    """
    studies = sorted(studies, key=lambda examples: order.index(examples.study))
    school = np.concatenate([order.index(examples.study) * ID_STRIDE + examples.school for examples in studies])
    rows = np.argsort(school, kind="stable")
    ids, start = np.unique(school[rows], return_index=True)
    counts = [len(examples.school) for examples in studies]
    present: dict[str, np.ndarray] = {}

    def spread(position: int, values: np.ndarray, absent: float, dtype: type) -> np.ndarray:
        whole: np.ndarray = np.full(sum(counts), absent, dtype)
        start = sum(counts[:position])
        whole[start : start + counts[position]] = values
        return whole[rows]

    def masked(position: int, name: str, values: np.ndarray) -> np.ndarray:
        known = np.isfinite(values)
        present[name] = spread(position, known, False, np.bool_)
        return spread(position, np.where(known, values, 0.0), 0.0, np.float32)

    numbers: dict[str, np.ndarray] = {}
    categories: dict[str, np.ndarray] = {}
    targets: dict[str, np.ndarray] = {}
    texts: dict[str, np.ndarray] = {}
    distinct: dict[str, list[str]] = {}
    for position, examples in enumerate(studies):
        prefix = f"{examples.study}."
        for name, words in examples.texts.items():
            known, places = np.unique(words.astype(str), return_inverse=True)
            distinct[prefix + name], texts[prefix + name] = known.tolist(), spread(position, places, -1, np.int32)
        numbers |= {prefix + name: masked(position, prefix + name, values) for name, values in examples.numbers.items()}
        categories |= {prefix + name: spread(position, codes, -1, np.int32) for name, codes in examples.categories.items()}
        targets |= {prefix + name: masked(position, prefix + name, values) for name, values in examples.targets.items()}
    present |= {name: codes >= 0 for name, codes in (categories | texts).items()}
    pupils = [examples.pupil + position * PUPIL_STRIDE for position, examples in enumerate(studies)]
    arrays: dict[str, Any] = {
        "numbers": numbers,
        "categories": categories,
        "targets": targets,
        "present": present,
        "unit": np.concatenate(pupils)[rows].astype(np.int32),
        "classroom": np.concatenate([examples.classroom for examples in studies])[rows].astype(np.int32),
    }
    if texts:
        arrays["texts"] = texts
    names = [examples.study for examples in studies]
    own = np.array([names.index(order[id_ // ID_STRIDE]) for id_ in ids.tolist()], np.int32)
    offsets, attributes = np.append(start, len(school)), {"study": own}
    return Population.from_arrays(arrays, offsets, ids=ids, attributes=attributes, schema=_schema(studies), texts=distinct)


def _schema(studies: Sequence[Examples]) -> Schema:
    groups: dict[str, tuple[str, ...]] = {}
    for examples in studies:
        for group, name in examples.groups.items():
            groups[group] = (*groups.get(group, ()), f"{examples.study}.{name}")
    return Schema(
        client="school",
        features=tuple(feature for examples in studies for feature in examples.features),
        tasks=tuple(task for examples in studies for task in examples.tasks),
        unit="pupil",
        classroom="classroom",
        groups=groups,
    )


def earlier(values: np.ndarray, pupil: np.ndarray, lag: int) -> np.ndarray:
    """The value that the same pupil had `lag` records before, NaN where there is none; a pupil's records are consecutive.

    >>> earlier(np.array([1.0, 2.0, 3.0, 4.0]), np.array([7, 7, 7, 8]), lag=1).tolist()
    [nan, 1.0, 2.0, nan]
    """
    same = np.append(np.zeros(lag, bool), pupil[lag:] == pupil[:-lag])
    return np.where(same, np.roll(values, lag), np.nan)


def interleaved(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Source rows of two kinds of examples in stored order, and which of them are of the second kind.

    >>> interleaved(np.array([0, 2]), np.array([0, 1]))
    (array([0, 0, 1, 2]), array([False,  True,  True, False]))
    """
    row = np.concatenate([first, second])
    kind = np.repeat([False, True], [len(first), len(second)])
    order = np.argsort(row, kind="stable")
    return row[order], kind[order]


def numbered_within(school: np.ndarray, attributes: np.ndarray) -> np.ndarray:
    """Numbers from 0 for the distinct combinations of attributes within each school."""
    numbers = np.zeros(len(school), np.int64)
    for one in np.unique(school):
        rows = school == one
        numbers[rows] = np.unique(attributes[rows], axis=0, return_inverse=True)[1].reshape(-1)
    return numbers


def raw(population: Population) -> dict[str, np.ndarray]:
    """The columns of a raw data set as float64, codes included."""
    return {name: np.asarray(values).astype(np.float64) for name, values in population.arrays.items()}


def school_of_rows(population: Population) -> np.ndarray:
    """Number of the school of each row, int64 [N]."""
    return population.ids[population.row_clients].astype(np.int64)
