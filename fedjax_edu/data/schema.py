"""What the columns of a table mean: the inputs that a model may see, the tasks, and whom the rows are about."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Literal, Self

from fedjax_edu.core.errors import ArgumentError, DataError

GROUP_OF = {"number": "numbers", "category": "categories", "text": "texts"}  # kind of a feature -> group of a population's leaves
METRICS = {"binary": "AUC", "regression": "R2"}  # how a task of each kind is scored
GROUPS = ("sex", "ethnicity", "ses", "grade")  # scores are reported for each; those over all grades hold the growth between them


@dataclasses.dataclass(frozen=True)
class Feature:
    """One input of a table.

    Attributes:
        name: of the column.
        kind: ``"number"``, ``"category"`` or ``"text"``.
        levels: of a category, in order: code *k* means level *k*. Empty for numbers and texts.
        description: what it holds, for people.
        unit: of a number.
        study: the data set that it belongs to, where a population joins several.
        series: of a number that is one of several measurements of the same: what is measured. They are a row's history.
        lag: of such a number: how long before the row it was measured, in whatever unit all of the series have, 0 or more.
    """

    name: str
    kind: Literal["number", "category", "text"]
    levels: tuple[str, ...] = ()
    description: str = ""
    unit: str = ""
    study: str = ""
    series: str = ""
    lag: float = 0.0

    def __post_init__(self) -> None:
        if self.series and self.kind != "number":
            raise ArgumentError(f"features.{self.name}.series", self.series, f"name a series for numbers only; this is a {self.kind}")
        if not 0 <= self.lag < math.inf:
            raise ArgumentError(f"features.{self.name}.lag", self.lag, "use a finite number, 0 or more")


@dataclasses.dataclass(frozen=True)
class Task:
    """One thing to predict.

    Attributes:
        name: of the target.
        kind: ``"binary"`` (0 or 1; a model's output is a log-odds) or ``"regression"``.
        title: how tables and plots call it; the name unless given.
        unit: of the target.
        study: the data set that it belongs to, where a population joins several.
        levels: of a binary target that is no number: what 0 and 1 stand for.

    >>> Task("passed", "binary").metric, Task("score", "regression").title
    ('AUC', 'score')
    """

    name: str
    kind: Literal["binary", "regression"]
    title: str = ""
    unit: str = ""
    study: str = ""
    levels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in METRICS:
            raise ArgumentError(f"tasks.{self.name}", self.kind, f"use one of {', '.join(METRICS)}")
        object.__setattr__(self, "title", self.title or self.name)

    @property
    def metric(self) -> str:
        """``"AUC"`` or ``"R2"``."""
        return METRICS[self.kind]

    @property
    def binary(self) -> bool:
        """Whether the target is 0 or 1 and the model's output a log-odds."""
        return self.kind == "binary"


@dataclasses.dataclass(frozen=True)
class Schema:
    """The columns of a population that was made from tables.

    Such a population has five groups of leaves, each with an entry a column, [N] all of them: ``numbers`` (float32, 0 where missing),
    ``categories`` (int32 codes, -1 where missing), ``texts`` (int32 positions in ``Population.texts``, -1 where missing), ``targets``
    (float32, 0 where missing), and ``present`` (bool), which has the columns of all other groups.

    Attributes:
        client: what owns rows, a column.
        features: the inputs.
        tasks: the targets.
        unit: the column that tells students apart, kept as the leaf ``unit`` (int32 [N]); None where every row is somebody else.
        classroom: the column that tells classrooms apart, kept as the leaf ``classroom`` (int32 [N], from 0 in each client).
        groups: for each of ``sex``, ``ethnicity``, ``ses`` and ``grade`` that is known, the features that hold it, one a study.
    """

    client: str
    features: tuple[Feature, ...]
    tasks: tuple[Task, ...]
    unit: str | None = None
    classroom: str | None = None
    groups: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        names = [feature.name for feature in self.features] + [task.name for task in self.tasks]
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            raise DataError("schema", f"the column {repeated[0]!r} twice", "give every input and every target a name of its own")

    @property
    def studies(self) -> tuple[str, ...]:
        """The studies that the inputs and the tasks belong to, in order; where there is more than one, the attribute ``study`` of a
        population says which one a client is of, by position in this tuple.
        """
        return tuple(dict.fromkeys([feature.study for feature in self.features] + [task.study for task in self.tasks]))

    @property
    def inputs(self) -> tuple[Feature, ...]:
        """The features that are columns of a network's matrix: numbers and categories, without the texts."""
        return tuple(feature for feature in self.features if feature.kind != "text")

    def differences(self, other: "Schema") -> list[str]:
        """What another table has less, more or otherwise among the inputs, a line each; none where it can be used in place of this one.

        >>> mine = Schema("school", (Feature("ses", "number"), Feature("sex", "category", ("f", "m"))), ())
        >>> mine.differences(Schema("school", (Feature("sex", "number"),), ()))
        ['ses: no such column, a number is expected', 'sex: number instead of category']
        """
        theirs = {feature.name: feature for feature in other.features}
        mine = {feature.name: feature for feature in self.features}
        found = []
        for name, feature in mine.items():
            if name not in theirs:
                found.append(f"{name}: no such column, a {feature.kind} is expected")
            elif theirs[name].kind != feature.kind:
                found.append(f"{name}: {theirs[name].kind} instead of {feature.kind}")
        return found + [f"{name}: not known" for name in theirs if name not in mine]

    def to_json(self) -> dict[str, Any]:
        """The schema as plain values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """The inverse of :meth:`to_json`, also after a file has turned tuples into lists.

        >>> schema = Schema("school", (Feature("sex", "category", ("f", "m")),), (Task("score", "regression"),), groups={"sex": ("sex",)})
        >>> Schema.from_json(schema.to_json()) == schema
        True
        """
        return cls(
            client=value["client"],
            features=tuple(Feature(**{**feature, "levels": tuple(feature["levels"])}) for feature in value["features"]),
            tasks=tuple(Task(**{**task, "levels": tuple(task["levels"])}) for task in value["tasks"]),
            unit=value["unit"],
            classroom=value["classroom"],
            groups={group: tuple(names) for group, names in value["groups"].items()},
        )
