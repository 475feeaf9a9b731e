"""OULAD, the Open University Learning Analytics Dataset: students of distance courses and their clicks."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from fedjax_edu.core.errors import ArgumentError, DataError, check_integer
from fedjax_edu.data.population import Population
from fedjax_edu.data.readers.assembly import assemble
from fedjax_edu.data.readers.files import Dialect, Kind, folder_of, read_table
from fedjax_edu.data.schema import Feature, Task

if TYPE_CHECKING:
    import pandas as pd

_COURSE = ["code_module", "code_presentation"]
_STUDENT = [*_COURSE, "id_student"]
_DIALECT = Dialect(missing=("", "?"))
_COLUMNS: dict[str, dict[str, Kind]] = {
    "studentInfo.csv": {
        "code_module": str,
        "code_presentation": str,
        "id_student": int,
        "gender": ("F", "M"),
        "region": str,
        "highest_education": str,
        "imd_band": str,
        "age_band": str,
        "num_of_prev_attempts": float,
        "studied_credits": float,
        "disability": ("N", "Y"),
        "final_result": ("Pass", "Distinction", "Fail", "Withdrawn"),
    },
    "studentRegistration.csv": {"code_module": str, "code_presentation": str, "id_student": int, "date_registration": float},
    "vle.csv": {"id_site": int, "code_module": str, "code_presentation": str, "activity_type": str},
    "studentVle.csv": {"code_module": str, "code_presentation": str, "id_student": int, "id_site": int, "date": int, "sum_click": int},
    "assessments.csv": {"code_module": str, "code_presentation": str, "id_assessment": int},
    "studentAssessment.csv": {"id_assessment": int, "id_student": int, "is_banked": int, "score": float},
}
_FEATURES = (
    Feature("gender", "category", ("F", "M"), "sex"),
    Feature("region", "category", (), "where the student lived"),
    Feature("highest_education", "category", (), "highest education at the start"),
    Feature("imd_band", "category", (), "index of multiple deprivation of the neighbourhood, from most to least deprived"),
    Feature("age_band", "category", (), "age"),
    Feature("disability", "category", ("N", "Y"), "whether a disability was declared"),
    Feature("num_of_prev_attempts", "number", (), "earlier attempts at the course", "attempts"),
    Feature("studied_credits", "number", (), "credits of all courses studied at the time", "credits"),
    Feature("date_registration", "number", (), "day of registration, counted from the start of the course", "days"),
)


def oulad(folder: str | os.PathLike[str], client: Literal["presentation", "region"] = "presentation", weeks: int = 4) -> Population:
    """OULAD: one row a student in a presentation of a course, seen at the end of its first weeks.

    Inputs are demography, the day of registration, and the clicks of each type of activity (``clicks_forumng``, ...) on days before the
    cut, day ``7 * weeks`` counted from the start; a registration on or after it counts as missing. Nothing later is an input. Tasks are
    ``pass`` (passed, with distinction or not, against failed or withdrawn) and ``score``, the mean score over the assessments of the
    presentation, transferred ones left out. Students who withdrew before the cut are rows too. Students take several courses: split with
    ``unit="unit"``.

    Args:
        folder: with the files ``studentInfo.csv``, ``studentRegistration.csv``, ``studentVle.csv``, ``vle.csv``, ``assessments.csv`` and
            ``studentAssessment.csv``.
        client: what owns rows: a presentation such as ``AAA 2013J`` (22), or a region (13), which is then no input.
        weeks: how many weeks of clicks are seen, 0 or more.

    Returns:
        The population, laid out as :class:`~fedjax_edu.data.schema.Schema` says; ``texts[schema.client]`` names the clients by id.

    Raises:
        ArgumentError: no folder, another client, or a number of weeks below 0.
        DataError: a file, a column or a row is not as published.

    Reference: Kuzilek, Hlosta and Zdrahal, Open University Learning Analytics dataset, Scientific Data 4, 2017.
    """
    if client not in ("presentation", "region"):
        raise ArgumentError("client", client, "use 'presentation' or 'region'")
    cut = 7 * check_integer("weeks", weeks, at_least=0)
    place = folder_of(folder, ", ".join(_COLUMNS))
    table = _read(place, "studentInfo.csv")
    registered = _read(place, "studentRegistration.csv").drop_duplicates(_STUDENT)
    clicks = _clicks(place, cut)
    table = table.merge(registered, on=_STUDENT, how="left").merge(_scores(place), on=_STUDENT, how="left")
    table = table.merge(clicks, left_on=_STUDENT, right_index=True, how="left")
    table[clicks.columns] = table[clicks.columns].fillna(0)
    table["presentation"] = table["code_module"] + " " + table["code_presentation"]
    table["date_registration"] = table["date_registration"].where(table["date_registration"] < cut)
    table["pass"] = table["final_result"].map({"Pass": 1, "Distinction": 1, "Fail": 0, "Withdrawn": 0})
    counts = tuple(Feature(name, "number", (), f"clicks before day {cut}", "clicks") for name in clicks.columns)
    return assemble(
        table,
        client=client,
        unit="id_student",
        features=(*(feature for feature in _FEATURES if feature.name != client), *counts),
        tasks=(Task("pass", "binary", levels=("0", "1")), Task("score", "regression", unit="points of 100")),
        order=("presentation",),
        groups={"sex": ("gender",), "ses": ("imd_band",)},
    )


def _read(place: Path, name: str) -> "pd.DataFrame":
    return read_table(place / name, _COLUMNS[name], dialect=_DIALECT)


def _clicks(place: Path, cut: int) -> "pd.DataFrame":
    """Clicks before the cut: a row for each student of a presentation who clicked, a column for each type of activity."""
    sites = _read(place, "vle.csv").drop_duplicates("id_site").set_index("id_site")["activity_type"]
    clicks = _read(place, "studentVle.csv")
    activity = clicks["id_site"].map(sites)
    if activity.isna().any():
        raise DataError(
            f"{place / 'studentVle.csv'}: id_site", int(clicks["id_site"][activity.isna()].iloc[0]), "expected a site of vle.csv"
        )
    early = clicks["date"] < cut
    counts = clicks[early].groupby([*_STUDENT, "clicks_" + activity[early]])["sum_click"].sum().unstack(fill_value=0)
    return counts.reindex(columns=sorted("clicks_" + kind for kind in sites.unique()), fill_value=0)


def _scores(place: Path) -> "pd.DataFrame":
    """The mean score of each student in a presentation."""
    assessments = _read(place, "assessments.csv").drop_duplicates("id_assessment")
    results = _read(place, "studentAssessment.csv").merge(assessments, on="id_assessment", how="left")
    if (unknown := results["code_module"].isna()).any():
        found = int(results["id_assessment"][unknown].iloc[0])
        raise DataError(f"{place / 'studentAssessment.csv'}: id_assessment", found, "expected an assessment of assessments.csv")
    return results[results["is_banked"] == 0].groupby(_STUDENT, as_index=False)["score"].mean()
