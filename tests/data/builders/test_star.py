"""Project STAR against numbers published for it."""

import numpy as np
import pytest

from fedjax_edu.data import load, vocabulary


@pytest.fixture(scope="module")
def star(prepared):
    return load("star", prepared)


@pytest.fixture(scope="module")
def rows(star):
    return star.arrays


def levels(name, codes):
    return np.array([*vocabulary("star")[name], "missing"])[codes]


def test_counts(star, rows):
    assert (star.num_clients, star.num_examples) == (80, 26_796)
    assert [len(np.unique(rows[name])) for name in ("id", "sch", "tch")] == [11_598, 80, 1_387]
    assert np.bincount(rows["gr"]).tolist() == [6_325, 6_829, 6_840, 6_802]
    assert np.bincount(np.unique(rows["id"], return_counts=True)[1]).tolist() == [0, 4_314, 2_455, 1_744, 3_085]
    per_school = np.unique(rows["sch"], return_counts=True)[1]
    assert np.quantile(per_school, [0, 0.25, 0.5, 0.75, 1]).astype(int).tolist() == [54, 261, 318, 405, 826]


def test_what_is_missing_is_marked(star, rows):
    assert {name: int(np.isnan(rows[name]).sum()) for name in star.allow_nonfinite} == {
        "birthy": 73,
        "exp": 193,
        "math": 2_183,
        "read": 2_534,
    }
    for name in ("read", "math"):
        np.testing.assert_array_equal(rows[f"{name}_present"], ~np.isnan(rows[name]))
    gaps = {name: int((rows[name] == -1).sum()) for name in vocabulary("star")}
    expected = {"hdeg": 167, "clad": 809, "trace": 227, "ses": 828, "sx": 20, "eth": 146, "birthq": 66}
    assert gaps == expected | {"gr": 0, "cltype": 0, "schtype": 0}


def test_levels(rows):
    counts = {name: dict(zip(*np.unique(levels(name, rows[name]), return_counts=True), strict=True)) for name in vocabulary("star")}
    assert counts["cltype"] == {"small": 8_015, "reg": 9_192, "reg+A": 9_589}
    assert counts["hdeg"] == {"BS/BA": 16_586, "MS/MA/MEd": 9_587, "Ed.S": 237, "MA+": 161, "Ed.D/Ph.D": 58, "missing": 167}
    assert counts["schtype"] == {"rural": 12_561, "suburb": 6_428, "inner": 5_624, "urban": 2_183}
    assert counts["eth"] == {"W": 17_628, "B": 8_869, "A": 66, "O": 38, "H": 35, "I": 14, "missing": 146}
    assert counts["trace"] == {"W": 21_550, "B": 5_005, "A": 14, "missing": 227}
    assert counts["birthq"]["1"] == 5 + 126 + 986 + 5_625 + 22 + 1  # 1977:1 ... 1982:1


def test_the_client_of_a_pupil_is_the_first_school_seen(star, rows):
    order = np.lexsort((rows["gr"], rows["id"]))
    pupils, first, pupil = np.unique(rows["id"][order], return_index=True, return_inverse=True)
    client = star.ids[star.row_clients][order]
    np.testing.assert_array_equal(client, rows["sch"][order][first][pupil])
    movers = np.unique(rows["id"][order][rows["sch"][order] != client])
    assert (len(pupils), len(movers)) == (11_598, 446)


def test_rows_stand_by_pupil_and_grade(star, rows):
    key = (star.row_clients.astype(np.int64) << 32) + rows["id"] * 4 + rows["gr"]
    assert (np.diff(key) > 0).all()


def test_the_attribute_is_that_of_the_school_itself(star, rows):
    for id_, kind in zip(star.ids, star.attributes["schtype"], strict=True):
        assert set(rows["schtype"][rows["sch"] == id_]) == {kind}


def test_rows_of_the_protocol(rows):
    """Rows above kindergarten with both scores and last year's mathematics; rows below grade 3."""
    order = np.lexsort((rows["gr"], rows["id"]))
    pupil, grade, read, math = (rows[name][order] for name in ("id", "gr", "read", "math"))
    before = np.concatenate([[np.nan], np.where(pupil[1:] == pupil[:-1], math[:-1], np.nan)])
    assert ((grade > 0) & np.isfinite(read) & np.isfinite(math) & np.isfinite(before)).sum() == 13_527
    assert (grade < 3).sum() == 19_994


def test_the_effect_of_small_classes_in_kindergarten(rows):
    """Stock and Watson, Introduction to Econometrics, table 13.1: 918.04 in regular classes, +13.90 in small ones, +0.31 with an aide."""
    total = rows["read"].astype(np.float64) + rows["math"]
    kept = (rows["gr"] == 0) & np.isfinite(total)
    small, regular, aide = (total[kept & (levels("cltype", rows["cltype"]) == kind)].mean() for kind in ("small", "reg", "reg+A"))
    np.testing.assert_allclose([regular, small - regular, aide - regular], [918.04, 13.90, 0.31], atol=0.01)
