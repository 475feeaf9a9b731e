"""High School and Beyond against numbers published for it."""

import numpy as np
import pytest
import scipy.optimize

from fedjax_edu.data import load, vocabulary


@pytest.fixture(scope="module")
def hsb82(prepared):
    return load("hsb82", prepared)


def random_intercept(scores, sizes):
    """Mean, variance between and within groups by REML: y_ij = mean + b_j + e_ij."""
    groups = np.split(scores.astype(np.float64), np.cumsum(sizes)[:-1])
    means = np.array([group.mean() for group in groups])
    within = sum(((group - group.mean()) ** 2).sum() for group in groups)

    def fit(variances):
        weights = 1 / (variances[0] + variances[1] / sizes)
        return weights, (weights * means).sum() / weights.sum()

    def deviance(logarithms):
        between, residual = variances = np.exp(logarithms)
        weights, mean = fit(variances)
        logs = ((sizes - 1) * np.log(residual) + np.log(residual + sizes * between)).sum() + np.log(weights.sum())
        return logs + within / residual + (weights * (means - mean) ** 2).sum()

    variances = np.exp(scipy.optimize.minimize(deviance, [0.0, 0.0], method="Nelder-Mead", options={"xatol": 1e-6, "fatol": 1e-8}).x)
    return fit(variances)[1], *variances


def test_counts(hsb82):
    assert (hsb82.num_clients, hsb82.num_examples) == (160, 7185)
    assert list(hsb82.describe().size_quantiles.values()) == [14, 35, 47, 54, 67]
    assert vocabulary("hsb82") == {"minrty": ("No", "Yes"), "sx": ("Male", "Female"), "sector": ("Public", "Catholic")}
    assert np.bincount(hsb82.attributes["sector"]).tolist() == [90, 70]  # schools
    assert np.bincount(hsb82.arrays["sector"]).tolist() == [3642, 3543]  # pupils
    assert np.bincount(hsb82.arrays["minrty"]).tolist() == [5211, 1974]
    assert np.bincount(hsb82.arrays["sx"]).tolist() == [3390, 3795]


def test_clients_are_schools(hsb82):
    assert hsb82.ids[0] == 1224
    np.testing.assert_array_equal(hsb82.arrays["school"], hsb82.ids[hsb82.row_clients])
    for name in ("sector", "meanses"):
        np.testing.assert_array_equal(hsb82.arrays[name], hsb82.attributes[name][hsb82.row_clients])
    means = np.bincount(hsb82.row_clients, hsb82.arrays["ses"]) / hsb82.sizes
    np.testing.assert_allclose(hsb82.attributes["meanses"], means, atol=1e-5)


def test_the_null_model_of_raudenbush_and_bryk(hsb82):
    """Hierarchical Linear Models (2002), table 4.2: mean 12.64, variance 8.61 between schools and 39.15 within."""
    mean, between, within = random_intercept(hsb82.arrays["mAch"], hsb82.sizes)
    assert [round(number, 2) for number in (mean, between, within)] == [12.64, 8.61, 39.15]


def test_nothing_is_missing(hsb82):
    assert hsb82.allow_nonfinite == ()
    assert min(hsb82.arrays[name].min() for name in vocabulary("hsb82")) == 0
    assert (hsb82.arrays["mAch"].min(), hsb82.arrays["mAch"].max()) == (np.float32(-2.832), np.float32(24.993))
