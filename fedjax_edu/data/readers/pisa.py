"""PISA, the Programme for International Student Assessment: pupils of fifteen in schools of many countries, since 2015."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fedjax_edu.core.errors import DataError, require
from fedjax_edu.data.population import Population
from fedjax_edu.data.readers.assembly import assemble
from fedjax_edu.data.readers.files import Dialect, Kind, check_columns, folder_of, read_table
from fedjax_edu.data.schema import Feature, Task

if TYPE_CHECKING:
    import pandas as pd

PLAUSIBLE_VALUES = 10
_DIALECT = Dialect(missing=("", "NA", ".", ".M", ".N", ".V", ".I"))
_SUFFIXES = (".csv", ".sav", ".sas7bdat")


def pisa(
    folder: str | os.PathLike[str],
    subjects: Sequence[str] = ("MATH", "READ", "SCIE"),
    numbers: Sequence[str] = ("AGE", "ESCS"),
    categories: Sequence[str] = ("ST004D01T", "IMMIG"),
    school_numbers: Sequence[str] = ("SCHSIZE", "STRATIO"),
    school_categories: Sequence[str] = ("SCHLTYPE",),
) -> Population:
    """PISA: one client a school, one row a pupil.

    A score is not observed: ``PV1MATH`` to ``PV10MATH`` are ten draws from what the test says about it, and each is a task. Fit a model to
    each of them alone, and combine what the ten fits say with :func:`combine_plausible_values`; the mean of the ten is no score, for it
    understates how pupils differ. The leaf ``weight``, float32 [N], is ``W_FSTUWT``, how many pupils a row stands for. The school
    questionnaire is joined where its file is there.

    Args:
        folder: with the student file, ``*STU_QQQ``, and perhaps the school file, ``*SCH_QQQ``, as ``.csv``, ``.sav`` or ``.sas7bdat``.
        subjects: the tests, as the names of plausible values end.
        numbers: inputs of the student file that are numbers.
        categories: inputs of the student file that are codes, such as ``ST004D01T``, 1 for girls and 2 for boys.
        school_numbers: inputs of the school file that are numbers.
        school_categories: inputs of the school file that are codes.

    Returns:
        The population, laid out as :class:`~fedjax_edu.data.schema.Schema` says; ``texts["school"]`` has country and number of a client.

    Raises:
        ArgumentError: no folder.
        DataError: a file, a column or a row is not as published.
        MissingDependencyError: the files are SPSS or SAS files and pyreadstat is not installed.

    Reference: OECD, PISA 2022 Technical Report, 2024, on plausible values; Rubin, Multiple Imputation for Nonresponse in Surveys, 1987.
    """
    place = folder_of(folder, "the file *STU_QQQ.csv, .sav or .sas7bdat")
    scores = [f"PV{draw}{subject}" for subject in subjects for draw in range(1, PLAUSIBLE_VALUES + 1)]
    keys: dict[str, Kind] = {"CNT": str, "CNTSCHID": int}
    student_file = _find(place, "STU_QQQ")
    if student_file is None:
        raise DataError(str(place), "no file *STU_QQQ", f"expected the student file as {', '.join(_SUFFIXES)}")
    table = _read(student_file, keys | _kinds(numbers, categories) | dict.fromkeys(("W_FSTUWT", *scores), float))
    school_file = _find(place, "SCH_QQQ")
    if school_file is not None:
        schools = _read(school_file, keys | _kinds(school_numbers, school_categories)).drop_duplicates(list(keys))
        table = table.merge(schools, on=list(keys), how="left")
        numbers, categories = (*numbers, *school_numbers), (*categories, *school_categories)
    groups = {"sex": ("ST004D01T",), "ses": ("ESCS",)}
    return assemble(
        table.assign(school=table["CNT"] + " " + table["CNTSCHID"].astype("str")),
        client="school",
        features=(*(Feature(name, "number") for name in numbers), *(Feature(name, "category") for name in categories)),
        tasks=tuple(Task(name, "regression", unit="points of PISA") for name in scores),
        groups={group: names for group, names in groups.items() if set(names) <= {*numbers, *categories}},
        leaves={"weight": table["W_FSTUWT"].to_numpy(np.float32)},
    )


def _kinds(numbers: Sequence[str], categories: Sequence[str]) -> dict[str, Kind]:
    return {**dict.fromkeys(numbers, float), **dict.fromkeys(categories, str)}


def _find(place: Path, ending: str) -> Path | None:
    found = sorted(path for path in place.iterdir() if path.stem.upper().endswith(ending) and path.suffix.lower() in _SUFFIXES)
    if len(found) > 1:
        raise DataError(str(place), f"{found[0].name} and {found[1].name}", f"expected one file *{ending}")
    return found[0] if found else None


def _read(path: Path, columns: Mapping[str, Kind]) -> "pd.DataFrame":
    if path.suffix.lower() == ".csv":
        return read_table(path, columns, dialect=_DIALECT)
    require(f"the reader of {path.suffix} files", "readers", "pandas", "pyreadstat")
    import pyreadstat

    read = pyreadstat.read_sav if path.suffix.lower() == ".sav" else pyreadstat.read_sas7bdat
    try:
        _, description = read(path, metadataonly=True)
        check_columns(path, description.column_names, columns)
        table, _ = read(path, usecols=list(columns))
    except pyreadstat.ReadstatError as error:
        raise DataError(str(path), str(error), "get the file anew") from error
    for name in (name for name, kind in columns.items() if kind is int):
        if table[name].isna().any():
            raise DataError(f"{path}: {name}", "nothing", "expected a whole number")
        table[name] = table[name].astype("int64")
    return table
