"""GCSE science: the written paper and the coursework, each from the other where it is known."""

import numpy as np

from fedjax_edu.data.population import Population
from fedjax_edu.data.schema import Task
from fedjax_edu.data.studies.examples import Examples, interleaved, raw, school_of_rows

TASKS = (
    Task("gcse.written", "regression", "GCSE written paper", "points", "gcse"),
    Task("gcse.course", "regression", "GCSE coursework", "points", "gcse"),
)


def gcse_examples(population: Population, levels: dict[str, tuple[str, ...]]) -> Examples:
    """Up to two examples a pupil: each predicts one of the two scores and sees the other."""
    columns = raw(population)
    row, coursework = interleaved(*(np.flatnonzero(np.isfinite(columns[name])) for name in ("written", "course")))
    in_course, in_written = (np.where(shown, 0.0, np.nan) for shown in (coursework, ~coursework))
    written, course = columns["written"][row], columns["course"][row]
    return Examples(
        study="gcse",
        school=school_of_rows(population)[row],
        pupil=row,
        numbers={"written_score": written + in_course, "course_score": course + in_written},
        categories={"gender": columns["gender"].astype(np.int64)[row]},
        levels=levels,
        targets={"written": written + in_written, "course": course + in_course},
        tasks=TASKS,
        groups={"sex": "gender"},
        classroom=np.zeros(len(row), np.int64),
    )
