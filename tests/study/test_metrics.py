"""Scores against scikit-learn and closed forms, intervals against known sampling distributions."""

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import r2_score, roc_auc_score

from fedjax_edu.study import metrics
from tests.study.small import TASKS

R2, AUC = TASKS[0], TASKS[3]


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    targets = rng.normal(size=300)
    return np.repeat(np.arange(10), 30), targets, targets + rng.normal(size=300)


def test_scores_are_those_of_scikit_learn(rows):
    _, targets, predictions = rows
    assert metrics.score(R2, targets, predictions) == pytest.approx(r2_score(targets, predictions))
    assert metrics.score(AUC, targets > 0, predictions) == pytest.approx(roc_auc_score(targets > 0, predictions))


def test_a_weight_is_a_repetition(rows):
    _, targets, predictions = rows
    weights = np.random.default_rng(1).integers(0, 3, 300)
    for task, wanted in ((R2, targets), (AUC, (targets > 0).astype(float))):
        repeated = metrics.score(task, np.repeat(wanted, weights), np.repeat(predictions, weights))
        assert metrics.score(task, wanted, predictions, weights.astype(float)) == pytest.approx(repeated)


@pytest.mark.parametrize("task", [AUC, R2])
def test_a_model_that_diverged_has_no_score(task):
    assert np.isnan(metrics.score(task, np.array([0.0, 1.0, 1.0]), np.array([0.5, np.nan, np.inf])))


def test_a_score_without_variation_does_not_exist():
    assert np.isnan(metrics.score(AUC, np.ones(5), np.arange(5.0)))
    assert np.isnan(metrics.score(R2, np.array([1.0, 1.0, 2.0]), np.zeros(3), np.array([1.0, 1.0, 0.0])))


def test_small_schools_are_left_out(rows):
    school, targets, predictions = rows
    small = np.where(np.arange(300) < 15, 99, school)  # school 99 has 15 rows, school 0 the other 15
    scores = metrics.by_school(R2, small, targets, predictions)
    assert sorted(scores) == list(range(1, 10))
    assert scores[3] == pytest.approx(r2_score(targets[90:120], predictions[90:120]))


def test_a_tenth_of_the_schools_stay_below_the_tenth_quantile():
    assert metrics.tenth_quantile({school: float(school) for school in range(11)}) == 1.0
    assert np.isnan(metrics.tenth_quantile({}))


def test_the_bootstrap_over_schools_has_the_spread_of_a_mean_of_schools():
    """Rows of a school are copies of one draw, so the interval must come from 50 schools, not from 500 rows."""
    effect = np.random.default_rng(2).normal(size=50)
    values = np.repeat(effect, 10)
    found = metrics.over_schools(np.repeat(np.arange(50), 10), lambda weights: float(np.average(values, weights=weights)), seed=0)
    theory = stats.norm.interval(0.95, effect.mean(), effect.std() / np.sqrt(50))
    assert [found.low, found.high] == pytest.approx(theory, abs=0.05)


def test_ties_count_half_and_only_common_schools_count():
    comparison = metrics.compare({1: 0.5, 2: 0.5, 3: 0.9, 4: 0.1}, {1: 0.4, 2: 0.5, 3: 1.0, 5: 0.0})
    assert comparison.schools == 3
    assert comparison.wins == pytest.approx(0.5)
    assert comparison.difference == pytest.approx(0.0)


def test_a_paired_difference_has_a_paired_interval():
    """Scores that vary much between schools but differ by exactly 0.1 leave no doubt about the difference."""
    second = dict(enumerate(np.random.default_rng(3).normal(size=30)))
    comparison = metrics.compare({school: value + 0.1 for school, value in second.items()}, second)
    assert (comparison.difference_interval.low, comparison.difference_interval.high) == pytest.approx((0.1, 0.1))
    assert comparison.wins == comparison.wins_interval.low == 1.0


def test_no_common_school_is_no_comparison():
    comparison = metrics.compare({1: 0.5}, {2: 0.5})
    assert comparison.schools == 0
    assert np.isnan(comparison.wins)
