"""Tables in Markdown."""

from collections.abc import Sequence


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A pipe table with aligned columns.

    >>> print(table(["a", "score"], [["fedavg", ".19"]]), end="")
    | a      | score |
    |--------|-------|
    | fedavg | .19   |
    """
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + " |\n"

    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|\n"
    return line(head) + rule + "".join(map(line, rows))
