"""Runs that the tests of this folder share."""

import gc

import pytest

from tests.study.run.small import ROUNDS, build, make


@pytest.fixture(autouse=True)
def nothing_is_left_to_other_tests():
    """Readers of damaged files that Orbax no longer waits for are collected here, and not while something else is going on."""
    yield
    gc.collect()


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    folder = tmp_path_factory.mktemp("straight")
    state, history = make(folder).train(ROUNDS)
    return folder, state, history


@pytest.fixture(scope="module")
def engine():
    return build()


@pytest.fixture
def halfway(engine, tmp_path):
    make(tmp_path, engine).train(4)
    return tmp_path
