"""A model away from its federation: parameters, schema and scales, and predictions for rows of anybody's."""

import dataclasses
import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from jax.sharding import Mesh

from fedjax_edu.core.errors import ArgumentError, DataError, require
from fedjax_edu.core.trees import Tree, named_leaves
from fedjax_edu.data import Population, Schema
from fedjax_edu.data.matching import Unseen, match_frame, match_population
from fedjax_edu.data.reading import read_frame
from fedjax_edu.engine import evaluation, tiles
from fedjax_edu.engine.engine import TILES_AT_ONCE
from fedjax_edu.engine.plan import AXIS
from fedjax_edu.study.networks import Network

if TYPE_CHECKING:
    import pandas as pd

FEW = 5  # unseen levels that are named


@dataclasses.dataclass(frozen=True, eq=False)
class ExportedModel:
    """What is left of a federation when its clients have gone.

    Attributes:
        params: nested dicts of arrays.
        network: what they are parameters of; None where they alone were exported, which predict nothing.

    Raises:
        DataError: parameters that are not the network's.
    """

    params: Tree
    network: Network | None = None

    def __post_init__(self) -> None:
        if self.network is not None:
            check_tensors("model", specs(self.params), specs(self.network.params))

    def __repr__(self) -> str:
        numbers = sum(leaf.size for _, leaf in named_leaves(self.params))
        if self.network is None:
            return f"ExportedModel(parameters alone: {numbers:,} numbers)"
        tasks = ", ".join(task.name for task in self.network.encoding.schema.tasks)
        return f"ExportedModel({numbers:,} numbers; reads {', '.join(feature.name for feature in self.network.features)}; predicts {tasks})"

    @property
    def schema(self) -> Schema | None:
        """Of the table that it was trained on."""
        return None if self.network is None else self.network.encoding.schema

    def predict(self, table: Any, *, encoding: str = "utf-8", say: Callable[[str], object] | None = print) -> "pd.DataFrame":
        """Predictions for the rows of a table or a population, whoever their clients are.

        Targets need not be there, other columns are ignored, and missing inputs are what they were in training: absent. Equal rows have
        bitwise equal predictions, whatever stands beside them in the table; of a network with experts, equal up to rounding.

        Args:
            table: whatever :meth:`fedjax_edu.data.Population.from_table` reads, or a population that was made from tables.
            encoding: of a text file.
            say: told which levels the model has not seen, once; None for silence.

        Returns:
            A row for each row: ``row``, its number in the table from 0; ``client``, as in the table, missing where that has no such
            column; a regression task's prediction in the unit of the table under the task's name; a binary task's more probable level
            under its name, and under ``"<task> probability"`` the probability of its second level. A name that is taken already has
            ``prediction`` behind it. Tasks of another study than the row's
            are missing.

        Raises:
            ArgumentError: parameters alone were exported; nothing that holds a table.
            DataError: an input that is not there, or of another kind; the message has all of them.
            MissingDependencyError: pandas is missing.

        Reproducible bit by bit on the same machine with the same versions.
        """
        network = self._network()
        schema = network.encoding.schema
        require("a table of predictions", "study", "pandas")
        if isinstance(table, Population):
            population, unseen = match_population(table, schema, network.features)
            row, client = table.arrays.get("row", np.arange(table.num_examples)), _names(table)
        else:
            words = [feature.name for feature in network.features if feature.kind != "number"]
            frame = read_frame(table, encoding, [*words, schema.client])
            population, unseen = match_frame(frame, schema, network.features)
            row, client = np.arange(len(frame)), frame.get(schema.client)
        if unseen and say is not None:
            say(_described(unseen))
        return _frame(schema, row, client, network.encoding.decode(self.outputs(population)), _inside(population, schema))

    def outputs(self, population: Population) -> np.ndarray:
        """Standardised scores and log-odds, float32 [rows, tasks].

        A pass over the rows as :meth:`fedjax_edu.Engine.predict` makes it, in tiles of one size whoever owns the rows: what surrounds a
        row, and how many rows there are, changes no bit of its outputs, unless experts queue it elsewhere.

        Args:
            population: rows of a table with the network's schema.

        Raises:
            ArgumentError: parameters alone were exported.
        """
        network = self._network()
        rows = Population.from_arrays(network.leaves(population), [0, population.num_examples])
        device = jax.local_devices()[0]
        mesh = Mesh(np.array([device]), (AXIS,))
        cut = tiles.cut(rows, rows.ids, TILES_AT_ONCE, mesh, tiles.TILE)
        params, arrays = jax.device_put((self.params, rows.arrays), device)
        models = tiles.Models(_themselves, mesh)
        return evaluation.in_row_order(evaluation.predictions(models, network.predict, params, {}, arrays, cut), cut)

    def _network(self) -> Network:
        if self.network is None:
            raise ArgumentError("model", "parameters alone", "export it with its network, which says what they read and predict")
        return self.network


