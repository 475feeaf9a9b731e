"""What the columns of somebody's table are: numbers, categories or texts; and which of them no model should see."""

import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np

from fedjax_edu.core.errors import ArgumentError, DataError
from fedjax_edu.data.schema import GROUP_OF, GROUPS, Feature, Schema, Task

if TYPE_CHECKING:
    import pandas as pd

MOST_LEVELS = 64  # a column of words with more distinct values is a text
FEW_ROWS = 20  # below that, distinct values say nothing
_LOST = 0.01  # share of a column's deviation by which a number may be rounded
_SPELT_OTHERWISE = r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,2})?|true|TRUE|false|FALSE"
NESTED = "has lists, or other cells that are no single number or word"
_NAMES_SOMEBODY = re.compile(
    r"(^|[_\W])(id|ids|uuid|guid)([_\W]|$)|(^|[_\W])(key|nr|no)$|^index$|(?-i:[a-z](I[dD]|Nr|No)$)|^unnamed: ", re.IGNORECASE
)
FEW_LEVELS = 4  # as many words as clients, one each, may be chance


def infer_schema(
    frame: "pd.DataFrame",
    *,
    client: str,
    tasks: Mapping[str, str],
    inputs: Iterable[str] | Mapping[str, str | None] | None = None,
    unit: str | None = None,
    classroom: str | None = None,
    groups: Mapping[str, str] | None = None,
) -> tuple[Schema, dict[str, str]]:
    """The schema of a table.

    Args:
        frame: the table.
        client: the column that says which client owns a row.
        tasks: kind by target column.
        inputs: columns, or the kind of each; None takes all that are nothing else and seem to be of use.
        unit: the column that tells students apart.
        classroom: the column that tells classrooms within a client apart.
        groups: feature by ``sex``, ``ethnicity``, ``ses`` or ``grade``.

    Returns:
        The schema, and why each column that was not asked for by name is left out.

    Raises:
        ArgumentError: a column that the table lacks or that is used twice, an unknown kind, no task, no input, a group that is no input.
        DataError: a target or a named input that nothing can be learnt from.
    """
    kinds = dict(inputs) if isinstance(inputs, Mapping) else dict.fromkeys(inputs or ())
    if not tasks or not isinstance(tasks, Mapping):
        raise ArgumentError("tasks", tasks, "name at least one column to predict, with its kind: {'passed': 'binary'}")
    optional = {role: [name] for role, name in (("unit", unit), ("classroom", classroom)) if name is not None}
    roles: dict[str, Iterable[str]] = {"client": [client], **optional, "tasks": tasks, "inputs": kinds}
    _check_roles(roles, frame)
    taken = {name for role, names in roles.items() if role != "inputs" for name in names}
    if unknown := set(groups or {}) - set(GROUPS):
        raise ArgumentError("groups", sorted(unknown)[0], f"use {', '.join(GROUPS)}")
    wanted = kinds or dict.fromkeys(name for name in frame.columns if name not in taken)
    features, left_out = [], {}
    for name, kind in wanted.items():
        reason = None if kind else _useless(name, frame[name]) or _names_clients(frame[name], frame[client])
        if reason and inputs is not None:
            raise DataError(f"inputs.{name}", reason, f"leave it out, or give its kind to use it all the same: {{{name!r}: 'category'}}")
        if reason:
            left_out[name] = reason
        else:
            features.append(_feature(name, frame[name], kind))
    if not features:
        raise ArgumentError("inputs", f"no column of use ({left_out})", "pass a table with inputs beside the client and the targets")
    usable = {feature.name for feature in features if feature.kind != "text"}
    for group, name in (groups or {}).items():
        if name not in usable:
            raise ArgumentError(f"groups.{group}", name, f"use a number or a category among the inputs: {', '.join(sorted(usable))}")
    schema = Schema(
        client=client,
        features=tuple(features),
        tasks=tuple(_task(name, frame[name], kind) for name, kind in tasks.items()),
        unit=unit,
        classroom=classroom,
        groups={group: (name,) for group, name in (groups or {}).items()},
    )
    return schema, left_out


def as_numbers(values: "pd.Series") -> np.ndarray:
    """The values of a column as float64, NaN where missing; moments are days since 1970."""
    import pandas as pd

    if pd.api.types.is_datetime64_any_dtype(values):
        moments = values.dt.tz_localize(None) if values.dt.tz is not None else values
        return (moments.astype("datetime64[us]").to_numpy() - np.datetime64(0, "us")) / np.timedelta64(1, "D")
    if pd.api.types.is_timedelta64_dtype(values):
        return (values / pd.Timedelta(days=1)).to_numpy(np.float64)
    try:
        return pd.to_numeric(values, errors="coerce").to_numpy(np.float64, na_value=np.nan)
    except OverflowError:
        return np.array([_number(cell) for cell in values], np.float64)


