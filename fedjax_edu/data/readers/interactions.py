"""What logs of answered questions share: one row an attempt at a question, with all of its skills; only what is known before it as input.

Where a question trains several skills, files repeat it for each, or join the skills in one field. As rows of their own they would show a
model the answer before it is asked for it, so an attempt is one row here. Beside the groups of its
:class:`~fedjax_edu.data.schema.Schema`, a log has the leaves

* ``question``: int32 [N], position in ``texts["question"]``.
* ``skills``: int32 [N, K], positions in ``texts["skills"]``, rising, and -1 after the last; all -1 where none is known.
* ``time``: int32 [N], seconds after the first row of the log, or the log's own running number where it has no clock.
* ``unit``: int32 [N], the student, position in ``texts[schema.unit]``.

The task ``correct`` is 1 for a right answer and 0 for a wrong one; attempts with partial or no credit are left out, and the log of
``fedjax_edu`` says how many. Rows are sorted by client, student and time. What comes with an answer (hints, tries, seconds) is no input.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fedjax_edu.core.errors import DataError
from fedjax_edu.data.population import Population
from fedjax_edu.data.readers.assembly import assemble, coded, kept
from fedjax_edu.data.schema import Feature, Task

if TYPE_CHECKING:
    import pandas as pd

CORRECT = Task("correct", "binary", "right answer", levels=("0", "1"))


class Skills:
    """Which skills each row of a table trains: a matrix [rows, K] of positions in the names, rising, with -1 after the last."""

    def __init__(self, row: np.ndarray, skill: "pd.Series", rows: int):
        """Each pair of a row and a skill of it, in any order, repeated or not; missing skills are left out."""
        codes, self.names = coded(skill)
        pairs = np.unique(np.stack([row[codes >= 0], codes[codes >= 0]], axis=1).astype(np.int64), axis=0)
        place = np.arange(len(pairs)) - np.searchsorted(pairs[:, 0], pairs[:, 0])
        self.matrix = np.full((rows, place.max(initial=0) + 1), -1, np.int32)
        self.matrix[pairs[:, 0], place] = pairs[:, 1]


def joined_skills(fields: "pd.Series", separator: str) -> Skills:
    """The skills of rows that name them in one field each, read from the few fields that differ.

    >>> import pandas as pd
    >>> skills = joined_skills(pd.Series(["b~~a", None, "a"]), "~~")
    >>> skills.names, skills.matrix.tolist()
    (('a', 'b'), [[0, 1], [-1, -1], [0, -1]])
    """
    import pandas as pd

    codes, distinct = pd.factorize(fields, use_na_sentinel=False)
    parts = pd.Series(distinct).astype("str").where(pd.notna(distinct)).str.split(separator, regex=False).explode().str.strip()
    skills = Skills(parts.index.to_numpy(), parts.where(parts != ""), len(distinct))
    skills.matrix = skills.matrix[codes]
    return skills


def repeated_skills(table: "pd.DataFrame", path: Path, attempt: str, skill: str, answer: Sequence[str]) -> tuple["pd.DataFrame", Skills]:
    """One row an attempt, and its skills, from a table that repeats it for each skill.

    Args:
        table: in any order.
        path: where it comes from, for the error.
        attempt: the column whose value the rows of one attempt share.
        skill: the column with the skill.
        answer: columns that are the same in all rows of an attempt: who answered what, and how well.

    Raises:
        DataError: rows of one attempt contradict each other.
    """
    table = table.sort_values([attempt, skill], kind="stable")
    keys, first, own = np.unique(table[attempt].to_numpy(), return_index=True, return_inverse=True)
    for name in answer:
        values, _ = coded(table[name])
        if (other := np.flatnonzero(values != values[first][own])).size:
            found = f"two values where {attempt} is {keys[own[other[0]]]}"
            raise DataError(f"{path}: {name}", found, f"expected the rows of one {attempt} to differ in {skill} only")
    return table.iloc[first].reset_index(drop=True), Skills(own, table[skill], len(keys))


def seconds(path: Path, times: "pd.Series") -> "pd.Series":
    """Points in time as seconds, float64, NaN where missing.

    Raises:
        DataError: what is no point in time.
    """
    import pandas as pd

    points = pd.to_datetime(times, format="ISO8601", errors="coerce")
    if (bad := np.flatnonzero(points.isna() & times.notna())).size:
        raise DataError(f"{path}: {times.name}", times.iloc[bad[0]], "expected a time such as 2012-09-28 15:11:27")
    return (points - pd.Timestamp(0)) / pd.Timedelta(seconds=1)


def log_population(
    table: "pd.DataFrame",
    skills: Skills,
    source: str,
    *,
    client: str,
    student: str,
    question: str,
    correct: str,
    time: str,
    clock: bool,
    features: Sequence[Feature] = (),
    groups: Mapping[str, tuple[str, ...]] | None = None,
) -> Population:
    """The population of a log that has one row an attempt.

    Args:
        table: one row an attempt.
        skills: of its rows.
        source: where it comes from, for errors and the log.
        client: the column that owns rows.
        student: the column that tells students apart.
        question: the column with the question.
        correct: the column with the credit; rows with another than 0 or 1 are left out.
        time: the column that orders the rows of a student; the table's order decides among equals.
        clock: whether it counts seconds.
        features: what is known before an attempt.
        groups: as in the schema.
    """
    table = table.assign(correct=table[correct], row=np.arange(len(table)))
    table = kept(table, table["correct"].isin([0, 1]), source, f"{correct} is neither 0 nor 1")
    for column in (client, student, question, time):
        table = kept(table, table[column].notna(), source, f"no {column}")
    questions, names = coded(table[question])
    times = table[time].to_numpy()
    return assemble(
        table,
        client=client,
        unit=student,
        features=features,
        tasks=(CORRECT,),
        order=(time,),
        groups=groups,
        leaves={
            "question": questions,
            "skills": skills.matrix[table["row"]],
            "time": np.floor(times - times.min()).astype(np.int64) if clock else times.astype(np.int64),
        },
        texts={"question": names, "skills": skills.names},
    )
