"""Inner London: examination scores of 4,059 pupils in 65 schools."""

import numpy as np
import tensorflow_datasets as tfds

from fedjax_edu.data.builders.base import Column, TableBuilder

_BANDS = ("bottom 25%", "mid 50%", "top 25%")


class Exam(TableBuilder):
    """Examination scores of 4,059 pupils in 65 schools of inner London; one row a pupil.

    The number of a pupil counts within the school, and two pupils share one in four cases: 86 in school 43, 39 in 50, 2 and 21 in 52.
    No value is missing.

    Two columns are not what the R documentation says. The bands of ``intake`` run the wrong way: pupils of "bottom 25%" have the highest
    reading scores. And ``vr`` is a band of the school, which follows ``schavg``, not of the pupil. Labels are those of the table.

    Licence: GPL-2.0-or-later, as part of the R package mlmRev.
    """

    VERSION = tfds.core.Version("1.0.0")
    TABLE = "mlmRev::Exam"
    CLIENT = "school"
    ATTRIBUTES = ("schgend", "schavg", "vr", "type")
    COLUMNS = (
        Column("school", "number of the school"),
        Column("student", "number of the pupil within the school"),
        Column("normexam", "examination score, normalised: mean 0, standard deviation 1", np.float32),
        Column("schgend", "who attends the school", levels=("mixed", "boys", "girls")),
        Column("schavg", "mean of standLRT over the school, same scale", np.float32),
        Column("vr", "band of the school's mean score at intake", levels=_BANDS),
        Column("intake", "band of the pupil's score at intake; the labels are reversed", levels=_BANDS),
        Column("standLRT", "London reading test at intake, standardised: mean 0, standard deviation 1", np.float32),
        Column("sex", "sex of the pupil", levels=("F", "M")),
        Column("type", "type of the school: mixed, single-sex", levels=("Mxd", "Sngl")),
    )
    CITATION = """@article{goldstein1993multilevel,
  title={A Multilevel Analysis of School Examination Results},
  author={Goldstein, Harvey and Rasbash, Jon and others},
  journal={Oxford Review of Education}, volume={19}, pages={425--433}, year={1993}
}"""
