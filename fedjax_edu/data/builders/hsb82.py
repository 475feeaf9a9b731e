"""High School and Beyond, 1982: mathematics achievement of 7,185 pupils in 160 schools."""

import numpy as np
import tensorflow_datasets as tfds

from fedjax_edu.data.builders.base import Column, TableBuilder


class Hsb82(TableBuilder):
    """Mathematics achievement of 7,185 pupils in 160 high schools of the United States, 1982; one row a pupil.

    A sample of the study High School and Beyond, the standard example of multilevel models. 90 schools are public and 70 Catholic,
    with 14 to 67 pupils each. No value is missing. The school-centred status of the original table is ses - meanses, and left out.

    Licence: GPL-2.0-or-later, as part of the R package mlmRev.
    """

    VERSION = tfds.core.Version("1.0.0")
    TABLE = "mlmRev::Hsb82"
    CLIENT = "school"
    ATTRIBUTES = ("sector", "meanses")
    COLUMNS = (
        Column("school", "number of the school"),
        Column("minrty", "whether the pupil belongs to a minority", levels=("No", "Yes")),
        Column("sx", "sex of the pupil", levels=("Male", "Female")),
        Column("ses", "socio-economic status of the pupil, a standardised score without unit", np.float32),
        Column("meanses", "mean of ses over the sampled pupils of the school, same scale", np.float32),
        Column("sector", "who runs the school", levels=("Public", "Catholic")),
        Column("mAch", "mathematics achievement, test points (-2.832 to 24.993)", np.float32),
    )
    CITATION = """@book{raudenbush2002hierarchical,
  title={Hierarchical Linear Models: Applications and Data Analysis Methods},
  author={Raudenbush, Stephen W. and Bryk, Anthony S.},
  edition={2nd}, publisher={Sage}, year={2002}, note={chapter 4}
}"""
