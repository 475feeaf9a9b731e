"""PISA: schools as clients, ten plausible values a test, weights; and Rubin's rules."""

import sys

import numpy as np
import pytest
import scipy.stats

from fedjax_edu.core.errors import ArgumentError, DataError, MissingDependencyError
from fedjax_edu.data.readers import combine_plausible_values, pisa
from tests.data.readers import public_files


def test_pupils(tmp_path):
    population = pisa(public_files.pisa(tmp_path))
    arrays = population.arrays
    assert population.texts == {"school": ("ALB 800001", "ALB 800002", "DEU 800001")}
    assert population.offsets.tolist() == [0, 1, 2, 3]
    assert arrays["weight"].tolist() == [2.25, 1.25, 3.25]
    assert arrays["weight"].dtype == np.float32
    tasks = [task.name for task in population.schema.tasks]
    assert tasks == [f"PV{draw}{subject}" for subject in ("MATH", "READ", "SCIE") for draw in range(1, 11)]
    for position, name in enumerate(tasks):
        assert arrays["targets"][name].tolist() == [500 + position, 400 + position, 600 + position]
    assert arrays["categories"]["ST004D01T"].tolist() == [1, 0, 0]
    assert arrays["numbers"]["ESCS"].tolist() == [0, -0.5, 0]
    assert arrays["present"]["ESCS"].tolist() == [False, True, False]
    assert not arrays["present"]["IMMIG"].any()
    assert population.schema.groups == {"sex": ("ST004D01T",), "ses": ("ESCS",)}


def test_the_school_file_is_joined_by_country_and_number(tmp_path):
    arrays = pisa(public_files.pisa(tmp_path)).arrays
    assert arrays["numbers"]["SCHSIZE"].tolist() == [600, 0, 700]
    assert arrays["present"]["SCHSIZE"].tolist() == [True, False, True]
    assert arrays["categories"]["SCHLTYPE"].tolist() == [1, -1, 0]
    (tmp_path / "CY08MSP_SCH_QQQ.CSV").unlink()
    assert [feature.name for feature in pisa(tmp_path).schema.features] == ["AGE", "ESCS", "ST004D01T", "IMMIG"]


def test_inputs_and_tests_are_a_choice(tmp_path):
    population = pisa(public_files.pisa(tmp_path), subjects=("READ",), numbers=("AGE",), categories=(), school_categories=())
    assert [feature.name for feature in population.schema.features] == ["AGE", "SCHSIZE", "STRATIO"]
    assert len(population.schema.tasks) == 10
    assert population.schema.groups == {}
    with pytest.raises(DataError, match=r"no column 'PV1FLIT'"):
        pisa(tmp_path, subjects=("FLIT",))


def test_no_student_file_or_two(tmp_path):
    with pytest.raises(DataError, match=r"no file \*STU_QQQ; expected the student file as .csv, .sav, .sas7bdat"):
        pisa(tmp_path)
    (public_files.pisa(tmp_path) / "CY07_MSU_STU_QQQ.sav").touch()
    with pytest.raises(DataError, match=r"CY07_MSU_STU_QQQ.sav and CY08MSP_STU_QQQ.CSV; expected one file"):
        pisa(tmp_path)


def test_spss_files_need_pyreadstat(tmp_path, monkeypatch):
    (tmp_path / "CY07_MSU_STU_QQQ.sav").touch()
    monkeypatch.setitem(sys.modules, "pyreadstat", None)
    with pytest.raises(MissingDependencyError, match=r'pyreadstat.*pip install "fedjax_edu\[readers\]"'):
        pisa(tmp_path)


def test_spss_files_say_the_same_as_text(tmp_path):
    pyreadstat = pytest.importorskip("pyreadstat")
    import pandas as pd

    expected = pisa(public_files.pisa(tmp_path))
    for text in list(tmp_path.iterdir()):
        table = pd.read_csv(text, na_values=[".M"], keep_default_na=True)
        pyreadstat.write_sav(table.assign(IMMIG=table.get("IMMIG", np.nan)), str(text.with_suffix(".SAV")))
        text.unlink()
    population = pisa(tmp_path)
    assert population.schema == expected.schema
    assert population.texts == expected.texts
    for (name, leaf), same in zip(expected.leaves().items(), population.leaves().values(), strict=True):
        np.testing.assert_array_equal(leaf, same, err_msg=name)
    with pytest.raises(DataError, match="no column 'ESKS', the nearest is 'ESCS'"):
        pisa(tmp_path, numbers=("ESKS",))
    (tmp_path / "CY08MSP_STU_QQQ.SAV").write_bytes(b"no SPSS file")
    with pytest.raises(DataError, match="get the file anew"):
        pisa(tmp_path)


def test_rubins_rules_by_hand():
    """Q = 4, 6, 8 with variances 1, 2, 3: mean 6, within 2, between 4, total 2 + 4/3 * 4."""
    combined = combine_plausible_values([4.0, 6.0, 8.0], [1.0, 2.0, 3.0])
    assert combined.estimate == 6
    assert combined.variance == pytest.approx(2 + 16 / 3, rel=1e-12)
    several = combine_plausible_values(np.array([[4.0, 0.0], [6.0, 0.0], [8.0, 0.0]]), np.array([[1.0, 5.0], [2.0, 5.0], [3.0, 5.0]]))
    np.testing.assert_allclose(several.variance, [2 + 16 / 3, 5], rtol=1e-12)


def test_intervals_from_plausible_values_cover_and_those_of_their_mean_do_not():
    """Pupils with ability N(0, 1), tests with error 1, ten draws from each posterior: the variance of the abilities, 1, by ten analyses."""
    random = np.random.default_rng(0)
    simulations, pupils, draws = 400, 400, 10
    ability = random.normal(size=(simulations, pupils))
    posterior = (ability + random.normal(size=ability.shape)) / 2  # mean given the test, with variance 1/2
    values = posterior[..., None] + random.normal(size=(simulations, pupils, draws)) * np.sqrt(0.5)
    squares = values**2
    estimates = squares.mean(axis=1).T  # the second moment, whose truth is 1
    combined = combine_plausible_values(estimates, (squares.var(axis=1) / pupils).T)
    width = scipy.stats.norm.ppf(0.975) * np.sqrt(combined.variance)
    assert np.mean(np.abs(combined.estimate - 1) < width) > 0.92
    assert np.mean(values.mean(axis=2) ** 2) < 0.6  # the mean of the draws is no score


@pytest.mark.parametrize(
    ("estimates", "variances", "argument"),
    [([1.0], [1.0], "estimates"), (1.0, 1.0, "estimates"), ([1.0, 2.0], [1.0], "variances"), ([1.0, 2.0], [1.0, -1.0], "variances")],
)
def test_what_cannot_be_combined(estimates, variances, argument):
    with pytest.raises(ArgumentError) as raised:
        combine_plausible_values(estimates, variances)
    assert raised.value.argument == argument
