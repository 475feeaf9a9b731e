"""Rows that lack modalities, completed from those that they have."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from fedjax_edu.core.errors import ArgumentError, require
from fedjax_edu.core.trees import replaced
from fedjax_edu.data import validation
from fedjax_edu.data.population import Population


class _Modality(NamedTuple):
    """A modality's leaves in one population: numbers [N, d], zeros where absent, and which rows have it, bool [N]."""

    numbers: np.ndarray
    there: np.ndarray


def complete_modalities(
    population: Population, modalities: Mapping[str, tuple[str, str]], model: Any, *, source: Population | None = None
) -> Population:
    """A population in which rows have the modalities that they lacked, as a model guesses them from those that they have.

    For each set of modalities that some rows have, and each that they lack, a copy of the model learns from the rows of `source` that have
    all of these. It is done once, before any training; nothing but the named leaves is read, so neither are targets.

    Args:
        population: whose rows are completed.
        modalities: by modality, the dotted names of its values (floats, [N, ...]; embeddings, rather than pixels) and of the leaf that says
            which rows have it (bool [N] or [N, tokens]).
        model: a regressor as scikit-learn has them. Retrieval is ``KNeighborsRegressor(metric="cosine", weights="distance")``, a
            translator ``Ridge()`` or ``MLPRegressor()``. Or a number, with which everything absent is filled: a baseline.
        source: rows to learn from, the training side where that of a test is completed; None: the population itself.

    Returns:
        The population with other values and masks. Rows without any of the modalities, and rows of a set that `source` never shows
        together with what they lack, stay as they are, but for a number.

    Raises:
        ArgumentError: fewer than two modalities, a leaf that is missing or of another type, a source of other shapes, a model that is none.
        MissingDependencyError: scikit-learn is missing.

    >>> x = np.arange(6, dtype=np.float32)
    >>> arrays = {"a": x, "b": 2 * x, "has": {"a": np.ones(6, bool), "b": x != 3}}
    >>> from sklearn.linear_model import LinearRegression
    >>> whole = complete_modalities(Population.from_arrays(arrays, [0, 6]), {"a": ("a", "has.a"), "b": ("b", "has.b")}, LinearRegression())
    >>> round(float(whole.arrays["b"][3]), 4), bool(whole.arrays["has"]["b"].all())
    (6.0, True)

    Reference: Che et al. (2024), "FedMVP", arXiv:2406.11048, where large generators complete rows from their labels too. We differ:
    labels are never read, so that rows of a test can be completed as well.
    """
    if len(modalities) < 2 and not isinstance(model, (int, float)):
        raise ArgumentError("modalities", sorted(modalities), "name at least two: one is guessed from others")
    here = {name: _modality(population, name, *leaves) for name, leaves in modalities.items()}
    known = here if source is None else {name: _modality(source, name, *leaves) for name, leaves in modalities.items()}
    for name in modalities:
        if here[name].numbers.shape[1] != known[name].numbers.shape[1]:
            found = f"{known[name].numbers.shape[1]} numbers a row of {name}"
            raise ArgumentError("source", found, f"use {here[name].numbers.shape[1]}, as the population has")
    leaves = population.leaves()
    new: dict[str, Any] = {}
    for values, mask in modalities.values():
        new[values], new[mask] = np.array(leaves[values]), np.array(leaves[mask])
    for name, rows, guess in _guesses(here, known, model):
        values, mask = modalities[name]
        if not np.isfinite(guess).all():
            raise ArgumentError("model", model, f"use one whose guesses are finite: those of {name} are not")
        new[values][rows] = np.asarray(guess).reshape(len(rows), *leaves[values].shape[1:])
        new[mask][rows] = True
    kept = {name: validation.read_only(leaf) for name, leaf in new.items()}
    return dataclasses.replace(population, arrays=replaced(population.arrays, kept))


def _guesses(here: Mapping[str, _Modality], known: Mapping[str, _Modality], model: Any) -> Iterator[tuple[str, np.ndarray, Any]]:
    """(modality, rows that lack it, what is guessed of them)."""
    if isinstance(model, (int, float)):
        for name, modality in here.items():
            rows = np.flatnonzero(~modality.there)
            yield name, rows, np.full((len(rows), modality.numbers.shape[1]), float(model))
        return
    require("completing modalities", "study", "sklearn")
    from sklearn.base import clone, is_regressor

    if not hasattr(model, "fit") or not is_regressor(model):
        raise ArgumentError("model", model, "pass a regressor of scikit-learn, or a number")
    has = np.stack([modality.there for modality in here.values()], axis=1)
    for pattern in np.unique(has, axis=0):
        given = [name for name, there in zip(here, pattern, strict=True) if there]
        rows = np.flatnonzero((has == pattern).all(axis=1))
        for name in set(here) - set(given) if given else ():
            together = np.all([known[one].there for one in (*given, name)], axis=0)
            if together.any():
                fitted = clone(model).fit(_joined(known, given)[together], known[name].numbers[together])
                yield name, rows, fitted.predict(_joined(here, given)[rows])


def _joined(modalities: Mapping[str, _Modality], names: Sequence[str]) -> np.ndarray:
    """Numbers of several modalities side by side, [N, sum of their d]."""
    return np.concatenate([modalities[name].numbers for name in names], axis=1)


def _modality(population: Population, name: str, values: str, mask: str) -> _Modality:
    leaves = population.leaves()
    tokens = validation.mask_leaf(f"modalities[{name!r}]", leaves, mask)
    if values not in leaves or leaves[values].dtype.kind != "f":
        those = ", ".join(leaf for leaf, array in leaves.items() if array.dtype.kind == "f") or "there are none"
        raise ArgumentError(f"modalities[{name!r}]", values, f"name a leaf of floats: {those}")
    array = leaves[values]
    seen = np.where(tokens.reshape(*tokens.shape, *(1,) * (array.ndim - tokens.ndim)), array, 0)
    there: Any = tokens.reshape(len(tokens), -1).any(axis=1)
    return _Modality(seen.reshape(len(seen), -1), there)
