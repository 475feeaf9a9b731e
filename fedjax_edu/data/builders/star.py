"""Project STAR: test scores of 11,598 pupils from kindergarten to grade 3 in 80 schools."""

from typing import TYPE_CHECKING

import numpy as np
import tensorflow_datasets as tfds

from fedjax_edu.data.builders.base import Column, TableBuilder

if TYPE_CHECKING:
    import pandas as pd

_RACES = ("W", "B", "A", "H", "I", "O")  # White, Black, Asian, Hispanic, Indian (Native American), other


class Star(TableBuilder):
    """Tennessee's Student Teacher Achievement Ratio experiment, 1985 to 1989: 26,796 rows, one a pupil and grade.

    11,598 pupils were assigned at random to small classes, regular classes and regular classes with a teacher's aide, and tested every
    year from kindergarten to grade 3. The client of a pupil is the first school where the pupil was seen, in every grade; 446 pupils
    change school, and ``sch`` is the school of the row. Rows of a client are sorted by pupil, then grade.

    Missing scores, experience and birth years are NaN, missing categories -1; ``read_present`` and ``math_present`` say which scores
    exist.

    Licence: GPL-2.0-or-later, as part of the R package mlmRev.
    """

    VERSION = tfds.core.Version("1.0.0")
    TABLE = "mlmRev::star"
    CLIENT = "sch"
    ATTRIBUTES = ("schtype",)
    COLUMNS = (
        Column("id", "number of the pupil"),
        Column("sch", "number of the school of this row"),
        Column("tch", "number of the teacher"),
        Column("gr", "grade: kindergarten, 1, 2, 3", levels=("K", "1", "2", "3")),
        Column("read", "total reading score of the Stanford Achievement Test, scaled points", np.float32, gaps=True),
        Column("math", "total mathematics score of the Stanford Achievement Test, scaled points", np.float32, gaps=True),
        Column("read_present", "whether the reading score exists", np.bool_),
        Column("math_present", "whether the mathematics score exists", np.bool_),
        Column("cltype", "class type: small, regular, regular with an aide", levels=("small", "reg", "reg+A")),
        Column("hdeg", "highest degree of the teacher", levels=("ASSOC", "BS/BA", "MS/MA/MEd", "MA+", "Ed.S", "Ed.D/Ph.D")),
        Column("clad", "career ladder position of the teacher", levels=("NOT", "APPR", "PROB", "PEND", "1", "2", "3")),
        Column("exp", "experience of the teacher, years", np.float32, gaps=True),
        Column("trace", "race of the teacher", levels=_RACES),
        Column("ses", "free lunch: F eligible, N not eligible", levels=("F", "N")),
        Column("schtype", "where the school of this row lies", levels=("inner", "suburb", "rural", "urban")),
        Column("sx", "sex of the pupil", levels=("M", "F")),
        Column("eth", "ethnicity of the pupil", levels=_RACES),
        Column("birthq", "quarter of birth", levels=("1", "2", "3", "4")),
        Column("birthy", "year of birth, calendar year", np.float32, gaps=True),
    )
    CITATION = """@article{finn1990answers,
  title={Answers and Questions About Class Size: A Statewide Experiment},
  author={Finn, Jeremy D. and Achilles, Charles M.},
  journal={American Educational Research Journal}, volume={27}, number={3}, pages={557--577}, year={1990}
}"""

    @classmethod
    def tidy(cls, table: "pd.DataFrame") -> "pd.DataFrame":
        """Rows by pupil and grade, with the first school of the pupil as client."""
        table = table.sort_values(["id", "yrs"])  # yrs is the grade as a number
        quarter = table["birthq"].str.split(":").str[1]  # "1980:3"; "NA" where unknown
        return table.assign(
            client=table.groupby("id")["sch"].transform("first"),
            birthq=quarter.where(quarter != "NA"),
            read_present=table["read"].notna(),
            math_present=table["math"].notna(),
        )
