"""Reads one table of a public data set and checks it: the file, its columns, its rows and its values. Errors say what was expected."""

import csv
import dataclasses
import difflib
import os
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn

import numpy as np

from fedjax_edu.core.errors import ArgumentError, DataError, require

if TYPE_CHECKING:
    import pandas as pd

# What a column holds: whole numbers, none missing; numbers, NaN where missing; texts, NaN where missing; or one of these texts.
Kind = type[int] | type[float] | type[str] | tuple[str, ...]

_ENCODINGS = {"utf-8-sig": "strict", "cp1252": "replace"}  # and what to do with bytes that they do not know; the last reads anything


@dataclasses.dataclass(frozen=True)
class Dialect:
    """How a file writes a table.

    Attributes:
        separator: between fields.
        quoted: whether quotes protect separators and line ends; otherwise they are characters like any other.
        missing: what stands for a missing value.
    """

    separator: str = ","
    quoted: bool = True
    missing: tuple[str, ...] = ("", "NA")

    @property
    def quoting(self) -> Literal[0, 3]:
        """The same for the module csv, whose numbers pandas shares."""
        return csv.QUOTE_MINIMAL if self.quoted else csv.QUOTE_NONE


COMMAS = Dialect()


def located(place: str | os.PathLike[str], name: str) -> Path:
    """The file of a data set: the place itself, or what has the public name in it where the place is a folder.

    >>> located("logs/mine.csv", "skill_builder_data.csv").as_posix()
    'logs/mine.csv'
    """
    path = _path(place)
    return path / name if path.is_dir() else path


def folder_of(place: str | os.PathLike[str], content: str) -> Path:
    """The folder of a data set.

    Args:
        place: as the caller named it, ``~`` allowed.
        content: what should lie there, for the error.

    Raises:
        ArgumentError: there is no such folder.
    """
    path = _path(place)
    if not path.is_dir():
        raise ArgumentError("folder", str(path), f"name an existing folder with {content}")
    return path


def read_table(
    path: Path, columns: Mapping[str, Kind], *, optional: Mapping[str, Kind] | None = None, dialect: Dialect = COMMAS
) -> "pd.DataFrame":
    """Columns of a text file, as float64, int64 or strings, with a row for each of its rows.

    UTF-8, with or without a byte order mark, is tried before Windows-1252, which contains Latin-1.

    Args:
        path: of the file; its first line names the columns, in any order.
        columns: what is needed, and what each column holds.
        optional: what is read too where the file has it.
        dialect: how the file is written.

    Raises:
        DataError: no file, no such column, a row with too few or too many fields, or a value of another kind; it names the file, the line,
            the column and what was expected.
        MissingDependencyError: pandas is not installed.
    """
    require("a reader", "readers", "pandas")
    if not path.is_file():
        raise DataError(str(path), "no such file", f"expected a table with the columns {', '.join(columns)}")
    file = _File(path, dialect)
    header = file.check()
    check_columns(path, header, columns)
    kinds = {**columns, **{name: kind for name, kind in (optional or {}).items() if name in header}}
    table = _typed(file, kinds)
    if not len(table):
        raise DataError(str(path), "no row", f"expected rows under the header {', '.join(columns)}")
    return table


def check_columns(path: Path, found: Collection[str], expected: Collection[str]) -> None:
    """Makes sure that a file has the columns that are needed.

    Raises:
        DataError: the first that is missing, with the nearest that is there, and all that were expected.
    """
    for name in expected:
        if name not in found:
            near = difflib.get_close_matches(name, list(found), n=1, cutoff=0.5)
            nearest = f", the nearest is {near[0]!r}" if near else ""
            raise DataError(str(path), f"no column {name!r}{nearest}", f"expected the columns {', '.join(expected)}")


