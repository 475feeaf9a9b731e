"""GCSE science: two scores of 1,905 pupils in 73 schools, many of them missing."""

import numpy as np
import tensorflow_datasets as tfds

from fedjax_edu.data.builders.base import Column, TableBuilder


class Gcsemv(TableBuilder):
    """Written paper and coursework of 1,905 pupils in the GCSE examination of a science subject, 73 schools in England; one row a pupil.

    A pupil has one score or both: the written paper is missing for 202 pupils, coursework for 180, none lacks both. Missing scores are
    NaN. The number of a pupil counts within the school.

    Licence: GPL-2.0-or-later, as part of the R package mlmRev.
    """

    VERSION = tfds.core.Version("1.0.0")
    TABLE = "mlmRev::Gcsemv"
    CLIENT = "school"
    COLUMNS = (
        Column("school", "number of the school"),
        Column("student", "number of the pupil within the school"),
        Column("gender", "gender of the pupil", levels=("F", "M")),
        Column("written", "total of the written paper, points (0.6 to 90)", np.float32, gaps=True),
        Column("course", "total of the coursework, points (9.25 to 100)", np.float32, gaps=True),
    )
    CITATION = """@manual{rasbash2000users,
  title={A user's guide to {MLwiN}},
  author={Rasbash, Jon and others},
  organization={Institute of Education, University of London}, year={2000}, note={Multivariate response models}
}"""
