"""The split and the encoding: nobody stands on two sides, and nothing is fitted on a test row."""

import numpy as np
import pytest
from sklearn.model_selection import GroupKFold
from sklearn.preprocessing import StandardScaler

import fedjax_edu as fe
from fedjax_edu.data.studies import STUDIES
from fedjax_edu.data.studies.examples import join
from fedjax_edu.study.encoding import raw_targets
from fedjax_edu.study.schools import prepare
from tests.study.small import NAMES, TASKS, schools_of


@pytest.fixture(scope="module")
def data(population):
    return prepare(population, 1, 0)


def sides(data):
    return {"train": data.train, "within": data.within, "held_out": data.held_out}


def everything(studies):
    school = schools_of(studies)
    pupil = np.concatenate([examples.pupil + 10**6 * position for position, examples in enumerate(studies)])
    return school, pupil


def test_every_row_stands_on_one_side(data, studies):
    rows = np.concatenate([side.rows for side in sides(data).values()])
    assert sorted(rows) == list(range(len(everything(studies)[0])))


def test_held_out_schools_are_a_fold_of_scikit_learn(data, studies):
    school, _ = everything(studies)
    for examples in studies:
        own = schools_of((examples,))
        _, tested = next(iter(GroupKFold(5).split(own, groups=own)))
        assert set(school[data.held_out.rows]) & set(own) == set(own[tested])


def test_no_pupil_stands_on_both_sides_within_a_school(data, studies):
    school, pupil = everything(studies)
    assert not set(pupil[data.train.rows]) & set(pupil[data.within.rows])
    for one in np.unique(school[data.train.rows]):
        trained = np.unique(pupil[data.train.rows][school[data.train.rows] == one]).size
        tested = np.unique(pupil[data.within.rows][school[data.within.rows] == one]).size
        assert abs(tested / (trained + tested) - 0.2) <= 1 / (trained + tested)


def test_a_pupil_of_a_held_out_school_is_not_trained_on_elsewhere():
    """Two thousand pupils at two schools each."""
    random, pupil = np.random.default_rng(0), np.repeat(np.arange(2000), 2)
    table = {"pupil": pupil, "school": random.integers(40, size=4000), "x": random.normal(size=4000), "score": random.normal(size=4000)}
    made = fe.data.Population.from_table(table, client="school", tasks={"score": "regression"}, unit="pupil", inputs=["x"], say=None)
    data = prepare(made, 1, 0)
    of_side = {name: set(data.students[side.rows].tolist()) for name, side in sides(data).items()}
    assert of_side["within"] & of_side["held_out"] and not of_side["train"] & (of_side["within"] | of_side["held_out"])
    assert len(of_side["train"]) > 500


def test_the_five_folds_hold_out_each_school_once(population, studies):
    held_out = [prepare(population, fold, 0).held_out.population.ids for fold in range(1, 6)]
    assert sorted(np.concatenate(held_out)) == sorted(np.unique(everything(studies)[0]))


def test_validation_leaves_the_test_rows_of_the_fold_out(data, population):
    inner = prepare(population, 1, 0, validation=True)
    seen = np.concatenate([side.rows for side in sides(inner).values()])
    assert sorted(seen) == sorted(data.train.rows)


def test_rows_of_a_population_are_the_rows_that_the_side_names(data, population, studies):
    encoded = data.encoding.encode(population)
    school, _ = everything(studies)
    for side in sides(data).values():
        np.testing.assert_array_equal(side.population.arrays["inputs"], encoded[side.rows])
        np.testing.assert_array_equal(side.school, school[side.rows])


def test_scales_are_those_of_training_rows_alone(data, studies):
    first = 0
    for examples in studies:
        rows = data.train.rows[(data.train.rows >= first) & (data.train.rows < first + len(examples.school))] - first
        for name, values in examples.numbers.items():
            scaler = StandardScaler().fit(values[rows, None].astype(np.float32).astype(np.float64))
            scale = data.encoding.scales.inputs[f"{examples.study}.{name}"]
            assert scale.mean == pytest.approx(scaler.mean_[0])
            assert scale.deviation == pytest.approx(scaler.scale_[0])
        first += len(examples.school)


def test_a_test_row_cannot_move_the_encoding_of_training_rows(data, studies):
    from dataclasses import replace

    hsb, star = studies
    tested = data.held_out.rows[data.held_out.rows < len(hsb.school)]
    changed = hsb.numbers["before"].copy()
    changed[tested] += 1e6
    again = prepare(join((replace(hsb, numbers={**hsb.numbers, "before": changed}), star), STUDIES), 1, 0)
    np.testing.assert_array_equal(again.train.population.arrays["inputs"], data.train.population.arrays["inputs"])


def test_absent_inputs_are_zeros_with_their_presence_bit(data, population, studies):
    columns = data.encoding.columns
    encoded = data.encoding.encode(population)
    hsb = len(studies[0].school)
    age = np.isfinite(studies[0].numbers["age"])
    np.testing.assert_array_equal(encoded[:hsb, columns.index("hsb.age present")], age)
    assert not np.any(encoded[:hsb, columns.index("hsb.age")][~age])
    assert not np.any(encoded[:hsb, [name.startswith("star") for name in columns]])
    missing = encoded[:hsb, columns.index("hsb.class = missing")]
    np.testing.assert_array_equal(missing, studies[0].categories["class"] == -1)
    levels = encoded[:hsb, [name.startswith("hsb.class") for name in columns]]
    assert np.all(levels.sum(axis=1) == 1)


def test_decoding_undoes_the_scaling_of_targets(data, population):
    scaled, present = data.encoding.encode_targets(population)
    raw = raw_targets(population)
    np.testing.assert_array_equal(present > 0, np.isfinite(raw))
    decoded = data.encoding.decode(scaled)
    for position, task in enumerate(TASKS):
        rows = np.isfinite(raw[:, position])
        expected = 1 / (1 + np.exp(-raw[rows, position])) if task.binary else raw[rows, position]
        np.testing.assert_allclose(decoded[rows, position], expected, rtol=1e-5)
    assert [task.name for task in data.tasks] == list(NAMES)


@pytest.mark.parametrize("fold", [0, 6, True, "1"])
def test_a_fold_outside_one_to_five_is_refused(fold, population):
    with pytest.raises(fe.errors.ArgumentError, match=r"^fold: got "):
        prepare(population, fold, 0)


def test_products_are_of_a_number_and_a_level_of_the_same_study(data):
    columns = data.encoding.columns
    levels = ["sex = f", "sex = m", "sex = missing", *(f"class = {level}" for level in ("a", "b", "c", "missing"))]
    expected = [(f"{study}.{number}", f"{study}.{level}") for study in ("hsb", "star") for number in ("before", "age") for level in levels]
    assert [(columns[i], columns[j]) for i, j in data.encoding.products] == expected
