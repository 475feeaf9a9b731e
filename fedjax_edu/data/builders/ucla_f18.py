"""UCLA, fall 2018: titles of 3,950 courses in 173 subjects."""

from typing import TYPE_CHECKING

import numpy as np
import tensorflow_datasets as tfds

from fedjax_edu.data.builders.base import Column, TableBuilder

if TYPE_CHECKING:
    import pandas as pd


class UclaF18(TableBuilder):
    """All 3,950 courses of the University of California, Los Angeles, in fall 2018, with their titles; one row a course.

    The client is the subject: 173 of them, numbered in alphabetical order, so that ``texts["subject"][id]`` is the name of a client.
    Titles have 41 characters on average. Three courses have a letter for a number, and NaN as ``course_numeric``.

    The level of a course is in its number, which is therefore never an input where the level is the target: below 100 are
    lower-division courses, from 100 to 199 upper-division ones, from 200 courses for graduates. Titles give ``seminar``, ``laboratory``,
    ``ind_study`` and ``special_topic`` away: they are no targets for a model that reads titles. Year and term, the same for all, and the
    abbreviation of the subject, missing for 552, are left out.

    Licence: GPL-3.0, as part of the R package openintro.
    """

    VERSION = tfds.core.Version("1.0.0")
    TABLE = "openintro::ucla_f18"
    CLIENT = "subject"
    KIND = "subject"
    ATTRIBUTES = ("subject",)
    COLUMNS = (
        Column("subject", "name of the subject", np.str_),
        Column("course", "title of the course", np.str_),
        Column("course_num", "complete number of the course, with its letters; it says the level", np.str_),
        Column("course_numeric", "number of the course without letters; it says the level", np.float32, gaps=True),
        Column("seminar", "whether it is a seminar", np.bool_),
        Column("ind_study", "whether it is a form of independent study", np.bool_),
        Column("apprenticeship", "whether it is an apprenticeship", np.bool_),
        Column("internship", "whether it is an internship", np.bool_),
        Column("honors_contracts", "whether it is an honors contracts course", np.bool_),
        Column("laboratory", "whether it is a laboratory", np.bool_),
        Column("special_topic", "whether it is any of the special types of courses listed", np.bool_),
    )
    CITATION = r"""@manual{openintro,
  title={openintro: Datasets and Supplemental Functions from 'OpenIntro' Textbooks and Labs},
  author={{\c{C}}etinkaya-Rundel, Mine and others},
  note={R package; source: UCLA, Schedule of Classes, retrieved 2018-11-22}
}"""

    @classmethod
    def tidy(cls, table: "pd.DataFrame") -> "pd.DataFrame":
        """The table as it is, with the position of the subject among all names as client."""
        return table.assign(client=table["subject"].rank(method="dense").astype(np.int32) - 1)
