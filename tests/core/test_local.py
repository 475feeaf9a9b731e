"""Local work counted the slow way: by dealing rows into batches."""

import numpy as np
import pytest

from fedjax_edu.core.errors import ArgumentError
from fedjax_edu.core.local import FullPass, LocalTraining

SIZES = np.array([0, 1, 2, 3, 4, 5, 7, 8, 9, 12, 100])


def batches(examples: int, batch_size: int | None) -> int:
    rows, count = list(range(examples)), 0
    while rows:
        rows, count = rows[batch_size or len(rows) :], count + 1
    return count


@pytest.mark.parametrize("batch_size", [None, 1, 2, 3, 4, 8, 1000])
@pytest.mark.parametrize("epochs", [1, 2, 5])
def test_steps_of_epochs(batch_size, epochs):
    expected = [epochs * batches(size, batch_size) for size in SIZES]
    assert LocalTraining(epochs=epochs, batch_size=batch_size).steps_of(SIZES).tolist() == expected


@pytest.mark.parametrize("batch_size", [None, 1, 2, 3, 4, 8, 1000])
def test_steps_of_a_full_pass(batch_size):
    assert FullPass(batch_size=batch_size).steps_of(SIZES).tolist() == [batches(size, batch_size) for size in SIZES]
    assert FullPass().shuffle is False


@pytest.mark.parametrize("batch_size", [None, 3])
def test_a_fixed_number_of_steps_is_given_to_whoever_has_data(batch_size):
    assert LocalTraining(steps=5, batch_size=batch_size).steps_of(SIZES).tolist() == [0] + [5] * 10


@pytest.mark.parametrize(
    ("argument", "options"),
    [
        ("epochs, steps", {}),
        ("epochs, steps", {"epochs": 1, "steps": 1}),
        ("epochs", {"epochs": 0}),
        ("steps", {"steps": -1}),
        ("batch_size", {"epochs": 1, "batch_size": 0}),
    ],
)
def test_training_that_cannot_work(argument, options):
    with pytest.raises(ArgumentError) as caught:
        LocalTraining(**options)
    assert caught.value.argument == argument


def test_full_pass_that_cannot_work():
    with pytest.raises(ArgumentError, match="batch_size: got 0"):
        FullPass(batch_size=0)
