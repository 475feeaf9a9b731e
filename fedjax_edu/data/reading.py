"""Whatever holds a table, as a pandas frame: a file, a frame, or an object that turns into one."""

import csv
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedjax_edu.core.errors import ArgumentError, DataError, require

if TYPE_CHECKING:
    import pandas as pd

SEPARATORS = {".csv": ",", ".tsv": "\t", ".txt": "\t"}
PARQUET = (".parquet", ".pq")


def read_frame(table: Any, encoding: str = "utf-8") -> "pd.DataFrame":
    """A table as a frame with unique column names and rows numbered from 0.

    Args:
        table: path of a CSV, TSV (both may be compressed) or Parquet file; a pandas frame; a mapping of columns; or whatever has
            ``to_pandas()``, as a Hugging Face data set, an Arrow table and a Polars frame do.
        encoding: of a text file.

    Raises:
        ArgumentError: no file, or nothing that holds a table.
        DataError: a column twice, no row, a text file in another encoding or with broken rows.
        MissingDependencyError: pandas is missing.
    """
    require("a table", "study", "pandas")
    import pandas as pd

    if isinstance(table, (str, os.PathLike)):
        frame = _read_file(Path(table).expanduser(), encoding)
    elif isinstance(table, pd.DataFrame):
        frame = table
    elif isinstance(table, Mapping):
        frame = pd.DataFrame(dict(table))
    elif hasattr(table, "to_pandas"):
        frame = table.to_pandas()
    else:
        raise ArgumentError("table", table, "pass a path, a pandas frame, a mapping of columns, or an object with to_pandas()")
    _check_columns(frame.columns)
    if frame.empty:
        raise DataError("table", f"{len(frame.columns)} columns and no row", "pass a table with rows")
    return frame.rename(columns=str).reset_index(drop=True)


def _read_file(path: Path, encoding: str) -> "pd.DataFrame":
    import pandas as pd

    if not path.is_file():
        raise ArgumentError("table", str(path), "name a file that exists")
    kinds = [suffix for suffix in path.suffixes if suffix in (*SEPARATORS, *PARQUET)]
    if not kinds:
        raise ArgumentError("table", str(path), f"use a file that ends in one of {', '.join((*SEPARATORS, *PARQUET))}")
    if kinds[-1] in PARQUET:
        return pd.read_parquet(path)
    separator = SEPARATORS[kinds[-1]]
    try:
        header = pd.read_csv(path, sep=separator, encoding=encoding, header=None, nrows=1, dtype=str, keep_default_na=False)
        _check_columns(header.iloc[0])
        return pd.read_csv(path, sep=separator, encoding=encoding, low_memory=False)
    except UnicodeDecodeError as error:
        wrong = f"byte {error.object[error.start]:#04x}, which is no {encoding}"
        raise DataError(str(path), wrong, "say how the file is encoded, for example encoding='latin-1'") from error
    except (pd.errors.ParserError, pd.errors.EmptyDataError, csv.Error) as error:
        raise DataError(str(path), str(error), f"use one header row, and as many values separated by {separator!r} in every row") from error


def _check_columns(columns: Iterable[Any]) -> None:
    names = [str(name) for name in columns]
    if repeated := [name for name in names if names.count(name) > 1]:
        raise DataError("table", f"the column {repeated[0]!r} {names.count(repeated[0])} times", "give every column a name of its own")
