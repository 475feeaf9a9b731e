"""Results as JSON, Markdown and one plot."""

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import fedjax_edu as fe
from experiments.benchmarks.floors import Verdict, describe
from experiments.benchmarks.results import Measured, Panel, Table

PACKAGES = ("fedjax_edu", "jax", "jaxlib", "numpy", "optax")


def machine(command: list[str]) -> dict[str, Any]:
    """What a figure depends on: versions, cores, processor, date, command, commit."""
    found = fe.study.origin()
    return {
        "date": found["date"],
        "command": " ".join(command),
        "commit": found["commit"],
        "processor": found["hardware"]["processor"],
        "cores": found["hardware"]["cores"],
        "python": found["versions"]["python"],
        "versions": {name: found["versions"][name] for name in PACKAGES if name in found["versions"]},
    }


def write(folder: Path, suite: str, found: Measured, verdicts: list[Verdict], where: dict[str, Any]) -> None:
    """Writes ``<suite>.json``, ``<suite>.md`` and ``<suite>.png``.

    Args:
        folder: where to.
        suite: what was run.
        found: what it measured.
        verdicts: on its floors.
        where: :func:`machine`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    document: dict[str, Any] = {"suite": suite, "machine": where, "figures": found.figures, "measurements": found.measurements}
    document["floors"] = [dataclasses.asdict(verdict) for verdict in verdicts]
    (folder / f"{suite}.json").write_text(json.dumps(document, indent=2) + "\n")
    (folder / f"{suite}.md").write_text(page(suite, found, verdicts, where))
    plot(folder / f"{suite}.png", found.panels)


def page(suite: str, found: Measured, verdicts: list[Verdict], where: dict[str, Any]) -> str:
    """All tables in Markdown, with what they depend on."""
    versions = ", ".join(f"{name} {version}" for name, version in where["versions"].items())
    head = f"# Benchmark: {suite}\n\n```bash\n{where['command']}\n```\n\n"
    head += f"{where['date']}, commit {where['commit']}; {where['cores']} cores of {where['processor']}; "
    head += f"Python {where['python']}, {versions}. Ratios are ratios of medians.\n"
    return "\n".join([head, *map(markdown, [*found.tables, floors_table(verdicts)])])


def floors_table(verdicts: list[Verdict]) -> Table:
    """Every floor with its figure and verdict."""
    return Table("Floors", ("floor", "bound", "figure", "verdict"), tuple(map(describe, verdicts)))


def markdown(table: Table) -> str:
    """A table with its title and note.

    >>> print(markdown(Table("Sizes", ("n", "GFLOP/s"), (("512", "190"),), "On two cores.")), end="")
    ## Sizes
    <BLANKLINE>
    | n   | GFLOP/s |
    |-----|---------|
    | 512 | 190     |
    <BLANKLINE>
    On two cores.
    """
    widths = [max(map(len, column)) for column in zip(table.columns, *table.rows, strict=True)]

    def line(cells: tuple[str, ...]) -> str:
        return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + " |\n"

    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|\n"
    note = f"\n{table.note}\n" if table.note else ""
    return f"## {table.title}\n\n" + line(table.columns) + rule + "".join(map(line, table.rows)) + note


def plot(path: Path, panels: tuple[Panel, ...]) -> None:
    """One panel above another: bars are medians, lines quartiles."""
    from matplotlib.figure import Figure  # without pyplot there is no window, no global figure, no backend to choose

    heights = [0.8 + 0.3 * len(panel.bars) for panel in panels]
    figure = Figure(figsize=(9, sum(heights)), layout="constrained")
    for axis, panel in zip(figure.subplots(len(panels), squeeze=False, height_ratios=heights)[:, 0], panels, strict=True):
        medians = [one.median for one in panel.bars.values()]
        errors = [[one.median - one.low for one in panel.bars.values()], [one.high - one.median for one in panel.bars.values()]]
        axis.barh(list(panel.bars), medians, xerr=errors, color="#0072B2", ecolor="#444444")
        axis.invert_yaxis()
        axis.set_title(panel.title, loc="left", fontsize=10, fontweight="bold")
        axis.set_xlabel(panel.unit)
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)


def show(table: Table) -> str:
    """The command line's view of a table."""
    return markdown(table).replace("## ", "", 1)


def command_line() -> list[str]:
    """The command as one would type it."""
    return ["python", "-m", "experiments.benchmark", *sys.argv[1:]]
