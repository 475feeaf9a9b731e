"""The fit against likelihoods of whole covariance matrices, closed forms, simulations, and itself in another order."""

import numpy as np
import pytest
import scipy.optimize

from fedjax_edu.core.errors import ArgumentError, DataError
from fedjax_edu.study import multilevel
from fedjax_edu.study.multilevel import criterion as criterion_module
from fedjax_edu.study.multilevel.criterion import Criterion, minimise


def records(seed, sizes=(5, 1, 9, 4, 6, 2, 7, 3), between=((1.0, 0.3), (0.3, 0.5)), within=1.0):
    """Columns and schools of a model with an intercept and a slope for each school."""
    random = np.random.default_rng(seed)
    schools = np.repeat(np.arange(len(sizes)), sizes)
    x, level = 2 + 3 * random.normal(size=len(schools)), random.normal(size=len(sizes))[schools]
    effects = random.multivariate_normal([0, 0], between, size=len(sizes))[schools]
    y = 1 + 2 * x - level + effects[:, 0] + effects[:, 1] * x + np.sqrt(within) * random.normal(size=len(schools))
    return {"x": x, "level": level, "y": y}, schools


class WholeMatrix:
    """The same model with V of all rows, [n, n], and none of our formulas."""

    def __init__(self, columns, schools, fixed, random, method):
        ones = np.ones(len(schools))
        self.y, self.restricted = columns["y"], method == "reml"
        self.x = np.stack([ones, *(columns[name] for name in fixed)], axis=1)
        z = np.stack([ones, *(columns[name] for name in random)], axis=1)
        self.z = np.concatenate([np.where((schools == one)[:, None], z, 0) for one in np.unique(schools)], axis=1)
        self.schools = len(np.unique(schools))

    def variance(self, between, within):
        return self.z @ np.kron(np.eye(self.schools), between) @ self.z.T + within * np.eye(len(self.y))

    def estimates(self, between, within):
        inverse = np.linalg.inv(self.variance(between, within))
        covariance = np.linalg.inv(self.x.T @ inverse @ self.x)
        coefficients = covariance @ self.x.T @ inverse @ self.y
        effects = np.kron(np.eye(self.schools), between) @ self.z.T @ inverse @ (self.y - self.x @ coefficients)
        return coefficients, covariance, effects.reshape(self.schools, -1)

    def deviance(self, between, within):
        variance = self.variance(between, within)
        coefficients, covariance, _ = self.estimates(between, within)
        residual = self.y - self.x @ coefficients
        value = np.linalg.slogdet(variance)[1] + residual @ np.linalg.solve(variance, residual)
        if self.restricted:
            return value - np.linalg.slogdet(covariance)[1] + (len(self.y) - self.x.shape[1]) * np.log(2 * np.pi)
        return value + len(self.y) * np.log(2 * np.pi)

    def minimum(self, start):
        size = self.z.shape[1] // self.schools
        lower = np.tril_indices(size)

        def at(entries):
            factor = np.zeros((size, size))
            factor[lower] = entries[1:]
            return self.deviance(factor @ factor.T, np.exp(entries[0]))

        return scipy.optimize.minimize(at, start, method="Nelder-Mead", options={"maxiter": 4000, "xatol": 1e-7, "fatol": 1e-10}).fun


MODELS = [((), ()), (("x",), ()), (("x", "level"), ("x",)), ((), ("x",))]


@pytest.mark.parametrize("method", ["reml", "ml"])
@pytest.mark.parametrize(("fixed", "random"), MODELS)
@pytest.mark.parametrize("between", [((1.0, 0.3), (0.3, 0.5)), ((0.0, 0.0), (0.0, 0.0))], ids=["schools differ", "schools are alike"])
def test_the_model_is_that_of_the_whole_covariance_matrix(fixed, random, method, between):
    columns, schools = records(3, between=between)
    sent = multilevel.statistics(columns, schools)
    model = multilevel.fit(sent, "y", fixed, random, method=method)
    whole = WholeMatrix(columns, schools, fixed, random, method)
    coefficients, covariance, effects = whole.estimates(model.between, model.within)
    np.testing.assert_allclose(model.coefficients, coefficients, rtol=1e-7)
    np.testing.assert_allclose(model.covariance, covariance, rtol=1e-7, atol=1e-12)
    np.testing.assert_allclose(multilevel.school_effects(model, sent).effects, effects, atol=1e-8)
    assert model.deviance == pytest.approx(whole.deviance(model.between, model.within), abs=1e-7)
    start = np.append(0.3, np.eye(len(model.random))[np.tril_indices(len(model.random))])
    assert model.deviance == pytest.approx(whole.minimum(start), abs=1e-5)


