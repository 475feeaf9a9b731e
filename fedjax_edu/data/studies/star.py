"""Project STAR: next scores, and who leaves."""

import numpy as np

from fedjax_edu.data.population import Population
from fedjax_edu.data.schema import Task
from fedjax_edu.data.studies.examples import Examples, earlier, interleaved, numbered_within, raw, school_of_rows

CATEGORIES = ("gr", "ses", "schtype", "sx", "eth", "cltype", "hdeg", "clad")
TASKS = (
    Task("star.math", "regression", "STAR mathematics", "scaled points", "star"),
    Task("star.read", "regression", "STAR reading", "scaled points", "star"),
    Task("star.leaves", "binary", "STAR leaving", "probability", "star"),
)


def star_examples(population: Population, levels: dict[str, tuple[str, ...]]) -> Examples:
    """Examples of two kinds from each pupil and grade.

    A *scores* example (grade above kindergarten, both scores and the previous mathematics score present) predicts this
    year's mathematics and reading and never sees a score of the same year. A *leaves* example (grade below 3) predicts
    whether the pupil has no later record, and sees this year's scores too. Both see the scores of the two records
    before: who misses a grade, or skips one, has not left, and the record before is then of an earlier grade.
    """
    columns = raw(population)
    pupil, grade = columns["id"].astype(np.int64), columns["gr"].astype(np.int64)
    history = {f"{score}_{lag}_before": earlier(columns[score], pupil, lag) for score in ("read", "math") for lag in (1, 2)}
    stays = np.append(pupil[1:] == pupil[:-1], False)
    scored = (grade > 0) & np.isfinite(columns["math"]) & np.isfinite(columns["read"]) & np.isfinite(history["math_1_before"])
    row, leaving = interleaved(np.flatnonzero(scored), np.flatnonzero(grade < 3))
    hidden = np.where(leaving, 0.0, np.nan)  # added to a score of the same year: NaN in a scores example
    school = school_of_rows(population)
    teacher = np.stack([columns[name] for name in ("gr", "cltype", "hdeg", "clad")] + [np.nan_to_num(columns["exp"], nan=-1.0)], axis=1)
    return Examples(
        study="star",
        school=school[row],
        pupil=pupil[row],
        numbers={
            **{name: columns[name][row] for name in ("birthy", "exp")},
            **{name: values[row] for name, values in history.items()},
            **{f"{score}_same_year": columns[score][row] + hidden for score in ("read", "math")},
        },
        categories={name: columns[name].astype(np.int64)[row] for name in CATEGORIES},
        levels=levels,
        targets={
            "math": np.where(leaving, np.nan, columns["math"][row]),
            "read": np.where(leaving, np.nan, columns["read"][row]),
            "leaves": np.where(leaving, 1.0 - stays[row], np.nan),
        },
        tasks=TASKS,
        groups={"sex": "sx", "ethnicity": "eth", "ses": "ses", "grade": "gr"},
        classroom=numbered_within(school, teacher)[row],
        series={
            **{f"{score}_{lag}_before": (score, lag) for score in ("read", "math") for lag in (1, 2)},
            **{f"{score}_same_year": (score, 0) for score in ("read", "math")},
        },
    )
