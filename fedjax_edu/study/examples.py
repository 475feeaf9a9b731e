"""Raw school records as examples: which rows are kept, which inputs a model may see, what it must predict."""

import dataclasses

import numpy as np

from fedjax_edu.data import Population, load

STUDIES = ("hsb", "star")
_ID_STRIDE = 1_000_000  # school numbers of different studies overlap


@dataclasses.dataclass(frozen=True)
class Examples:
    """The examples of one study, sorted by school; every field has one entry a row.

    Attributes:
        study: the study's name.
        school: id of the school, unique over studies, int64 [n].
        pupil: number of the pupil, int64 [n].
        numbers: numeric inputs by name, float64 [n], NaN where missing or not to be seen.
        categories: categorical inputs by name, int64 [n] codes, -1 where missing.
        levels: number of levels of each category.
        classroom: number of the pupil's classroom within the school, int64 [n]: one for each combination of grade and
            attributes of class and teacher.
        targets: what is to be predicted by task, float64 [n], NaN where the row does not belong to the task.
    """

    study: str
    school: np.ndarray
    pupil: np.ndarray
    numbers: dict[str, np.ndarray]
    categories: dict[str, np.ndarray]
    levels: dict[str, int]
    classroom: np.ndarray
    targets: dict[str, np.ndarray]


def load_examples() -> tuple[Examples, ...]:
    """The examples of both studies, in the order of :data:`STUDIES`."""
    return hsb_examples(load("hsb82")), star_examples(load("star"))


def hsb_examples(population: Population) -> Examples:
    """One example a pupil: mathematics achievement from minrty, sx, ses, meanses and sector."""
    raw = {name: np.asarray(values) for name, values in population.arrays.items()}
    categories = {name: raw[name].astype(np.int64) for name in ("minrty", "sx", "sector")}
    return Examples(
        study="hsb",
        school=_schools(population, "hsb"),
        pupil=np.arange(population.num_examples),
        numbers={name: raw[name].astype(np.float64) for name in ("ses", "meanses")},
        categories=categories,
        levels=_levels(categories),
        classroom=np.zeros(population.num_examples, np.int64),
        targets={"hsb.mach": raw["mAch"].astype(np.float64)},
    )


def star_examples(population: Population) -> Examples:
    """Examples of two kinds from each pupil and grade.

    A *scores* example (grade above kindergarten, both scores and the previous mathematics score present) predicts this
    year's mathematics and reading and never sees a score of the same year. A *leaves* example (grade below 3) predicts
    whether the pupil has no record in the next grade, and sees this year's scores too. Both see the scores of the two
    grades before.
    """
    raw = {name: np.asarray(values).astype(np.float64) for name, values in population.arrays.items()}
    pupil, grade = raw["id"].astype(np.int64), raw["gr"].astype(np.int64)
    history = {f"{score}_{lag}_before": _earlier(raw[score], pupil, lag) for score in ("read", "math") for lag in (1, 2)}
    stays = np.append(pupil[1:] == pupil[:-1], False)
    scored = (grade > 0) & np.isfinite(raw["math"]) & np.isfinite(raw["read"]) & np.isfinite(history["math_1_before"])
    row, leaving = _interleaved(np.flatnonzero(scored), np.flatnonzero(grade < 3))
    hidden = np.where(leaving, 0.0, np.nan)  # added to a score of the same year: NaN in a scores example
    categories = {name: raw[name].astype(np.int64)[row] for name in ("gr", "ses", "schtype", "sx", "eth", "cltype", "hdeg", "clad")}
    school = _schools(population, "star")
    teacher = np.stack([raw[name] for name in ("gr", "cltype", "hdeg", "clad")] + [np.nan_to_num(raw["exp"], nan=-1.0)], axis=1)
    return Examples(
        study="star",
        school=school[row],
        pupil=pupil[row],
        numbers={
            **{name: raw[name][row] for name in ("birthy", "exp")},
            **{name: values[row] for name, values in history.items()},
            **{name: raw[name][row] + hidden for name in ("read", "math")},
        },
        categories=categories,
        levels=_levels(categories),
        classroom=_numbered_within(school, teacher)[row],
        targets={
            "star.math": np.where(leaving, np.nan, raw["math"][row]),
            "star.read": np.where(leaving, np.nan, raw["read"][row]),
            "star.leaves": np.where(leaving, 1.0 - stays[row], np.nan),
        },
    )


def study_of(school: int) -> str:
    """The study to which a school's id belongs.

    >>> study_of(1_000_080)
    'star'
    """
    return STUDIES[school // _ID_STRIDE]


def _schools(population: Population, study: str) -> np.ndarray:
    return STUDIES.index(study) * _ID_STRIDE + population.ids[population.row_clients].astype(np.int64)


def _levels(categories: dict[str, np.ndarray]) -> dict[str, int]:
    return {name: int(codes.max()) + 1 for name, codes in categories.items()}


def _earlier(values: np.ndarray, pupil: np.ndarray, lag: int) -> np.ndarray:
    """The value that the same pupil had `lag` records before, NaN where there is none; a pupil's records are consecutive."""
    same = np.append(np.zeros(lag, bool), pupil[lag:] == pupil[:-lag])
    return np.where(same, np.roll(values, lag), np.nan)


def _interleaved(scores: np.ndarray, leaves: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Source rows of all examples in stored order, so that schools stay together, and which of them are about leaving."""
    row = np.concatenate([scores, leaves])
    leaving = np.repeat([False, True], [len(scores), len(leaves)])
    order = np.argsort(row, kind="stable")
    return row[order], leaving[order]


def _numbered_within(school: np.ndarray, attributes: np.ndarray) -> np.ndarray:
    """Numbers from 0 for the distinct combinations of attributes within each school."""
    numbers = np.zeros(len(school), np.int64)
    for one in np.unique(school):
        rows = school == one
        numbers[rows] = np.unique(attributes[rows], axis=0, return_inverse=True)[1].reshape(-1)
    return numbers
