"""Schools' own effects against minima found by other means."""

import dataclasses

import numpy as np
import pytest
import scipy.optimize

import fedjax_edu as fe
from fedjax_edu.study.effects import Effects
from fedjax_edu.study.schools import prepare


@pytest.fixture(scope="module")
def data(population):
    return prepare(population, 1, 0)


@pytest.fixture(scope="module")
def outputs(data):
    return np.random.default_rng(0).normal(size=(data.train.population.num_examples, len(data.tasks)))


@pytest.fixture(scope="module")
def effects(data, outputs, config):
    return Effects.fit(data.train, outputs, data.tasks, config.of_tasks(data.tasks), data.classrooms)


def minimum(design, strength, outputs, targets, binary):
    """The penalised loss as its docstring writes it, minimised over all coefficients by a quasi-Newton method."""

    def objective(coefficients):
        fitted = outputs + design @ coefficients
        if binary:
            loss, slope = np.logaddexp(0, fitted) - targets * fitted, 1 / (1 + np.exp(-fitted)) - targets
        else:
            loss, slope = 0.5 * (fitted - targets) ** 2, fitted - targets
        return loss.sum() + 0.5 * strength @ coefficients**2, design.T @ slope + strength * coefficients

    found = scipy.optimize.minimize(objective, np.zeros(design.shape[1]), jac=True, method="BFGS", options={"gtol": 1e-9})
    return found.x


def test_every_school_minimises_its_loss_and_prior(data, outputs, effects, config):
    arrays, added = data.train.population.arrays, effects.of(data.train)
    compared = 0
    for school in np.unique(data.train.school)[[0, 3, -1]]:
        own = data.train.school == school
        for position, (task, one) in enumerate(zip(data.tasks, config.of_tasks(data.tasks), strict=True)):
            rows = np.flatnonzero(own & (arrays["present"][:, position] > 0))
            if not rows.size:
                assert not added[own, position].any()
                continue
            inputs = arrays["inputs"].astype(np.float64)
            rooms = np.eye(data.classrooms)[arrays["classroom"]]
            design = np.concatenate([np.ones((len(inputs), 1)), inputs, rooms], axis=1)
            strength = np.r_[one.intercept, [one.slopes] * inputs.shape[1], [one.classrooms] * data.classrooms]
            best = minimum(design[rows], strength, outputs[rows, position], arrays["targets"][rows, position], task.binary)
            np.testing.assert_allclose(added[own, position], design[own] @ best, atol=2e-6)  # rows of other tasks too
            compared += 1
    assert compared == 1 + 1 + 3  # two schools of hsb, one of star


def test_other_pupils_of_a_school_get_its_effects_and_other_schools_none(data, effects):
    arrays = data.within.population.arrays
    place = np.searchsorted(effects.ids, data.within.school)
    expected = effects.intercept[place] + effects.classrooms[place, arrays["classroom"]]
    expected += np.einsum("ri,rit->rt", arrays["inputs"].astype(np.float64), effects.slopes[place])
    np.testing.assert_allclose(effects.of(data.within), expected, atol=1e-12)
    assert np.abs(expected).max() > 0.1
    assert not effects.of(data.held_out).any()


def test_schools_do_not_see_one_another(data, outputs, effects, config):
    """A school's rows decide nobody else's effects, in whatever order schools stand."""
    population = data.train.population
    some = [5, 2]
    rows = np.concatenate([np.arange(population.offsets[one], population.offsets[one + 1]) for one in some])
    side = dataclasses.replace(data.train, population=population.select(some), rows=data.train.rows[rows])
    alone = Effects.fit(side, outputs[rows], data.tasks, config.of_tasks(data.tasks), data.classrooms)
    np.testing.assert_array_equal(alone.of(side), effects.of(side))


def test_a_prior_without_strength_is_refused(data, outputs, config):
    free = [dataclasses.replace(one, slopes=0.0) for one in config.of_tasks(data.tasks)]
    with pytest.raises(fe.errors.ConfigError, match=r"^config\.tasks, hsb\.mach: "):
        Effects.fit(data.train, outputs, data.tasks, free, data.classrooms)
