"""Sustaining Effects Study: growth in mathematics of 1,721 pupils in 60 schools."""

from typing import TYPE_CHECKING

import numpy as np
import tensorflow_datasets as tfds

from fedjax_edu.data.builders.base import Column, TableBuilder

if TYPE_CHECKING:
    import pandas as pd


class Egsingle(TableBuilder):
    """Growth in mathematics over six years in 60 primary schools of the United States: 7,230 rows, one a pupil and year.

    A subset of the Sustaining Effects Study that comes with the software HLM: 1,721 pupils, tested two to six times each, none of whom
    changes school. Rows of a client are sorted by pupil, then year. No value is missing.

    The labels of ``female`` are those of mlmRev, and look swapped: pupils whom it calls Female have female = 0 in the file of HLM.

    Licence: GPL-2.0-or-later, as part of the R package mlmRev.
    """

    VERSION = tfds.core.Version("1.0.0")
    TABLE = "mlmRev::egsingle"
    CLIENT = "schoolid"
    ATTRIBUTES = ("size", "lowinc", "mobility")
    COLUMNS = (
        Column("schoolid", "number of the school"),
        Column("childid", "number of the pupil"),
        Column("year", "time of the test, years, centred (-2.5 to 2.5)", np.float32),
        Column("grade", "grade of the pupil (0 to 5)"),
        Column("math", "mathematics achievement, points of a scale from item response theory (-5.219 to 5.766)", np.float32),
        Column("retained", "whether the pupil repeats the grade in this row", np.bool_),
        Column("female", "sex of the pupil, as mlmRev labels it, probably swapped", levels=("Female", "Male")),
        Column("black", "whether the pupil is black", np.bool_),
        Column("hispanic", "whether the pupil is Hispanic", np.bool_),
        Column("size", "pupils enrolled in the school"),
        Column("lowinc", "pupils of the school from families with low income, per cent", np.float32),
        Column("mobility", "mobility of the school's pupils (8.8 to 67); the R documentation names no unit", np.float32),
    )
    CITATION = """@article{doran2006fitting,
  title={Fitting Value-Added Models in {R}},
  author={Doran, Harold C. and Lockwood, J. R.},
  journal={Journal of Educational and Behavioral Statistics}, volume={31}, year={2006}
}"""

    @classmethod
    def tidy(cls, table: "pd.DataFrame") -> "pd.DataFrame":
        """Rows by pupil and year, with the school as client."""
        return super().tidy(table.sort_values(["childid", "year"]))
