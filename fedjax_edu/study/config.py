"""What a school study can be told, with types; a configuration file fills it."""

import dataclasses
import math
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Self

from fedjax_edu.core.errors import ConfigError
from fedjax_edu.data import Task
from fedjax_edu.study.saving import Saving

Count = Annotated[int, 1]  # with the least that makes sense
COMPARED = ("pooled", "local_network", "local_ridge", "random_intercept", "boosting", "ridge", "constant")
MOST_BUCKETS = 2**31 - 1  # numbers of 32 bits


class Config:
    """A frozen dataclass that a configuration file fills."""

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> Self:
        """The configuration that a mapping holds, as plain dicts, lists and values.

        Raises:
            ConfigError: an unknown, missing, ill-typed or negative field; the message names it.

        >>> SchoolsConfig.from_mapping({"round": 3})
        Traceback (most recent call last):
        ...
        fedjax_edu.core.errors.ConfigError: config.round: got 3; remove it, or use a known field: fold, seed, validation, rounds, ...
        """
        return _read("config", cls, mapping)


@dataclasses.dataclass(frozen=True, kw_only=True)
class EnsembleConfig:
    """Sizes of :class:`fedjax_edu.models.MultiTaskModel`, and whether its encoder reads products of numbers and levels."""

    width: Count
    depth: int
    tokens: Count
    members: Count
    products: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextsConfig:
    """How a multi-modal model reads the texts of a table.

    Attributes:
        source: of a text encoder's weights, which stay as they are: ``"minilm"`` or a folder; empty: texts are not read by one.
        rank: of the low-rank matrices beside them, which are trained; 0: none.
        pieces: word pieces that are kept of a row.
        buckets: numbers for words and phrases, each with a vector that is learned; 0: texts are not read as those.
        gain: how fast those learn.
        phrases: words and phrases that are kept of a row.
        stop_words: language whose frequent words are left out of phrases, ``"english"``; empty: none are.
    """

    source: str
    rank: int
    pieces: Count
    buckets: int
    gain: float
    phrases: Count
    stop_words: str

    def __post_init__(self) -> None:
        if self.stop_words not in ("", "english"):
            raise ConfigError("config.model.texts.stop_words", self.stop_words, 'use "english", or nothing')
        if self.buckets and not self.gain:
            raise ConfigError("config.model.texts.gain", self.gain, "use a positive number: phrases would not learn")
        if self.buckets > MOST_BUCKETS:
            raise ConfigError("config.model.texts.buckets", self.buckets, f"use {MOST_BUCKETS:,} or less")


