"""The school protocol: which schools and pupils train, which test, and the populations that models see."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from fedjax_edu.core.errors import ArgumentError
from fedjax_edu.data import Population
from fedjax_edu.study.encoding import Encoding, raw_targets
from fedjax_edu.study.examples import Examples, load_examples

FOLDS = 5
WITHIN = 0.2  # share of each training school's pupils that is held out for the within-school test


@dataclasses.dataclass(frozen=True)
class Side:
    """One side of a split.

    Attributes:
        population: what models see: leaves ``inputs``, ``classroom``, ``targets``, ``present`` and ``school_rows``.
        rows: numbers of its rows among all examples, in the population's order.
    """

    population: Population
    rows: np.ndarray

    @property
    def school(self) -> np.ndarray:
        """Id of the school of each row, int64 [rows]."""
        return self.population.ids[self.population.row_clients].astype(np.int64)


@dataclasses.dataclass(frozen=True)
class SchoolData:
    """Everything a run needs, split and encoded.

    Attributes:
        studies: the raw examples.
        encoding: scales, fitted on the training side.
        train: 80 % of the pupils of each training school.
        within: the other pupils of the training schools.
        held_out: all pupils of the held-out schools.
        targets: raw targets of all examples, float64 [rows, tasks].
        classrooms: classrooms of the largest school.
    """

    studies: tuple[Examples, ...]
    encoding: Encoding
    train: Side
    within: Side
    held_out: Side
    targets: np.ndarray
    classrooms: int

    @property
    def sides(self) -> dict[str, Side]:
        """The two tests by name."""
        return {"held_out": self.held_out, "within": self.within}


def prepare(fold: int, seed: int, *, validation: bool = False, studies: Sequence[Examples] | None = None) -> SchoolData:
    """Splits by school and by pupil, fits the scales and encodes.

    Held-out schools are fold `fold` of ``GroupKFold(5)`` over the schools of each study. Of the pupils of every other
    school a fifth is held out whole.

    Args:
        fold: 1 to 5.
        seed: of the draw of pupils.
        validation: split the training side of that fold once more in the same way and leave its test rows out: for tuning.
        studies: the examples; None loads HSB82 and STAR.

    Raises:
        ArgumentError: a fold outside 1 .. 5.
    """
    if isinstance(fold, bool) or fold not in range(1, FOLDS + 1):
        raise ArgumentError("fold", fold, f"use 1 .. {FOLDS}")
    studies = tuple(load_examples() if studies is None else studies)
    train, within, held_out = _split(_index(studies), fold, seed)
    if validation:
        train, within, held_out = _split(train, fold=1, seed=seed + 1)
    training = np.zeros(sum(len(examples.school) for examples in studies), bool)
    training[train.arrays["row"]] = True
    encoding = Encoding.fit(studies, np.split(training, np.cumsum([len(examples.school) for examples in studies])[:-1]))
    arrays = _arrays(studies, encoding)
    trained = dict(zip(train.ids.tolist(), train.sizes.tolist(), strict=True))
    return SchoolData(
        studies=studies,
        encoding=encoding,
        train=_side(train, arrays, trained),
        within=_side(within, arrays, trained),
        held_out=_side(held_out, arrays, trained),
        targets=raw_targets(studies),
        classrooms=int(arrays["classroom"].max()) + 1,
    )


def _index(studies: Sequence[Examples]) -> Population:
    """All examples as row numbers, one client a school."""
    school = np.concatenate([examples.school for examples in studies])
    study = np.repeat(np.arange(len(studies)), [len(examples.school) for examples in studies])
    pupil = np.concatenate([examples.pupil + position * 10**8 for position, examples in enumerate(studies)])
    ids, start = np.unique(school, return_index=True)
    offsets = np.append(start, len(school))
    arrays = {"row": np.arange(len(school)), "pupil": pupil}
    return Population.from_arrays(arrays, offsets, ids=ids, attributes={"study": study[start]})


def _split(index: Population, fold: int, seed: int) -> tuple[Population, Population, Population]:
    """Training pupils, their schools' other pupils, and whole other schools."""
    from sklearn.model_selection import GroupKFold

    tested = np.zeros(index.num_clients, bool)
    for study in np.unique(index.attributes["study"]):
        clients = np.flatnonzero(index.attributes["study"] == study)
        owner = np.repeat(clients, index.sizes[clients])
        _, rows = list(GroupKFold(FOLDS).split(owner, groups=owner))[fold - 1]
        tested[owner[rows]] = True
    train, within = index.select(~tested).split_examples((1 - WITHIN, WITHIN), seed=seed, unit="pupil")
    return train, within, index.select(tested)


def _arrays(studies: Sequence[Examples], encoding: Encoding) -> dict[str, np.ndarray]:
    targets, present = encoding.encode_targets(studies)
    classroom = np.concatenate([examples.classroom for examples in studies]).astype(np.int32)
    return {"inputs": encoding.encode(studies), "classroom": classroom, "targets": targets, "present": present}


def _side(index: Population, arrays: dict[str, np.ndarray], trained: dict[int, int]) -> Side:
    rows = index.arrays["row"]
    own = np.array([trained.get(id_, 1) for id_ in index.ids.tolist()], np.float32)
    leaves = {name: values[rows] for name, values in arrays.items()} | {"school_rows": np.repeat(own, index.sizes)}
    return Side(Population.from_arrays(leaves, index.offsets, ids=index.ids), rows)
