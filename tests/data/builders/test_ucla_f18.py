"""Courses of UCLA: texts, names of clients, levels."""

import re

import numpy as np
import pytest

from fedjax_edu.data import load


@pytest.fixture(scope="module")
def courses(prepared):
    return load("ucla_f18", prepared)


def texts(courses, leaf):
    return np.array(courses.texts[leaf])[courses.arrays[leaf]]


def test_clients_have_names(courses):
    names = np.array(courses.texts["subject"])
    np.testing.assert_array_equal(names[courses.attributes["subject"]], names[courses.ids])
    client = courses.client(int(np.flatnonzero(names == "Statistics").item()))
    titles = [courses.texts["course"][position] for position in client["course"]]
    assert "Introduction to Statistical Reasoning" in titles
    chosen = courses.select(courses.sizes >= 5)
    assert (chosen.num_clients, chosen.texts) == (131, courses.texts)


def test_titles_are_short(courses):
    assert round(float(np.mean([len(title) for title in texts(courses, "course")]))) == 41


def test_the_level_is_in_the_number(courses):
    digits = [re.sub(r"\D", "", number) for number in texts(courses, "course_num")]
    parsed = np.array([float(digit) if digit else np.nan for digit in digits], np.float32)
    np.testing.assert_array_equal(courses.arrays["course_numeric"], parsed)
    known = parsed[np.isfinite(parsed)]
    assert np.bincount(np.digitize(known, [100, 200])).tolist() == [643, 1_429, 1_875]
    assert set(texts(courses, "course_num")[~np.isfinite(parsed)]) == {"A", "Z"}


def test_some_columns_are_words_of_the_title(courses):
    titles = texts(courses, "course")
    for leaf, word in (("seminar", "eminar"), ("laboratory", "Laborator")):
        np.testing.assert_array_equal(courses.arrays[leaf], [word in title for title in titles])
