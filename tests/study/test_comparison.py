"""Comparisons of models against scikit-learn, sums by hand, and simulated schools whose true scores are known."""

import dataclasses

import numpy as np
import pytest
from sklearn.metrics import r2_score, roc_auc_score

import fedjax_edu as fe
from fedjax_edu.data.schema import Task
from fedjax_edu.study.comparison import QUANTILES, compare
from fedjax_edu.study.metrics import MIN_ROWS
from fedjax_edu.study.school_sums import school_sums
from fedjax_edu.study.task_run import TaskRun, by_task, pooled_over_folds

MATH, LEAVES = Task("math", "regression", title="Mathematics"), Task("leaves", "binary", title="Leaving")
ERRORS = {"federated": 0.5, "pooled": 0.6, "ridge": 1.5}


def made_up(task, fold=1, seed=0, schools=12, rows=25, errors=ERRORS):
    """Schools of different sizes and levels; predictions with few digits, so that many are equal."""
    rng = np.random.default_rng([fold, seed])
    school = np.repeat(np.arange(schools) + 100 * fold, rows + np.arange(schools))
    signal = rng.normal(size=len(school)) + 0.3 * rng.normal(size=schools)[school - 100 * fold]
    targets = (signal > 0.3).astype(float) if task.binary else 500 + 40 * signal
    scale, level = (1, 0) if task.binary else (40, 500)
    models = {name: level + scale * np.round(signal + error * rng.normal(size=len(signal)), 1) for name, error in errors.items()}
    return TaskRun(task, fold, seed, school, targets, models)


@pytest.fixture(scope="module")
def runs():
    return [made_up(task, fold, seed) for task in (MATH, LEAVES) for fold in (1, 2) for seed in (0, 1, 2)]


@pytest.fixture(scope="module")
def found(runs):
    return compare(runs, draws=1000)


def library(task):
    return roc_auc_score if task.binary else r2_score


@pytest.mark.parametrize("task", [MATH, LEAVES], ids=str)
def test_scores_under_draws_of_schools_are_those_of_scikit_learn(task):
    run, rng = made_up(task), np.random.default_rng(0)
    schools, owner = np.unique(run.school, return_inverse=True)
    times = rng.integers(0, 4, (20, len(schools)))
    expected = [[library(task)(run.targets, run.models[name], sample_weight=row[owner]) for name in ERRORS] for row in times]
    assert school_sums(run, list(ERRORS), schools).scores(times) == pytest.approx(np.array(expected), abs=1e-10)


@pytest.mark.parametrize("task", [MATH, LEAVES], ids=str)
def test_the_score_of_a_school_is_that_of_its_rows_and_small_schools_have_none(task):
    run = made_up(task, rows=MIN_ROWS - 3)
    schools = np.unique(run.school)
    of_schools = school_sums(run, list(ERRORS), schools).by_school()
    for own, school in zip(of_schools, schools, strict=True):
        rows = run.school == school
        if rows.sum() < MIN_ROWS:
            assert np.isnan(own).all()
        else:
            assert own == pytest.approx([library(task)(run.targets[rows], run.models[name][rows]) for name in ERRORS])
    assert np.isnan(of_schools).any(axis=1).sum() == 3


@pytest.mark.parametrize("task", [MATH, LEAVES], ids=str)
def test_draws_without_variation_have_no_score(task):
    run = made_up(task, schools=2)
    first = run.school == run.school[0]
    run = dataclasses.replace(run, targets=np.where(first, 1.0, run.targets))
    scores = school_sums(run, ["ridge"], np.unique(run.school)).scores(np.array([[3, 0], [1, 1], [0, 0]]))
    assert np.isfinite(scores[:, 0]).tolist() == [False, True, False]


def test_means_and_differences_are_those_of_the_runs(runs, found):
    for task in (MATH, LEAVES):
        scores = {name: [library(task)(run.targets, run.models[name]) for run in runs if run.task == task] for name in ERRORS}
        for name, values in scores.items():
            one = found.of(task.name, name)
            assert one.mean == pytest.approx(np.mean(values))
            assert one.interval.low < one.mean < one.interval.high
            if name != "federated":
                assert one.difference.mean == pytest.approx(np.mean(values) - np.mean(scores["federated"]))
    assert found.of("math", "federated").difference is None
    assert found.of("math", "ridge").difference.clear
    assert found.of("math", "ridge").difference.p < 0.05


def test_the_family_of_holms_correction_is_all_differences_of_the_table(found):
    p = np.array([score.difference.p for score in found.scores if score.difference])
    adjusted = np.array([score.difference.adjusted_p for score in found.scores if score.difference])
    assert len(p) == 4
    assert adjusted.min() == pytest.approx(4 * p.min())
    assert "all 4 differences" in found.table().note


