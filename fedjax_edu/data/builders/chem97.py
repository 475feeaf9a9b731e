"""A-level chemistry, 1997: scores of 31,022 pupils in 2,410 schools."""

import numpy as np
import tensorflow_datasets as tfds

from fedjax_edu.data.builders.base import Column, TableBuilder


class Chem97(TableBuilder):
    """Scores of 31,022 pupils in the A-level chemistry examination of 1997 in Britain; one row a pupil.

    2,410 schools of 131 local education authorities, with 1 to 188 pupils each: many small clients. (The R documentation speaks of 2,280
    schools; the table numbers 2,410.) No value is missing. The centred GCSE score of the original table is left out.

    Licence: GPL-2.0-or-later, as part of the R package mlmRev.
    """

    VERSION = tfds.core.Version("1.0.0")
    TABLE = "mlmRev::Chem97"
    CLIENT = "school"
    ATTRIBUTES = ("lea",)
    COLUMNS = (
        Column("lea", "number of the local education authority"),
        Column("school", "number of the school"),
        Column("student", "number of the pupil"),
        Column("score", "A-level chemistry, points: 0, 2, 4, 6, 8 or 10", np.float32),
        Column("gender", "gender of the pupil", levels=("M", "F")),
        Column("age", "age, months more than 222, which are 18.5 years (-6 to 5)"),
        Column("gcsescore", "mean GCSE score of the pupil, points (0 to 8)", np.float32),
    )
    CITATION = """@article{fielding2003multilevel,
  title={Multilevel ordinal models for examination grades},
  author={Fielding, Antony and Yang, Min and Goldstein, Harvey},
  journal={Statistical Modelling}, volume={3}, number={2}, pages={127--153}, year={2003}
}"""
