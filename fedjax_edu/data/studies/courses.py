"""Courses of a university: from the title and what kind of course it is, whether it is an upper-division one, or for graduates."""

import numpy as np

from fedjax_edu.data.population import Population
from fedjax_edu.data.schema import Task
from fedjax_edu.data.studies.examples import Examples, school_of_rows

FEWEST = 5  # courses of a subject that takes part
UPPER = 100  # the number from which courses are upper-division; those from 200 are for graduates, and count
FLAGS = ("seminar", "ind_study", "apprenticeship", "internship", "honors_contracts", "laboratory", "special_topic")
TASKS = (Task("courses.upper", "binary", "Upper-division course", "probability", "courses"),)


def courses_examples(population: Population, levels: dict[str, tuple[str, ...]]) -> Examples:
    """A course is an example, a subject with enough of them a school; the number of a course says its level and is no input."""
    number = population.arrays["course_numeric"]
    subject = school_of_rows(population)
    courses = np.bincount(subject)[subject]
    kept = np.flatnonzero(np.isfinite(number) & (courses >= FEWEST))
    titles = np.array(population.texts["course"], dtype=object)
    return Examples(
        study="courses",
        school=subject[kept],
        pupil=kept,
        numbers={name: population.arrays[name][kept].astype(np.float64) for name in FLAGS},
        categories={},
        levels=levels,
        targets={"upper": (number >= UPPER)[kept].astype(np.float64)},
        tasks=TASKS,
        groups={},
        classroom=np.zeros(len(kept), np.int64),
        texts={"title": titles[population.arrays["course"][kept]]},
    )