@pytest.mark.parametrize("restricted", [True, False])
def test_the_slope_is_the_derivative_of_the_deviance(restricted):
    columns, schools = records(0)
    names = ("intercept", "x")
    criterion = Criterion.of(multilevel.statistics(columns, schools), "y", names, names, restricted)

    def value(entries):
        return criterion.profile(np.array([[entries[0], entries[1]], [entries[1], entries[2]]])).deviance

    at = np.array([0.7, 0.1, 0.4])
    slope = criterion.profile(np.array([[0.7, 0.1], [0.1, 0.4]])).slope
    derivative = scipy.optimize.approx_fprime(at, value, 1e-6)
    np.testing.assert_allclose([slope[0, 0], 2 * slope[0, 1], slope[1, 1]], derivative, rtol=1e-4)


def balanced(between, seed=0, schools=12, rows=5):
    """A table [schools, rows] and its mean squares between and within."""
    random = np.random.default_rng(seed)
    y = np.sqrt(between) * random.normal(size=(schools, 1)) + random.normal(size=(schools, rows))
    means = y.mean(axis=1)
    return y, rows * means.var(ddof=1), ((y - means[:, None]) ** 2).sum() / (schools * (rows - 1))


@pytest.mark.parametrize(("method", "share"), [("reml", 1.0), ("ml", 11 / 12)])
def test_schools_of_equal_size_have_a_closed_form(method, share):
    y, between, within = balanced(1.0)
    model = multilevel.fit(multilevel.statistics({"y": y.ravel()}, np.repeat(np.arange(12), 5)), "y", method=method)
    assert model.within == pytest.approx(within, rel=1e-8)
    assert model.between[0, 0] == pytest.approx((share * between - within) / 5, rel=1e-6)
    assert model.coefficients[0] == pytest.approx(y.mean())
    assert model.standard_errors[0] == pytest.approx(np.sqrt(share * between / 60), rel=1e-6)


def test_schools_that_differ_less_than_chance_have_no_variance():
    y, between, within = balanced(0.0, seed=3)
    assert between < within
    sent = multilevel.statistics({"y": y.ravel()}, np.repeat(np.arange(12), 5))
    model = multilevel.fit(sent, "y")
    assert model.singular
    assert model.icc < 1e-9
    assert model.within == pytest.approx(y.var(ddof=1), rel=1e-8)
    assert np.abs(multilevel.school_effects(model, sent).effects).max() < 1e-6


def test_slopes_that_do_not_vary_make_a_singular_model():
    columns, schools = records(3, sizes=(20,) * 12, between=((1.0, 0.0), (0.0, 0.0)))
    model = multilevel.fit(multilevel.statistics(columns, schools), "y", ("x",), ("x",))
    assert model.singular
    assert not multilevel.fit(multilevel.statistics(columns, schools), "y", ("x",)).singular


def test_units_do_not_matter():
    columns, schools = records(1)
    model = multilevel.fit(multilevel.statistics(columns, schools), "y", ("x",), ("x",))
    scaled = multilevel.fit(multilevel.statistics(columns | {"x": 1e4 * columns["x"]}, schools), "y", ("x",), ("x",))
    units = np.array([1, 1e4])
    np.testing.assert_allclose(scaled.coefficients * units, model.coefficients, rtol=1e-7)
    np.testing.assert_allclose(scaled.between * np.outer(units, units), model.between, rtol=1e-5)


def test_intervals_cover_the_truth():
    random = np.random.default_rng(0)
    schools, rows, found = np.repeat(np.arange(40), 8), 320, []
    for _ in range(300):
        x = random.normal(size=rows) + random.normal(size=40)[schools]
        y = 1 + 0.5 * x + random.normal(size=40)[schools] + 2 * random.normal(size=rows)
        model = multilevel.fit(multilevel.statistics({"x": x, "y": y}, schools), "y", ("x",))
        found.append([*(np.abs(model.coefficients - [1, 0.5]) < 1.96 * model.standard_errors), model.between[0, 0], model.within])
    intercept, slope, between, within = np.mean(found, axis=0)
    assert [intercept, slope] == pytest.approx([0.95, 0.95], abs=0.03)
    assert between == pytest.approx(1, abs=3 * np.std(found, axis=0)[2] / np.sqrt(300))
    assert within == pytest.approx(4, abs=3 * np.std(found, axis=0)[3] / np.sqrt(300))


