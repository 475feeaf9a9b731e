"""Predictions for schools seen and unseen, of scores and of yes and no."""

import numpy as np
import pytest
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from fedjax_edu.core.errors import ArgumentError, DataError
from fedjax_edu.study import multilevel


def pupils(seed, schools=30, rows=20, effect=1.0, binary=False):
    random = np.random.default_rng(seed)
    school = np.repeat(np.arange(schools), rows)
    inputs = random.normal(size=(schools * rows, 2))
    level = 0.3 + inputs @ [1.0, -0.5] + effect * random.normal(size=schools)[school]
    targets = (random.random(len(school)) < expit(level)).astype(float) if binary else level + random.normal(size=len(school))
    return inputs, targets, school


def test_a_school_never_seen_is_predicted_by_the_fixed_part():
    inputs, targets, schools = pupils(0)
    fitted = multilevel.random_intercept(inputs, targets, schools)
    expected = np.column_stack([np.ones(len(inputs)), inputs]) @ fitted.model.coefficients
    np.testing.assert_allclose(fitted.predict(inputs, schools + 1000), expected)


def test_a_school_that_was_seen_adds_its_shrunk_mean_residual():
    inputs, targets, schools = pupils(0)
    fitted = multilevel.random_intercept(inputs, targets, schools)
    fixed = fitted.predict(inputs, schools + 1000)
    shrunk = fitted.model.between[0, 0] / (fitted.model.between[0, 0] + fitted.model.within / 20)
    for school in (0, 29):
        own = schools == school
        np.testing.assert_allclose(fitted.predict(inputs, schools)[own], fixed[own] + shrunk * (targets - fixed)[own].mean())


def test_the_correlation_is_that_of_targets_not_of_residuals():
    inputs, targets, schools = pupils(0)
    fitted = multilevel.random_intercept(inputs, targets, schools)
    assert fitted.icc == multilevel.fit(multilevel.statistics({"y": targets}, schools), "y").icc
    assert fitted.icc != pytest.approx(fitted.model.icc, abs=0.01)


@pytest.mark.parametrize("binary", [False, True])
def test_inputs_that_repeat_others_change_no_prediction(binary):
    inputs, targets, schools = pupils(1, binary=binary)
    level = (inputs[:, 0] > 0).astype(float)
    once = np.column_stack([inputs, level])
    more = np.column_stack([inputs, level, 1 - level, np.zeros(len(level))])
    small, large = (multilevel.random_intercept(columns, targets, schools, binary=binary) for columns in (once, more))
    assert large.model.fixed == ("intercept", "input 0", "input 1", "input 2")
    np.testing.assert_allclose(large.predict(more, schools), small.predict(once, schools), rtol=1e-6)


def test_a_logistic_model_of_like_schools_is_logistic_regression():
    inputs, targets, _ = pupils(2, schools=10, effect=0.0, binary=True)
    schools = np.repeat(np.arange(8), len(targets))  # the same rows in every school
    fitted = multilevel.random_intercept(np.tile(inputs, (8, 1)), np.tile(targets, 8), schools, binary=True)
    plain = LogisticRegression(C=np.inf, tol=1e-8).fit(inputs, targets)
    np.testing.assert_allclose(fitted.model.coefficients, [*plain.intercept_, *plain.coef_[0]], rtol=1e-4)
    np.testing.assert_allclose(fitted.predict(inputs, schools[: len(inputs)]), plain.predict_proba(inputs)[:, 1], rtol=1e-4)
    assert fitted.icc < 1e-6


def test_a_logistic_model_finds_what_was_simulated():
    inputs, targets, schools = pupils(0, schools=100, rows=100, binary=True)
    fitted = multilevel.random_intercept(inputs, targets, schools, binary=True)
    assert np.all(np.abs(fitted.model.coefficients - [0.3, 1.0, -0.5]) < 3 * fitted.model.standard_errors)
    assert fitted.model.between[0, 0] == pytest.approx(1.0, abs=0.3)  # its standard error is about .15
    assert fitted.model.within == pytest.approx(1.0, abs=0.05)
    null, _ = multilevel.fit_logistic({"y": targets}, schools, "y")
    assert fitted.icc == pytest.approx(null.between[0, 0] / (null.between[0, 0] + np.pi**2 / 3))


def test_schools_seen_are_predicted_better_than_without_their_effects():
    inputs, targets, schools = pupils(3, rows=60, binary=True)
    train = np.arange(len(schools)) % 2 == 0
    fitted = multilevel.random_intercept(inputs[train], targets[train], schools[train], binary=True)
    right = [np.mean((fitted.predict(inputs[~train], known) > 0.5) == targets[~train]) for known in (schools[~train], schools[~train] + 99)]
    assert right[0] > right[1] + 0.03


def test_columns_that_tell_targets_apart_without_error_stay_finite():
    inputs, targets, schools = pupils(4, binary=True)
    rare = (np.arange(len(targets)) % 20 == 0) & (targets == 1)
    level = (inputs[:, 0] > 0) & ~rare
    more = np.column_stack([inputs, level, level | rare])  # two columns that differ in those rows alone
    fitted = multilevel.random_intercept(more, targets, schools, binary=True)
    found = fitted.predict(more, schools)
    assert 0.999 < found[rare].min() <= found[rare].max() < 1 - 1e-6
    without = multilevel.random_intercept(more[~rare], targets[~rare], schools[~rare], binary=True)
    np.testing.assert_allclose(found[~rare], without.predict(more[~rare], schools[~rare]), atol=5e-3)  # their dispersion is 2 % smaller


@pytest.mark.parametrize(
    ("targets", "binary", "message"),
    [
        (np.zeros(599), False, r"^inputs, targets and schools: got shapes \(600, 2\), \(599,\) and \(600,\)"),
        (np.full(600, 2.0), True, r"^columns.target: got .*pass 0 and 1, and both"),
        (np.zeros(600), True, r"^columns.target: got .*pass 0 and 1, and both"),
        (np.full(600, np.nan), False, r"^columns.target: got nan in row 0"),
    ],
)
def test_targets_that_cannot_be_modelled_are_refused(targets, binary, message):
    inputs, _, schools = pupils(0)
    with pytest.raises(DataError, match=message):
        multilevel.random_intercept(inputs, targets, schools, binary=binary)


def test_columns_that_a_model_reads_are_asked_for():
    inputs, targets, schools = pupils(0)
    sent = multilevel.statistics({"x": inputs[:, 0], "y": targets}, schools)
    model = multilevel.fit(sent, "y", ("x",))
    effects = multilevel.school_effects(model, sent)
    with pytest.raises(ArgumentError, match=r"^columns: got \['z'\]; pass 'x' too"):
        multilevel.predict(model, {"z": targets}, effects, schools)
    with pytest.raises(ArgumentError, match=r"^statistics: got columns .*send 'x' too"):
        multilevel.school_effects(model, multilevel.statistics({"y": targets}, schools))
