"""KDD Cup 2010: steps of pupils in the Cognitive Tutor, Algebra and Bridge to Algebra."""

import os

from fedjax_edu.core.errors import ArgumentError
from fedjax_edu.data.population import Population
from fedjax_edu.data.readers.files import Dialect, located, read_table
from fedjax_edu.data.readers.interactions import joined_skills, log_population, seconds
from fedjax_edu.data.schema import Feature


def kdd_cup(file: str | os.PathLike[str], skills: str = "KC(Default)") -> Population:
    """A file of the KDD Cup 2010: one client a pupil, for schools are not told.

    A row is a step of a problem, the question is the problem with the step, and what counts is the first attempt; knowledge components are
    its skills. A step without an answer, as in the files of the competition's test, is left out.
    See :mod:`fedjax_edu.data.readers.interactions` for the leaves.

    Args:
        file: such as ``algebra_2005_2006_train.txt``, separated by tabs.
        skills: the column of knowledge components: ``KC(Default)``, or ``KC(SubSkills)``, ``KC(KTracedSkills)``, ``KC(Rules)`` where the
            file has them.

    Raises:
        DataError: the file, a column or a row is not as published.

    Reference: Stamper, Niculescu-Mizil, Ritter, Gordon and Koedinger, Challenge data sets from KDD Cup 2010, DataShop.
    """
    path = located(file, "")
    if path.is_dir():
        raise ArgumentError("file", str(path), "name one file of the folder, such as algebra_2005_2006_train.txt")
    table = read_table(
        path,
        {
            "Anon Student Id": str,
            "Problem Hierarchy": str,
            "Problem Name": str,
            "Problem View": float,
            "Step Name": str,
            "First Transaction Time": str,
            "Correct First Attempt": float,
            skills: str,
        },
        dialect=Dialect(separator="\t", quoted=False, missing=("",)),
    )
    return log_population(
        table.assign(step=table["Problem Name"] + " / " + table["Step Name"], clock=seconds(path, table["First Transaction Time"])),
        joined_skills(table[skills], "~~"),
        path.name,
        client="Anon Student Id",
        student="Anon Student Id",
        question="step",
        correct="Correct First Attempt",
        time="clock",
        clock=True,
        features=(
            Feature("Problem Hierarchy", "category", (), "unit and section of the curriculum"),
            Feature("Problem View", "number", (), "how often the pupil has met the problem, this time included", "times"),
        ),
    )