Specs = dict[str, tuple[tuple[int, ...], str]]  # tensor -> shape and dtype


def specs(tree: Tree) -> Specs:
    """Shapes and dtypes of arrays by dotted path."""
    return {name: (tuple(np.shape(leaf)), str(np.dtype(leaf.dtype))) for name, leaf in named_leaves(tree)}


def check_tensors(where: str, found: Specs, expected: Specs) -> None:
    """Refuses tensors that are not those expected.

    Raises:
        DataError: naming the first that is missing, too many, or of another shape or dtype.

    >>> check_tensors("model.safetensors", {"w": ((3,), "float32")}, {"w": ((2,), "float32")})
    Traceback (most recent call last):
    ...
    fedjax_edu.core.errors.DataError: model.safetensors, w: got float32[3]; it should be float32[2]: export the model again
    """
    for name in sorted(found.keys() | expected.keys()):
        if found.get(name) != expected.get(name):
            wanted = f"it should be {_spelt(expected[name])}" if name in expected else "there should be no such tensor"
            raise DataError(f"{where}, {name}", _spelt(found[name]) if name in found else "nothing", f"{wanted}: export the model again")


def _spelt(spec: tuple[tuple[int, ...], str]) -> str:
    shape, dtype = spec
    return f"{dtype}{list(shape)}"


def _themselves(server: Tree, client: Tree | None) -> Tree:
    """The parameters as they are: nobody has modules of its own any more."""
    return server


def _names(population: Population) -> np.ndarray:
    """The client of each row: its name where the population came from a table, else its id."""
    owner = population.ids[population.row_clients]
    names = population.texts.get(population.schema.client if population.schema else "")
    return owner if names is None else np.array(names, dtype=object)[owner]


def _inside(population: Population, schema: Schema) -> np.ndarray:
    """Whether a row is of the study of a task, bool [rows, tasks]."""
    own = [schema.studies.index(task.study) for task in schema.tasks]
    study = population.attributes.get("study", np.zeros(population.num_clients, np.int32))
    return study[population.row_clients][:, None] == np.array(own)


def _frame(schema: Schema, row: np.ndarray, client: Any, decoded: np.ndarray, inside: np.ndarray) -> "pd.DataFrame":
    import pandas as pd

    client = np.full(len(row), None) if client is None else client
    columns = [("row", pd.Series(row, dtype=np.int64)), ("client", pd.Series(client))]
    for position, task in enumerate(schema.tasks):
        values = pd.Series(decoded[:, position]).where(inside[:, position])
        if task.binary:
            levels = np.array(task.levels or (0, 1), dtype=object)
            said = inside[:, position] & np.isfinite(decoded[:, position])
            columns.append((task.name, pd.Series(levels[(decoded[:, position] >= 0.5).astype(int)]).where(said)))
            columns.append((f"{task.name} probability", values))
        else:
            columns.append((task.name, values))
    frame = pd.concat([values for _, values in columns], axis=1)
    return frame.set_axis(_apart([name for name, _ in columns]), axis=1)


def _apart(names: list[str]) -> list[str]:
    """Names of which none occurs twice.

    >>> _apart(["row", "client", "client"])
    ['row', 'client', 'client prediction']
    """
    found: list[str] = []
    for name in names:
        while name in found:
            name += " prediction"
        found.append(name)
    return found


def _described(unseen: Unseen) -> str:
    columns = [
        f"{name} ({', '.join(map(repr, itertools.islice(levels, FEW)))}{', ...' if len(levels) > FEW else ''})"
        for name, levels in unseen.items()
    ]
    return f"levels that the model has not seen count as missing: {', '.join(columns)}"
