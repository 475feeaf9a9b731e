"""Whatever holds a table, as a pandas frame: a file, a frame, or an object that turns into one."""

import codecs
import csv
import lzma
import os
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedjax_edu.core.errors import ArgumentError, DataError, require

if TYPE_CHECKING:
    import pandas as pd

SEPARATORS = {".csv": ",", ".tsv": "\t", ".txt": "\t"}
PARQUET = (".parquet", ".pq")
UNPACKING = (zlib.error, lzma.LZMAError, tarfile.TarError, zipfile.BadZipFile)  # what goes wrong with compressed files
MISSING = frozenset(
    ["", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>"]
    + ["N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null"]
)  # words that stand for no value, those of pandas.read_csv, wherever a table comes from


def read_frame(table: Any, encoding: str = "utf-8", words: Collection[str] = ()) -> "pd.DataFrame":
    """A table as a frame with unique column names and rows numbered from 0; words such as NA and None are missing, as empty cells are.

    Args:
        table: path of a CSV, TSV (both may be compressed) or Parquet file; a pandas frame; a mapping of columns; or whatever has
            ``to_pandas()``, as a Hugging Face data set, an Arrow table and a Polars frame do.
        encoding: of a text file.
        words: columns of a text file whose cells are kept as they are written, even where all are numbers.

    Raises:
        ArgumentError: no file, an unknown encoding, or nothing that holds a table.
        DataError: a column twice, no row, columns of different lengths, a text file in another encoding or with broken rows.
        MissingDependencyError: pandas is missing.
    """
    require("a table", "study", "pandas")
    import pandas as pd

    if isinstance(table, (str, os.PathLike)):
        frame = _read_file(Path(table).expanduser(), encoding, words)
    elif isinstance(table, pd.DataFrame):
        frame = table
    elif isinstance(table, Mapping):
        frame = _read_columns(table)
    elif hasattr(table, "to_pandas"):
        frame = table.to_pandas()
    else:
        frame = None
    if not isinstance(frame, pd.DataFrame):
        raise ArgumentError("table", table, "pass a path, a pandas frame, a mapping of columns, or an object with to_pandas()")
    if frame.columns.nlevels > 1:
        raise DataError("table", f"column names of {frame.columns.nlevels} levels", "give every column one name")
    _check_columns(frame.columns)
    if frame.empty:
        raise DataError("table", f"{len(frame.columns)} columns and no row", "pass a table with rows")
    return _without_blanks(frame.rename(columns=str).reset_index(drop=True))


def _read_columns(table: Mapping[Any, Any]) -> "pd.DataFrame":
    import pandas as pd

    try:
        return pd.DataFrame({name: values.array if isinstance(values, pd.Series) else values for name, values in table.items()})
    except (TypeError, ValueError) as error:
        raise DataError("table", str(error), "pass a mapping of columns, each with one value a row") from error


def _without_blanks(frame: "pd.DataFrame") -> "pd.DataFrame":
    """The frame with cells missing that hold white space, or a word for no value, alone."""
    import pandas as pd

    return pd.DataFrame({name: _known(frame[name]) for name in frame})


def _known(values: "pd.Series") -> "pd.Series":
    import pandas as pd

    if isinstance(values.dtype, pd.ArrowDtype) and not pd.api.types.is_string_dtype(values) and values.dtype.kind == "O":
        values = values.astype(object)  # dictionaries, decimals, dates
    if pd.api.types.is_object_dtype(values) and pd.api.types.infer_dtype(values, skipna=True) == "date":
        return pd.to_datetime(values)
    if isinstance(values.dtype, pd.CategoricalDtype):
        return values.cat.remove_categories([level for level in values.cat.categories if _says_nothing(level)])
    if not (pd.api.types.is_object_dtype(values) or pd.api.types.is_string_dtype(values)):
        return values
    return values.mask(values.map(_says_nothing).astype(bool))


def _says_nothing(cell: Any) -> bool:
    return isinstance(cell, str) and cell.strip() in MISSING


def _read_file(path: Path, encoding: str, words: Collection[str]) -> "pd.DataFrame":
    try:
        found = path.is_file()
    except (OSError, ValueError) as error:
        raise ArgumentError("table", str(path), f"name a file that exists ({error})") from error
    if not found:
        raise ArgumentError("table", str(path), "name a file that exists")
    kinds = [suffix.lower() for suffix in path.suffixes if suffix.lower() in (*SEPARATORS, *PARQUET)]
    if not kinds:
        raise ArgumentError("table", str(path), f"use a file that ends in one of {', '.join((*SEPARATORS, *PARQUET))}")
    if kinds[-1] in PARQUET:
        return _read_parquet(path)
    try:
        codecs.lookup(encoding)
    except (LookupError, TypeError, ValueError) as error:
        raise ArgumentError("encoding", encoding, "use one that Python knows, for example 'latin-1'") from error
    return _read_text(path, encoding, SEPARATORS[kinds[-1]], words)


def _read_text(path: Path, encoding: str, separator: str, words: Collection[str]) -> "pd.DataFrame":
    import pandas as pd

    try:
        # two rows, since pandas would take the surplus of a longer second one for a name of the row, and move all columns
        head = pd.read_csv(path, sep=separator, encoding=encoding, header=None, nrows=2, dtype=str, keep_default_na=False)
        _check_columns(head.iloc[0])
        kept: Any = {name: str for name in head.iloc[0] if name in words}
        return pd.read_csv(
            path, sep=separator, encoding=encoding, low_memory=False, keep_default_na=False, na_values=sorted(MISSING), dtype=kept
        )
    except UnicodeDecodeError as error:
        wrong = f"byte {error.object[error.start]:#04x}, which is no {encoding}"
        raise DataError(str(path), wrong, "say how the file is encoded, for example encoding='latin-1'") from error
    except UnicodeError as error:
        raise ArgumentError("encoding", encoding, f"use one for whole files, for example 'latin-1' ({error})") from error
    except (pd.errors.ParserError, pd.errors.EmptyDataError, csv.Error) as error:
        raise DataError(str(path), str(error), f"use one header row, and as many values separated by {separator!r} in every row") from error
    except DataError:
        raise
    except (OSError, EOFError, ImportError, LookupError, ValueError, *UNPACKING) as error:
        raise DataError(str(path), str(error), "pass a file that can be unpacked and read") from error


def _read_parquet(path: Path) -> "pd.DataFrame":
    import pandas as pd

    require("a Parquet file", "study", "pyarrow")
    import pyarrow as pa

    try:
        return pd.read_parquet(path)
    except (OSError, pa.ArrowException) as error:
        raise DataError(str(path), str(error), "pass a Parquet file that can be read") from error


def _check_columns(columns: Iterable[Any]) -> None:
    (name, times), *_ = [*Counter(map(str, columns)).most_common(1), ("", 0)]
    if times > 1:
        raise DataError("table", f"the column {name!r} {times} times", "give every column a name of its own")
