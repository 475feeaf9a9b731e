"""The split and the encoding: nobody stands on two sides, and nothing is fitted on a test row."""

import numpy as np
import pytest
from sklearn.model_selection import GroupKFold
from sklearn.preprocessing import StandardScaler

import fedjax_edu as fe
from fedjax_edu.study.encoding import raw_targets
from fedjax_edu.study.schools import prepare
from fedjax_edu.study.tasks import NAMES, TASKS


@pytest.fixture(scope="module")
def data(studies):
    return prepare(1, 0, studies=studies)


def sides(data):
    return {"train": data.train, "within": data.within, "held_out": data.held_out}


def everything(studies):
    school = np.concatenate([examples.school for examples in studies])
    pupil = np.concatenate([examples.pupil + 10**6 * position for position, examples in enumerate(studies)])
    return school, pupil


def test_every_row_stands_on_one_side(data, studies):
    rows = np.concatenate([side.rows for side in sides(data).values()])
    assert sorted(rows) == list(range(len(everything(studies)[0])))


def test_held_out_schools_are_a_fold_of_scikit_learn(data, studies):
    school, _ = everything(studies)
    for examples in studies:
        _, tested = next(iter(GroupKFold(5).split(examples.school, groups=examples.school)))
        found = {one for one in school[data.held_out.rows] if one in set(examples.school)}
        assert found == set(examples.school[tested])


def test_no_pupil_stands_on_both_sides_within_a_school(data, studies):
    school, pupil = everything(studies)
    assert not set(pupil[data.train.rows]) & set(pupil[data.within.rows])
    for one in np.unique(school[data.train.rows]):
        trained = np.unique(pupil[data.train.rows][school[data.train.rows] == one]).size
        tested = np.unique(pupil[data.within.rows][school[data.within.rows] == one]).size
        assert abs(tested / (trained + tested) - 0.2) <= 1 / (trained + tested)


def test_the_five_folds_hold_out_each_school_once(studies):
    held_out = [prepare(fold, 0, studies=studies).held_out.population.ids for fold in range(1, 6)]
    assert sorted(np.concatenate(held_out)) == sorted(np.unique(everything(studies)[0]))


def test_validation_leaves_the_test_rows_of_the_fold_out(data, studies):
    inner = prepare(1, 0, validation=True, studies=studies)
    seen = np.concatenate([side.rows for side in sides(inner).values()])
    assert sorted(seen) == sorted(data.train.rows)


def test_rows_of_a_population_are_the_rows_that_the_side_names(data, studies):
    encoded = data.encoding.encode(studies)
    school, _ = everything(studies)
    for side in sides(data).values():
        np.testing.assert_array_equal(side.population.arrays["inputs"], encoded[side.rows])
        np.testing.assert_array_equal(side.school, school[side.rows])


def test_school_rows_counts_the_training_rows_of_the_school(data):
    for side in (data.train, data.within):
        trained = {one: np.sum(data.train.school == one) for one in np.unique(data.train.school)}
        assert side.population.arrays["school_rows"].tolist() == [trained[one] for one in side.school]


def test_scales_are_those_of_training_rows_alone(data, studies):
    first = 0
    for examples in studies:
        rows = data.train.rows[(data.train.rows >= first) & (data.train.rows < first + len(examples.school))] - first
        for name, values in examples.numbers.items():
            scaler = StandardScaler().fit(values[rows, None])
            scale = data.encoding.inputs[examples.study][name]
            assert scale.mean == pytest.approx(scaler.mean_[0])
            assert scale.deviation == pytest.approx(scaler.scale_[0])
        first += len(examples.school)


def test_a_test_row_cannot_move_the_encoding_of_training_rows(data, studies):
    from dataclasses import replace

    hsb, star = studies
    tested = data.held_out.rows[data.held_out.rows < len(hsb.school)]
    changed = hsb.numbers["before"].copy()
    changed[tested] += 1e6
    again = prepare(1, 0, studies=(replace(hsb, numbers={**hsb.numbers, "before": changed}), star))
    np.testing.assert_array_equal(again.train.population.arrays["inputs"], data.train.population.arrays["inputs"])


def test_absent_inputs_are_zeros_with_their_presence_bit(data, studies):
    columns = data.encoding.columns(studies)
    encoded = data.encoding.encode(studies)
    hsb = len(studies[0].school)
    age = np.isfinite(studies[0].numbers["age"])
    np.testing.assert_array_equal(encoded[:hsb, columns.index("hsb.age present")], age)
    assert not np.any(encoded[:hsb, columns.index("hsb.age")][~age])
    assert not np.any(encoded[:hsb, [name.startswith("star") for name in columns]])
    missing = encoded[:hsb, columns.index("hsb.class = missing")]
    np.testing.assert_array_equal(missing, studies[0].categories["class"] == -1)
    levels = encoded[:hsb, [name.startswith("hsb.class") for name in columns]]
    assert np.all(levels.sum(axis=1) == 1)


def test_decoding_undoes_the_scaling_of_targets(data, studies):
    scaled, present = data.encoding.encode_targets(studies)
    raw = raw_targets(studies)
    np.testing.assert_array_equal(present > 0, np.isfinite(raw))
    decoded = data.encoding.decode(scaled)
    for position, task in enumerate(TASKS):
        rows = np.isfinite(raw[:, position])
        expected = 1 / (1 + np.exp(-raw[rows, position])) if task.binary else raw[rows, position]
        np.testing.assert_allclose(decoded[rows, position], expected, rtol=1e-5)
    assert list(data.encoding.targets) == list(NAMES)


@pytest.mark.parametrize("fold", [0, 6, True, "1"])
def test_a_fold_outside_one_to_five_is_refused(fold, studies):
    with pytest.raises(fe.errors.ArgumentError, match=r"^fold: got "):
        prepare(fold, 0, studies=studies)


def test_products_are_of_a_number_and_a_level_of_the_same_study(data, studies):
    columns = data.encoding.columns(studies)
    levels = ["sex = 0", "sex = 1", "sex = missing", *(f"class = {level}" for level in (0, 1, 2, "missing"))]
    expected = [(f"{study}.{number}", f"{study}.{level}") for study in ("hsb", "star") for number in ("before", "age") for level in levels]
    assert [(columns[i], columns[j]) for i, j in data.encoding.products(studies)] == expected
