"""Language and arithmetic of 2,287 pupils in 131 primary schools of the Netherlands."""

import numpy as np
import tensorflow_datasets as tfds

from fedjax_edu.data.builders.base import Column, TableBuilder

_NUMBER = "; the R documentation calls it a number and says no more"


class Bdf(TableBuilder):
    """Language and arithmetic scores of 2,287 grade-8 pupils, about eleven years old, in 131 Dutch primary schools; one row a pupil.

    Scores exist before (PRET) and after (POST). No value is missing. The centred columns of the original table follow from the others and
    are left out: IQ.ver.cen, its school mean avg.IQ.ver.cen, and grpSiz.cen. The R documentation says little about several
    school variables; the book does.

    Licence: GPL-2.0-or-later, as part of the R package mlmRev.
    """

    VERSION = tfds.core.Version("1.0.0")
    TABLE = "mlmRev::bdf"
    CLIENT = "schoolNR"
    ATTRIBUTES = ("denomina", "schoolSES")
    COLUMNS = (
        Column("schoolNR", "number of the school"),
        Column("pupilNR", "number of the pupil"),
        Column("classNR", "number of the class; two schools have two classes"),
        Column("IQ_verb", "verbal IQ, points (4 to 18)", np.float32),
        Column("IQ_perf", "performance IQ, points (5 to 17.67)", np.float32),
        Column("sex", "sex of the pupil; the R documentation does not name the codes", levels=("0", "1")),
        Column("Minority", "whether the pupil belongs to a minority", levels=("N", "Y")),
        Column("repeatgr", "grades that the pupil has repeated (0 to 2)"),
        Column("aritPRET", "arithmetic before, test points (1 to 20)", np.float32),
        Column("aritPOST", "arithmetic after, test points (2 to 30)", np.float32),
        Column("langPRET", "language before, test points (11 to 49)", np.float32),
        Column("langPOST", "language after, test points (9 to 58)", np.float32),
        Column("ses", "socio-economic status of the pupil, points (10 to 50)", np.float32),
        Column(
            "denomina",
            "denomination of the school; the R documentation lists public, Protestant, Catholic and non-denominational private schools",
            levels=("1", "2", "3", "4"),
        ),
        Column("schoolSES", "socio-economic status of the school, points (10 to 29)", np.float32),
        Column("satiprin", f"satiprin of the school (2.14 to 4){_NUMBER}", np.float32),
        Column("natitest", "natitest of the school; the R documentation does not name the codes", levels=("0", "1")),
        Column("meetings", f"meetings of the school (1.1 to 3.6){_NUMBER}", np.float32),
        Column("currmeet", f"currmeet of the school (1 to 3.33){_NUMBER}", np.float32),
        Column("mixedgra", "whether the class has pupils of several grades", np.bool_),
        Column("percmino", f"percmino of the class (0 to 90){_NUMBER}", np.float32),
        Column("aritdiff", f"aritdiff of the school (8 to 27){_NUMBER}", np.float32),
        Column("homework", f"homework of the class (1.33 to 3.67){_NUMBER}", np.float32),
        Column("classsiz", "pupils in the class"),
        Column("groupsiz", "pupils of grade 8 in the class"),
    )
    CITATION = """@book{snijders1999multilevel,
  title={Multilevel Analysis: An Introduction to Basic and Advanced Multilevel Modeling},
  author={Snijders, Tom A. B. and Bosker, Roel J.},
  publisher={Sage}, year={1999}
}"""
