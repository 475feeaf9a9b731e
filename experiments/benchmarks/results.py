"""What a suite measures, in one form for JSON, tables, plots and floors."""

import dataclasses
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from experiments.benchmarks.measure import Spread


@dataclasses.dataclass(frozen=True)
class Options:
    """What the command line asks for.

    Args:
        models: to measure.
        cohorts: to measure.
        rivals: to compare with; ours is always there.
        repeats: turns of each measurement.
        workdir: where results go.
        peers_dir: where the rivals' environments live.
        say: prints a line of progress.
    """

    models: tuple[str, ...]
    cohorts: tuple[int, ...]
    rivals: tuple[str, ...]
    repeats: int
    workdir: Path
    peers_dir: Path
    say: Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Table:
    """A table for people.

    Args:
        title: one line.
        columns: their heads.
        rows: cells.
        note: what a reader must know, below it.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Panel:
    """Bars with quartiles.

    Args:
        title: one line.
        unit: of the values.
        bars: label to what repeats say.
    """

    title: str
    unit: str
    bars: dict[str, Spread]


@dataclasses.dataclass(frozen=True)
class Measured:
    """What one part of a suite found.

    Args:
        measurements: everything, for JSON.
        figures: the numbers that floors look at, by name.
        tables: for people.
        panels: for the plot.
    """

    measurements: dict[str, Any] = dataclasses.field(default_factory=dict)
    figures: dict[str, float] = dataclasses.field(default_factory=dict)
    tables: tuple[Table, ...] = ()
    panels: tuple[Panel, ...] = ()


Part = Callable[[Options], Measured]


def together(parts: Iterable[Measured]) -> Measured:
    """The findings of several parts as one."""
    parts = list(parts)
    return Measured(
        measurements={name: value for part in parts for name, value in part.measurements.items()},
        figures={name: value for part in parts for name, value in part.figures.items()},
        tables=tuple(table for part in parts for table in part.tables),
        panels=tuple(panel for part in parts for panel in part.panels),
    )


def seconds(value: float) -> str:
    """Seconds with three digits.

    >>> seconds(0.00000951), seconds(0.03141), seconds(12.345)
    ('9.51 µs', '31.4 ms', '12.3 s')
    """
    if value < 1e-4:
        return f"{1e6 * value:.3g} µs"
    return f"{1000 * value:.3g} ms" if value < 1 else f"{value:.3g} s"


def with_spread(found: Spread) -> str:
    """Median and quartiles in seconds.

    >>> with_spread(Spread(2.0, 1.0, 1.5, 2.5, 7))
    '2 s [1.5 s, 2.5 s]'
    """
    return f"{seconds(found.median)} [{seconds(found.low)}, {seconds(found.high)}]"


def megabytes(value: int | None) -> str:
    """Bytes in MB; a dash where nobody knows.

    >>> megabytes(1_500_000), megabytes(None)
    ('2 MB', '–')
    """
    return "–" if value is None else f"{value / 1e6:,.0f} MB"
