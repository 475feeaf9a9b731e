"""Splits of a population: properties that must hold for every seed, and hand-made cases."""

import itertools

import numpy as np
import pytest

from fedjax_edu.core.errors import ArgumentError
from fedjax_edu.data import Population

SEEDS = range(5)


def random_population(seed, clients=12):
    """Clients of uneven sizes (one of them empty), students who appear at several clients, a student's rows within three terms."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 30, clients)
    sizes[3] = 0
    rows = int(sizes.sum())
    home = np.repeat(np.arange(clients), sizes)
    student = np.where(rng.random(rows) < 0.95, home * 100 + rng.integers(0, 6, rows), rng.integers(0, 40, rows))
    term = student * 7919 % 41 + rng.integers(0, 3, rows)
    arrays = {"row": np.arange(rows), "meta": {"student": student}, "term": term}
    ids = rng.permutation(1000)[:clients]
    return Population.from_arrays(arrays, np.concatenate([[0], np.cumsum(sizes)]), ids=ids, attributes={"area": ids % 7})


def rows_by_id(population):
    return {int(id_): population.client(position)["row"].tolist() for position, id_ in enumerate(population.ids)}


def shuffled_clients(population, seed):
    return population.select(np.random.default_rng(seed).permutation(population.num_clients))


def assert_each_row_once(population, sides):
    for side in sides:
        np.testing.assert_array_equal(side.ids, population.ids)
        np.testing.assert_array_equal(side.attributes["area"], population.attributes["area"])
    for position in range(population.num_clients):
        rows = np.concatenate([side.client(position)["row"] for side in sides])
        np.testing.assert_array_equal(np.sort(rows), population.client(position)["row"])


def assert_earlier(sides):
    for position in range(sides[0].num_clients):
        terms = [side.client(position)["term"] for side in sides if side.sizes[position]]
        assert all(before.max() < after.min() for before, after in itertools.pairwise(terms))


def assert_units_apart(sides):
    units = [set(side.arrays["meta"]["student"].tolist()) for side in sides]
    assert sum(map(len, units)) == len(set.union(*units))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("fractions", [(0.5, 0.5), (0.7, 0.2, 0.1)])
def test_split_clients_deals_whole_clients(seed, fractions):
    population = random_population(seed)
    sides = population.split_clients(fractions, seed)
    assert sorted(np.concatenate([side.ids for side in sides])) == sorted(population.ids)
    assert all(abs(side.num_clients - fraction * 12) <= 1 for side, fraction in zip(sides, fractions, strict=True))
    everything = rows_by_id(population)
    for side, moved in zip(sides, shuffled_clients(population, seed).split_clients(fractions, seed), strict=True):
        assert all(everything[id_] == rows for id_, rows in rows_by_id(side).items())
        assert rows_by_id(side) == rows_by_id(moved)
        np.testing.assert_array_equal(side.attributes["area"], side.ids % 7)


def test_split_clients_reaches_every_side_equally():
    population = Population.from_arrays(np.zeros(10), np.arange(11))
    hits = sum(np.isin(np.arange(10), population.split_clients((0.7, 0.3), seed)[1].ids) for seed in range(600))
    assert hits.sum() == 1800
    assert ((hits - 180) ** 2 / (600 * 0.21)).sum() < 30


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("how", [{}, {"unit": "meta.student"}, {"time": "term"}, {"unit": "meta.student", "time": "term"}], ids=str)
@pytest.mark.parametrize("fractions", [(0.8, 0.2), (0.6, 0.2, 0.2)])
def test_split_examples_keeps_its_promises(seed, how, fractions):
    population = random_population(seed)
    sides = population.split_examples(fractions, seed, **how)
    assert_each_row_once(population, sides)
    assert all(side.num_examples for side in sides)
    if "unit" in how:
        assert_units_apart(sides)
    if "time" in how:
        assert_earlier(sides)
    moved = shuffled_clients(population, seed).split_examples(fractions, seed, **how)
    assert [rows_by_id(side) for side in moved] == [rows_by_id(side) for side in sides]


@pytest.mark.parametrize("seed", SEEDS)
def test_fractions_are_kept_inside_each_client(seed):
    population = random_population(seed)
    for side, fraction in zip(population.split_examples((0.6, 0.3, 0.1), seed), (0.6, 0.3, 0.1), strict=True):
        assert (np.abs(side.sizes - fraction * population.sizes) <= 1).all()


def test_random_rows_differ_by_seed_and_client_but_not_by_company():
    population = Population.from_arrays({"row": np.arange(300) % 100}, [0, 100, 200, 300], ids=[4, 5, 6])
    first, second = (population.split_examples((0.5, 0.5), seed)[0] for seed in (0, 1))
    chosen = rows_by_id(first)
    assert chosen[4] != chosen[5]
    assert chosen[4] != rows_by_id(second)[4]
    assert rows_by_id(population.select([1]).split_examples((0.5, 0.5), 0)[0])[5] == chosen[5]


def test_every_row_is_tested_equally_often():
    population = Population.from_arrays({"row": np.arange(10)}, [0, 10])
    hits = sum(np.isin(np.arange(10), population.split_examples((0.7, 0.3), seed)[1].arrays["row"]) for seed in range(600))
    assert hits.sum() == 1800
    assert ((hits - 180) ** 2 / (600 * 0.21)).sum() < 30


@pytest.mark.parametrize("unit", [None, "student"])
def test_examples_are_drawn_by_count_and_fewer_are_among_more(unit):
    """Students have one to four rows; nobody else's presence changes a client's draw."""
    random = np.random.default_rng(0)
    rows = random.integers(1, 5, size=60)
    student, school = np.repeat(np.arange(60), rows), np.repeat(np.arange(60) // 12, rows)
    offsets = np.searchsorted(school, np.arange(6))
    population = Population.from_arrays({"student": student, "row": np.arange(len(student))}, offsets, ids=[4, 9, 2, 7, 5])
    before = np.zeros(0, int)
    for count in (0, 1, 5, 11, 500):
        drawn, others = population.draw_examples(count, seed=3, unit=unit)
        np.testing.assert_array_equal(np.sort(np.append(drawn.arrays["row"], others.arrays["row"])), np.arange(len(student)))
        for client in range(5):
            owned = drawn.client(client)
            found = len(owned["row"]) if unit is None else len(np.unique(owned["student"]))
            assert found == min(count, population.sizes[client] if unit is None else 12)
        if unit:
            assert not np.intersect1d(drawn.arrays["student"], others.arrays["student"]).size
        assert set(before) <= set(drawn.arrays["row"])
        before = drawn.arrays["row"]
        alone, _ = population.select([2, 1]).draw_examples(count, seed=3, unit=unit)
        np.testing.assert_array_equal(alone.client(0)["row"], drawn.client(2)["row"])
    one, other = (population.draw_examples(3, seed=seed, unit=unit)[0].arrays["row"] for seed in (1, 2))
    assert not np.array_equal(one, other)


def test_a_negative_count_is_refused():
    with pytest.raises(ArgumentError, match=r"^count: got -1"):
        Population.from_arrays(np.arange(3.0), [0, 3]).draw_examples(-1, seed=0)


def test_units_are_counted_not_rows():
    student = np.repeat(np.arange(10), np.arange(1, 11))
    population = Population.from_arrays({"student": student}, [0, 55])
    for seed in SEEDS:
        train, test = population.split_examples((0.8, 0.2), seed, unit="student")
        assert len(np.unique(train.arrays["student"])) == 8
        assert len(np.unique(test.arrays["student"])) == 2


def test_a_unit_given_as_strings_equals_the_same_unit_as_numbers():
    population = random_population(0)
    student = population.arrays["meta"]["student"]
    names = np.char.add("pupil ", np.char.zfill(student.astype(str), 6))
    for mine, theirs in zip(*(population.split_examples((0.8, 0.2), 0, unit=unit) for unit in (student, names)), strict=True):
        np.testing.assert_array_equal(mine.arrays["row"], theirs.arrays["row"])


def test_a_mover_goes_where_most_of_its_rows_are():
    # Student 9 has three rows at client 0 and one at client 1; client 0 alone decides, so client 1's other students do not matter.
    student = np.array([9, 9, 9, 1, 2, 9, 3, 4])
    population = Population.from_arrays({"student": student}, [0, 5, 8])
    for seed in SEEDS:
        sides = population.split_examples((2 / 3, 1 / 3), seed, unit="student")
        assert [len(set(side.client(0)["student"])) for side in sides] == [2, 1]


def timed(years, offsets, units=None):
    years = np.asarray(years)
    arrays = {"row": np.arange(len(years)), "year": years}
    population = Population.from_arrays(arrays, offsets)
    sides = population.split_examples((0.5, 0.5), 0, time="year", unit=None if units is None else np.asarray(units))
    return [side.arrays["row"].tolist() for side in sides]


TIMED = {
    "rows need no order": (([3, 1, 2, 0], [0, 4]), [[1, 3], [0, 2]]),
    "ties stay together": (([0, 1, 1, 1, 1, 2], [0, 6]), [[0, 1, 2, 3, 4], [5]]),
    "nearest cut": (([0, 0, 0, 0, 1, 2, 3], [0, 7]), [[0, 1, 2, 3], [4, 5, 6]]),
    "each client has its own clock": (([0, 1, 10, 11], [0, 2, 4]), [[0, 2], [1, 3]]),
    "one moment is not cut": (([5, 5, 0, 1], [0, 2, 4]), [[0, 1, 2], [3]]),
    "units that do not overlap": (([0, 1, 2, 3], [0, 4], [7, 7, 8, 8]), [[0, 1], [2, 3]]),
    "a unit across the middle moves the cut": (([0, 1, 2, 3], [0, 4], [6, 7, 7, 8]), [[0, 1, 2], [3]]),
    "units linked by time": (([0, 2, 1, 3, 4, 5], [0, 6], [1, 1, 2, 2, 3, 3]), [[0, 1, 2, 3], [4, 5]]),
    "a mover takes the later side": (([0, 1, 0, 1], [0, 2, 4], [1, 2, 2, 3]), [[0], [1, 2, 3]]),
}


@pytest.mark.parametrize(("arguments", "expected"), TIMED.values(), ids=TIMED)
def test_time_cuts_by_hand(arguments, expected):
    assert timed(*arguments) == expected


def test_time_needs_no_seed():
    population = random_population(1)
    first, second = (population.split_examples((0.8, 0.2), seed, time="term")[0] for seed in (0, 1))
    np.testing.assert_array_equal(first.arrays["row"], second.arrays["row"])


ONE = Population.from_arrays({"x": np.zeros((4, 2)), "year": np.zeros(4), "gap": [np.zeros(4)]}, [0, 4])
REFUSED = {
    "sum": (lambda: ONE.split_examples((0.5, 0.4), 0), "fractions", "(0.5, 0.4)"),
    "one side": (lambda: ONE.split_examples((1.0,), 0), "fractions", "(1.0,)"),
    "zero": (lambda: ONE.split_clients((1.0, 0.0), 0), "fractions", "(1.0, 0.0)"),
    "negative": (lambda: ONE.split_clients((1.5, -0.5), 0), "fractions", "-0.5"),
    "nan fraction": (lambda: ONE.split_clients((np.nan, 0.5), 0), "fractions", "nan"),
    "text": (lambda: ONE.split_clients("half", 0), "fractions", "half"),
    "number": (lambda: ONE.split_examples(0.8, 0), "fractions", "0.8"),
    "seed": (lambda: ONE.split_examples((0.5, 0.5), -1), "seed", "-1"),
    "seed type": (lambda: ONE.split_clients((0.5, 0.5), 1.5), "seed", "1.5"),
    "too few clients": (lambda: ONE.split_clients((0.5, 0.5), 0), "fractions", "at least one of the 1 clients"),
    "unknown unit": (lambda: ONE.split_examples((0.5, 0.5), 0, unit="student"), "unit", "'gap.0', 'x', 'year'"),
    "unknown time": (lambda: ONE.split_examples((0.5, 0.5), 0, time="day"), "time", "day"),
    "wide unit": (lambda: ONE.split_examples((0.5, 0.5), 0, unit="x"), "unit", "(4, 2)"),
    "short time": (lambda: ONE.split_examples((0.5, 0.5), 0, time=np.zeros(3)), "time", "(3,)"),
    "nan time": (lambda: ONE.split_examples((0.5, 0.5), 0, time=np.array([0, np.nan, 1, 2])), "time", "nan in row 1"),
    "object unit": (lambda: ONE.split_examples((0.5, 0.5), 0, unit=np.array([1, "a", None, 2], object)), "unit", "object"),
    "nothing to cut": (lambda: ONE.split_examples((0.5, 0.5), 0, time="year"), "time", "no row for side 1 of 2"),
}


@pytest.mark.parametrize(("call", "argument", "shown"), REFUSED.values(), ids=REFUSED)
def test_impossible_splits_are_errors(call, argument, shown):
    with pytest.raises(ArgumentError) as raised:
        call()
    assert raised.value.argument == argument
    assert shown in str(raised.value)


def test_a_population_without_rows_splits_into_itself():
    nobody = Population.from_arrays({"row": np.zeros(0, np.int32)}, [0, 0, 0])
    for how in ({}, {"unit": "row"}):
        assert [side.num_examples for side in nobody.split_examples((0.5, 0.5), 0, **how)] == [0, 0]
    with pytest.raises(ArgumentError, match="time"):
        nobody.split_examples((0.5, 0.5), 0, time="row")
