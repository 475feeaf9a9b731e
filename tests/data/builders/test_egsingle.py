"""The Sustaining Effects Study: pupils, years, repeated grades."""

import numpy as np
import pytest

from fedjax_edu.data import load


@pytest.fixture(scope="module")
def egsingle(prepared):
    return load("egsingle", prepared)


def test_pupils_stand_together_in_time_order(egsingle):
    rows = egsingle.arrays
    key = (egsingle.row_clients.astype(np.int64) << 34) + (rows["childid"].astype(np.int64) << 4) + (2 * rows["year"]).astype(int) + 5
    assert (np.diff(key) > 0).all()
    pupils, first, observations = np.unique(rows["childid"], return_index=True, return_counts=True)
    assert np.bincount(observations).tolist() == [0, 0, 5, 542, 328, 794, 52]
    assert sum(observations - 1) == 5_509  # rows of the protocol: the mathematics before is known
    assert len(np.unique(egsingle.row_clients[first] * 10**9 + pupils)) == len(pupils)


def test_a_grade_is_repeated_where_it_says_so(egsingle):
    rows = egsingle.arrays
    again = np.flatnonzero((np.diff(rows["childid"]) == 0) & (np.diff(rows["grade"]) == 0)) + 1
    assert len(again) == 332
    assert rows["retained"][again].all()
    ever = np.unique(rows["childid"][rows["retained"]])
    assert round(len(ever) / 1_721, 3) == 0.206
