"""Checks that turn what a caller hands over into arrays a compiled program can trust.

Everything here is vectorised and runs once, when a population is built; what derives from a valid population is not checked again.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_edu.core.errors import ArgumentError, DataError, check_integer
from fedjax_edu.core.trees import named_leaves

RESERVED_ID = np.uint32(2**32 - 1)  # the engine pads cohorts with it

_SCANNED_ELEMENTS = 1 << 24  # elements a scan looks at in one go, so that it never doubles the memory of a large leaf


def leaves_by_name(tree: Any) -> dict[str, Any]:
    """The leaves of a pytree by dotted path, in pytree order: ``{"inputs": {"ses": a}}`` gives ``{"inputs.ses": a}``."""
    leaves = named_leaves(tree)
    named = dict(leaves)
    if len(named) != len(leaves):
        raise DataError("arrays", list(named), "rename keys so that no two leaves have the same dotted path")
    return named


def as_array(name: str, value: Any) -> np.ndarray:
    """``np.asarray`` with a typed error for what NumPy cannot read, such as nested lists of unequal length."""
    try:
        return np.asarray(value)
    except (TypeError, ValueError) as error:
        raise DataError(name, value, "pass an array, or what np.asarray turns into one") from error


def canonical_array(name: str, value: Any, *, allow_nonfinite: bool = False) -> np.ndarray:
    """One leaf as a native NumPy array of a dtype that JAX keeps, with every value preserved.

    64-bit types become 32-bit ones unless x64 is enabled, as JAX itself would do, except that an integer which does not fit and a
    finite float that would overflow are errors here, not silent changes.

    Args:
        name: what errors call the leaf.
        value: anything ``np.asarray`` reads, with at least one axis.
        allow_nonfinite: accept NaN and infinities.

    Raises:
        DataError: naming the leaf and the first bad row.
    """
    if isinstance(value, np.ma.MaskedArray):
        raise DataError(name, "a masked array", "fill the masked entries and pass the mask as a leaf of its own")
    array = as_array(name, value)
    if not _is_numeric(array.dtype):
        raise DataError(
            name, f"dtype {array.dtype}", "encode it as numbers first: codes for categories and text, seconds or days for dates"
        )
    if array.ndim == 0:
        raise DataError(name, value, "give every leaf a leading axis; wrap lists in np.asarray, repeat constants for each row")
    dtype = np.dtype(jax.dtypes.canonicalize_dtype(array.dtype.newbyteorder("=")))
    if jnp.issubdtype(dtype, np.integer):
        _check_range(name, array, dtype)
    with np.errstate(over="ignore"):  # an overflow is reported below, with its row
        result = array.astype(dtype, copy=False)
    if jnp.issubdtype(dtype, np.inexact):
        _check_finite(name, array, result, allow_nonfinite)
    return read_only(result)


def canonical_offsets(offsets: Any) -> np.ndarray:
    """Offsets as int64 [clients + 1], starting at 0 and never falling."""
    array = as_array("offsets", offsets)
    if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer):
        raise DataError("offsets", offsets, "pass a 1-D integer array of length clients + 1")
    if len(array) < 2:
        raise DataError("offsets", array.tolist(), "describe at least one client: [0, rows of client 0, ...]")
    if array[0] != 0:
        raise DataError("offsets", f"{array[0]} at position 0", "start at 0: np.concatenate([[0], np.cumsum(sizes)])")
    falls = np.flatnonzero(array[1:] < array[:-1])
    if falls.size:
        at = int(falls[0]) + 1
        raise DataError(
            "offsets", f"{array[at]} at position {at}, after {array[at - 1]}", "never let offsets fall; an empty client repeats one"
        )
    return read_only(array.astype(np.int64))


def canonical_ids(ids: Any, num_clients: int) -> np.ndarray:
    """Client ids as unique uint32 [clients]; 0 .. clients-1 for None."""
    array = np.arange(num_clients) if ids is None else as_array("ids", ids)
    if array.shape != (num_clients,) or not np.issubdtype(array.dtype, np.integer):
        raise DataError("ids", f"{array.dtype} of shape {array.shape}", f"pass one integer for each of the {num_clients} clients")
    outside = np.flatnonzero((array < 0) | (array >= RESERVED_ID))
    if outside.size:
        at = int(outside[0])
        raise DataError("ids", f"{array[at]} at position {at}", f"use 0 .. {RESERVED_ID - 1}; {RESERVED_ID} marks padding")
    unique, counts = np.unique(array, return_counts=True)
    if len(unique) < num_clients:
        twice = unique[counts > 1][0]
        raise DataError("ids", f"{twice} at positions {np.flatnonzero(array == twice).tolist()}", "give every client an id of its own")
    return read_only(array.astype(np.uint32))


def canonical_holders(name: str, holders: Any, num_clients: int) -> np.ndarray:
    """Clients' parts in a module, as float32 [clients]."""
    array = as_array(f"holds.{name}", holders)
    if array.shape != (num_clients,) or array.dtype.kind not in "biuf":
        remedy = f"pass one boolean, or one number from 0 on, for each of the {num_clients} clients"
        raise DataError(f"holds.{name}", f"{array.dtype} of shape {array.shape}", remedy)
    outside = np.flatnonzero(~((array >= 0) & np.isfinite(array)))
    if outside.size:
        raise DataError(f"holds.{name}", f"{array[outside[0]]} at position {outside[0]}", "use finite numbers from 0 on")
    return read_only(array.astype(np.float32))


