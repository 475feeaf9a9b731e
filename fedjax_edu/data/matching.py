"""New rows under the schema of a model: what its inputs are in somebody's table or population, or why they cannot be."""

import dataclasses
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from fedjax_edu.core.errors import ArgumentError, DataError
from fedjax_edu.data.inference import NESTED, as_numbers, as_words, nested, truths
from fedjax_edu.data.population import Population
from fedjax_edu.data.schema import GROUP_OF, Feature, Schema
from fedjax_edu.data.standardiser import schema_of
from fedjax_edu.data.tables import populate

if TYPE_CHECKING:
    import pandas as pd

Unseen = dict[str, tuple[str, ...]]  # column -> levels


def match_frame(frame: "pd.DataFrame", schema: Schema, read: tuple[Feature, ...]) -> tuple[Population, Unseen]:
    """The inputs of a table's rows, as a model with this schema reads them; other columns are ignored.

    Args:
        frame: has the features that are read; targets, other features and the client need not be there.
        schema: of the table that the model was trained on.
        read: which of its features the model reads.

    Returns:
        A population of one client with the frame's rows in their order, and by column the levels that the schema does not know, which
        count as missing.

    Raises:
        ArgumentError: a schema that joins several studies: a table does not say which one a row is of.
        DataError: an input that is not there, or of another kind; the message has all of them.

    >>> import pandas as pd
    >>> schema = Schema("school", (Feature("ses", "number"), Feature("sex", "category", ("f", "m"))), ())
    >>> population, unseen = match_frame(pd.DataFrame({"sex": ["m", "x"], "ses": [None, 2.0]}), schema, schema.features)
    >>> population.arrays["categories"]["sex"], population.arrays["present"]["ses"], unseen
    (array([ 1, -1], dtype=int32), array([False,  True]), {'sex': ('x',)})
    """
    if len(schema.studies) > 1:
        raise ArgumentError("table", "a table", f"pass a Population, in a script: the model joins the studies {', '.join(schema.studies)}")
    wanted = Schema(schema.client, read, ())
    there = [feature for feature in wanted.features if feature.name in frame.columns]
    _refuse("table", [f"{feature.name}: {NESTED}" for feature in there if nested(frame[feature.name])])
    found = [_as_found(feature, frame[feature.name]) for feature in there]
    differences = wanted.differences(Schema(schema.client, tuple(found), ()))
    _refuse("table", differences + [_strange(frame[one.name]) for one in found if one.kind == "text" and one not in read])
    rows = frame[[feature.name for feature in wanted.features]].copy()
    rows[schema.client] = 0
    population = populate(rows, wanted, targets=False)
    unseen: Unseen = {}
    for feature in wanted.features:
        if feature.kind == "category":
            unseen |= _by_name(feature, as_words(frame[feature.name]).dropna().unique())
    return population, unseen


def match_population(population: Population, schema: Schema, read: tuple[Feature, ...]) -> tuple[Population, Unseen]:
    """The inputs of a population that was made from tables, in the codes and the studies of a model's schema.

    Args:
        population: has what is read of the studies that its clients are of; levels may be in another order, and studies too.
        schema: of the population that the model was trained on.
        read: which of its features the model reads.

    Returns:
        The same clients and rows, and by column the levels that the schema does not know, as for :func:`match_frame`.

    Raises:
        ArgumentError: a population without a schema.
        DataError: an input that is not there, or of another kind, or a study that the model does not know; the message has all of them.
    """
    theirs = schema_of(population)
    study = population.attributes.get("study", np.zeros(population.num_clients, np.int32))
    studies = [theirs.studies[position] for position in np.unique(study)]
    wanted = tuple(feature for feature in read if feature.study in studies)
    known = {feature.name: feature for feature in theirs.features}
    found = tuple(known[feature.name] for feature in wanted if feature.name in known)
    unknown = [f"the study {name!r}: not known" for name in studies if name not in schema.studies]
    _refuse("population", Schema(schema.client, wanted, ()).differences(Schema(schema.client, found, ())) + unknown)
    arrays: dict[str, dict[str, np.ndarray]] = {group: {} for group in ("numbers", "categories", "texts", "present")}
    unseen: Unseen = {}
    for feature in read:
        if feature not in wanted:
            values, present = _absent(feature, population.num_examples)
        elif feature.kind != "category":
            values, present = (population.arrays[group][feature.name] for group in (GROUP_OF[feature.kind], "present"))
        else:
            own, codes = known[feature.name].levels, population.arrays["categories"][feature.name]
            place = [feature.levels.index(level) if level in feature.levels else -1 for level in own]
            values = np.array([*place, -1], np.int32)[codes]
            present = values >= 0
            unseen |= _by_name(feature, {own[code] for code in np.unique(codes[~present]) if code >= 0})
        arrays[GROUP_OF[feature.kind]][feature.name] = values
        arrays["present"][feature.name] = present
    place = [schema.studies.index(name) if name in studies else -1 for name in theirs.studies]
    leaves = {group: columns for group, columns in arrays.items() if columns}
    return dataclasses.replace(population, arrays=leaves, attributes={"study": np.array(place, np.int32)[study]}), unseen


def _as_found(feature: Feature, values: "pd.Series") -> Feature:
    """A column as the feature that it is asked for, or as one of the kind that it is instead."""
    import pandas as pd

    if feature.kind == "text":
        return feature
    if feature.kind == "number":
        strange = np.isnan(as_numbers(values)) & values.notna().to_numpy()
        return dataclasses.replace(feature, kind="text") if strange.any() else feature
    known = values.dropna()
    numbers = known.size and not truths(values) and not np.isnan(as_numbers(known)).any()
    words = np.isnan(as_numbers(pd.Series(feature.levels, dtype="object"))).all()
    return dataclasses.replace(feature, kind="number") if numbers and words else feature


def _strange(values: "pd.Series") -> str:
    """The first value that is no number."""
    position = np.flatnonzero(np.isnan(as_numbers(values)) & values.notna().to_numpy())[0]
    return f"row {position} has {values.name} {values.iloc[position]!r}"


def _refuse(argument: str, differences: list[str]) -> None:
    if differences:
        # The remedy, unlike a value, is shown whole.
        raise DataError(argument, "other inputs than the model was trained on", f"bring what it reads: {'; '.join(differences)}")


def _by_name(feature: Feature, words: Iterable[str]) -> Unseen:
    """The words that are no level of a category, by the name of its column; nothing where there are none."""
    strangers = tuple(sorted(set(words) - set(feature.levels)))
    return {feature.name: strangers} if strangers else {}


def _absent(feature: Feature, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """An input of a study that no row is of, and that it is not present."""
    values = np.zeros(rows, np.float32) if feature.kind == "number" else np.full(rows, -1, np.int32)
    return values, np.zeros(rows, np.bool_)
