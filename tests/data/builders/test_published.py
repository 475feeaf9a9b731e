"""Mixed models of the data sets against published fits: at the variances that others estimated, the same coefficients and deviance."""

import dataclasses

import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.linalg

from fedjax_edu.data import load, vocabulary


@dataclasses.dataclass(frozen=True)
class RandomEffect:
    """Coefficients of `columns` [N, k] that each level of `groups` [N] draws with a covariance [k, k]."""

    groups: np.ndarray
    columns: np.ndarray
    covariance: np.ndarray

    @property
    def levels(self):
        return len(np.unique(self.groups))

    @property
    def design(self):
        level = np.unique(self.groups, return_inverse=True)[1]
        rows, width = self.columns.shape
        places = (np.repeat(np.arange(rows), width), (level[:, None] * width + np.arange(width)).ravel())
        return scipy.sparse.csr_array((self.columns.ravel(), places), shape=(rows, self.levels * width))

    @property
    def precision(self):
        return scipy.sparse.kron(scipy.sparse.eye_array(self.levels), np.linalg.inv(self.covariance))


def intercept(groups, variance):
    return RandomEffect(groups, np.ones((len(groups), 1)), np.array([[variance]]))


def mixed_model(response, design, effects, residual):
    """Coefficients by generalised least squares with V = Z G Z' + residual I, ML deviance and REML criterion at them."""
    design = np.column_stack(design).astype(np.float64)
    z = scipy.sparse.hstack([effect.design for effect in effects]).tocsr()
    penalised = scipy.sparse.block_diag([effect.precision for effect in effects]) + z.T @ z / residual
    factors = scipy.sparse.linalg.splu(penalised.tocsc(), "MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True})

    def solve(b):  # V^-1 b by Woodbury's identity
        return (b - z @ factors.solve(z.T @ b) / residual) / residual

    weighted = solve(design)
    information = design.T @ weighted
    coefficients = np.linalg.solve(information, weighted.T @ response)
    rest = response - design @ coefficients
    rows, width = design.shape
    logarithms = sum(effect.levels * np.linalg.slogdet(effect.covariance)[1] for effect in effects)
    logarithms += rows * np.log(residual) + np.log(factors.U.diagonal()).sum()
    deviance = rows * np.log(2 * np.pi) + logarithms + rest @ solve(rest)
    return coefficients, deviance, deviance - width * np.log(2 * np.pi) + np.linalg.slogdet(information)[1]


class Leaves:
    """The leaves of a data set as float64, and indicators of levels."""

    def __init__(self, name, folder):
        self.name, self.arrays = name, load(name, folder).arrays
        self.one = np.ones(len(next(iter(self.arrays.values()))))

    def __getitem__(self, leaf):
        return self.arrays[leaf].astype(np.float64)

    def indicator(self, leaf, level):
        return (self.arrays[leaf] == vocabulary(self.name)[leaf].index(level)).astype(np.float64)


@pytest.fixture
def leaves(request, prepared):
    return Leaves(request.param, prepared)


@pytest.mark.parametrize("leaves", ["exam"], indirect=True)
def test_exam(leaves):
    """A user's guide to MLwiN, chapter 2: mean -0.013, slope 0.563; the vignette of mlmRev: a fit with sex and school gender by REML."""
    school = leaves["school"]
    coefficients, deviance, _ = mixed_model(leaves["normexam"], [leaves.one], [intercept(school, 0.16864)], 0.84776)
    np.testing.assert_allclose([*coefficients, deviance], [-0.01317, 11010.649], atol=1e-3)
    design = [leaves.one, leaves["standLRT"]]
    coefficients, deviance, _ = mixed_model(leaves["normexam"], design, [intercept(school, 0.09213)], 0.56573)
    np.testing.assert_allclose([*coefficients, deviance], [0.00239, 0.56337, 9357.243], atol=1e-3)
    design += [leaves.indicator("sex", "M"), leaves.indicator("schgend", "boys"), leaves.indicator("schgend", "girls")]
    coefficients, _, criterion = mixed_model(leaves["normexam"], design, [intercept(school, 0.085829)], 0.562534)
    np.testing.assert_allclose(coefficients, [-1.0493e-03, 0.55975, -0.16739, 0.17769, 0.15900], atol=1e-5)
    assert round(criterion, 2) == 9347.67


@pytest.mark.parametrize("leaves", ["bdf"], indirect=True)
def test_bdf(leaves):
    """Snijders and Bosker, Multilevel Analysis (1999), chapter 4: the empty model, and one with verbal IQ."""
    school, iq = leaves["schoolNR"], leaves["IQ_verb"] - leaves["IQ_verb"].mean()
    coefficients, deviance, _ = mixed_model(leaves["langPOST"], [leaves.one], [intercept(school, 19.42)], 64.57)
    np.testing.assert_allclose([*coefficients, deviance], [40.36, 16253.2], atol=0.05)
    coefficients, deviance, _ = mixed_model(leaves["langPOST"], [leaves.one, iq], [intercept(school, 9.602)], 42.245)
    np.testing.assert_allclose([*coefficients, deviance], [40.608, 2.488, 15251.8], atol=0.05)


@pytest.mark.parametrize("leaves", ["chem97"], indirect=True)
def test_chem97(leaves):
    """The vignette of mlmRev: score on the centred GCSE score by REML, where education authorities have no variance."""
    design = [leaves.one, leaves["gcsescore"] - leaves["gcsescore"].mean()]
    coefficients, deviance, criterion = mixed_model(leaves["score"], design, [intercept(leaves["school"], 1.1709)], 5.1564)
    np.testing.assert_allclose(coefficients, [5.6280, 2.4724], atol=1e-4)
    np.testing.assert_allclose([deviance, criterion], [141687.0, 141698.7], atol=0.06)


@pytest.mark.parametrize("leaves", ["scotssec"], indirect=True)
def test_scotssec(leaves):
    """A user's guide to MLwiN, the chapter on cross-classified data: mean 5.504 with variances of primary and secondary schools."""
    effects = [intercept(leaves["primary"], 1.124), intercept(leaves["second"], 0.348)]
    assert round(mixed_model(leaves["attain"], [leaves.one], effects, 8.111)[0].item(), 3) == 5.504


@pytest.mark.parametrize("leaves", ["egsingle"], indirect=True)
def test_egsingle(leaves):
    """Raudenbush and Bryk, Hierarchical Linear Models (2002), chapter 8: growth that varies over pupils and schools."""
    growth = np.column_stack([leaves.one, leaves["year"]])
    of_pupils = RandomEffect(leaves.arrays["childid"], growth, np.array([[0.64046, 0.04679], [0.04679, 0.01126]]))
    of_schools = RandomEffect(leaves.arrays["schoolid"], growth, np.array([[0.16531, 0.01705], [0.01705, 0.01102]]))
    coefficients, deviance, _ = mixed_model(leaves["math"], list(growth.T), [of_pupils, of_schools], 0.30144)
    np.testing.assert_allclose(coefficients, [-0.779, 0.763], atol=5e-4)
    assert round(deviance, 1) == 16326.2


@pytest.mark.parametrize("leaves", ["insteval"], indirect=True)
def test_insteval(leaves):
    """The manual of MixedModels.jl: ratings on service and department, with students and lecturers crossed."""
    assert leaves["y"].mean() == pytest.approx(3.205745, abs=1e-6)
    departments = (leaves["dept"][:, None] == np.unique(leaves["dept"])[1:]).astype(np.float64)
    design = [leaves.one, leaves["service"], departments, departments * leaves["service"][:, None]]
    effects = [intercept(leaves["s"], 0.105418), intercept(leaves["d"], 0.258416)]
    coefficients, deviance, _ = mixed_model(leaves["y"], design, effects, 1.384728)
    published = {0: 3.27628, 1: 0.0116044, 2: -0.0411091, 14: -0.0466719, 15: -0.144352, 27: 0.24042}
    np.testing.assert_allclose(coefficients[list(published)], list(published.values()), atol=1e-5)
    assert deviance == pytest.approx(237585.5534, abs=1e-3)
