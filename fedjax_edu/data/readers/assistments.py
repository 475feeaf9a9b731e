"""ASSISTments: answers of pupils of the United States to mathematics questions, in the files of four years."""

import os

import numpy as np

from fedjax_edu.data.population import Population
from fedjax_edu.data.readers.files import Kind, located, read_table
from fedjax_edu.data.readers.interactions import Skills, log_population, repeated_skills, seconds
from fedjax_edu.data.schema import Feature

_ORIGINAL = Feature("original", "category", ("0", "1"), "whether it is a main question (1) or a step of its scaffolding (0)")
_MODE = Feature("tutor_mode", "category", (), "tutor, test, or a test before or after")
_TYPE = "how the answer is given: as a number, a choice, a text"


def assistments2009(place: str | os.PathLike[str]) -> Population:
    """ASSISTments 2009-2010, skill builder data: one client a school.

    The file repeats an attempt (``order_id``) for each skill of its question, or joins the skills (``9_15``) where it is the corrected,
    collapsed one; an attempt becomes one row, and ``time`` is ``order_id``.
    See :mod:`fedjax_edu.data.readers.interactions` for the leaves.

    Args:
        place: ``skill_builder_data.csv`` (any name), or the folder where it lies.

    Raises:
        DataError: the file, a column or a row is not as published.

    Reference: Feng, Heffernan and Koedinger, Addressing the assessment challenge with an online tutoring system, UMUAI 19, 2009.
    """
    path = located(place, "skill_builder_data.csv")
    columns: dict[str, Kind] = {
        "order_id": int,
        "user_id": int,
        "problem_id": int,
        "original": _ORIGINAL.levels,
        "correct": float,
        "tutor_mode": str,
        "answer_type": str,
        "skill_id": str,
        "school_id": float,
    }
    table = read_table(path, columns)
    table = table.assign(skill_id=table["skill_id"].str.split("_")).explode("skill_id")
    table, skills = repeated_skills(table, path, "order_id", "skill_id", ("user_id", "problem_id", "correct", "school_id"))
    return log_population(
        table,
        skills,
        path.name,
        client="school_id",
        student="user_id",
        question="problem_id",
        correct="correct",
        time="order_id",
        clock=False,
        features=(_ORIGINAL, _MODE, Feature("answer_type", "category", (), _TYPE)),
    )


def assistments2012(place: str | os.PathLike[str]) -> Population:
    """ASSISTments 2012-2013, with affect: one client a school.

    Rows of one attempt (``problem_log_id``) are joined. Attempts with partial credit are left out.
    See :mod:`fedjax_edu.data.readers.interactions` for the leaves.

    Args:
        place: ``2012-2013-data-with-predictions-4-final.csv`` (any name), or the folder where it lies.

    Raises:
        DataError: the file, a column or a row is not as published.
    """
    path = located(place, "2012-2013-data-with-predictions-4-final.csv")
    columns: dict[str, Kind] = {
        "problem_log_id": int,
        "user_id": int,
        "problem_id": int,
        "start_time": str,
        "problem_type": str,
        "original": _ORIGINAL.levels,
        "correct": float,
        "tutor_mode": str,
        "skill_id": float,
        "school_id": float,
    }
    table = read_table(path, columns)
    table, skills = repeated_skills(table, path, "problem_log_id", "skill_id", ("user_id", "problem_id", "correct", "school_id"))
    return log_population(
        table.assign(start_time=seconds(path, table["start_time"])),
        skills,
        path.name,
        client="school_id",
        student="user_id",
        question="problem_id",
        correct="correct",
        time="start_time",
        clock=True,
        features=(_ORIGINAL, _MODE, Feature("problem_type", "category", (), _TYPE)),
    )


def assistments2015(place: str | os.PathLike[str]) -> Population:
    """ASSISTments 2015, the hundred largest skill builders: one client a pupil, for schools are not told.

    A problem set (``sequence_id``) trains one skill, and which of its questions was asked is not told: it is both ``question`` and skill.
    ``time`` is ``log_id``. Attempts with partial credit are left out.
    See :mod:`fedjax_edu.data.readers.interactions` for the leaves.

    Args:
        place: ``2015_100_skill_builders_main_problems.csv`` (any name), or the folder where it lies.

    Raises:
        DataError: the file, a column or a row is not as published.
    """
    path = located(place, "2015_100_skill_builders_main_problems.csv")
    columns: dict[str, Kind] = {"user_id": int, "log_id": int, "sequence_id": int, "correct": float}
    table = read_table(path, columns)
    table, skills = repeated_skills(table, path, "log_id", "sequence_id", ("user_id", "correct"))
    return log_population(
        table,
        skills,
        path.name,
        client="user_id",
        student="user_id",
        question="sequence_id",
        correct="correct",
        time="log_id",
        clock=False,
    )


def assistments2017(place: str | os.PathLike[str]) -> Population:
    """ASSISTments 2004-2007, as released for the data mining competition of 2017: one client a middle school.

    Every row is an attempt with one skill. See :mod:`fedjax_edu.data.readers.interactions` for the leaves.

    Args:
        place: ``anonymized_full_release_competition_dataset.csv`` (any name), or the folder where it lies.

    Raises:
        DataError: the file, a column or a row is not as published.
    """
    path = located(place, "anonymized_full_release_competition_dataset.csv")
    columns: dict[str, Kind] = {
        "studentId": int,
        "MiddleSchoolId": float,
        "InferredGender": str,
        "skill": str,
        "problemId": int,
        "problemType": str,
        "startTime": float,
        "correct": float,
        "original": _ORIGINAL.levels,
    }
    table = read_table(path, columns)
    return log_population(
        table,
        Skills(np.arange(len(table)), table["skill"].where(table["skill"] != "noskill"), len(table)),
        path.name,
        client="MiddleSchoolId",
        student="studentId",
        question="problemId",
        correct="correct",
        time="startTime",
        clock=True,
        features=(
            Feature("InferredGender", "category", ("Female", "Male"), "sex of the pupil, inferred from the name"),
            _ORIGINAL,
            Feature("problemType", "category", (), _TYPE),
        ),
        groups={"sex": ("InferredGender",)},
    )
