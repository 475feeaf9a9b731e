"""ASAP: essays of pupils of the United States to eight prompts, scored by hand (Automated Student Assessment Prize)."""

import os
from typing import TYPE_CHECKING

import numpy as np

from fedjax_edu.data.population import Population
from fedjax_edu.data.readers.assembly import assemble
from fedjax_edu.data.readers.files import Dialect, located, read_table
from fedjax_edu.data.schema import Feature, Task

if TYPE_CHECKING:
    import pandas as pd

_RATERS = ("rater1_domain1", "rater2_domain1")


def asap(place: str | os.PathLike[str]) -> Population:
    """ASAP essays: one client a prompt (``essay_set``), one row an essay, no two of one known pupil.

    Prompts have scales of their own (2 to 12, 0 to 3, 0 to 60, ...), so each is a task, ``set1_domain1`` to ``set8_domain1``, with the raw
    resolved score; prompt 2 is scored for a second domain too, ``set2_domain2``. The leaf ``raters``, int32 [N, 2], has what two people
    gave before scores were resolved, -1 where missing, where the file tells it: their agreement is what a model is held against. The
    essay is a text, :class:`~fedjax_edu.data.schema.Schema` says how it is stored. Quotes of the pupils are not balanced, so a line is a
    row whatever quotes stand in it; readers that let quotes protect line ends lose essays.

    Args:
        place: ``training_set_rel3.tsv`` (any name), or the folder where it lies.

    Raises:
        DataError: the file, a column or a row is not as published.
    """
    path = located(place, "training_set_rel3.tsv")
    table = read_table(
        path,
        {"essay_id": int, "essay_set": int, "essay": str, "domain1_score": float},
        optional={"domain2_score": float, **dict.fromkeys(_RATERS, float)},
        dialect=Dialect(separator="\t", quoted=False, missing=("",)),
    )
    scores = _scores(table)
    raters = {"raters": table[list(_RATERS)].fillna(-1).to_numpy(np.int32)} if set(_RATERS) <= set(table) else {}
    return assemble(
        table.assign(essay=_unquoted(table["essay"]), **scores),
        client="essay_set",
        features=(Feature("essay", "text", description="the essay; names of people, places and dates are masked as @PERSON1 and so on"),),
        tasks=tuple(Task(name, "regression", unit="points") for name in scores),
        order=("essay_id",),
        leaves=raters,
    )


def _unquoted(essays: "pd.Series") -> "pd.Series":
    """Essays without the quotes around them, where all quotes in them are doubled."""
    inside = essays.str.extract(r'^"((?:[^"]|"")*)"$', expand=False).str.replace('""', '"', regex=False)
    return inside.fillna(essays)


def _scores(table: "pd.DataFrame") -> dict[str, "pd.Series"]:
    """The score of each prompt and domain that is scored, NaN at other prompts."""
    return {
        f"set{prompt}_domain{domain}": table[column].where(table["essay_set"] == prompt)
        for prompt in sorted(table["essay_set"].unique())
        for domain, column in ((1, "domain1_score"), (2, "domain2_score"))
        if column in table and table.loc[table["essay_set"] == prompt, column].notna().any()
    }
