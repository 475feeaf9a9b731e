"""Population: what it stores, what it refuses, what it selects."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_edu.core.errors import ArgumentError, DataError
from fedjax_edu.data import Population

OFFSETS = np.array([0, 2, 2, 5])
ARRAYS = {"x": np.arange(10.0).reshape(5, 2), "inputs": {"ses": np.linspace(-1, 1, 5), "codes": [np.arange(5, dtype=np.int16)]}}


def example(**changes):
    arguments = {"arrays": ARRAYS, "offsets": OFFSETS, "ids": [30, 10, 20], "attributes": {"region": np.array([[1, 2], [3, 4], [5, 6]])}}
    return Population.from_arrays(**(arguments | changes))


def test_stores_flat_arrays_by_client():
    population = example()
    assert (population.num_clients, population.num_examples) == (3, 5)
    np.testing.assert_array_equal(population.sizes, [2, 0, 3])
    np.testing.assert_array_equal(population.row_clients, [0, 0, 2, 2, 2])
    assert population.row_clients.dtype == np.int32
    assert population.offsets.dtype == np.int64
    assert population.ids.dtype == np.uint32
    np.testing.assert_array_equal(population.client(2)["x"], ARRAYS["x"][2:5])
    np.testing.assert_array_equal(population.client(0)["inputs"]["codes"][0], [0, 1])
    assert population.client(1)["x"].shape == (0, 2)
    assert np.shares_memory(population.client(2)["x"], population.arrays["x"])


def test_default_ids_count_clients():
    np.testing.assert_array_equal(example(ids=None).ids, [0, 1, 2])


def test_a_population_cannot_be_changed():
    population = example()
    with pytest.raises(dataclasses.FrozenInstanceError):
        population.offsets = np.array([0, 5])
    for array in (population.arrays["x"], population.offsets, population.ids, population.attributes["region"], population.client(0)["x"]):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


def test_arrays_of_the_right_type_are_not_copied():
    x = np.ones((5, 2), np.float32)
    assert np.shares_memory(example(arrays={"x": x}).arrays["x"], x)
    x[0] = 2.0  # the caller's array stays writable


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (np.float64, np.float32),
        (np.float16, np.float16),
        (jnp.bfloat16, jnp.bfloat16),
        (np.int64, np.int32),
        (np.uint64, np.uint32),
        (np.uint32, np.uint32),
        (np.int16, np.int16),
        (np.uint8, np.uint8),
        (np.bool_, np.bool_),
        (np.complex128, np.complex64),
        (">f8", np.float32),
        (">i4", np.int32),
    ],
)
def test_dtypes_are_those_jax_keeps(given, kept):
    leaf = example(arrays={"x": np.array([0, 1, 1, 0, 1], dtype=given)}).arrays["x"]
    assert leaf.dtype == kept
    assert leaf.dtype.isnative
    assert jnp.asarray(leaf).dtype == kept
    np.testing.assert_array_equal(leaf.real.astype(np.float32), [0, 1, 1, 0, 1])


def test_x64_keeps_wide_types():
    with jax.enable_x64():
        population = example(arrays={"x": np.full(5, 1e300), "n": np.full(5, 2**40)})
    assert population.arrays["x"].dtype == np.float64
    assert population.arrays["n"][0] == 2**40


def test_limits_of_integers_are_kept():
    leaf = example(arrays={"n": np.array([-(2**31), 2**31 - 1, 0, 0, 0])}).arrays["n"]
    np.testing.assert_array_equal(leaf, [-(2**31), 2**31 - 1, 0, 0, 0])


def test_jax_arrays_and_a_bare_array_are_accepted():
    population = Population.from_arrays(jnp.arange(5), jnp.asarray(OFFSETS))
    assert isinstance(population.arrays, np.ndarray)
    np.testing.assert_array_equal(population.client(2), [2, 3, 4])


def with_value(shape, position, value, dtype=np.float64):
    array = np.zeros(shape, dtype)
    array[position] = value
    return array


REFUSED = {
    "offsets of two axes": ({"offsets": OFFSETS[None]}, ["offsets", "[1, 4]"]),
    "float offsets": ({"offsets": OFFSETS / 1}, ["offsets", "float64"]),
    "ragged offsets": ({"offsets": [[0, 1], [2]]}, ["offsets", "[[0, 1], [2]]"]),
    "random key": ({"arrays": {"key": jax.random.key(0)}}, ["arrays.key"]),
    "no client": ({"offsets": [0]}, ["offsets", "[0]"]),
    "offsets start late": ({"offsets": [1, 2, 2, 5]}, ["offsets", "1 at position 0"]),
    "sizes in place of offsets": ({"offsets": [2, 0, 3]}, ["offsets", "2 at position 0", "cumsum"]),
    "offsets fall": ({"offsets": [0, 3, 2, 5]}, ["offsets", "2 at position 2, after 3"]),
    "offsets end early": ({"offsets": [0, 2, 2, 4]}, ["offsets", "4 at the end", "5"]),
    "no array": ({"arrays": {}}, ["arrays", "{}"]),
    "unequal rows": ({"arrays": {"x": np.zeros(5), "deep": {"y": np.zeros(4)}}}, ["arrays.x", "5 rows", "deep.y, 4"]),
    "scalar": ({"arrays": {"x": np.zeros(5), "n": 3.5}}, ["arrays.n", "3.5"]),
    "list of numbers": ({"arrays": {"x": [1.0, 2.0]}}, ["arrays.x.0", "1.0", "np.asarray"]),
    "strings": ({"arrays": {"x": np.array(list("abcde"))}}, ["arrays.x", "<U1", "codes"]),
    "objects": ({"arrays": {"x": np.array([1, None, 2, 3, 4], object)}}, ["arrays.x", "object"]),
    "dates": ({"arrays": {"x": np.zeros(5, "M8[s]")}}, ["arrays.x", "datetime64", "seconds"]),
    "long double": ({"arrays": {"x": np.zeros(5, np.longdouble)}}, ["arrays.x", "dtype"]),
    "masked array": ({"arrays": {"x": np.ma.zeros(5)}}, ["arrays.x", "masked"]),
    "same dotted path": ({"arrays": {"a": {"b": np.zeros(5)}, "a.b": np.zeros(5)}}, ["arrays", "a.b", "rename"]),
    "nan": ({"arrays": {"inputs": {"ses": with_value((5, 2), (3, 1), np.nan)}}}, ["arrays.inputs.ses", "nan in row 3", "('inputs.ses',)"]),
    "infinity": ({"arrays": {"x": with_value(5, 4, -np.inf, np.float16)}}, ["arrays.x", "-inf in row 4"]),
    "float overflow": ({"arrays": {"x": with_value(5, 2, 1e300)}}, ["arrays.x", "1e+300 in row 2", "float32"]),
    "float overflow where nan may be": (
        {"arrays": {"x": with_value(5, 2, 1e300)}, "allow_nonfinite": ("x",)},
        ["arrays.x", "1e+300 in row 2"],
    ),
    "integer overflow": ({"arrays": {"n": with_value((5, 3), (1, 2), 2**31, np.int64)}}, ["arrays.n", "2147483648 in row 1", "int32"]),
    "integer underflow": ({"arrays": {"n": with_value(5, 1, -(2**31) - 1, np.int64)}}, ["arrays.n", "-2147483649 in row 1"]),
    "unsigned overflow": ({"arrays": {"n": with_value(5, 0, 2**32, np.uint64)}}, ["arrays.n", "4294967296 in row 0", "uint32"]),
    "unknown name": ({"allow_nonfinite": ("ses",)}, ["allow_nonfinite", "ses", "inputs.ses"]),
    "name without tuple": ({"allow_nonfinite": "x"}, ["allow_nonfinite", "x", "('x',)"]),
    "too few ids": ({"ids": [1, 2]}, ["ids", "(2,)", "3 clients"]),
    "float ids": ({"ids": [1.0, 2.0, 3.0]}, ["ids", "float64"]),
    "negative id": ({"ids": [1, -2, 3]}, ["ids", "-2 at position 1"]),
    "reserved id": ({"ids": [1, 2, 2**32 - 1]}, ["ids", "4294967295 at position 2", "padding"]),
    "repeated id": ({"ids": [4, 9, 4]}, ["ids", "4 at positions [0, 2]"]),
    "short attribute": ({"attributes": {"area": np.zeros(2)}}, ["attributes.area", "(2,)", "3 clients"]),
    "text attribute": ({"attributes": {"name": np.array(["a", "b", "c"])}}, ["attributes.name", "<U1"]),
    "scalar attribute": ({"attributes": {"area": 1.0}}, ["attributes.area", "1.0"]),
    "nan attribute": ({"attributes": {"area": np.array([0, np.nan, 0])}}, ["attributes.area", "nan in row 1", "('attributes.area',)"]),
}


@pytest.mark.parametrize(("changes", "words"), REFUSED.values(), ids=REFUSED)
def test_contradictions_are_errors_that_name_leaf_and_row(changes, words):
    with pytest.raises(DataError) as raised:
        example(**changes)
    assert [word for word in words if word not in str(raised.value)] == []


def test_nonfinite_values_pass_where_they_are_expected():
    arrays = {"x": np.array([0, np.nan, np.inf, 0, 0])}
    population = example(arrays=arrays, attributes={"area": np.array([np.nan, 1, 2])}, allow_nonfinite=["x", "attributes.area"])
    np.testing.assert_array_equal(population.arrays["x"], arrays["x"].astype(np.float32))
    assert np.isnan(population.attributes["area"][0])
    assert population.allow_nonfinite == ("x", "attributes.area")


def test_from_clients_is_from_arrays_of_the_concatenation():
    rows = [{"x": np.arange(n * 2.0).reshape(n, 2), "y": np.arange(n)} for n in (3, 0, 1)]
    population = Population.from_clients(rows, ids=[5, 6, 7], attributes={"size": np.array([3, 0, 1])})
    np.testing.assert_array_equal(population.offsets, [0, 3, 3, 4])
    for position, client in enumerate(rows):
        jax.tree.map(np.testing.assert_array_equal, population.client(position), client)
    np.testing.assert_array_equal(population.ids, [5, 6, 7])


FROM_CLIENTS_REFUSED = {
    "none": ([], ["clients", "[]"]),
    "no leaf": ([{}], ["clients[0]", "{}"]),
    "structure": ([{"x": np.zeros(1)}, {"y": np.zeros(1)}], ["clients[1]", "'y'"]),
    "dtype": ([{"x": np.zeros(1, np.int32)}, {"x": np.zeros(0)}], ["clients[1].x", "float64", "int32"]),
    "shape": ([{"x": np.zeros((1, 2))}, {"x": np.zeros((1, 3))}], ["clients[1].x", "(1, 3)", "[rows, 2]"]),
    "scalar": ([{"x": np.float64(3)}], ["clients[0].x", "3"]),
    "rows": ([{"x": np.zeros(2), "y": np.zeros(2)}, {"x": np.zeros(2), "y": np.zeros(3)}], ["clients[1]", "'y': 3"]),
    "nan": ([{"x": np.zeros(2)}, {"x": np.array([0, np.nan])}], ["arrays.x", "nan in row 3"]),
}


@pytest.mark.parametrize(("clients", "words"), FROM_CLIENTS_REFUSED.values(), ids=FROM_CLIENTS_REFUSED)
def test_clients_that_differ_are_errors(clients, words):
    with pytest.raises(DataError) as raised:
        Population.from_clients(clients)
    assert [word for word in words if word not in str(raised.value)] == []


@pytest.mark.parametrize("clients", [[2, 0], np.array([True, False, True]), [1], jnp.array([0, 1, 2])])
def test_select_keeps_rows_ids_and_attributes(clients):
    population = example()
    chosen = population.select(clients)
    positions = np.flatnonzero(clients) if np.asarray(clients).dtype == bool else np.asarray(clients)
    np.testing.assert_array_equal(chosen.ids, population.ids[positions])
    np.testing.assert_array_equal(chosen.attributes["region"], population.attributes["region"][positions])
    np.testing.assert_array_equal(chosen.sizes, population.sizes[positions])
    for new, old in enumerate(positions):
        jax.tree.map(np.testing.assert_array_equal, chosen.client(new), population.client(old))


SELECT_REFUSED = {
    "outside": ([0, 3], "position 3"),
    "negative": ([-1], "position -1"),
    "twice": ([1, 1], "[1, 1]"),
    "none": ([], "[]"),
    "empty mask": ([False, False, False], "[False"),
    "ragged": ([[0], [1, 2]], "[[0], [1, 2]]"),
    "short mask": ([True], "(1,)"),
    "floats": ([0.0], "[0.0]"),
}


@pytest.mark.parametrize(("clients", "shown"), SELECT_REFUSED.values(), ids=SELECT_REFUSED)
def test_select_refuses(clients, shown):
    with pytest.raises(ArgumentError) as raised:
        example().select(clients)
    assert raised.value.argument == "clients"
    assert shown in str(raised.value)


@pytest.mark.parametrize("position", [-1, 3, 0.5])
def test_client_refuses_positions_outside(position):
    with pytest.raises(ArgumentError, match=f"position: got {position}; use 0 .. 2"):
        example().client(position)


def test_describe_counts_and_shows():
    summary = example().describe()
    assert (summary.clients, summary.empty_clients, summary.examples) == (3, 1, 5)
    assert summary.size_quantiles == {"min": 0, "q25": 1, "median": 2, "q75": 2.5, "max": 3}
    assert summary.leaves == {"inputs.codes.0": "int16", "inputs.ses": "float32", "x": "float32[2]"}
    assert summary.attributes == {"region": "int32[2]"}
    assert "median 2" in str(summary)
    assert "x: float32[2]" in str(summary)
    assert "1 without rows" in str(summary)
    assert repr(example()) == summary.headline
