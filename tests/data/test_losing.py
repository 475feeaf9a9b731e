"""Rows that lose modalities: exact counts, one each, and nested."""

import numpy as np
import pytest

import fedjax_edu as fe
from fedjax_edu.data import Population, lose_modalities

ROWS = 101
PRESENT = {"image": "there.image", "text": "there.text", "audio": "there.audio"}


@pytest.fixture(scope="module")
def population() -> Population:
    random = np.random.default_rng(0)
    there = {"image": np.ones(ROWS, bool), "text": random.random(ROWS) < 0.9, "audio": np.ones((ROWS, 2), bool)}
    return Population.from_arrays({"x": random.normal(size=ROWS), "there": there}, [0, 30, 30, ROWS]).holding({"head": [True, False, True]})


def lost(before: Population, after: Population) -> np.ndarray:
    """Bool [rows, modalities]."""
    return np.stack([(before.leaves()[name] & ~after.leaves()[name]).reshape(ROWS, -1).all(axis=1) for name in PRESENT.values()], axis=1)


@pytest.mark.parametrize("ratio", [0.0, 0.3, 0.55, 1.0])
def test_exactly_as_many_rows_lose_one(population, ratio):
    whole = population.arrays["there"]["text"]
    after = lose_modalities(population, PRESENT, ratio, seed=3)
    gone = lost(population, after)
    assert gone.any(axis=1).sum() == round(ratio * whole.sum()) and gone.sum(axis=1).max(initial=0) <= 1
    assert not gone[~whole].any()
    counts = gone.sum(axis=0)
    assert counts.max() - counts.min() <= 1 and (np.diff(counts) <= 0).all()
    np.testing.assert_array_equal(after.arrays["x"], population.arrays["x"])
    np.testing.assert_array_equal(after.holds["head"], population.holds["head"])
    assert not after.arrays["there"]["image"].flags.writeable


def test_larger_ratios_take_from_the_same_rows_and_others(population):
    few, many = (lost(population, lose_modalities(population, PRESENT, ratio, seed=1)) for ratio in (0.2, 0.7))
    assert not (few & ~many).any()
    assert not np.array_equal(few, lost(population, lose_modalities(population, PRESENT, 0.2, seed=2)))


@pytest.mark.parametrize(
    ("present", "ratio", "message"),
    [
        ({}, 0.5, "name at least one modality"),
        ({"image": "x"}, 0.5, "name a leaf of booleans: there.audio, there.image, there.text"),
        ({"image": "image"}, 0.5, "name a leaf of booleans"),
        (PRESENT, 1.5, "from 0 to 1"),
    ],
)
def test_arguments_that_make_no_sense(population, present, ratio, message):
    with pytest.raises(fe.errors.ArgumentError, match=message):
        lose_modalities(population, present, ratio, seed=0)