def _number(cell: Any) -> float:
    try:
        return float(cell)
    except OverflowError:
        return np.inf
    except (TypeError, ValueError):
        return np.nan


def as_words(values: "pd.Series") -> "pd.Series":
    """The values of a column as stripped strings, missing where empty.

    A cell's word is its own, whatever its column was read as because of others: "1", "1.0", "01" and "1e0" are 1, "true" is True, and
    midnight has no time.
    """
    import pandas as pd

    if pd.api.types.is_datetime64_any_dtype(values) or pd.api.types.is_timedelta64_dtype(values):
        values = values.astype(object).map(str, na_action="ignore")  # all together they would be written alike
    words = values.astype("string").str.strip().str.removesuffix(" 00:00:00")
    if pd.api.types.is_integer_dtype(values):
        return words
    found = words.str.fullmatch(_SPELT_OTHERWISE).fillna(False)
    spelt = {word: _spelt(word) for word in words[found].unique()}
    return words.mask(found, words[found].map(spelt)).mask(words == "")


def _spelt(word: str) -> str:
    if word[-1] in "eE":
        return word.capitalize()
    whole, _, fraction = format(Decimal(word), "f").lstrip("-").partition(".")
    size = ".".join(filter(None, [whole.lstrip("0") or "0", fraction.rstrip("0")]))
    return f"-{size}" if word[0] == "-" and size != "0" else size


def truths(values: "pd.Series") -> bool:
    """Whether a column holds True and False, and nothing else where there is something."""
    import pandas as pd

    if pd.api.types.is_bool_dtype(values):
        return True
    return pd.api.types.is_object_dtype(values) and pd.api.types.infer_dtype(values, skipna=True) == "boolean"


def nested(values: "pd.Series") -> bool:
    """Whether cells of a column are lists or other things that are no single number or word."""
    import pandas as pd

    if not (pd.api.types.is_object_dtype(values) or isinstance(values.dtype, pd.ArrowDtype)):
        return pd.api.types.is_complex_dtype(values)
    return not values.dropna().map(pd.api.types.is_scalar).all()


def loses_digits(numbers: np.ndarray) -> bool:
    """Whether numbers of a column lie so close together, for their size, that float32 would move them by a share of their spread."""
    known = numbers[np.isfinite(numbers)]
    with np.errstate(over="ignore"):
        moved = np.abs(known.astype(np.float32) - known).max(initial=0.0)
    return bool(moved > _LOST * known.std()) if known.size and np.ptp(known) else False


def check_digits(name: str, values: "pd.Series") -> None:
    """Refuses numbers that float32 cannot tell apart.

    Raises:
        DataError: with the range of the numbers.
    """
    numbers = as_numbers(values)
    if loses_digits(numbers):
        low, high = np.nanmin(numbers), np.nanmax(numbers)
        raise DataError(name, f"numbers from {low} to {high}", "subtract a constant or divide by one first: float32 keeps seven digits")


def _check_roles(roles: Mapping[str, Iterable[str]], frame: "pd.DataFrame") -> None:
    """Every column is there, is used once, and has single values."""
    used: set[str] = set()
    for role, names in roles.items():
        for name in names:
            if name not in frame.columns:
                raise ArgumentError(role, name, f"use a column of the table: {', '.join(map(repr, frame.columns))}")
            if name in used:
                raise ArgumentError(role, name, "use a column once: as client, unit, classroom, task or input")
            if nested(frame[name]):
                raise DataError(f"{role}, column {name!r}", NESTED, "give it one number or word a row")
            used.add(name)


def _feature(name: str, values: "pd.Series", kind: str | None) -> Feature:
    kind = _kind(values) if kind is None else kind
    if kind not in GROUP_OF:
        raise ArgumentError(f"inputs.{name}", kind, f"use one of {', '.join(GROUP_OF)}")
    if kind == "number" and (strange := values[values.notna() & np.isnan(as_numbers(values))]).size:
        raise DataError(
            f"inputs.{name}",
            f"{strange.iloc[0]!r} in row {strange.index[0]}",
            "leave the cell empty where nothing is known, or call it a category or a text",
        )
    if kind == "number":
        check_digits(f"inputs.{name}", values)
    return Feature(name, kind, levels=_levels(values) if kind == "category" else ())  # type: ignore[arg-type]


