"""The flags that describe a user's own table."""

from collections.abc import Callable, Iterable
from typing import Any

from absl import flags

import fedjax_edu as fe

KINDS = ("number", "category", "text")
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


def population(say: Callable[[str], object] = print) -> fe.data.Population | None:
    """The population that the flags describe; None without a table.

    Args:
        say: told what became of the columns.

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
        tasks=_pairs(_TASK, [given.rpartition(":") for given in _TASK.value]),
        inputs=_inputs() or None,
        unit=_UNIT.value or None,
        classroom=_CLASSROOM.value or None,
        groups=_pairs(_GROUP, [given.partition(":") for given in _GROUP.value]),
        encoding=_ENCODING.value,
        say=say,
    )


def _inputs() -> dict[str, str | None]:
    """The kind of each input, None where it is not given; names of columns may have colons."""
    parted = {given: given.rpartition(":") for given in _INPUT.value}
    return {name if kind in KINDS else given: kind if kind in KINDS else None for given, (name, _, kind) in parted.items()}


def _pairs(flag: Any, parted: Iterable[tuple[str, str, str]]) -> dict[str, str]:
    """What stands behind the colon by what stands before it."""
    pairs: dict[str, str] = {}
    for name, _, value in parted:
        if not (name and value):
            remedy = f"write two words with a colon between them; --{flag.name} is {flags.FLAGS[flag.name].help}"
            raise fe.errors.ConfigError(flag.name, name or value, remedy)
        if name in pairs:
            raise fe.errors.ConfigError(flag.name, f"{name} twice", "give it once")
        pairs[name] = value
    return pairs
