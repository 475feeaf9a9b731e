"""Standard errors against closed forms, p-values against SciPy, Holm's correction against his example."""

import numpy as np
import pytest
from scipy import stats

from fedjax_edu.study.intervals import draw_schools, holm, interval, p_value, standard_error


def test_draws_have_as_many_schools_as_there_are_and_choose_each_alike():
    times = draw_schools(20, 4000, seed=0)
    assert (times.sum(axis=1) == 20).all()
    assert times.mean(axis=0) == pytest.approx(1.0, abs=0.08)
    assert times.var() == pytest.approx(1 - 1 / 20, rel=0.05)
    assert (draw_schools(20, 5, seed=0) == times[:5]).all()


def test_the_interval_of_a_mean_of_schools_is_that_of_the_t_test():
    """The bootstrap knows the t test's standard error, up to draws: it must come from schools that differ, not from their copies."""
    values = np.random.default_rng(1).normal(1.0, 2.0, size=12)
    draws = draw_schools(12, 20_000, seed=0) @ values / 12
    error = standard_error(draws, 12)
    found, test = interval(values.mean(), error, 12), stats.ttest_1samp(values, 0.0)
    assert error == pytest.approx(stats.sem(values), rel=0.02)
    assert (found.low, found.high) == pytest.approx(tuple(test.confidence_interval(0.95)), abs=0.03)
    assert p_value(values.mean(), error, 12) == pytest.approx(test.pvalue, abs=0.01)


@pytest.mark.parametrize("error", [0.49, 0.51])
def test_an_interval_leaves_out_zero_exactly_where_p_is_below_5_percent(error):
    edge = stats.t.ppf(0.975, 7) * 0.5
    found = interval(-edge, error, 8)
    assert (found.high < 0) == (p_value(-edge, error, 8) < 0.05) == (error < 0.5)


def test_what_cannot_be_known_is_nan():
    assert np.isnan(standard_error(np.array([1.0, 2.0]), schools=1))
    assert np.isnan(standard_error(np.array([np.nan, np.nan]), schools=5))
    assert standard_error(np.array([1.0, np.nan, 3.0]), schools=2) == pytest.approx(2.0)
    assert np.isnan(p_value(np.nan, 1.0, 5))


def test_models_that_never_differ_do_not_differ():
    assert p_value(0.0, 0.0, 5) == 1.0
    assert p_value(0.1, 0.0, 5) == 0.0


def test_holms_correction_by_hand():
    """Ordered .01, .02, .03, .04 times 4, 3, 2, 1 is .04, .06, .06, .04: the last may not be worth less than the one before it."""
    assert holm(np.array([0.03, 0.01, 0.04, 0.02])) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm(np.array([0.6, 0.5])).tolist() == [1.0, 1.0]
    assert holm(np.array([])).tolist() == []


def test_a_comparison_that_could_not_be_made_is_no_part_of_the_family():
    found = holm(np.array([np.nan, 0.01, 0.02]))
    assert np.isnan(found[0])
    assert found[1:] == pytest.approx([0.02, 0.02])