def _kind(values: "pd.Series") -> str:
    import pandas as pd

    if truths(values) or isinstance(values.dtype, pd.CategoricalDtype):
        return "category"
    known = values.dropna()
    if not np.isnan(as_numbers(known)).any():  # an infinity is a number, though a missing one
        return "number"
    distinct = as_words(known).nunique()
    return "category" if distinct <= MOST_LEVELS and not (distinct > FEW_ROWS and distinct > len(known) / 2) else "text"


def _levels(values: "pd.Series") -> tuple[str, ...]:
    """Levels in the order of a categorical column, else of their numbers, else of the alphabet."""
    import pandas as pd

    if isinstance(values.dtype, pd.CategoricalDtype):
        return tuple(dict.fromkeys(as_words(pd.Series(values.cat.categories, dtype=values.dtype)).dropna()))
    words = as_words(values).dropna().unique().tolist()
    numbers = as_numbers(pd.Series(words, dtype="object"))
    return tuple(words[position] for position in np.argsort(numbers, kind="stable")) if np.isfinite(numbers).all() else tuple(sorted(words))


def _useless(name: str, values: "pd.Series") -> str | None:
    """Why a column is no input: nothing in it, or it names somebody, from whom a model would learn by heart."""
    if nested(values):
        return NESTED
    known = values.dropna()
    distinct = known.nunique()
    if distinct < 2:
        return "has no value" if distinct == 0 else "has one value only"
    if _kind(values) == "number":
        numbers = as_numbers(known)
        if loses_digits(numbers):
            return "has numbers too close together for their size: float32 keeps seven digits"
        if not (numbers == numbers.round()).all():
            return None
    if distinct > FEW_ROWS and _NAMES_SOMEBODY.search(name):
        return f"is called like an identifier and has {distinct} distinct values"
    if len(known) > FEW_ROWS and distinct == len(known) and _counts_rows(known):
        return "has another value in every row, as an identifier has"
    return None


def _names_clients(values: "pd.Series", client: "pd.Series") -> str | None:
    """Why a column of words is another name for the client."""
    if _kind(values) == "number":
        return None
    words, owners = _word_codes(values), _word_codes(client)
    there = (words >= 0) & (owners >= 0)
    words, owners = words[there], owners[there]
    pairs = np.unique(words * np.int64(len(values)) + owners)
    if len(pairs) == len(np.unique(words)) == len(np.unique(owners)) > FEW_LEVELS:
        return "says which client a row is of, each by a word of its own"
    return None


def _word_codes(values: "pd.Series") -> np.ndarray:
    """A number for the word of each cell, -1 where there is none; few cells are spelt out, however many rows there are."""
    import pandas as pd

    codes, distinct = pd.factorize(values)
    return np.append(pd.factorize(as_words(pd.Series(distinct)))[0], -1)[codes]


def _counts_rows(known: "pd.Series") -> bool:
    numbers = as_numbers(known)
    numbers = numbers[np.isfinite(numbers)]
    if len(numbers) > len(known) / 2:
        return bool((numbers == numbers.round()).all() and np.ptp(numbers) < 2 * len(known))  # consecutive, more or less
    return not as_words(known).str.contains(r"\s", regex=True).any()  # a single token in every row


def _task(name: str, values: "pd.Series", kind: str) -> Task:
    import pandas as pd

    task = Task(name, kind)  # type: ignore[arg-type]
    known = values.dropna()
    if known.nunique() < 2:
        raise DataError(f"tasks.{name}", f"{known.nunique()} distinct values", "predict a column that varies")
    if not task.binary:
        if np.isfinite(as_numbers(known)).all():
            check_digits(f"tasks.{name}", known)
            return task
        strange = known[~np.isfinite(as_numbers(known))]
        raise DataError(f"tasks.{name}", f"{strange.iloc[0]!r} in row {strange.index[0]}", "use numbers, or call the task binary")
    if isinstance(known.dtype, pd.CategoricalDtype):  # how a file was written decides on the order, unless somebody said that there is one
        known = known.cat.remove_unused_categories() if known.cat.ordered else known.astype(known.cat.categories.dtype)
    levels = _levels(known)
    if len(levels) != 2:
        raise DataError(f"tasks.{name}", f"{len(levels)} distinct values, {', '.join(levels[:5])} among them", "use two, or regression")
    return Task(name, "binary", levels=levels)
