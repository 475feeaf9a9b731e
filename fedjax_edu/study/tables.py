"""Tables: one object that is written as Markdown, as CSV and as LaTeX."""

import csv
import dataclasses
import io
import math
import re
from collections.abc import Sequence

_LATEX = {character: f"\\{character}" for character in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "²": r"\textsuperscript{2}",
    "–": "--",
}


@dataclasses.dataclass(frozen=True)
class Estimated:
    """A number with its 95 % interval; bold where that is worth a reader's attention."""

    value: float
    low: float
    high: float
    bold: bool = False


class PValue(float):
    """A p-value: shown with three decimals, very small ones as less than the last of them."""


Cell = str | int | float | Estimated


@dataclasses.dataclass(frozen=True)
class Table:
    r"""Rows of words and numbers.

    Args:
        title: one line; empty for none.
        columns: their heads.
        rows: cells; a float that is NaN is shown as a dash.
        note: what a reader must know, below it.

    >>> table = Table("", ("model", "R²"), (("ridge & lasso", Estimated(0.19, 0.154, 0.215, bold=True)),))
    >>> print(table.markdown(), end="")
    | model         | R²                    |
    |---------------|-----------------------|
    | ridge & lasso | **.190 [.154, .215]** |
    >>> print(table.csv(), end="")
    model,R²,R² low,R² high
    ridge & lasso,0.19,0.154,0.215
    >>> print(table.latex().splitlines()[6])
    ridge \& lasso & \textbf{.190 [.154, .215]} \\
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    note: str = ""

    def markdown(self) -> str:
        """A pipe table with aligned columns, title above and note below."""
        head = [_in_markdown(name) for name in self.columns]
        rows = [[_in_markdown(cell) for cell in row] for row in self.rows]
        widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]

        def line(cells: Sequence[str]) -> str:
            return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + " |\n"

        rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|\n"
        parts = [f"{self.title}\n", line(head) + rule + "".join(map(line, rows)), f"{self.note}\n"]
        return "\n".join(part for part in parts if part.strip())

    def csv(self) -> str:
        """Numbers in full precision, an interval as two more columns; a number that is not there as an empty field."""
        wide = [any(isinstance(row[position], Estimated) for row in self.rows) for position in range(len(self.columns))]
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow([name for column, one in zip(self.columns, wide, strict=True) for name in _heads(column, one)])
        writer.writerows([[field for cell, one in zip(row, wide, strict=True) for field in _fields(cell, one)] for row in self.rows])
        return text.getvalue()

    def latex(self) -> str:
        """A ``table`` with the rules of booktabs, numbers to the right; the document needs the package booktabs."""
        numeric = [not all(isinstance(row[position], str) for row in self.rows) for position in range(len(self.columns))]
        lines = [r"\begin{table}", r"\centering", *([rf"\caption{{{_escaped(self.title)}}}"] if self.title else [])]
        lines += [rf"\begin{{tabular}}{{{''.join('r' if one else 'l' for one in numeric)}}}", r"\toprule"]
        lines += [_latex_line(self.columns), r"\midrule", *map(_latex_line, self.rows), r"\bottomrule", r"\end{tabular}"]
        lines += [rf"\par\footnotesize {_escaped(self.note)}"] if self.note else []
        return "\n".join([*lines, r"\end{table}"]) + "\n"


def number(value: float) -> str:
    """Three decimals without the leading zero, as tables of such scores are written.

    >>> number(0.6934), number(-0.021), number(-10.25), number(-1e9), number(float("nan"))
    ('.693', '-.021', '-10.250', '-1.0e+09', '–')
    """
    if math.isnan(value):
        return "–"
    return f"{value:.1e}" if abs(value) >= 1000 else f"{value:.3f}".replace("0.", ".", 1) if abs(value) < 1 else f"{value:.3f}"


def counted(count: int, noun: str) -> str:
    """A number of things in words.

    >>> counted(1, "fold"), counted(3, "seed")
    ('1 fold', '3 seeds')
    """
    return f"{count} {noun}{'' if count == 1 else 's'}"


def shown(cell: Cell) -> str:
    """A cell as people read it.

    >>> shown(3), shown(0.25), shown(Estimated(-0.1, -0.2, 0.0)), shown(PValue(0.0001)), shown("ridge")
    ('3', '.250', '-.100 [-.200, .000]', '<.001', 'ridge')
    """
    match cell:
        case Estimated(value=value) if math.isnan(value):
            return number(value)
        case Estimated(value=value, low=low, high=high):
            return f"{number(value)} [{number(low)}, {number(high)}]"
        case PValue() if cell < 0.001:
            return "<.001"
        case float():
            return number(cell)
        case str():
            return " ".join(cell.split())  # a line break would end the row
        case _:
            return str(cell)


def _in_markdown(cell: Cell) -> str:
    text = shown(cell).replace("|", r"\|")
    return f"**{text}**" if isinstance(cell, Estimated) and cell.bold else text


def _latex_line(cells: Sequence[Cell]) -> str:
    line = " & ".join(map(_in_latex, cells)) + r" \\"
    return "{}" + line if line.startswith("[") else line  # or the rule above would take it for an option


def _in_latex(cell: Cell) -> str:
    text = _escaped(shown(cell))
    if isinstance(cell, str):
        return text
    text = re.sub(r"(?<![0-9e+])-(?=[.0-9])", "$-$", text)  # a minus is no hyphen
    return rf"\textbf{{{text}}}" if isinstance(cell, Estimated) and cell.bold else text


def _escaped(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)


def _heads(column: str, wide: bool) -> tuple[str, ...]:
    return (column, f"{column} low", f"{column} high") if wide else (column,)


def _fields(cell: Cell, wide: bool) -> tuple[object, ...]:
    if isinstance(cell, Estimated):
        return tuple(_field(value) for value in (cell.value, cell.low, cell.high))
    return (_field(cell), "", "") if wide else (_field(cell),)


def _field(cell: Cell) -> object:
    return "" if isinstance(cell, float) and math.isnan(cell) else cell
