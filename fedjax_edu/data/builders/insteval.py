"""ETH Zurich: 73,421 ratings of 1,128 lecturers by 2,972 students."""

import numpy as np
import tensorflow_datasets as tfds

from fedjax_edu.data.builders.base import Column, TableBuilder


class Insteval(TableBuilder):
    """Ratings of lectures at ETH Zurich: 2,972 students, 1,128 lecturers of 14 departments; one row a student and lecturer.

    The client is the lecturer; students rate about 25 lecturers each, so their rows lie at many clients. Rows of a client are sorted by
    student. No value is missing. The data are anonymised: departments and people have random numbers.

    Licence: GPL-2.0-or-later, as part of the R package lme4.
    """

    VERSION = tfds.core.Version("1.0.0")
    TABLE = "lme4::InstEval"
    CLIENT = "d"
    KIND = "lecturer"
    ATTRIBUTES = ("dept",)
    COLUMNS = (
        Column("s", "number of the student (1 to 2972)"),
        Column("d", "number of the lecturer (of 1 to 2160)"),
        Column("studage", "how long the student has been enrolled, semesters: 2, 4, 6 or 8"),
        Column("lectage", "how long ago the lecture was, semesters (1 to 6)"),
        Column("service", "whether the lecture was held for another department than the lecturer's own", np.bool_),
        Column("dept", "number of the department (of 1 to 15)"),
        Column("y", "rating, from 1 (poor) to 5 (very good)"),
    )
    CITATION = r"""@article{bates2015fitting,
  title={Fitting Linear Mixed-Effects Models Using lme4},
  author={Bates, Douglas and M{\"a}chler, Martin and Bolker, Ben and Walker, Steve},
  journal={Journal of Statistical Software}, volume={67}, number={1}, pages={1--48}, year={2015}
}"""
