"""Makes a population from a table that is in memory: rows in order, names for all codes, and what else a data set has."""

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from fedjax_edu.core.errors import DataError
from fedjax_edu.data.inference import as_words, check_digits
from fedjax_edu.data.population import Population
from fedjax_edu.data.schema import Feature, Schema, Task
from fedjax_edu.data.tables import populate

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
    """Positions of values among the distinct ones, int32 [N], -1 where missing; and the distinct ones in order, as words.

    >>> import pandas as pd
    >>> coded(pd.Series([10.0, 9.0, None, 10.0]))
    (array([ 1,  0, -1,  1], dtype=int32), ('9', '10'))
    """
    import pandas as pd

    codes, distinct = pd.factorize(values, sort=True)
    return codes.astype(np.int32), tuple(str(word) for word in as_words(pd.Series(distinct)))


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
    """The population of a table, laid out as :class:`~fedjax_edu.data.schema.Schema` says, sorted by client, unit and `order`.

    ``texts[client]`` names the clients by id, ``texts[unit]`` the units. Categories without levels get the distinct values, sorted.

    Args:
        table: a column for each feature and each task, for the client and the unit; NaN where missing.
        client: the column that owns rows; no value missing.
        features: the inputs.
        tasks: the targets.
        unit: the column that tells students apart.
        order: columns that sort the rows of a unit; what they leave equal stays as in the table.
        groups: as in the schema.
        leaves: further leaves [N, ...], in the order of the table.
        texts: names for codes in further leaves.
    """
    units, names = (np.zeros(len(table), np.int32), ()) if unit is None else coded(table[unit])
    rows = np.lexsort([*(table[name].to_numpy() for name in reversed(order)), units])
    known = tuple(
        dataclasses.replace(feature, levels=coded(table[feature.name])[1]) if feature.kind == "category" and not feature.levels else feature
        for feature in features
    )
    for name in [feature.name for feature in known if feature.kind == "number"] + [task.name for task in tasks if not task.binary]:
        check_digits(name, table[name])
    population = populate(table.iloc[rows], Schema(client, known, tuple(tasks), unit, groups=groups or {}))
    arrays = dict(population.arrays)
    rows = rows[arrays.pop("row")]
    return Population.from_arrays(
        {**arrays, **{name: leaf[rows] for name, leaf in (leaves or {}).items()}},
        population.offsets,
        schema=population.schema,
        texts={**population.texts, **({} if unit is None else {unit: names}), **(texts or {})},
    )
