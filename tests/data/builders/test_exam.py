"""Inner London: what the labels of the table mean, and which pupils share a number."""

import numpy as np
import pytest

from fedjax_edu.data import load


@pytest.fixture(scope="module")
def exam(prepared):
    return load("exam", prepared)


def test_four_numbers_stand_for_two_pupils(exam):
    """The vignette of mlmRev lists them: 43:86, 50:39, 52:2 and 52:21, so that 4,055 remain."""
    pairs, counts = np.unique(np.stack([exam.arrays["school"], exam.arrays["student"]], 1), axis=0, return_counts=True)
    assert (len(pairs), pairs[counts > 1].tolist()) == (4_055, [[43, 86], [50, 39], [52, 2], [52, 21]])


def test_scales(exam):
    for leaf in ("normexam", "standLRT"):
        np.testing.assert_allclose([exam.arrays[leaf].mean(), exam.arrays[leaf].std()], [0, 1], atol=0.01)
    means = np.bincount(exam.row_clients, exam.arrays["standLRT"]) / exam.sizes
    np.testing.assert_allclose(exam.attributes["schavg"], means, atol=1e-5)


def test_bands_are_what_the_documentation_warns_of(exam):
    bands = np.bincount(exam.arrays["intake"], exam.arrays["standLRT"]) / np.bincount(exam.arrays["intake"])
    assert (np.diff(bands) < -1).all()  # "bottom 25%" reads best
    order = np.argsort(exam.attributes["schavg"])
    assert (np.diff(exam.attributes["vr"][order]) >= 0).all()  # a band of the school's mean
