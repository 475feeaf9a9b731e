"""Makes a population from a table that is in memory: rows in order, codes for categories and names, and what is present."""

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fedjax_edu.core.errors import DataError
from fedjax_edu.data.population import Population
from fedjax_edu.data.schema import Feature, Schema, Task

if TYPE_CHECKING:
    import pandas as pd


def kept(table: "pd.DataFrame", wanted: "pd.Series", source: str, reason: str) -> "pd.DataFrame":
    """The wanted rows of a table; a warning in the log says how many were left out, and why.

    Raises:
        DataError: none is wanted.
    """
    left_out = len(table) - int(wanted.sum())
    if left_out == len(table):
        raise DataError(source, f"{left_out} rows, all left out: {reason}", "expected rows that can be used")
    if not left_out:
        return table
    logging.getLogger("fedjax_edu").warning("%s: %d of %d rows left out: %s", source, left_out, len(table), reason)
    return table[wanted]


def coded(values: "pd.Series") -> tuple[np.ndarray, tuple[str, ...]]:
    """Positions of values among the distinct ones, int32 [N], -1 where missing; and the distinct ones in order, numbers by size.

    >>> import pandas as pd
    >>> coded(pd.Series([10.0, 9.0, None, 10.0]))
    (array([ 1,  0, -1,  1], dtype=int32), ('9', '10'))
    """
    import pandas as pd

    codes, distinct = pd.factorize(values, sort=True)
    if pd.api.types.is_float_dtype(distinct) and (distinct % 1 == 0).all():
        distinct = distinct.astype("int64")  # a column of whole numbers with gaps
    return codes.astype(np.int32), tuple(map(str, distinct))


def assemble(
    table: "pd.DataFrame",
    *,
    client: str,
    features: Sequence[Feature],
    tasks: Sequence[Task],
    unit: str | None = None,
    order: Sequence[str] = (),
    groups: Mapping[str, tuple[str, ...]] | None = None,
    leaves: Mapping[str, np.ndarray] | None = None,
    texts: Mapping[str, tuple[str, ...]] | None = None,
) -> Population:
    """The population of a table, laid out as :class:`~fedjax_edu.data.schema.Schema` says.

    The id of a client is the position of its name in ``texts[client]``, as the leaf ``unit`` is in ``texts[unit]``. Categories without
    levels get the distinct values, sorted.

    Args:
        table: a column for each feature and each task, for the client and the unit: numbers, or strings; NaN where missing.
        client: the column that owns rows; no value missing.
        features: the inputs.
        tasks: the targets.
        unit: the column that tells students apart.
        order: columns that sort the rows of a unit; what they leave equal stays as in the table.
        groups: as in the schema.
        leaves: further leaves [N, ...], in the order of the table.
        texts: names for codes in further leaves.
    """
    owner, clients = coded(table[client])
    student, students = (np.zeros(len(table), np.int32), ()) if unit is None else coded(table[unit])
    rows = np.lexsort([*(table[name].to_numpy() for name in reversed(order)), student, owner])
    columns = _Columns(table.iloc[rows])
    features = tuple(columns.add(feature) for feature in features)
    for task in tasks:
        columns.add_number("targets", task.name)
    further = {name: leaf[rows] for name, leaf in (leaves or {}).items()}
    texts = {client: clients, **columns.texts, **(texts or {})}
    if unit is not None:
        further["unit"], texts[unit] = student[rows], students
    return Population.from_arrays(
        {**columns.groups, **further},
        np.searchsorted(owner[rows], np.arange(len(clients) + 1)),
        schema=Schema(client, features, tuple(tasks), unit, groups or {}),
        texts=texts,
    )


class _Columns:
    """The five groups of leaves, filled a column at a time."""

    def __init__(self, table: "pd.DataFrame"):
        self.table = table
        self.groups: dict[str, dict[str, np.ndarray]] = {"numbers": {}, "categories": {}, "texts": {}, "targets": {}, "present": {}}
        self.texts: dict[str, tuple[str, ...]] = {}

    def add(self, feature: Feature) -> Feature:
        """Adds an input; returns it with its levels."""
        if feature.kind == "number":
            self.add_number("numbers", feature.name)
            return feature
        if feature.kind == "text":
            self.texts[feature.name] = self._add_codes("texts", feature.name, ())
            return feature
        return dataclasses.replace(feature, levels=self._add_codes("categories", feature.name, feature.levels))

    def add_number(self, group: str, name: str) -> None:
        """Adds an input or a target that is a number."""
        values = self.table[name].to_numpy(np.float64)
        self.groups["present"][name] = ~np.isnan(values)
        self.groups[group][name] = np.nan_to_num(values, nan=0.0, posinf=np.inf, neginf=-np.inf).astype(np.float32)

    def _add_codes(self, group: str, name: str, levels: tuple[str, ...]) -> tuple[str, ...]:
        if levels:
            codes: Any = self.table[name].map({level: code for code, level in enumerate(levels)}).fillna(-1).to_numpy(np.int32)
        else:
            codes, levels = coded(self.table[name])
        self.groups[group][name] = codes
        self.groups["present"][name] = codes >= 0
        return levels