@dataclasses.dataclass(frozen=True, kw_only=True)
class M3TConfig:
    """Sizes of :func:`fedjax_edu.models.m3t`.

    Attributes:
        width: of tokens.
        heads: of the attention.
        hidden: width of the feed-forward networks, or of an expert, in widths of a token.
        encoder_layers: of the transformer of histories.
        fusion_layers: of the transformer over all tokens.
        experts: of each feed-forward network; 0: dense.
        chosen: experts a token.
        balance: weight of the loss that keeps experts busy.
        z: weight of the loss that keeps the router's logits small.
        texts: of a table, as a third modality.
    """

    width: Count
    heads: Count
    hidden: float
    encoder_layers: Count
    fusion_layers: Count
    experts: int
    chosen: Count
    balance: float
    z: float
    texts: TextsConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaskConfig:
    """A task's weight where schools train together, and how strongly a school's effects on it are shrunk, in rows.

    ``intercept = 20`` shrinks a school's intercept as if 20 further rows had said that it is zero; likewise the effect of
    each classroom and each slope.
    """

    weight: float
    intercept: float
    slopes: float
    classrooms: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class FederatedConfig:
    """How the federation trains.

    Attributes:
        algorithm: a name in :mod:`fedjax_edu.algorithms`.
        arguments: what the algorithm wants beyond the fields below, ``{"mu": 0.01}`` for FedProx.
        local_epochs: of a school, a round.
        batch_size: of a local step.
        client_learning_rate: of local SGD.
        client_momentum: of local SGD.
        server_learning_rate: falls to zero over the second half of the rounds; 0 leaves the server's step to the algorithm.
        weight_decay: of local SGD.
        clip: norm to which gradients of a local step are clipped; 0: they are not.
        concurrency: schools that train at any moment on a virtual clock, a second for each of their steps; 0: rounds are synchronous.
    """

    algorithm: str
    arguments: dict[str, bool | int | float | str]
    local_epochs: Count
    batch_size: Count
    client_learning_rate: float
    client_momentum: float
    server_learning_rate: float
    weight_decay: float
    clip: float
    concurrency: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlainConfig:
    """Training without a federation, in one place or of every school alone; for the fields see :class:`FederatedConfig`."""

    epochs: Count
    batch_size: Count
    learning_rate: float
    weight_decay: float
    clip: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class SchoolsConfig(Config):
    """A run of the school study.

    Attributes:
        fold: which fifth of the schools is held out, 1 to 5.
        seed: of the draw of test pupils, of the starting values and of training.
        validation: split the training side of the fold once more, for tuning.
        rounds: of the federation.
        cohort: schools a round; all of them where there are fewer.
        chunk: rounds between two reports.
        lanes: schools trained side by side on a device; more or fewer change speed, and results by rounding.
        saving: when the federation's state is saved, and what is kept.
        model: which network, by its sizes.
        studies: which of the studies of ``fe.data.load("k12")`` take part; none where a population is given.
        tasks: weight and shrinkage of each task, the dot of its name written as an underscore; ``default`` is for all others.
        federated: the algorithm, local work, and learning rates.
        compared: what the federation is compared with, of :data:`COMPARED`.
        pooled: the pooled baseline.
        local_only: the local-only baseline, in which a few of hundreds of lone schools would diverge without a clip.
    """

    fold: int
    seed: int
    validation: bool
    rounds: Count
    cohort: Count
    chunk: Count
    lanes: Count
    studies: list[str]
    saving: Saving
    model: EnsembleConfig | M3TConfig
    tasks: dict[str, TaskConfig]
    federated: FederatedConfig
    compared: list[str]
    pooled: PlainConfig
    local_only: PlainConfig

    def __post_init__(self) -> None:
        if unknown := [name for name in self.compared if name not in COMPARED]:
            raise ConfigError("config.compared", unknown[0], f"use any of {', '.join(COMPARED)}")

    def of_tasks(self, tasks: Sequence[Task]) -> list[TaskConfig]:
        """The entry of each task.

        Raises:
            ConfigError: a task without an entry, where there is no default.
        """
        entries = [self.tasks.get(task.name.replace(".", "_"), self.tasks.get("default")) for task in tasks]
        for task, entry in zip(tasks, entries, strict=True):
            if entry is None:
                raise ConfigError("config.tasks", sorted(self.tasks), f"add an entry for {task.name}, or one called default")
        return [entry for entry in entries if entry is not None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class StudyConfig(Config):
    """Federations on the same folds and seeds: one with all that it is compared with, and others that are further rows of its tables.

    Attributes:
        main: the federation; its fold, its seed and `validation` are those of all.
        beside: further federations by the name of their row; several for one row where each has some of the studies.
    """

    main: SchoolsConfig
    beside: dict[str, list[SchoolsConfig]]

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> Self:
        """As :meth:`Config.from_mapping`; the configuration of a single run is a study of that run alone."""
        if "main" in mapping:
            return super().from_mapping(mapping)
        return cls(main=SchoolsConfig.from_mapping(mapping), beside={})


def _read(name: str, kind: Any, value: Any) -> Any:
    """A value of a configuration as the type of its field, checked."""
    if dataclasses.is_dataclass(kind):
        return _read_group(name, kind, value)
    if typing.get_origin(kind) is dict:
        return {key: _read(f"{name}.{key}", typing.get_args(kind)[1], entry) for key, entry in _group(name, value).items()}
    if typing.get_origin(kind) is list:
        if not isinstance(value, (list, tuple)):
            raise ConfigError(name, value, "use a list")
        return [_read(f"{name}[{number}]", typing.get_args(kind)[0], entry) for number, entry in enumerate(value)]
    least = 0
    if typing.get_origin(kind) is Annotated:
        kind, least = typing.get_args(kind)
    if isinstance(kind, types.UnionType) and all(map(dataclasses.is_dataclass, typing.get_args(kind))):
        given = set(_group(name, value))
        return _read(name, max(typing.get_args(kind), key=lambda one: len(given & typing.get_type_hints(one).keys())), value)
    if isinstance(kind, types.UnionType):
        kind = type(value) if type(value) in typing.get_args(kind) else float
    if kind is float:
        fits = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < math.inf
    else:
        fits = type(value) is kind and not (kind is int and value < least)
    if not fits:
        numbers = {int: f"use an integer, {least} or more", float: f"use a finite number, {least} or more"}
        raise ConfigError(name, value, numbers.get(kind, f"use a {kind.__name__}"))
    return kind(value)


def _group(name: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ConfigError(name, value, "use a group of fields")
    return value


def _read_group(name: str, kind: Any, value: Any) -> Any:
    fields = typing.get_type_hints(kind, include_extras=True)
    for field in _group(name, value):
        if field not in fields:
            raise ConfigError(f"{name}.{field}", value[field], f"remove it, or use a known field: {', '.join(fields)}")
    for field in fields:
        if field not in value:
            raise ConfigError(f"{name}.{field}", "nothing", "give this field a value")
    return kind(**{field: _read(f"{name}.{field}", fields[field], value[field]) for field in fields})