@dataclasses.dataclass
class _File:
    path: Path
    dialect: Dialect
    encoding: str = "utf-8-sig"

    def check(self) -> list[str]:
        """The header, once every row has been seen to have as many fields, in the first encoding that reads the whole file."""
        try:
            return self._checked_header()
        except UnicodeDecodeError:
            self.encoding = "cp1252"
            return self._checked_header()

    def rows(self) -> Iterator[tuple[int, list[str]]]:
        """(line where it ends, fields) of every row, the header included and empty lines not."""
        with open(self.path, encoding=self.encoding, errors=_ENCODINGS[self.encoding], newline="") as lines:
            reader = csv.reader(lines, delimiter=self.dialect.separator, quoting=self.dialect.quoting)
            try:
                yield from ((reader.line_num, row) for row in reader if row)
            except csv.Error as error:
                raise DataError(f"{self.path}:{reader.line_num}", str(error), "expected every quote to be closed") from error

    def texts(self, name: str) -> "pd.Series":
        """A column as it is written, NaN where missing."""
        return self.frame({name: "str"})[name]

    def frame(self, dtypes: Mapping[str, str]) -> "pd.DataFrame":
        """Columns read by pandas, with the types asked for.

        Raises:
            ValueError: a value that is not of its type.
        """
        import pandas as pd

        return pd.read_csv(
            self.path,
            sep=self.dialect.separator,
            quoting=self.dialect.quoting,
            encoding=self.encoding,
            encoding_errors=_ENCODINGS[self.encoding],
            usecols=list(dtypes),
            dtype=dict(dtypes),
            index_col=False,
            keep_default_na=False,
            na_values=list(self.dialect.missing),
        )

    def refuse(self, row: int, column: str, value: Any, expected: str) -> NoReturn:
        """Raises the error about one value of a row, counted from 0 under the header."""
        line = next(line for number, (line, _) in enumerate(self.rows()) if number == row + 1)
        raise DataError(f"{self.path}:{line}: {column}", value, expected)

    def _checked_header(self) -> list[str]:
        rows = self.rows()
        _, header = next(rows, (1, []))
        for line, row in rows:
            if len(row) != len(header):
                names = ", ".join(header)
                raise DataError(f"{self.path}:{line}", f"{len(row)} fields", f"expected {len(header)}, as in the header {names}")
        return header


def _typed(file: _File, kinds: Mapping[str, Kind]) -> "pd.DataFrame":
    import pandas as pd

    try:
        table = file.frame({name: "float64" if kind in (int, float) else "str" for name, kind in kinds.items()})
    except pd.errors.ParserError as error:
        raise DataError(str(file.path), str(error), "expected every quote to be closed") from error
    except ValueError:
        _refuse_first_word(file, [name for name, kind in kinds.items() if kind in (int, float)])
        raise
    for name, kind in kinds.items():
        if kind is int:
            table[name] = _whole(file, name, table[name].to_numpy())
        elif isinstance(kind, tuple):
            _check_levels(file, table[name], kind)
    return table


def _refuse_first_word(file: _File, numbers: Collection[str]) -> None:
    import pandas as pd

    for name in numbers:
        texts = file.texts(name)
        bad = np.flatnonzero(pd.to_numeric(texts, errors="coerce").isna() & texts.notna())
        if bad.size:
            file.refuse(int(bad[0]), name, texts.iloc[bad[0]], "expected a number")


def _whole(file: _File, name: str, values: np.ndarray) -> np.ndarray:
    bad = np.flatnonzero(~np.isfinite(values) | (np.floor(values) != values))
    if bad.size:
        written = file.texts(name).iloc[bad[0]]
        file.refuse(int(bad[0]), name, written if isinstance(written, str) else "nothing", "expected a whole number")
    return values.astype(np.int64)


def _check_levels(file: _File, values: "pd.Series", levels: tuple[str, ...]) -> None:
    bad = np.flatnonzero(values.notna() & ~values.isin(levels))
    if bad.size:
        file.refuse(int(bad[0]), str(values.name), values.iloc[bad[0]], f"expected one of {', '.join(levels)}")


def _path(place: str | os.PathLike[str]) -> Path:
    if not isinstance(place, str | os.PathLike):
        raise ArgumentError("folder", place, "pass the path of a folder, or of a file")
    return Path(place).expanduser()