def canonical_attributes(attributes: Mapping[str, Any] | None, num_clients: int, allow_nonfinite: frozenset[str]) -> dict[str, np.ndarray]:
    """Client attributes as arrays [clients, ...], in the order given."""
    checked = {}
    for key, value in dict(attributes or {}).items():
        name = f"attributes.{key}"
        checked[key] = canonical_array(name, value, allow_nonfinite=name in allow_nonfinite)
        if len(checked[key]) != num_clients:
            raise DataError(name, f"shape {checked[key].shape}", f"use one row for each of the {num_clients} clients")
    return checked


def canonical_nonfinite(allow_nonfinite: Iterable[str], known: Iterable[str]) -> tuple[str, ...]:
    """The names of leaves that may hold NaN, each of them a leaf that exists."""
    if isinstance(allow_nonfinite, str):
        raise DataError("allow_nonfinite", allow_nonfinite, f"pass a tuple of leaf names: ({allow_nonfinite!r},)")
    names, known = tuple(allow_nonfinite), list(known)
    for name in names:
        if name not in known:
            raise DataError("allow_nonfinite", name, f"use names of leaves: {known}")
    return names


def row_values(argument: str, key: Any, named: Mapping[str, np.ndarray], num_examples: int) -> np.ndarray:
    """One value for each row, that can be compared and sorted: a leaf by its dotted path, or an array as given.

    Args:
        argument: what errors call it.
        key: dotted path of a leaf, or an array [N] of numbers, dates or strings.
        named: leaves by dotted path.
        num_examples: N.
    """
    if isinstance(key, str) and key not in named:
        raise ArgumentError(argument, key, f"use an array [N] or one of the leaves {list(named)}")
    values = named[key] if isinstance(key, str) else as_array(argument, key)
    if values.shape != (num_examples,):
        raise ArgumentError(argument, f"an array of shape {values.shape}", f"use one value for each of the {num_examples} rows")
    if values.dtype == object and all(isinstance(value, str) for value in values):
        values = values.astype(str)  # how pandas hands over text
    if values.dtype.kind not in "biufUSM":
        raise ArgumentError(argument, f"dtype {values.dtype}", "use numbers, dates or strings, of one kind and without gaps")
    if values.dtype.kind in "fM" and (missing := np.flatnonzero(values != values)).size:
        raise ArgumentError(argument, f"{values[missing[0]]} in row {missing[0]}", "give every row a value")
    return values


def check_seed(seed: Any) -> int:
    """A seed as a non-negative Python integer."""
    return check_integer("seed", seed, at_least=0)


def check_fractions(fractions: Any) -> np.ndarray:
    """Fractions as float64 [sides], positive and with sum one."""
    array = as_array("fractions", fractions)
    if array.dtype.kind not in "iuf" or array.ndim != 1 or len(array) < 2 or not (array > 0).all() or not np.isclose(array.sum(), 1.0):
        raise ArgumentError("fractions", fractions, "use two or more positive numbers with sum 1, such as (0.8, 0.2)")
    return array.astype(np.float64)


def mask_leaf(argument: str, leaves: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    """The leaf of booleans that an argument names.

    Raises:
        ArgumentError: there is none of that name.
    """
    if name not in leaves or leaves[name].dtype != bool:
        those = ", ".join(leaf for leaf, values in leaves.items() if values.dtype == bool) or "there are none"
        raise ArgumentError(argument, name, f"name a leaf of booleans: {those}")
    return leaves[name]


def read_only(array: np.ndarray) -> np.ndarray:
    """A view that cannot be written through, so that a population cannot change under a running experiment."""
    view = array.view()
    view.flags.writeable = False
    return view


def _is_numeric(dtype: np.dtype) -> bool:
    if dtype.kind in "biufc":
        return dtype.itemsize <= (16 if dtype.kind == "c" else 8)
    return bool(jnp.issubdtype(dtype, np.number))  # bfloat16 and the small floats of ml_dtypes


def _blocks(array: np.ndarray) -> Iterable[slice]:
    step = max(1, _SCANNED_ELEMENTS // max(1, array[:1].size))
    return (slice(start, start + step) for start in range(0, len(array), step))


def _report(name: str, array: np.ndarray, bad: np.ndarray, first_row: int, remedy: str) -> None:
    position = tuple(np.argwhere(bad)[0])
    raise DataError(name, f"{array[position]} in row {first_row + int(position[0])}", remedy)


def _check_range(name: str, array: np.ndarray, dtype: np.dtype) -> None:
    limits = np.iinfo(dtype)
    if array.size == 0 or (array.min() >= limits.min and array.max() <= limits.max):
        return
    bad = (array < limits.min) | (array > limits.max)
    _report(name, array, bad, 0, f"keep within {dtype.name} ({limits.min} .. {limits.max}), renumber, or enable x64 in JAX")


def _check_finite(name: str, array: np.ndarray, result: np.ndarray, allow_nonfinite: bool) -> None:
    for rows in _blocks(array):
        finite = np.isfinite(result[rows])
        if finite.all():
            continue
        overflow = ~finite & np.isfinite(array[rows])
        if overflow.any():
            _report(name, array[rows], overflow, rows.start, f"rescale it to fit {result.dtype.name}, or enable x64 in JAX")
        if not allow_nonfinite:
            leaf = name.removeprefix("arrays.")
            _report(name, array[rows], ~finite, rows.start, f"use finite numbers, or name the leaf: allow_nonfinite=({leaf!r},)")
