"""Rows and inputs of the school protocol, against pandas on a small table with every kind of trap."""

import numpy as np
import pandas as pd
import pytest

from fedjax_edu.data import Population
from fedjax_edu.data.studies.single import HSB
from fedjax_edu.data.studies.star import star_examples

CATEGORIES = ("gr", "ses", "schtype", "sx", "eth", "cltype", "hdeg", "clad")


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    """40 pupils in 3 schools, some with gaps between grades, some without scores; sorted as the data set is."""
    rng = np.random.default_rng(0)
    rows = []
    for pupil in range(40):
        for grade in np.flatnonzero(rng.random(4) < 0.7):
            scores = np.where(rng.random(2) < 0.8, rng.normal(500, 40, 2).round(), np.nan)
            codes = {name: rng.integers(-1, 3) for name in CATEGORIES[1:]}
            rows.append({"school": pupil % 3, "id": pupil, "gr": grade, "read": scores[0], "math": scores[1], **codes})
    frame = pd.DataFrame(rows).sort_values(["school", "id", "gr"]).reset_index(drop=True)
    frame["exp"] = np.where(rng.random(len(frame)) < 0.9, rng.integers(1, 4, len(frame)), np.nan)
    frame["birthy"] = 1980.0
    return frame


@pytest.fixture(scope="module")
def star(table):
    offsets = np.searchsorted(table["school"], [0, 1, 2, 3])
    arrays = {name: table[name].to_numpy() for name in table.columns}
    population = Population.from_arrays(arrays, offsets, ids=[5, 9, 11], allow_nonfinite=["read", "math", "exp"])
    return star_examples(population, dict.fromkeys(CATEGORIES, ("a", "b", "c", "d")))


@pytest.fixture(scope="module")
def expected(table) -> pd.DataFrame:
    """The protocol's code, as the published baselines write it."""
    frame = table.copy()
    for score in ("read", "math"):
        for lag in (1, 2):
            frame[f"{score}_{lag}_before"] = frame.groupby("id")[score].shift(lag)
    frame["leaves"] = frame.groupby("id")["gr"].shift(-1).isna().astype(float)
    return frame


def test_a_scores_row_needs_both_scores_and_the_previous_mathematics(star, expected):
    kept = expected[(expected.gr > 0) & expected.math.notna() & expected.read.notna() & expected.math_1_before.notna()]
    rows = np.isfinite(star.targets["math"])
    assert 0 < len(kept) < len(expected)
    for task in ("math", "read"):
        np.testing.assert_array_equal(star.targets[task][rows], kept[task])
    np.testing.assert_array_equal(star.pupil[rows], kept["id"])
    for lag in (1, 2):
        for score in ("read", "math"):
            np.testing.assert_array_equal(star.numbers[f"{score}_{lag}_before"][rows], kept[f"{score}_{lag}_before"])


def test_a_scores_row_never_sees_a_score_of_its_year(star):
    rows = np.isfinite(star.targets["math"]) | np.isfinite(star.targets["read"])
    for score in ("read", "math"):
        assert np.isnan(star.numbers[f"{score}_same_year"][rows]).all()


def test_a_leaves_row_sees_the_scores_of_its_year(star, expected):
    kept = expected[expected.gr < 3]
    rows = np.isfinite(star.targets["leaves"])
    np.testing.assert_array_equal(star.targets["leaves"][rows], kept["leaves"])
    assert set(kept["leaves"]) == {0.0, 1.0}
    for score in ("read", "math"):
        np.testing.assert_array_equal(star.numbers[f"{score}_same_year"][rows], kept[score])


def test_a_row_has_targets_of_one_kind_and_its_school(star, table):
    scores, leaves = np.isfinite(star.targets["math"]), np.isfinite(star.targets["leaves"])
    assert np.array_equal(scores, ~leaves)
    school = dict(zip(table["id"], np.array([5, 9, 11])[table["school"]], strict=True))
    assert star.school.tolist() == [school[pupil] for pupil in star.pupil]
    assert np.all(np.diff(star.school) >= 0)


def test_a_classroom_is_one_combination_within_a_school(star):
    key = [star.school, *(star.categories[name] for name in ("gr", "cltype", "hdeg", "clad")), np.nan_to_num(star.numbers["exp"], nan=-1)]
    combinations = pd.DataFrame(np.stack(key, axis=1)).astype(str).agg("|".join, axis=1)
    pairs = {(school, room) for school, room in zip(star.school.tolist(), star.classroom.tolist(), strict=True)}
    assert len(pairs) == combinations.nunique() == len(set(zip(combinations, star.classroom, strict=True)))


def test_hsb_keeps_every_pupil():
    arrays = {name: np.arange(4) % 2 for name in ("minrty", "sx", "sector")} | {name: np.arange(4.0) for name in ("ses", "meanses", "mAch")}
    levels = {"minrty": ("No", "Yes"), "sx": ("Male", "Female"), "sector": ("Public", "Catholic")}
    examples = HSB(Population.from_arrays(arrays, [0, 1, 4], ids=[1224, 1288]), levels)
    assert examples.school.tolist() == [1224, 1288, 1288, 1288]
    assert examples.targets["mach"].tolist() == [0.0, 1.0, 2.0, 3.0]
    assert sorted(examples.numbers) == ["meanses", "ses"]
    assert len(set(examples.pupil)) == 4
