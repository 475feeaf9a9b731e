"""SLP, the Smart Learning Partner: answers of pupils in Chinese schools, in unit tests and term examinations of eight subjects."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from fedjax_edu.core.errors import ArgumentError, require
from fedjax_edu.data.population import Population
from fedjax_edu.data.readers.files import Dialect, folder_of, read_table
from fedjax_edu.data.readers.interactions import joined_skills, log_population, seconds
from fedjax_edu.data.schema import Feature

if TYPE_CHECKING:
    import pandas as pd

SUBJECTS = ("bio", "chi", "che", "eng", "geo", "his", "math", "phy")
_EXAM = Feature("exam", "category", ("unit", "term"), "test at the end of a unit, or of a term")
_DIALECT = Dialect(missing=("", "n.a.", "NA"))


def slp(folder: str | os.PathLike[str], subject: str = "math") -> Population:
    """One subject of SLP: one client a school.

    An answer is right with the full score and wrong with none; partial scores are left out, and so are pupils without a school.
    See :mod:`fedjax_edu.data.readers.interactions` for the leaves.

    Args:
        folder: with ``unit-{subject}.csv``, ``term-{subject}.csv``, ``student.csv`` and ``school.csv``.
        subject: ``"bio"``, ``"chi"``, ``"che"``, ``"eng"``, ``"geo"``, ``"his"``, ``"math"`` or ``"phy"``.

    Raises:
        ArgumentError: an unknown subject, or no folder.
        DataError: a file, a column or a row is not as published.

    Reference: Lu, Pian, Shen, Chen and Zhang, SLP: A Multi-Dimensional and Consecutive Dataset from K-12 Education, ICCE 2021.
    """
    require("the reader of SLP", "readers", "pandas")
    import pandas as pd

    if subject not in SUBJECTS:
        raise ArgumentError("subject", subject, f"use one of {', '.join(SUBJECTS)}")
    place = folder_of(folder, f"unit-{subject}.csv, term-{subject}.csv, student.csv and school.csv")
    exams = [_answers(place / f"{exam}-{subject}.csv", exam) for exam in _EXAM.levels]
    pupils = read_table(place / "student.csv", {"student_id": str, "gender": str, "school_id": str}, dialect=_DIALECT)
    schools = read_table(place / "school.csv", {"school_id": str, "school_type": str}, dialect=_DIALECT)
    pupils = pupils.drop_duplicates("student_id").merge(schools.drop_duplicates("school_id"), on="school_id", how="left")
    table = pd.concat(exams, ignore_index=True).merge(pupils, on="student_id", how="left")
    return log_population(
        table.assign(credit=table["score"] / table["full_score"]),
        joined_skills(table["concept"], ";"),
        f"unit-{subject}.csv and term-{subject}.csv",
        client="school_id",
        student="student_id",
        question="question_id",
        correct="credit",
        time="time",
        clock=True,
        features=(
            _EXAM,
            Feature("gender", "category", (), "sex of the pupil"),
            Feature("school_type", "category", (), "kind of school"),
        ),
        groups={"sex": ("gender",)},
    )


def _answers(path: Path, exam: str) -> "pd.DataFrame":
    table = read_table(
        path,
        {"student_id": str, "question_id": str, "concept": str, "score": float, "full_score": float, "time_access": str},
        dialect=_DIALECT,
    )
    return table.assign(exam=exam, time=seconds(path, table["time_access"]))
