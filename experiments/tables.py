"""The flags that describe a user's own table."""

from typing import Any

from absl import flags

import fedjax_edu as fe

CSV = flags.DEFINE_string("csv", "", "A table of students instead of the configuration's studies: CSV, TSV or Parquet.")
_CLIENT = flags.DEFINE_string("client", "", "The column of the table with the school, or whatever owns a row.")
_TASK = flags.DEFINE_multi_string("task", [], "COLUMN:binary or COLUMN:regression, a column to predict; repeat it for more.")
_INPUT = flags.DEFINE_multi_string("input", [], "COLUMN or COLUMN:number|category|text; without it, all other columns of use.")
_UNIT = flags.DEFINE_string("unit", "", "The column that tells students apart, where a student has several rows.")
_CLASSROOM = flags.DEFINE_string("classroom", "", "The column that tells classrooms apart.")
_GROUP = flags.DEFINE_multi_string(
    "group", [], "sex:COLUMN, ethnicity:COLUMN, ses:COLUMN or grade:COLUMN, for tables of groups of students."
)
_ENCODING = flags.DEFINE_string("encoding", "utf-8", "Of the file.")


def population() -> fe.data.Population | None:
    """The population that the flags describe; None without a table.

    Raises:
        ConfigError: a flag is missing or cannot be read, or describes a table that is not given.
    """
    if not CSV.value:
        for flag in (_CLIENT, _TASK, _INPUT, _UNIT, _CLASSROOM, _GROUP):
            if flag.value:
                raise fe.errors.ConfigError(flag.name, flag.value, "name the table too: --csv=students.csv")
        return None
    if not _CLIENT.value:
        raise fe.errors.ConfigError("client", "nothing", "name the column that says to whom a row belongs: --client=school_id")
    if not _TASK.value:
        raise fe.errors.ConfigError("task", "nothing", "name a column to predict: --task=passed:binary")
    return fe.data.Population.from_table(
        CSV.value,
        client=_CLIENT.value,
        tasks=_whole(_TASK),
        inputs={name: kind or None for name, kind in _pairs(_INPUT).items()} or None,
        unit=_UNIT.value or None,
        classroom=_CLASSROOM.value or None,
        groups=_whole(_GROUP),
        encoding=_ENCODING.value,
    )


def _pairs(flag: Any) -> dict[str, str]:
    """``name:value`` by name, with an empty value where there is none."""
    return {name: value for name, _, value in (given.partition(":") for given in flag.value)}


def _whole(flag: Any) -> dict[str, str]:
    pairs = _pairs(flag)
    for name, value in pairs.items():
        if not value:
            raise fe.errors.ConfigError(flag.name, name, f"write two words with a colon between them; --{flag.name} is {flag.help}")
    return pairs