def test_seed_variance_is_that_of_a_mean_of_independent_runs(runs, found):
    scores = np.array([[r2_score(run.targets, run.models["pooled"]) for run in runs if run.task == MATH and run.fold == f] for f in (1, 2)])
    assert found.of("math", "pooled").seed_variance == pytest.approx(scores.var(axis=1, ddof=1).mean() / scores.size)


def test_seeds_that_agree_leave_the_variance_of_schools_alone():
    """Three equal runs say no more than one: schools are drawn for all of them at once."""
    run = made_up(MATH)
    one = compare([run], seeds_at_least=1, draws=500).of("math", "pooled")
    three = compare([dataclasses.replace(run, seed=seed) for seed in range(3)], draws=500).of("math", "pooled")
    assert three.school_variance == pytest.approx(one.school_variance)
    assert (three.interval.low, three.interval.high) == pytest.approx((one.interval.low, one.interval.high))
    assert three.seed_variance == pytest.approx(0.0, abs=1e-30)
    assert np.isnan(one.seed_variance)


def test_differences_are_paired():
    """Schools differ much and the models not at all: the difference is 0 whatever schools are drawn."""
    run = made_up(LEAVES)
    run = dataclasses.replace(run, models={"federated": run.models["ridge"], "twin": 2 * run.models["ridge"]})
    twin = compare([run], seeds_at_least=1, draws=200).of("leaves", "twin")
    assert twin.school_variance > 0
    assert (twin.difference.interval.low, twin.difference.interval.high, twin.difference.p) == (0.0, 0.0, 1.0)
    assert not twin.difference.clear


