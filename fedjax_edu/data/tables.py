"""From rows of a table to a population: codes for words, masks for what is missing, rows grouped by client."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fedjax_edu.core.errors import DataError
from fedjax_edu.data.inference import as_numbers, as_words, infer_schema
from fedjax_edu.data.population import Population
from fedjax_edu.data.reading import read_frame
from fedjax_edu.data.schema import GROUP_OF, Schema

if TYPE_CHECKING:
    import pandas as pd


def from_table(
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
) -> Population:
    """What :meth:`fedjax_edu.data.Population.from_table` documents."""
    named = [name for name, kind in inputs.items() if kind in ("category", "text")] if isinstance(inputs, Mapping) else []
    binary = [name for name, kind in tasks.items() if kind == "binary"] if isinstance(tasks, Mapping) else []
    names = [name for name in (client, unit, classroom) if name is not None]
    frame = read_frame(table, encoding, [*named, *binary, *names])
    schema, left_out = infer_schema(frame, client=client, tasks=tasks, inputs=inputs, unit=unit, classroom=classroom, groups=groups)
    population = populate(frame, schema)
    if say is not None:
        say(describe(population, left_out))
    return population


def populate(frame: "pd.DataFrame", schema: Schema, *, targets: bool = True) -> Population:
    """A frame's rows as a population with a known schema, in the frame's order within a client.

    Args:
        frame: has the columns of the schema; a level that the schema does not know counts as missing.
        schema: what the columns are.
        targets: whether the frame has them; without, the population has no group ``targets``.

    Returns:
        Its ``texts`` hold the clients' names too, in the order of the ids; the leaf ``row`` numbers the frame's rows.
    """
    owner, names = _codes(frame[schema.client], f"client, column {schema.client!r}")
    order = np.argsort(owner, kind="stable")
    arrays: dict[str, dict[str, np.ndarray]] = {"numbers": {}, "categories": {}, "texts": {}, "present": {}}
    texts = {schema.client: names}
    for feature in schema.features:
        values = frame[feature.name]
        if feature.kind == "number":
            encoded, present = _single(as_numbers(values))
        elif feature.kind == "category":
            encoded = _level_codes(values, feature.levels)
            present = encoded >= 0
        else:
            encoded, texts[feature.name] = _distinct(as_words(values))
            present = encoded >= 0
        arrays[GROUP_OF[feature.kind]][feature.name] = encoded
        arrays["present"][feature.name] = present
    if targets:
        arrays["targets"] = {}
        for task in schema.tasks:
            codes = _level_codes(frame[task.name], task.levels) if task.binary else None
            numbers = as_numbers(frame[task.name]) if codes is None else np.where(codes >= 0, codes, np.nan)
            arrays["targets"][task.name], arrays["present"][task.name] = _single(numbers)
    leaves: dict[str, Any] = {
        group: {name: values[order] for name, values in columns.items()} for group, columns in arrays.items() if columns
    }
    leaves["row"] = order.astype(np.int32)
    if schema.unit is not None:
        leaves["unit"] = _codes(frame[schema.unit], f"unit, column {schema.unit!r}")[0][order]
    if schema.classroom is not None:
        leaves["classroom"] = _within(owner, _codes(frame[schema.classroom], f"classroom, column {schema.classroom!r}")[0])[order]
    offsets = np.concatenate([[0], np.cumsum(np.bincount(owner, minlength=len(names)))])
    return Population.from_arrays(leaves, offsets, schema=schema, texts=texts)


def describe(population: Population, left_out: Mapping[str, str]) -> str:
    """What was made of a table, a line a column."""
    schema = population.schema
    assert schema is not None
    present = population.arrays["present"]
    rows = [("client", schema.client, f"{population.num_clients:,} clients, {population.num_examples:,} rows")]
    for feature in schema.features:
        words = feature.levels or population.texts.get(feature.name, ())
        detail = {"number": "", "category": f"{len(words)} levels", "text": f"{len(words):,} distinct"}[feature.kind]
        rows.append(
            (feature.kind, feature.name, ", ".join(filter(None, [detail, _missing(present[feature.name]), _nearly_numbers(words)])))
        )
    for task in schema.tasks:
        meaning = f"1 is {task.levels[1]!r}" if task.levels and task.levels != ("0", "1") else ""
        rows.append((f"task, {task.kind}", task.name, ", ".join(filter(None, [meaning, _missing(present[task.name])]))))
    rows += [("left out", name, reason) for name, reason in left_out.items()]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    return "\n".join(f"{kind:<{widths[0]}}  {name:<{widths[1]}}  {detail}".rstrip() for kind, name, detail in rows)


def _nearly_numbers(words: Sequence[str]) -> str:
    """Says so where words were numbers but for a few, such as a mark for what is missing."""
    import pandas as pd

    strange = np.isnan(as_numbers(pd.Series(words, dtype="object")))
    if not 0 < strange.sum() < len(words) / 2:
        return ""
    return f"a number but for {words[int(np.argmax(strange))]!r}: leave such cells empty if they stand for nothing"


def _missing(present: np.ndarray) -> str:
    return "" if present.all() else f"{(~present).mean():.1%} missing"


def _single(numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(float32, 0 where there is none; where there is one). A number beyond float32 is none, as an infinity is."""
    with np.errstate(over="ignore"):
        single = numbers.astype(np.float32)
    present = np.isfinite(single)
    return np.where(present, single, np.float32(0)), present


def _codes(values: "pd.Series", role: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """A number for each distinct value, int32 in their order, and the values as words; nothing may be missing."""
    import pandas as pd

    codes, distinct = pd.factorize(values, sort=True)
    names = [_name(one) for one in distinct]
    nameless = np.array([*(name == "" for name in names), True])[codes]  # -1 is missing
    if (missing := values.index[nameless]).size:
        remedy = "fill them in, or drop those rows; NA, None and their like count as empty"
        raise DataError(role, f"{missing.size} rows without a value, row {missing[0]} the first", remedy)
    numbers = as_numbers(pd.Series(names, dtype="object"))
    by_size = np.isfinite(numbers).all() and not isinstance(values.dtype, pd.CategoricalDtype)
    order = np.argsort(numbers, kind="stable") if by_size else np.arange(len(names))
    place: dict[str, int] = {}
    for at in order:
        place.setdefault(names[at], len(place))  # "north" and "north " are one
    return np.array([*(place[name] for name in names), -1], np.int32)[codes], tuple(place)


def _name(value: Any) -> str:
    """Somebody's name as it is written; of whole numbers that were read as others because a cell was empty, without the .0."""
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        return str(int(value))
    return str(value).strip().removesuffix(" 00:00:00")


def _level_codes(values: "pd.Series", levels: tuple[str, ...]) -> np.ndarray:
    import pandas as pd

    codes, distinct = pd.factorize(values)  # few values are spelt out, however many rows there are
    known = {level: code for code, level in enumerate(levels)}
    table = np.array([known.get(str(word), -1) for word in as_words(pd.Series(distinct))] + [-1], np.int32)
    return table[codes]


def _distinct(words: "pd.Series") -> tuple[np.ndarray, tuple[str, ...]]:
    import pandas as pd

    codes, distinct = pd.factorize(words)
    return codes.astype(np.int32), tuple(str(word) for word in distinct)


def _within(owner: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Numbers from 0 for the distinct codes within each owner, int32."""
    pairs, inverse = np.unique(np.stack([owner, codes]), axis=1, return_inverse=True)
    first = np.searchsorted(pairs[0], pairs[0])
    return (np.arange(pairs.shape[1]) - first)[inverse.reshape(-1)].astype(np.int32)
