"""Fife, Scotland: attainment of 3,435 pupils from 148 primary and 19 secondary schools."""

import numpy as np
import tensorflow_datasets as tfds

from fedjax_edu.data.builders.base import Column, TableBuilder


class Scotssec(TableBuilder):
    """Attainment at age 16 of 3,435 pupils in Fife, Scotland, with the primary and the secondary school of each; one row a pupil.

    Primary and secondary schools are crossed: pupils of one primary school go to several secondary schools. The client is the primary
    school. No value is missing, and pupils have no number.

    Licence: GPL-2.0-or-later, as part of the R package mlmRev.
    """

    VERSION = tfds.core.Version("1.0.0")
    TABLE = "mlmRev::ScotsSec"
    CLIENT = "primary"
    COLUMNS = (
        Column("primary", "number of the primary school"),
        Column("second", "number of the secondary school"),
        Column("attain", "attainment at age 16, points of a standardised test (1 to 10)", np.float32),
        Column("verbal", "verbal reasoning on entry to secondary school, test points (-30 to 40)", np.float32),
        Column("sex", "sex of the pupil", levels=("M", "F")),
        Column("social", "social class of the pupil, a number from low to high: 0, 1, 20 or 31"),
    )
    CITATION = """@article{paterson1991socio,
  title={Socio economic status and educational attainment: a multidimensional and multilevel study},
  author={Paterson, Lindsay},
  journal={Evaluation and Research in Education}, volume={5}, pages={97--121}, year={1991}
}"""