def test_school_variance_of_an_average_is_known():
    """With predictions off by the school's own level alone, R² is 1 minus a mean over schools of squared levels, over the variance."""
    rng, schools, rows = np.random.default_rng(0), 400, 30
    levels, inside = rng.normal(size=schools), np.tile(np.repeat([-5.0, 5.0], rows // 2), schools)
    run = TaskRun(MATH, 1, 0, np.repeat(np.arange(schools), rows), inside, {"federated": inside - np.repeat(levels, rows)})
    one = compare([run], seeds_at_least=1, draws=4000).of("math", "federated")
    assert one.school_variance == pytest.approx((levels**2).var() / (schools - 1) / 25**2, rel=0.1)


def test_quantiles_and_the_worst_tenth_are_over_schools_that_count_with_their_mean():
    run = made_up(MATH, schools=23)
    other = made_up(MATH, seed=1, schools=23)
    other = dataclasses.replace(other, school=run.school, targets=run.targets)
    one = compare([run, other], seeds_at_least=2, draws=100).of("math", "ridge")
    scores = [
        np.mean([r2_score(each.targets[each.school == school], each.models["ridge"][each.school == school]) for each in (run, other)])
        for school in np.unique(run.school)
    ]
    assert one.schools == 23
    assert one.quantiles == pytest.approx(np.quantile(scores, QUANTILES))
    assert one.worst_tenth == pytest.approx(np.mean(sorted(scores)[:3]))


def test_a_model_that_diverged_has_no_numbers_and_is_no_part_of_the_family():
    runs = [made_up(task, seed=seed) for task in (MATH, LEAVES) for seed in range(3)]
    for run in runs:
        run.models["ridge"][0] = np.inf
    found = compare(runs, draws=100)
    for task in ("math", "leaves"):
        ridge, pooled = found.of(task, "ridge"), found.of(task, "pooled")
        assert np.isnan([ridge.mean, ridge.interval.low, ridge.difference.mean, ridge.difference.adjusted_p]).all()
        assert not ridge.difference.clear
        assert np.isfinite([pooled.mean, pooled.interval.low, pooled.difference.adjusted_p]).all()
    assert "all 2 differences" in found.table().note
    assert "nan" not in found.table().markdown() + found.schools_table().markdown()


def test_tables_are_bold_where_the_interval_of_the_difference_leaves_out_zero(found):
    rows = {(row[0], row[1]): row for row in found.table({"federated": "the federation"}).rows}
    assert len(rows) == 6
    for score in found.scores:
        title = "the federation" if score.model == "federated" else score.model
        cell = rows[f"{score.task.title}, {'AUC' if score.task.binary else 'R²'}", title][3]
        assert cell == "" if score.difference is None else cell.bold == score.difference.clear
    assert found.schools_table().rows[0][2:] == (24, *found.scores[0].quantiles, found.scores[0].worst_tenth)


@pytest.mark.parametrize(("kind", "truth"), [("regression", 1 / 3), ("binary", 0.5 + 2 / np.pi * np.arcsin(1 / np.sqrt(6)))])
def test_the_intervals_cover_the_truth_in_93_to_97_percent_of_1000_simulations(kind, truth):
    """60 schools of 20 pupils in five folds; what is predicted is the sum of three standard normals, or whether it is above 0.

    Two models know one of them each. The third, which nobody knows, is in a fifth the school's. A model explains a third of the
    variance. Its correlation with the sum is rho = 1 / sqrt(3), and the chance that it puts a pair in order follows from the orthant
    probability of three normals: AUC = 1/2 + 2/pi asin(rho / sqrt(2)). Both models are as good, so that differences are false alarms.
    """
    rng, task, simulations, school = np.random.default_rng(0), Task("truth", kind), 1000, np.repeat(np.arange(60), 20)
    covered = false_alarms = 0
    for _ in range(simulations):
        first, second, pupil = rng.normal(size=(3, len(school)))
        total = first + second + np.sqrt(0.2) * rng.normal(size=60)[school] + np.sqrt(0.8) * pupil
        targets = (total > 0).astype(float) if task.binary else total
        folds = [school % 5 == fold for fold in range(5)]
        models = [{"first": first[rows], "second": second[rows]} for rows in folds]
        runs = [TaskRun(task, fold, 0, school[rows], targets[rows], models[fold]) for fold, rows in enumerate(folds)]
        found = compare(runs, "first", seeds_at_least=1, draws=300)
        interval, difference = found.of("truth", "first").interval, found.of("truth", "second").difference
        covered += interval.low <= truth <= interval.high
        false_alarms += difference.clear
    assert 0.93 <= covered / simulations <= 0.97
    assert 0.025 <= false_alarms / simulations <= 0.075


def rejected(runs, message, error=fe.errors.ArgumentError, **arguments):
    with pytest.raises(error, match=message):
        compare(runs, **arguments)


def test_what_cannot_be_compared_is_said_before_any_work(runs):
    rejected(runs[:2], r"^runs: got 2 seeds of math in fold 1; run at least 3, or say seeds_at_least=2")
    rejected(runs[:5], r"^runs: got 2 seeds of math in fold 2; run at least 3, or say seeds_at_least=2")
    rejected(runs, r"^reference: got fedavg; name a model that math has: federated, pooled, ridge", reference="fedavg")
    rejected(runs, r"^draws: got 10;", draws=10)
    rejected([], r"^runs: got none;", fe.errors.DataError)
    kind = dataclasses.replace(MATH, kind="binary")
    mixed = dataclasses.replace(runs[1], task=kind, targets=(runs[1].targets > 0).astype(float))
    rejected([runs[0], mixed], r"^runs of math: got binary in fold 1, seed 1, regression in another;", fe.errors.DataError)
    rejected([*runs, runs[0]], r"^runs of math: got fold 1, seed 0 twice;", fe.errors.DataError)
    rejected([*runs[:2], made_up(MATH, seed=9, errors={"federated": 1.0})], r"^runs of math: got models", fe.errors.DataError)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"targets": np.full(3, 0.5)}, r"^leaves\.targets: got .* use 0 and 1"),
        ({"targets": np.array([0, 1, np.nan])}, r"^leaves\.targets: got .* only rows that have the target"),
        ({"targets": np.zeros(0)}, r"^leaves\.targets: got .* at least one row"),
        ({"school": np.zeros(2)}, r"^leaves\.school: got .* each of the 3 rows"),
        ({"models": {"ridge": np.zeros(4)}}, r"^leaves\.models\.ridge: got "),
        ({"groups": {"sex": np.zeros(4)}}, r"^leaves\.groups\.sex: got "),
        ({"student": np.zeros(4)}, r"^leaves\.student: got "),
    ],
)
def test_a_run_with_wrong_arrays_is_rejected(change, message):
    right = {"school": np.zeros(3), "targets": np.array([0.0, 1.0, 1.0]), "models": {"ridge": np.zeros(3)}}
    TaskRun(LEAVES, 1, 0, **right)
    with pytest.raises(fe.errors.DataError, match=message):
        TaskRun(LEAVES, 1, 0, **(right | change))


def test_rows_of_all_folds_stand_together_seed_by_seed(runs):
    pooled = pooled_over_folds(by_task(runs)["math"])
    assert [(run.fold, run.seed) for run in pooled] == [(None, 0), (None, 1), (None, 2)]
    mine = [run for run in runs if run.task == MATH and run.seed == 1]
    assert pooled[1].models["ridge"].tolist() == [value for run in mine for value in run.models["ridge"]]
