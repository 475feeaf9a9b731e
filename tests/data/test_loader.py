"""Populations whose rows are read when they are needed."""

import numpy as np
import pytest

import fedjax_edu as fe

SIZES = np.array([2, 0, 3, 1])
OFFSETS = np.array([0, 2, 2, 5, 6])
ROWS = {"x": np.arange(12, dtype=np.float32).reshape(6, 2), "y": np.arange(6, dtype=np.int32)}


def load(clients):
    rows = np.concatenate([np.arange(OFFSETS[client], OFFSETS[client + 1]) for client in clients])
    return {name: leaf[rows] for name, leaf in ROWS.items()}


def loaded(**options):
    return fe.data.Population.from_loader(load, SIZES, **options)


def test_it_describes_itself_as_the_population_in_memory_does():
    whole = fe.data.Population.from_arrays(ROWS, OFFSETS, ids=[9, 8, 7, 6])
    lazy = loaded(ids=[9, 8, 7, 6])
    assert (repr(lazy), str(lazy.describe())) == (repr(whole), str(whole.describe()))
    assert lazy.spec == whole.spec and lazy.loaded and not whole.loaded
    np.testing.assert_array_equal(lazy.offsets, whole.offsets)


@pytest.mark.parametrize("clients", [[0, 1, 2, 3], [3, 0], [2]])
def test_rows_of_clients_stand_one_client_after_another(clients):
    expected = {name: np.concatenate([leaf[OFFSETS[c] : OFFSETS[c + 1]] for c in clients]) for name, leaf in ROWS.items()}
    for population in (loaded(), fe.data.Population.from_arrays(ROWS, OFFSETS)):
        room = {name: np.full((8, *leaf.shape[1:]), -1, leaf.dtype) for name, leaf in ROWS.items()}
        written = population.rows_of(np.array(clients), out=room)
        for name, leaf in population.rows_of(np.array(clients)).items():
            np.testing.assert_array_equal(leaf, expected[name])
            np.testing.assert_array_equal(written[name], expected[name])
            np.testing.assert_array_equal(room[name][: len(leaf)], expected[name])
            assert (room[name][len(leaf) :] == -1).all()


def test_what_is_selected_is_read_by_its_own_number():
    part = loaded(ids=[9, 8, 7, 6]).select([3, 2])
    assert part.loaded and part.ids.tolist() == [6, 7]
    np.testing.assert_array_equal(part.client(0)["y"], [5])
    np.testing.assert_array_equal(part.select([1]).read([0]).arrays["y"], [2, 3, 4])


def test_what_needs_rows_in_memory_says_so():
    for call in (
        lambda: loaded().split_examples((0.5, 0.5), seed=0),
        lambda: fe.data.flip_labels(loaded(), [0], "y", lambda labels: 1 - labels),
    ):
        with pytest.raises(fe.errors.ArgumentError, match=r"population: .*population\.read"):
            call()
    assert [side.num_clients for side in loaded().split_clients((0.5, 0.5), seed=0)] == [2, 2]


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda clients: {"x": np.zeros((7, 2), np.float32), "y": np.zeros(7, np.int32)}, ["load.x", "[7, 2]", "[2, 2]"]),
        (lambda clients: {}, ["load", "at least one array"]),
        (lambda clients: {"x": np.array(["a", "b"])}, ["load.x", "dtype"]),
        (lambda clients: {"x": np.array([1.0, np.nan])}, ["load.x", "nan in row 1"]),
    ],
)
def test_a_loader_that_cannot_work_is_refused_at_once(function, words):
    with pytest.raises(fe.errors.DataError) as caught:
        fe.data.Population.from_loader(function, SIZES)
    assert all(word in str(caught.value) for word in words)


def test_a_loader_that_changes_its_mind_is_caught():
    answers = iter([load([0]), load([0]), {"x": np.zeros((3, 2), np.float32)}, {**load([2]), "y": np.zeros(3)}])
    population = fe.data.Population.from_loader(lambda clients: next(answers), SIZES)
    with pytest.raises(fe.errors.DataError, match="structure that it returned at first"):
        population.client(2)
    with pytest.raises(fe.errors.DataError, match=r"load\.y: got float32\[3\].*int32\[3\]"):
        population.client(2)


@pytest.mark.parametrize("sizes", [[], [[1]], [1.5], [-1], [0, 0]])
def test_sizes_are_checked(sizes):
    with pytest.raises(fe.errors.DataError, match="sizes"):
        fe.data.Population.from_loader(load, np.array(sizes))
