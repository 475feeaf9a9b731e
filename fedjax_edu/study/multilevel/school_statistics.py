"""What a school sends for a multilevel model: sums over its own pupils of the products of its columns."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fedjax_edu.core.errors import DataError

INTERCEPT = "intercept"
NOTHING = 1e-10  # a share of a sum of squares that is rounding error


@dataclasses.dataclass(frozen=True, eq=False)
class SchoolStatistics:
    """What schools send.

    Attributes:
        columns: names of the columns, the intercept first.
        schools: [schools], distinct ids.
        rows: int64 [schools], pupils of each school.
        products: float64 [schools, columns, columns], sums over a school's pupils of the products of two columns.
    """

    columns: tuple[str, ...]
    schools: np.ndarray
    rows: np.ndarray
    products: np.ndarray

    def block(self, left: Sequence[str], right: Sequence[str]) -> np.ndarray:
        """Products of some columns with others, float64 [schools, left, right]."""
        rows, columns = ([self.columns.index(name) for name in names] for names in (left, right))
        return self.products[:, rows][:, :, columns]


def statistics(columns: Mapping[str, Any], schools: Any, weights: Any = None) -> SchoolStatistics:
    r"""The statistics of schools, each from its own rows: :math:`W_j^\top W_j`, with an intercept beside the columns.

    Args:
        columns: numbers [n] by name, targets among them. Columns far from 0 lose digits in their squares: subtract a constant first.
        schools: id of the school of each row [n]; one id, where all rows are of one school.
        weights: [n], as how many rows each row counts in the products; None counts each once.

    Returns:
        The statistics; schools stand in the order of their ids.

    Raises:
        DataError: columns of different length, or with numbers that are not finite.

    >>> sent = statistics({"score": [1.0, 2.0, 6.0]}, schools=[7, 7, 9])
    >>> sent.schools.tolist(), sent.rows.tolist(), sent.products[0].tolist()
    ([7, 9], [2, 1], [[2.0, 3.0], [3.0, 5.0]])
    """
    if not columns or INTERCEPT in columns:
        raise DataError("columns", list(columns), f"pass one column at least; {INTERCEPT!r} is added to them")
    table = table_of(columns, np.size(next(iter(columns.values()))))
    if np.ndim(schools) > 0 and np.shape(schools) != (len(table),):
        raise DataError("schools", f"ids of shape {np.shape(schools)}", f"pass one for each of the {len(table)} rows")
    weight = np.ones(len(table)) if weights is None else np.asarray(weights, np.float64)
    if weight.shape != (len(table),) or not (np.isfinite(weight) & (weight >= 0)).all():
        raise DataError("weights", weight, f"pass a finite number, 0 or more, for each of the {len(table)} rows")
    ids, owner = np.unique(np.atleast_1d(schools), return_inverse=True)
    owner = np.broadcast_to(owner, len(table))
    rows, order = np.bincount(owner, minlength=len(ids)), np.argsort(owner, kind="stable")
    own = (np.split(values[order], np.cumsum(rows)[:-1]) for values in (table, weight))
    products = [(part.T * times) @ part for part, times in zip(*own, strict=True)]
    return SchoolStatistics((INTERCEPT, *columns), ids, rows, np.stack(products))


def gather(messages: Sequence[SchoolStatistics]) -> SchoolStatistics:
    """The statistics of all schools, from messages of one school or several.

    Raises:
        DataError: messages with other columns than the first, or two from one school.

    >>> one, other = statistics({"score": [1.0, 2.0]}, schools=7), statistics({"score": [6.0]}, schools=9)
    >>> gather([one, other]).schools.tolist()
    [7, 9]
    """
    if not messages:
        raise DataError("messages", messages, "pass the statistics of one school at least")
    for position, message in enumerate(messages):
        if message.columns != messages[0].columns:
            raise DataError(f"messages[{position}]", f"columns {message.columns}", f"send those of messages[0], {messages[0].columns}")
    schools, rows, products = (np.concatenate([getattr(one, name) for one in messages]) for name in ("schools", "rows", "products"))
    ids, times = np.unique(schools, return_counts=True)
    if times.max() > 1:
        raise DataError("messages", f"school {ids[np.argmax(times)]} {times.max()} times", "pass one message of each school")
    return SchoolStatistics(messages[0].columns, schools, rows, products)


def independent(statistics: SchoolStatistics, columns: Sequence[str]) -> tuple[str, ...]:
    """Those columns, in their order, that are no linear combination of an intercept and the columns before them, over all schools.

    >>> sent = statistics({"boy": [1, 0, 1], "girl": [0, 1, 0], "age": [7, 7, 8]}, schools=["A", "A", "B"])
    >>> independent(sent, ["boy", "girl", "age"])
    ('boy', 'age')
    """
    left = statistics.block((INTERCEPT, *columns), (INTERCEPT, *columns)).sum(axis=0)
    least = NOTHING * np.diag(left)
    kept = []
    for position, name in enumerate((INTERCEPT, *columns)):
        if left[position, position] > least[position]:
            left = left - np.outer(left[position], left[position]) / left[position, position]
            kept.append(name)
    return tuple(kept[1:])


def table_of(columns: Mapping[str, Any], rows: int) -> np.ndarray:
    """An intercept and the columns side by side, float64 [rows, 1 + columns].

    Raises:
        DataError: columns of another length, or with numbers that are not finite.
    """
    table = np.ones((rows, 1 + len(columns)))
    for position, (name, column) in enumerate(columns.items(), start=1):
        values = np.asarray(column, np.float64)
        if values.shape != (rows,):
            raise DataError(f"columns.{name}", f"numbers of shape {values.shape}", f"pass one for each of the {rows} rows")
        if not np.isfinite(values).all():
            row = int(np.argmin(np.isfinite(values)))
            raise DataError(f"columns.{name}", f"{values[row]} in row {row}", "leave rows out that lack a number, or fill it in")
        table[:, position] = values
    return table
