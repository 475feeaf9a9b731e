"""The population: every example of every client as flat arrays, and which client owns which rows."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Self

import jax
import numpy as np

from fedjax_edu.core.errors import ArgumentError, DataError, check_integer
from fedjax_edu.data import splits, validation
from fedjax_edu.data.loader import Loader
from fedjax_edu.data.schema import Schema
from fedjax_edu.data.summary import PopulationSummary, summarise


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Population:
    """Clients and their examples on the host: client *i* owns the rows ``offsets[i]:offsets[i + 1]`` of every leaf.

    Build it with :meth:`from_arrays` or :meth:`from_clients`, which check everything once, or with :meth:`from_loader`, which reads
    rows when they are needed; what is derived from a population (:meth:`select`, the splits) keeps ids, attributes and validity.
    The arrays are read-only.

    Attributes:
        arrays: pytree of NumPy arrays [N, ...]; a loader where rows are read when they are needed.
        offsets: int64 [clients + 1], from 0 to N.
        ids: uint32 [clients], unique; they name a client wherever it stands, and seed its randomness.
        attributes: static facts about clients, each [clients, ...].
        allow_nonfinite: leaves (dotted paths) that may hold NaN or infinities.
        schema: what the columns mean, of a population that was made from tables.
        texts: the distinct texts of each leaf that holds positions of texts, by the name of the column.
        holds: by the name of a module, what a client's part in it is multiplied by, float32 [clients]: 0 for who does not hold it; 1 for
            modules that are not named.

    >>> population = Population.from_arrays({"x": np.eye(5), "y": np.arange(5)}, offsets=[0, 2, 2, 5])
    >>> population
    Population(3 clients, 5 examples: x float32[5], y int32)
    >>> population.sizes
    array([2, 0, 3])
    >>> population.client(2)["y"]
    array([2, 3, 4], dtype=int32)
    """

    arrays: Any
    offsets: np.ndarray
    ids: np.ndarray
    attributes: dict[str, np.ndarray]
    allow_nonfinite: tuple[str, ...]
    schema: Schema | None = None
    texts: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    holds: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)

    @classmethod
    def from_arrays(
        cls,
        arrays: Any,
        offsets: Any,
        *,
        ids: Any = None,
        attributes: Mapping[str, Any] | None = None,
        allow_nonfinite: Iterable[str] = (),
        schema: Schema | None = None,
        texts: Mapping[str, Iterable[str]] | None = None,
    ) -> Self:
        """A population from flat arrays whose rows are already grouped by client.

        64-bit leaves become 32-bit ones unless x64 is enabled in JAX; a value that does not fit is an error. Arrays that have the right
        type already are not copied.

        Args:
            arrays: pytree of arrays [N, ...], numbers or booleans.
            offsets: integers [clients + 1], from 0 to N, never falling; a client may own no row.
            ids: unique integers [clients] from 0 to 2**32 - 2; None numbers the clients.
            attributes: arrays [clients, ...] by name.
            allow_nonfinite: dotted paths of leaves that may hold NaN or infinities (``"inputs.ses"``, ``"attributes.income"``).
            schema: what the columns mean; arrays are then laid out as :class:`Schema` says.
            texts: the distinct texts of columns that hold positions of texts.

        Raises:
            DataError: when arrays contradict each other or hold what no model can read; it names the leaf and the row.
        """
        named = validation.leaves_by_name(arrays)
        if not named:
            raise DataError("arrays", arrays, "pass at least one array")
        known = [*named, *(f"attributes.{key}" for key in attributes or {})]
        allowed = validation.canonical_nonfinite(allow_nonfinite, known)
        leaves = [
            validation.canonical_array(f"arrays.{name}".rstrip("."), leaf, allow_nonfinite=name in allowed) for name, leaf in named.items()
        ]
        _check_equal_lengths(named, leaves)
        starts = validation.canonical_offsets(offsets)
        if starts[-1] != len(leaves[0]):
            raise DataError("offsets", f"{starts[-1]} at the end", f"end at the number of rows of the arrays, {len(leaves[0])}")
        num_clients = len(starts) - 1
        return cls(
            arrays=jax.tree.unflatten(jax.tree.structure(arrays), leaves),
            offsets=starts,
            ids=validation.canonical_ids(ids, num_clients),
            attributes=validation.canonical_attributes(attributes, num_clients, frozenset(allowed)),
            allow_nonfinite=allowed,
            schema=schema,
            texts={name: tuple(known) for name, known in (texts or {}).items()},
        )

    @classmethod
    def from_clients(
        cls,
        clients: Sequence[Any],
        *,
        ids: Any = None,
        attributes: Mapping[str, Any] | None = None,
        allow_nonfinite: Iterable[str] = (),
    ) -> Self:
        """A population from one pytree of arrays a client, all of the same structure.

        Args:
            clients: one pytree of arrays [rows of the client, ...] for each client.
            ids: as in :meth:`from_arrays`, like the rest.
            attributes: arrays [clients, ...] by name.
            allow_nonfinite: dotted paths of leaves that may hold NaN or infinities.

        Raises:
            DataError: when clients differ in structure, dtype or shape, and whenever :meth:`from_arrays` would raise.

        >>> Population.from_clients([{"x": np.zeros((2, 3))}, {"x": np.ones((4, 3))}]).offsets
        array([0, 2, 6])
        """
        clients = list(clients)
        if not clients:
            raise DataError("clients", clients, "pass at least one client")
        structure: Any = jax.tree.structure(clients[0])
        for position, client in enumerate(clients):
            if jax.tree.structure(client) != structure:
                raise DataError(f"clients[{position}]", jax.tree.structure(client), f"use the structure of clients[0]: {structure}")
        columns = zip(*(validation.leaves_by_name(client).items() for client in clients), strict=True)
        leaves = [_concatenated(column[0][0], [validation.as_array(name, leaf) for name, leaf in column]) for column in columns]
        if not leaves:
            raise DataError("clients[0]", clients[0], "pass at least one array")
        sizes = [_client_size(position, client) for position, client in enumerate(clients)]
        offsets = np.concatenate([[0], np.cumsum(sizes)])
        arrays = jax.tree.unflatten(structure, leaves)
        return cls.from_arrays(arrays, offsets, ids=ids, attributes=attributes, allow_nonfinite=allow_nonfinite)

    @classmethod
    def from_table(
        cls,
        table: Any,
        *,
        client: str,
        tasks: Mapping[str, str],
        inputs: Iterable[str] | Mapping[str, str | None] | None = None,
        unit: str | None = None,
        classroom: str | None = None,
        groups: Mapping[str, str] | None = None,
        encoding: str = "utf-8",
        say: Callable[[str], object] | None = print,
    ) -> "Population":
        """A population from a table with a row for each example; says what it takes each column for.

        Numbers, categories and texts are kept apart, and what is missing is masked, the words NA, None, null and their like among it,
        wherever the table comes from; 1, 1.0 and 01 are one category. :class:`fedjax_edu.data.Schema` describes the
        leaves. Columns that cannot help are left out, and said so: constant ones, and identifiers, from which a model would learn by
        heart. Scales stay those of the table; :class:`fedjax_edu.data.Standardiser` changes them.

        Args:
            table: path of a CSV, TSV or Parquet file, a pandas frame, a mapping of columns, or an object with ``to_pandas()``.
            client: the column that says which client owns a row; ids number its values in their order.
            tasks: ``"binary"`` or ``"regression"`` by target column. The later of two words in the alphabet is 1.
            inputs: columns that a model may see, or ``"number"``, ``"category"``, ``"text"`` or None by column; None takes all others.
            unit: the column that tells students apart, where a student has several rows.
            classroom: the column that tells classrooms apart.
            groups: input by ``"sex"``, ``"ethnicity"``, ``"ses"`` or ``"grade"``, for tables of groups of students.
            encoding: of a text file.
            say: told what became of the columns; None for silence.

        Raises:
            ArgumentError: a column that the table lacks, an unknown kind, no input.
            DataError: a column twice, a client without a name, a target that does not vary, an identifier named as an input.
            MissingDependencyError: pandas is missing.

        >>> table = {"school": ["b", "a", "b"], "ses": [0.1, None, 0.7], "sex": ["f", "m", "f"], "passed": ["yes", "no", "no"]}
        >>> population = Population.from_table(table, client="school", tasks={"passed": "binary"})
        client        school  2 clients, 3 rows
        number        ses     33.3% missing
        category      sex     2 levels
        task, binary  passed  1 is 'yes'
        >>> population.arrays["targets"]["passed"], population.arrays["present"]["ses"]
        (array([0., 1., 0.], dtype=float32), array([False,  True,  True]))
        """
        from fedjax_edu.data.tables import from_table

        return from_table(
            table,
            client=client,
            tasks=tasks,
            inputs=inputs,
            unit=unit,
            classroom=classroom,
            groups=groups,
            encoding=encoding,
            say=say,
        )

    @classmethod
    def from_loader(
        cls, load: Callable[[np.ndarray], Any], sizes: Any, *, ids: Any = None, attributes: Mapping[str, Any] | None = None
    ) -> Self:
        """A population that is never in memory as a whole: rows are read, or made, for the clients of the next rounds.

        Args:
            load: ``int64 [k], positions of clients -> pytree of arrays [sum of their sizes, ...]``: the rows of the first, then those of
                the second, and so on. It must return the same rows whenever it is asked for a client.
            sizes: integers [clients], rows of each client.
            ids: as in :meth:`from_arrays`.
            attributes: arrays [clients, ...] by name.

        Raises:
            DataError: when `load` returns other rows than `sizes` says, at once for one client, later for those that it is asked for.

        >>> def load(clients):  # client k has two rows, made from its number
        ...     return {"x": np.repeat(clients, 2).astype(np.float32)}
        >>> Population.from_loader(load, np.full(1_000_000, 2)).client(7)["x"]
        array([7., 7.], dtype=float32)
        """
        counts = validation.as_array("sizes", sizes)
        if counts.ndim != 1 or not np.issubdtype(counts.dtype, np.integer) or counts.size == 0 or counts.min() < 0:
            raise DataError("sizes", sizes, "pass a 1-D array of integers, 0 or more, one for each client")
        return cls(
            arrays=Loader.probe(load, counts),
            offsets=validation.canonical_offsets(np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])),
            ids=validation.canonical_ids(ids, len(counts)),
            attributes=validation.canonical_attributes(attributes, len(counts), frozenset()),
            allow_nonfinite=(),
        )

    @property
    def loaded(self) -> bool:
        """Whether rows are read when they are needed, by the loader that :meth:`from_loader` was given."""
        return isinstance(self.arrays, Loader)

    @property
    def spec(self) -> Any:
        """One row: a pytree of shapes and dtypes."""
        if self.loaded:
            return self.arrays.spec
        return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), self.arrays)

    def leaves(self) -> dict[str, np.ndarray]:
        """The arrays by dotted path.

        Raises:
            ArgumentError: rows are not in memory.
        """
        if self.loaded:
            raise ArgumentError("population", self, "read it into memory first: population.read(clients)")
        return validation.leaves_by_name(self.arrays)

    def rows_of(self, clients: np.ndarray, out: Any = None) -> Any:
        """The rows of clients, one client after another: a pytree of arrays [sum of their sizes, ...].

        Args:
            clients: integers [k], positions in the population.
            out: pytree of arrays with at least as many rows, into whose first rows they are written; None makes new ones.

        >>> Population.from_arrays(np.arange(6), offsets=[0, 1, 3, 6]).rows_of(np.array([2, 0]))
        array([3, 4, 5, 0], dtype=int32)
        """
        if self.loaded:
            found = self.arrays.read(clients, self.sizes[clients])
            return found if out is None else jax.tree.map(_write, out, found)
        rows = self._rows(clients)
        if out is None:
            return self._gather(rows)
        return jax.tree.map(lambda leaf, room: leaf.take(rows, axis=0, out=room[: len(rows)], mode="clip"), self.arrays, out)

    @property
    def num_clients(self) -> int:
        """How many clients there are, those without rows included."""
        return len(self.ids)

    @property
    def num_examples(self) -> int:
        """How many rows there are."""
        return int(self.offsets[-1])

    @property
    def sizes(self) -> np.ndarray:
        """How many rows each client owns, int64 [clients]."""
        return np.diff(self.offsets)

    @property
    def row_clients(self) -> np.ndarray:
        """The position of the client that owns each row, int32 [N]."""
        return np.repeat(np.arange(self.num_clients, dtype=np.int32), self.sizes)

    def client(self, position: int) -> Any:
        """The rows of one client: the pytree with leaves [rows of the client, ...], as views.

        Args:
            position: 0 .. num_clients - 1 (a position, not an id).
        """
        if not isinstance(position, int | np.integer) or not 0 <= position < self.num_clients:
            raise ArgumentError("position", position, f"use 0 .. {self.num_clients - 1}")
        if self.loaded:
            return self.rows_of(np.array([position]))
        rows = slice(self.offsets[position], self.offsets[position + 1])
        return jax.tree.map(lambda leaf: leaf[rows], self.arrays)

    def select(self, clients: Any) -> Self:
        """The population of some of the clients, in the order asked for; ids and attributes stay theirs.

        Args:
            clients: distinct positions, or a boolean mask [clients].

        >>> population = Population.from_arrays(np.arange(6), offsets=[0, 1, 3, 6], ids=[7, 8, 9])
        >>> population.select([2, 0]).ids
        array([9, 7], dtype=uint32)
        """
        positions = self._positions(clients)
        offsets = np.concatenate([[0], np.cumsum(self.sizes[positions])])
        return dataclasses.replace(
            self,
            arrays=self.arrays.select(positions) if self.loaded else self._gather(self._rows(positions)),
            offsets=validation.read_only(offsets),
            ids=validation.read_only(self.ids[positions]),
            attributes={name: validation.read_only(value[positions]) for name, value in self.attributes.items()},
            holds={name: validation.read_only(holders[positions]) for name, holders in self.holds.items()},
        )

    def select_examples(self, rows: np.ndarray) -> Self:
        """The same clients with some of their rows; one that loses all of its own stays, and takes part in no round.

        Args:
            rows: bool [N], in the order of the arrays.

        Raises:
            ArgumentError: something else.

        >>> population = Population.from_arrays(np.arange(5.0), offsets=[0, 2, 5])
        >>> population.select_examples(population.arrays > 1).sizes.tolist()
        [0, 3]
        """
        mask = np.asarray(rows)
        if mask.dtype != bool or mask.shape != (self.num_examples,):
            found = f"{mask.dtype} of shape {mask.shape}"
            raise ArgumentError("rows", found, f"use one boolean for each of the {self.num_examples} rows")
        kept = np.concatenate([[0], np.cumsum(mask)])[self.offsets]
        return dataclasses.replace(self, arrays=self._gather(np.flatnonzero(mask)), offsets=validation.read_only(kept.astype(np.int64)))

    def holding(self, modules: Mapping[str, Any]) -> Self:
        r"""The population with other holders of some modules of a model.

        A client receives, trains and sends only what it holds: it sees zeros in the places of the rest. The mean of module j is

        .. math:: \sum_k w_k f_{kj} \Delta_{kj} \Big/ \sum_k w_k f_{kj}

        with the algorithm's weights w, a client's number of examples for instance. f may be :math:`\frac{n_{kj}}{n_k}\, q_{kj}\,
        e^{-\lambda a_{kj}}`: the examples that use the module, how good what is measured is, and how old. Lanes take up clients
        of like modules one after another, since an encoder that no lane needs takes no time.

        Args:
            modules: f, numbers [clients] from 0 on by the name of a module, as :func:`fedjax_edu.modules.assign` names them; or booleans.

        Raises:
            DataError: not one such number for each client.

        >>> population = Population.from_arrays(np.arange(6), offsets=[0, 1, 3, 6])
        >>> population.holding({"encoders.image": [True, False, True]}).select([1, 2]).holds["encoders.image"]
        array([0., 1.], dtype=float32)
        """
        held = {name: validation.canonical_holders(name, holders, self.num_clients) for name, holders in modules.items()}
        return dataclasses.replace(self, holds={**self.holds, **held})

    def read(self, clients: Any) -> Self:
        """The population of some of the clients, as :meth:`select` gives it, with its rows in memory.

        >>> population = Population.from_loader(lambda clients: {"x": np.repeat(clients, 2)}, np.full(9, 2))
        >>> population.read([4]).arrays["x"]
        array([4, 4], dtype=int32)
        """
        part = self.select(clients)
        return dataclasses.replace(part, arrays=part.rows_of(np.arange(part.num_clients))) if part.loaded else part

    def split_clients(self, fractions: Sequence[float], seed: int) -> tuple[Self, ...]:
        """Disjoint populations of whole clients, one a fraction; each client goes to exactly one side.

        Sides depend on the seed and the ids, not on the order of the clients.

        Args:
            fractions: positive numbers with sum 1; a side gets its fraction of the clients, to the nearest client.
            seed: non-negative integer.

        Raises:
            ArgumentError: when a side would stay without a client.

        >>> population = Population.from_arrays(np.arange(10), offsets=np.arange(11))
        >>> [side.num_clients for side in population.split_clients((0.7, 0.3), seed=0)]
        [7, 3]
        """
        shares = validation.check_fractions(fractions)
        side = splits.client_sides(self.ids, shares, validation.check_seed(seed))
        if np.bincount(side, minlength=len(shares)).min() == 0:
            raise ArgumentError("fractions", fractions, f"give every side at least one of the {self.num_clients} clients")
        return tuple(self.select(side == wanted) for wanted in range(len(shares)))

    def split_examples(self, fractions: Sequence[float], seed: int, *, unit: Any = None, time: Any = None) -> tuple[Self, ...]:
        """Populations of the same clients, ids and attributes, with the rows of every client divided among them.

        Each row goes to exactly one side. What each client gives a side is the nearest possible to the fraction:

        * neither ``unit`` nor ``time``: rows drawn at random inside each client.
        * ``unit``: units (students) drawn at random inside each client; the fractions count units. All rows of a unit stand on the
          same side, also when it appears at several clients: the client where it has most rows decides.
        * ``time``: inside each client every row of a side is strictly earlier than every row of the next, so rows of equal time stay
          together. The seed plays no part.
        * both: both promises hold. Rows that they tie together (a student present before and after a cut) move as one block to one
          side, so a client whose students are all present all the time is not divided at all.

        A client's random draws depend on the seed and its id only, never on the other clients.

        Args:
            fractions: positive numbers with sum 1, in order of time where ``time`` is given.
            seed: non-negative integer.
            unit: dotted path of a leaf, or an array [N], that says to whom a row belongs.
            time: dotted path of a leaf, or an array [N], that orders rows.

        Raises:
            ArgumentError: on an unknown leaf, a wrong shape, missing (NaN) units or times, or when ``time`` leaves a side without a single
                row because nothing can be cut.

        >>> population = Population.from_arrays({"student": np.array([1, 1, 2, 2, 3, 3])}, offsets=[0, 6])
        >>> train, test = population.split_examples((2 / 3, 1 / 3), seed=0, unit="student")
        >>> train.num_examples, test.num_examples, np.intersect1d(train.arrays["student"], test.arrays["student"]).size
        (4, 2, 0)
        """
        shares = validation.check_fractions(fractions)
        seed = validation.check_seed(seed)
        named = self.leaves()
        units = None if unit is None else validation.row_values("unit", unit, named, self.num_examples)
        times = None if time is None else validation.row_values("time", time, named, self.num_examples)
        if times is None:
            side = splits.random_sides(self.row_clients, self.ids, shares, seed, units)
        else:
            side = splits.timed_sides(self.row_clients, self.ids, shares, times, units)
            if (empty := np.flatnonzero(np.bincount(side, minlength=len(shares)) == 0)).size:
                remedy = "use fewer or larger fractions, or drop unit or time: what shares a time, or a unit across times, cannot be cut"
                raise ArgumentError("time", f"no row for side {empty[0]} of {len(shares)}", remedy)
        return tuple(self.select_examples(side == wanted) for wanted in range(len(shares)))

    def draw_examples(self, count: int, seed: int, *, unit: Any = None) -> tuple[Self, Self]:
        """A few rows of every client, and all others: what a newcomer to a federation may have, and what it is judged on.

        A client's random draws depend on the seed and its id only; fewer rows are among those of a larger count. One that has no more than
        `count` gives all.

        Args:
            count: rows of each client, or units.
            seed: non-negative integer.
            unit: dotted path of a leaf, or an array [N], that says to whom a row belongs (students): units are drawn and counted.

        Returns:
            The rows drawn and the others, populations of the same clients; those without a row take part in no round.

        Raises:
            ArgumentError: a negative count, an unknown leaf, a wrong shape, missing (NaN) units.

        >>> population = Population.from_arrays(np.arange(9.0), offsets=[0, 2, 9])
        >>> drawn, others = population.draw_examples(3, seed=0)
        >>> drawn.sizes.tolist(), others.sizes.tolist()
        ([2, 3], [0, 4])
        """
        count = check_integer("count", count, at_least=0)
        units = None if unit is None else validation.row_values("unit", unit, self.leaves(), self.num_examples)
        place, _ = splits.random_places(self.row_clients, self.ids, validation.check_seed(seed), units)
        return self.select_examples(place < count), self.select_examples(place >= count)

    def describe(self) -> PopulationSummary:
        """Clients, examples, quantiles of the sizes, leaves and attributes; printing it shows a small table."""
        return summarise(self.offsets, validation.leaves_by_name(self.spec), self.attributes)

    def __repr__(self) -> str:
        return self.describe().headline

    def _positions(self, clients: Any) -> np.ndarray:
        wanted = validation.as_array("clients", clients)
        if wanted.dtype == bool:
            if wanted.shape != (self.num_clients,):
                raise ArgumentError(
                    "clients", f"a mask of shape {wanted.shape}", f"use one boolean for each of the {self.num_clients} clients"
                )
            wanted = np.flatnonzero(wanted)
        if wanted.ndim != 1 or wanted.size == 0 or not np.issubdtype(wanted.dtype, np.integer):
            raise ArgumentError("clients", clients, "use a non-empty list of positions, or a boolean mask with a true entry")
        if wanted.min() < 0 or wanted.max() >= self.num_clients:
            outside = wanted[(wanted < 0) | (wanted >= self.num_clients)][0]
            raise ArgumentError("clients", f"position {outside}", f"use 0 .. {self.num_clients - 1}")
        if len(np.unique(wanted)) < len(wanted):
            raise ArgumentError("clients", clients, "name each client once")
        return wanted

    def _rows(self, clients: np.ndarray) -> np.ndarray:
        sizes = self.sizes[clients]
        before = np.cumsum(sizes) - sizes
        return np.arange(sizes.sum()) + np.repeat(self.offsets[clients] - before, sizes)

    def _gather(self, rows: np.ndarray) -> Any:
        return jax.tree.map(lambda leaf: validation.read_only(leaf[rows]), self.arrays)


def _write(room: np.ndarray, rows: np.ndarray) -> np.ndarray:
    room[: len(rows)] = rows
    return room[: len(rows)]


def _check_equal_lengths(named: Mapping[str, Any], leaves: Sequence[np.ndarray]) -> None:
    first = next(iter(named))
    for name, leaf in zip(named, leaves, strict=True):
        if len(leaf) != len(leaves[0]):
            raise DataError(f"arrays.{name}", f"{len(leaf)} rows", f"use as many rows as {first}, {len(leaves[0])}")


def _client_size(position: int, client: Any) -> int:
    lengths = {name: len(np.asarray(leaf)) for name, leaf in validation.leaves_by_name(client).items()}
    if len(set(lengths.values())) > 1:
        raise DataError(f"clients[{position}]", f"rows {lengths}", "use as many rows in every leaf")
    return next(iter(lengths.values()))


def _concatenated(name: str, parts: Sequence[np.ndarray]) -> np.ndarray:
    for position, part in enumerate(parts):
        where = f"clients[{position}].{name}".rstrip(".")
        if part.ndim == 0:
            raise DataError(where, part, "give every leaf a leading axis; wrap lists in np.asarray")
        if part.dtype != parts[0].dtype or part.shape[1:] != parts[0].shape[1:]:
            expected = f"{parts[0].dtype} of shape [rows, {', '.join(map(str, parts[0].shape[1:]))}]"
            raise DataError(where, f"{part.dtype} of shape {part.shape}", f"use {expected}, as clients[0] does")
    return np.concatenate(parts)
