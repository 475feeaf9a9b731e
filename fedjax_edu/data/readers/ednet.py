"""EdNet KT1: answers of learners of English to questions of the TOEIC test, one file a learner."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fedjax_edu.core.errors import DataError
from fedjax_edu.data.population import Population
from fedjax_edu.data.readers.files import Kind, folder_of, read_table
from fedjax_edu.data.readers.interactions import joined_skills, log_population
from fedjax_edu.data.schema import Feature

if TYPE_CHECKING:
    import pandas as pd

_PART = Feature("part", "category", tuple("1234567"), "part of the test: 1 to 4 listening, 5 to 7 reading")
_ANSWERS: dict[str, Kind] = {"timestamp": int, "question_id": str, "user_answer": str}


def ednet_kt1(folder: str | os.PathLike[str]) -> Population:
    """EdNet KT1: one client a learner, for institutions are not told.

    An answer is right where it is the one that ``questions.csv`` names; skills are the question's tags. An answer that was not given is
    left out. Reading takes two to four milliseconds a learner, so half an hour and more for all of them: begin with some.
    See :mod:`fedjax_edu.data.readers.interactions` for the leaves.

    Args:
        folder: with ``KT1/u*.csv``, all learners or some, and ``contents/questions.csv``.

    Raises:
        DataError: a file, a column or a row is not as published, or a question is unknown.

    Reference: Choi et al., EdNet: A Large-Scale Hierarchical Dataset in Education, AIED 2020 (arXiv:1912.03072).
    """
    place = folder_of(folder, "KT1/u*.csv and contents/questions.csv")
    path = place / "contents" / "questions.csv"
    questions = read_table(path, {"question_id": str, "correct_answer": str, "part": _PART.levels, "tags": str})
    table = _answers(place, questions)
    asked = table["question"].cat.codes.to_numpy()
    skills = joined_skills(questions["tags"].where(questions["tags"] != "-1"), ";")
    skills.matrix = skills.matrix[asked]
    return log_population(
        table.assign(part=questions["part"].to_numpy()[asked]),
        skills,
        "KT1",
        client="user_id",
        student="user_id",
        question="question",
        correct="correct",
        time="seconds",
        clock=True,
        features=(_PART,),
    )


def _answers(place: Path, questions: "pd.DataFrame") -> "pd.DataFrame":
    """One row an answer, kept as numbers while files are read: there are almost a hundred million."""
    import pandas as pd

    known = pd.Index(questions["question_id"])
    right = questions["correct_answer"].to_numpy()
    paths = sorted((place / "KT1").glob("u*.csv"), key=lambda path: (len(path.stem), path.stem))
    if not paths:
        raise DataError(str(place / "KT1"), "no file", "expected u1.csv and so on, one for each learner")
    parts = [_answers_of(path, known, right) for path in paths]
    asked, correct, times = (np.concatenate(column) for column in zip(*parts, strict=True))
    user = np.repeat(np.arange(len(paths), dtype=np.int32), [len(part[0]) for part in parts])
    return pd.DataFrame(
        {
            "user_id": pd.Categorical.from_codes(user, [path.stem for path in paths]),
            "question": pd.Categorical.from_codes(asked, known),
            "correct": correct,
            "seconds": times / 1000,
        }
    )


def _answers_of(path: Path, known: "pd.Index", right: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    table = read_table(path, _ANSWERS)
    asked = known.get_indexer(table["question_id"])
    if (unknown := np.flatnonzero(asked < 0)).size:
        raise DataError(f"{path}: question_id", table["question_id"].iloc[unknown[0]], "expected a question of contents/questions.csv")
    correct = np.where(table["user_answer"].isna(), np.nan, table["user_answer"].to_numpy() == right[asked])
    return asked.astype(np.int32), correct.astype(np.float32), table["timestamp"].to_numpy()
