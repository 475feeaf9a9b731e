"""Calibration of simulated predictions whose slope and intercept are known, and bins against scikit-learn's."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit
from sklearn.calibration import calibration_curve

import fedjax_edu as fe
from fedjax_edu.data import Task
from fedjax_edu.study.calibration import calibrated, measure_calibration, reliability
from fedjax_edu.study.task_run import TaskRun

LEAVES, MATH = Task("leaves", "binary", title="Leaving"), Task("math", "regression", title="Mathematics")


@pytest.fixture(scope="module")
def truth():
    """Log-odds and outcomes drawn from them."""
    rng = np.random.default_rng(0)
    log_odds = rng.normal(-0.5, 1.2, size=200_000)
    return log_odds, (rng.random(200_000) < expit(log_odds)).astype(float)


@pytest.mark.parametrize(("stretch", "shift"), [(1.0, 0.0), (2.0, 0.0), (0.5, 0.3)])
def test_the_slope_undoes_a_stretch_of_the_log_odds(truth, stretch, shift):
    log_odds, targets = truth
    found = calibrated(LEAVES, targets, expit(stretch * log_odds + shift))
    assert found.slope == pytest.approx(1 / stretch, rel=0.02)


@pytest.mark.parametrize("shift", [0.0, 0.7, -1.5])
def test_the_intercept_undoes_a_shift_of_the_log_odds(truth, shift):
    log_odds, targets = truth
    found = calibrated(LEAVES, targets, expit(log_odds + shift))
    assert found.intercept == pytest.approx(-shift, abs=0.02)
    assert found.slope == pytest.approx(1.0, rel=0.02)


def test_the_likelihood_is_highest_at_what_was_found():
    """Both regressions by their score equations: residuals sum to 0, and for the slope are uncorrelated with the log-odds."""
    rng = np.random.default_rng(1)
    log_odds = rng.normal(size=300)
    targets = (rng.random(300) < expit(0.6 * log_odds + 0.4)).astype(float)
    found = calibrated(LEAVES, targets, expit(log_odds))
    best = minimize(lambda ab: np.sum(np.logaddexp(0, -(2 * targets - 1) * (ab[0] + ab[1] * log_odds))), [0.0, 1.0], tol=1e-10)
    assert found.slope == pytest.approx(best.x[1], abs=1e-4)
    assert (targets - expit(found.intercept + log_odds)).sum() == pytest.approx(0.0, abs=1e-8)


def test_the_brier_score_of_a_sure_guess_and_of_a_coin():
    targets = np.array([0.0, 1.0, 1.0, 0.0])
    assert calibrated(LEAVES, targets, np.full(4, 0.5)).brier == pytest.approx(0.25)
    assert calibrated(LEAVES, targets, np.array([0.0, 1.0, 0.0, 1.0])).brier == pytest.approx(0.5)


def test_a_line_is_found_again():
    predictions = np.random.default_rng(2).normal(500, 40, size=100)
    found = calibrated(MATH, 0.8 * predictions + 30, predictions)
    assert (found.slope, found.intercept) == pytest.approx((0.8, 30))
    assert np.isnan(found.brier)


@pytest.mark.parametrize(
    ("task", "targets", "predictions"),
    [
        (LEAVES, [0, 1, 1, 0], [0.5, 0.5, 0.5, 0.5]),
        (LEAVES, [0, 0, 1, 1], [0.1, 0.2, 0.3, 0.4]),
        (LEAVES, [1, 1, 0, 0], [0.1, 0.2, 0.3, 0.4]),
        (LEAVES, [1, 1, 1, 1], [0.1, 0.2, 0.3, 0.4]),
        (LEAVES, [0, 1, 1, 0], [0.5, np.nan, 0.5, 0.5]),
        (MATH, [0, 1, 1, 0], [2.0, 2.0, 2.0, 2.0]),
        (MATH, [0, 1, 1, 0], [2.0, np.inf, 2.0, 2.0]),
    ],
)
def test_a_slope_that_does_not_exist_is_nan(task, targets, predictions):
    assert np.isnan(calibrated(task, np.array(targets, float), np.array(predictions)).slope)


def test_log_odds_are_rejected(truth):
    with pytest.raises(fe.errors.DataError, match=r"^predictions of leaves: got .*; pass probabilities"):
        calibrated(LEAVES, truth[1], truth[0])


def test_bins_are_those_of_scikit_learn_and_count_every_row(truth):
    log_odds, targets = truth[0][:1000], truth[1][:1000]
    found = reliability(targets, expit(log_odds))
    observed, predicted = calibration_curve(targets, expit(log_odds), n_bins=10, strategy="quantile")
    assert found.observed == pytest.approx(observed)
    assert found.predicted == pytest.approx(predicted)
    assert found.count.tolist() == [100] * 10


@pytest.mark.parametrize(("rows", "bins"), [(1000, 10), (70, 3), (10, 1)])
def test_bins_hold_at_least_20_rows_where_there_are_as_many(rows, bins):
    assert len(reliability(np.zeros(rows), np.random.default_rng(3).random(rows)).count) == bins


def test_equal_predictions_share_a_bin():
    found = reliability(np.tile([0.0, 1.0], 100), np.repeat([0.2, 0.7], 100))
    assert (found.predicted, found.count) == (pytest.approx([0.2, 0.7]), pytest.approx([100, 100]))


def test_the_report_pools_folds_and_averages_seeds():
    rng, runs = np.random.default_rng(4), []
    for seed in (0, 1):
        for fold in (1, 2):
            p = rng.random(200)
            models = {"federated": p, "ridge": np.full(200, np.nan)}
            runs.append(TaskRun(LEAVES, fold, seed, np.zeros(200), (rng.random(200) < p).astype(float), models))
    report = measure_calibration(runs)
    targets, predictions = np.array([run.targets for run in runs]), np.array([run.models["federated"] for run in runs])
    each = [calibrated(LEAVES, targets[rows].ravel(), predictions[rows].ravel()).slope for rows in (slice(0, 2), slice(2, 4))]
    assert report.found["leaves"]["federated"].slope == pytest.approx(np.mean(each))
    assert report.reliability["leaves"]["federated"].count.sum() == 800
    assert "ridge" not in report.reliability["leaves"]
    assert report.table({"ridge": "Ridge"}).rows[1][:2] == ("Leaving", "Ridge")
    assert "nan" not in report.table().markdown()
