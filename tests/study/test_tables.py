"""Tables read back: CSV by pandas, LaTeX and Markdown by strict little parsers."""

import io
import re

import pandas as pd

from fedjax_edu.study.tables import Estimated, PValue, Table, shown

AWKWARD = r"50% of {R&D} #1_a ~^\ <x> | R²"
TABLE = Table(
    title="Scores & more",
    columns=("model", "score", "schools", "p"),
    rows=(
        (AWKWARD, Estimated(0.123456789, -0.1, 0.35), 12, PValue(0.0002)),
        ("ridge, pooled", Estimated(-12.5, -13.0, -12.0, bold=True), 3, PValue(0.25)),
        ("diverged", Estimated(float("nan"), float("nan"), float("nan")), 0, PValue("nan")),
    ),
    note="A note of 100 %.",
)


def test_csv_holds_numbers_in_full_and_words_as_they_are():
    frame = pd.read_csv(io.StringIO(TABLE.csv()))
    assert list(frame) == ["model", "score", "score low", "score high", "schools", "p"]
    assert frame["model"].tolist() == [AWKWARD, "ridge, pooled", "diverged"]
    assert frame["score"][0] == 0.123456789
    assert frame["score low"].tolist()[:2] == [-0.1, -13.0]
    assert frame["schools"].tolist() == [12, 3, 0]
    assert frame.iloc[2][["score", "score low", "score high", "p"]].isna().all()


def test_markdown_has_a_cell_for_each_column():
    title, empty, *lines, gap, note, end = TABLE.markdown().split("\n")
    assert (title, empty, gap, note, end) == ("Scores & more", "", "", "A note of 100 %.", "")
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    assert [len(row) for row in cells] == [4] * 5
    assert cells[2] == [AWKWARD.replace("|", r"\|"), ".123 [-.100, .350]", "12", "<.001"]
    assert cells[3][1] == "**-12.500 [-13.000, -12.000]**"
    assert cells[4][1:] == ["–", "0", "–"]
    assert len({len(line) for line in lines}) == 1


MEANING = {r"\textbackslash{}": "\\", r"\textasciitilde{}": "~", r"\textasciicircum{}": "^", r"\textless{}": "<", r"\textgreater{}": ">"}
MEANING |= {r"\textbar{}": "|", r"\textsuperscript{2}": "²", "--": "–", "$-$": "-"} | {f"\\{one}": one for one in "&%$#_{}"}


def read(text):
    """What LaTeX prints for a cell; anything that is neither plain nor in the table of meanings is an error."""
    result = ""
    while text:
        for code, meaning in MEANING.items():
            if text.startswith(code):
                result, text = result + meaning, text[len(code) :]
                break
        else:
            assert re.match(r"[^\\&%$#_{}~^<>|²–]", text), text
            result, text = result + text[0], text[1:]
    return result


def test_latex_has_the_rules_of_booktabs_and_says_the_same():
    lines = TABLE.latex().rstrip("\n").split("\n")
    assert lines[:5] == [r"\begin{table}", r"\centering", r"\caption{Scores \& more}", r"\begin{tabular}{lrrr}", r"\toprule"]
    assert (lines[6], lines[10:]) == (
        r"\midrule",
        [r"\bottomrule", r"\end{tabular}", r"\par\footnotesize A note of 100 \%.", r"\end{table}"],
    )
    for line, row in zip([lines[5], *lines[7:10]], [TABLE.columns, *TABLE.rows], strict=True):
        assert line.endswith(r" \\")
        cells = re.split(r"(?<!\\) & |(?<=\\\\) & ", line.removesuffix(r" \\"))
        assert len(cells) == 4
        for cell, wanted in zip(cells, row, strict=True):
            bold = re.fullmatch(r"\\textbf\{(.*)\}", cell)
            assert bool(bold) == getattr(wanted, "bold", False)
            assert read(bold[1] if bold else cell) == shown(wanted)


def test_words_cannot_end_a_row_or_become_an_option_of_its_rule():
    table = Table("", ("[group]", "n"), (("[a]\n\nb", 30),))
    assert table.markdown().splitlines()[2] == "| [a] b   | 30 |"
    assert [line for line in table.latex().splitlines() if "[" in line] == [r"{}[group] & n \\", r"{}[a] b & 30 \\"]


def test_a_column_with_one_number_is_a_column_of_numbers():
    assert r"\begin{tabular}{lr}" in Table("", ("group", "n"), (("a", 30), ("b", "<20"))).latex()