SENT = multilevel.statistics(
    {"x": [1.0, 2, 3, 4, 5, 7], "twice": [2.0, 4, 6, 8, 10, 14], "north": [1.0, 1, 1, 1, 0, 0], "y": [3.0, 1, 4, 1, 5, 9]},
    ["A", "A", "B", "B", "C", "C"],
)
ALIKE = {"y": [1.0, 1, 2, 2, 4, 4]}


@pytest.mark.parametrize(
    ("sent", "arguments", "keywords", "error", "message"),
    [
        (SENT, ("z",), {}, ArgumentError, r"^target: got z; use x, twice, north, y$"),
        (SENT, ("intercept",), {}, ArgumentError, r"^target: got intercept"),
        (SENT, ("y", ("z",)), {}, ArgumentError, r"^fixed: got z"),
        (SENT, ("y", (), ("z",)), {}, ArgumentError, r"^random: got z"),
        (SENT, ("y", ("y",)), {}, ArgumentError, r"^target: got y; leave it out"),
        (SENT, ("y",), {"method": "REML"}, ArgumentError, r"^method: got REML"),
        (SENT, ("y", ("x", "twice")), {}, DataError, r"^fixed: got 'twice', a combination"),
        (SENT, ("y", (), ("x", "twice")), {}, DataError, r"^random: got 'twice', a combination"),
        (SENT, ("y", ("x", "north", "x")), {}, DataError, r"^fixed: got 'x', a combination"),
        (multilevel.statistics(ALIKE, [1, 1, 2, 2, 3, 3]), ("y",), {}, DataError, r"^y: got a column of which"),
        (multilevel.statistics({"y": [1.0, 2, 4]}, [1, 2, 3]), ("y",), {}, DataError, r"^y: got a column of which"),
        (multilevel.statistics({"y": [1.0, 2, 4]}, 1), ("y",), {}, DataError, r"^random: got 'intercept', whose variance"),
        (multilevel.statistics({"y": [1.0]}, 1), ("y",), {}, DataError, r"^statistics: got 1 rows; pass more than 1"),
    ],
)
def test_what_cannot_be_fitted_is_refused(sent, arguments, keywords, error, message):
    with pytest.raises(error, match=message):
        multilevel.fit(sent, *arguments, **keywords)


def test_a_fit_that_stopped_early_is_refused(monkeypatch):
    minimise = scipy.optimize.minimize

    def early(*arguments, **keywords):
        return minimise(*arguments, **{**keywords, "options": {"maxiter": 1}})

    monkeypatch.setattr(scipy.optimize, "minimize", early)
    columns, schools = records(3)
    with pytest.raises(DataError, match=r"^y: got no minimum of the deviance"):
        multilevel.fit(multilevel.statistics(columns, schools), "y", ("x",), ("x",))


def test_the_gain_is_how_far_the_deviance_has_to_fall(monkeypatch):
    columns, schools = records(3)
    criterion = Criterion.of(multilevel.statistics(columns, schools), "y", ("intercept", "x"), ("intercept", "x"), True)
    best, _ = minimise(criterion)

    class Near:
        x = np.linalg.cholesky(best)[np.tril_indices(2)] + 0.003

    monkeypatch.setattr(scipy.optimize, "minimize", lambda *arguments, **keywords: Near)
    near, gain = minimise(criterion)
    assert gain == pytest.approx(criterion.profile(near).deviance - criterion.profile(best).deviance, rel=0.05)


def test_a_factor_stuck_on_a_boundary_is_refused(monkeypatch):
    """At D = 0 the deviance does not change with the factor of D, however much it falls with D."""

    class Nowhere:
        x = np.zeros(1)

    monkeypatch.setattr(scipy.optimize, "minimize", lambda *arguments, **keywords: Nowhere)
    y, _, _ = balanced(1.0)
    with pytest.raises(DataError, match=r"another step would gain inf"):
        multilevel.fit(multilevel.statistics({"y": y.ravel()}, np.repeat(np.arange(12), 5)), "y")


def test_a_start_that_leads_to_a_boundary_is_followed_by_another(monkeypatch):
    y, _, _ = balanced(1.0)
    sent = multilevel.statistics({"y": y.ravel()}, np.repeat(np.arange(12), 5))
    expected = multilevel.fit(sent, "y")
    monkeypatch.setattr(criterion_module, "_STARTS", (0.0, 0.5))  # the deviance does not change with a factor of 0
    assert multilevel.fit(sent, "y").between == pytest.approx(expected.between)
