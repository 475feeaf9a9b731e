"""What schools send: sums over their own rows, whoever adds them up and in whatever order."""

import dataclasses

import numpy as np
import pytest

from fedjax_edu.core.errors import DataError
from fedjax_edu.study import multilevel


@pytest.fixture(scope="module")
def columns():
    random = np.random.default_rng(0)
    return {"x": random.normal(size=40), "y": random.normal(size=40)}


@pytest.fixture(scope="module")
def schools():
    return np.random.default_rng(1).integers(0, 6, 40)


def test_products_are_sums_over_rows(columns, schools):
    sent = multilevel.statistics(columns, schools)
    assert sent.columns == ("intercept", "x", "y")
    for position, school in enumerate(sent.schools):
        rows = [(1.0, x, y) for x, y, one in zip(columns["x"], columns["y"], schools, strict=True) if one == school]
        assert sent.rows[position] == len(rows)
        np.testing.assert_allclose(sent.products[position], sum(np.outer(row, row) for row in rows))
    np.testing.assert_array_equal(sent.block(["y"], ["intercept", "x"]), sent.products[:, 2:, :2])


def test_schools_one_by_one_send_what_the_whole_table_gives(columns, schools):
    whole = multilevel.statistics(columns, schools)
    ids = np.unique(schools)
    parts = [multilevel.statistics({name: column[schools == one] for name, column in columns.items()}, one) for one in ids]
    together = multilevel.gather(parts)
    for field in dataclasses.fields(whole):
        np.testing.assert_array_equal(getattr(together, field.name), getattr(whole, field.name))


def test_the_order_of_schools_does_not_matter(columns, schools):
    whole = multilevel.statistics(columns, schools)
    order = np.random.default_rng(2).permutation(len(whole.schools))
    other = multilevel.SchoolStatistics(whole.columns, whole.schools[order], whole.rows[order], whole.products[order])
    model, again = (multilevel.fit(sent, "y", ("x",)) for sent in (whole, other))
    np.testing.assert_allclose(again.coefficients, model.coefficients, rtol=1e-9)
    assert again.deviance == pytest.approx(model.deviance, abs=1e-9)
    np.testing.assert_allclose(
        multilevel.school_effects(again, other).effects, multilevel.school_effects(model, whole).effects[order], atol=1e-7
    )


def test_a_school_without_rows_changes_nothing(columns, schools):
    whole = multilevel.statistics(columns, schools)
    nobody = multilevel.statistics({"x": [], "y": []}, 99)
    more = multilevel.gather([whole, nobody])
    assert (more.rows[-1], more.products[-1].any()) == (0, False)
    model, again = (multilevel.fit(sent, "y", ("x",), ("x",)) for sent in (whole, more))
    assert again.deviance == pytest.approx(model.deviance, abs=1e-6)
    np.testing.assert_allclose(again.coefficients, model.coefficients, rtol=1e-5)
    found = multilevel.school_effects(model, more)
    assert not found.effects[-1].any()
    np.testing.assert_allclose(found.reliability[-1], 0, atol=1e-12)


def test_a_weight_counts_a_row_as_often(columns, schools):
    times = np.random.default_rng(3).integers(0, 4, 40)
    weighted = multilevel.statistics(columns, schools, times)
    repeated = multilevel.statistics({name: np.repeat(column, times) for name, column in columns.items()}, np.repeat(schools, times))
    np.testing.assert_allclose(weighted.products, repeated.products, atol=1e-12)
    assert weighted.rows.sum() == 40


def test_independent_columns_span_what_all_do():
    random = np.random.default_rng(0)
    code = random.integers(0, 3, 60)
    levels = {f"level {level}": (code == level).astype(float) for level in range(3)}
    age = 1000 + random.normal(size=60)
    columns = {"nothing": np.zeros(60), "age": age, "months": 12 * age - 7, **levels, "ones": np.ones(60)}
    kept = multilevel.independent(multilevel.statistics(columns, 0), list(columns))
    assert kept == ("age", "level 0", "level 1")
    matrix = np.stack([np.ones(60), *columns.values()], axis=1)
    assert np.linalg.matrix_rank(matrix) == 1 + len(kept)


@pytest.mark.parametrize(
    ("columns", "schools", "weights", "message"),
    [
        ({}, [], None, r"^columns: got \[\]; pass one column at least"),
        ({"intercept": [1.0]}, [1], None, r"^columns: got \['intercept'\]; pass"),
        ({"x": [1.0, np.nan]}, [1, 1], None, r"^columns.x: got nan in row 1;"),
        ({"x": [1.0, 2.0], "y": [1.0]}, [1, 1], None, r"^columns.y: got numbers of shape \(1,\); pass one for each of the 2 rows"),
        ({"x": [[1.0, 2.0]]}, [1, 1], None, r"^columns.x: got numbers of shape \(1, 2\)"),
        ({"x": [1.0, 2.0]}, [1], None, r"^schools: got ids of shape \(1,\); pass one for each of the 2 rows"),
        ({"x": [1.0, 2.0]}, [1, 1], [1.0], r"^weights: got "),
        ({"x": [1.0, 2.0]}, [1, 1], [1.0, -1.0], r"^weights: got "),
    ],
)
def test_columns_that_cannot_be_summed_are_refused(columns, schools, weights, message):
    with pytest.raises(DataError, match=message):
        multilevel.statistics(columns, schools, weights)


def test_messages_that_do_not_fit_together_are_refused():
    one, other = multilevel.statistics({"x": [1.0]}, 1), multilevel.statistics({"y": [1.0]}, 2)
    with pytest.raises(DataError, match=r"^messages\[1\]: got columns"):
        multilevel.gather([one, other])
    with pytest.raises(DataError, match=r"^messages: got school 1 2 times"):
        multilevel.gather([one, one])
    with pytest.raises(DataError, match=r"^messages: got \[\]"):
        multilevel.gather([])
