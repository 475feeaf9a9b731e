"""Somebody's own table under the school protocol: what cannot be run is refused before anything trains, what can be is not."""

import dataclasses
import io

import numpy as np
import pytest
from rich.console import Console

import fedjax_edu as fe
from fedjax_edu.study import baselines, federations, report
from fedjax_edu.study.results import Score, TaskResult, collect
from fedjax_edu.study.schools import groups_of, prepare


def make(sizes=(30,) * 5, tasks=None, **columns):
    """Clients of some sizes, a number and a category as inputs, and a target that the number half explains; `columns` are added."""
    rng = np.random.default_rng(0)
    school = np.repeat(np.arange(len(sizes)), sizes)
    ses = rng.normal(size=len(school))
    table = {"school": school, "ses": ses, "sex": rng.choice([1, 2], len(school)), "score": ses + rng.normal(size=len(school))}
    table |= {name: values(table) for name, values in columns.items()}
    return fe.data.Population.from_table(table, client="school", tasks=tasks or {"score": "regression"}, groups={"sex": "sex"}, say=None)


def last(table):
    return table["school"] == 4


@pytest.mark.parametrize(
    ("kind", "target", "fold", "message"),
    [
        ("regression", lambda table: np.where(last(table), table["ses"], np.nan), 1, r"0 distinct values among training rows"),
        ("binary", lambda table: np.where(last(table), table["ses"] > 0, np.nan), 1, r"0 distinct values among training rows"),
        ("binary", lambda table: last(table) & (table["ses"] > 0), 1, r"1 distinct value among training rows of fold 1; train on more"),
        ("regression", lambda table: np.where(last(table), table["ses"], np.nan), 5, r"0 distinct values in the held-out clients"),
    ],
)
def test_a_task_that_a_side_lacks_is_refused(kind, target, fold, message):
    """GroupKFold holds out the last client first."""
    with pytest.raises(fe.errors.DataError, match=rf"^tasks\.goal: got {message}"):
        prepare(make(tasks={"score": "regression", "goal": kind}, goal=target), fold, 0)


def test_clients_too_small_for_a_test_of_their_own_are_refused():
    with pytest.raises(fe.errors.DataError, match=r"0 distinct values in the within-school test.*clients of three rows or more"):
        prepare(make([1] * 20), 1, 0)
    assert prepare(make([3] * 20), 1, 0).within.population.num_examples == 16


def test_texts_alone_are_no_inputs():
    texts = {"school": [0, 1, 2, 3] * 30, "essay": [f"essay {row}" for row in range(120)], "score": np.arange(120) % 7}
    population = fe.data.Population.from_table(texts, client="school", tasks={"score": "regression"}, inputs={"essay": "text"}, say=None)
    with pytest.raises(fe.errors.ArgumentError, match=r"^population: got texts alone as inputs; add a number or a category"):
        prepare(population, 1, 0)


@pytest.mark.parametrize("population", [make([30, 30]), make(tasks={"twin": "regression"}, twin=lambda table: 2 * table["ses"])])
def test_a_task_that_no_multilevel_model_fits_has_no_score_by_it(population):
    data = prepare(population, 1, 0)
    predict, icc = baselines.random_intercept(data)
    assert icc == {}
    (run,) = collect(data, data.held_out, {"random_intercept": predict(data.held_out)})
    assert np.isnan(run.score("random_intercept"))


def test_boosting_repeats_itself_and_bears_a_class_of_one():
    """It sets validation rows aside, at random, where there are more than 10,000."""
    data = prepare(make([4500] * 4), 1, 0)
    first, second = (baselines.boosting(data)(data.held_out) for _ in range(2))
    np.testing.assert_array_equal(first, second)

    lonely = prepare(make([4500] * 4, {"rare": "binary"}, rare=lambda table: np.arange(18_000) == 1), 1, 0)
    assert lonely.targets[lonely.train.rows].sum() == 1
    assert np.isfinite(baselines.boosting(lonely)(lonely.held_out)).all()  # the only one of a class cannot be set aside


def test_numbers_that_name_a_group_are_its_labels():
    population = make()
    assert [(feature.name, feature.kind) for feature in population.schema.features] == [("ses", "number"), ("sex", "number")]
    sex = groups_of(population, population.schema.tasks[0])["sex"]
    np.testing.assert_array_equal(sex, population.arrays["numbers"]["sex"].astype(int).astype(str))


def test_a_fold_that_there_is_not_is_refused_before_any_is_run(config, tmp_path, monkeypatch):
    config = dataclasses.replace(config, tasks={"default": config.tasks["hsb_mach"]})
    monkeypatch.setattr(federations, "run_schools", lambda *args, **options: pytest.fail("a fold was run"))
    with pytest.raises(fe.errors.ArgumentError, match=r"^fold: got 4; use 1 .. 3"):
        fe.study.run_folds(config, tmp_path, population=make([30] * 3))
    some = make(tasks={"score": "regression", "goal": "regression"}, goal=lambda table: np.where(last(table), np.nan, table["ses"]))
    with pytest.raises(fe.errors.DataError, match=r"^tasks\.goal: got 0 distinct values in the held-out clients of fold 1"):
        fe.study.run_folds(config, tmp_path, population=some)


def test_a_title_is_printed_as_it_is_written():
    """Rich would read brackets as a style, and fail on one that ends what never began."""
    score, text = Score(0.5, 0.4), io.StringIO()
    result = TaskResult("R2", {"federated": score}, {"federated": score}, None, None)
    for title in ("[/b]", "[red]x"):
        Console(file=text).print(report.task_table(fe.data.Task(title, "regression"), result))
    assert "[/b] (R²)" in text.getvalue() and "[red]x (R²)" in text.getvalue()
