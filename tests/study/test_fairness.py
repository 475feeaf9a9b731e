"""ABROCA against closed forms, groups against scikit-learn, and an attempt to find what is suppressed."""

import dataclasses
import itertools

import numpy as np
import pytest
from sklearn.metrics import r2_score, roc_auc_score, roc_curve

import fedjax_edu as fe
from fedjax_edu.data import Task
from fedjax_edu.study.fairness import SUPPRESSED, abroca, labels_of, measure_fairness
from fedjax_edu.study.task_run import TaskRun

LEAVES, MATH = Task("leaves", "binary", title="Leaving"), Task("math", "regression", title="Mathematics")


def made_up(task=LEAVES, fold=1, seed=0, sizes=(("a", 300), ("b", 200), ("c", 60)), **changes):
    rng = np.random.default_rng([fold, seed])
    labels = np.repeat([name for name, _ in sizes], [size for _, size in sizes])
    n = len(labels)
    signal = rng.normal(size=n)
    targets = np.tile([0.0, 1.0], n)[:n] if task.binary else 500 + 40 * signal
    p = np.clip(0.5 + 0.2 * (targets - 0.5) + 0.2 * signal, 0, 1) if task.binary else targets + 30 * rng.normal(size=n)
    values = {"school": rng.integers(0, 12, n), "targets": targets, "models": {"federated": p, "ridge": p**2}, "groups": {"sex": labels}}
    return TaskRun(task, fold, seed, **(values | changes))


def rows_of(report, grouping="sex", model="federated"):
    return {row.group: row.served for row in report.rows if (row.grouping, row.model) == (grouping, model)}


def test_abroca_of_curves_that_do_not_cross_is_the_difference_of_their_areas():
    first, second = np.array([0, 1, 0, 1, 1.0]), np.array([0, 0, 1, 1, 0.0])
    scores = np.array([0.1, 0.6, 0.5, 0.7, 0.8]), np.array([0.9, 0.2, 0.3, 0.1, 0.4])
    apart = roc_auc_score(first, scores[0]) - roc_auc_score(second, scores[1])
    assert abroca(first, scores[0], second, scores[1]) == pytest.approx(apart)


def test_abroca_of_a_staircase_and_the_diagonal():
    """The curve of one positive between two negatives steps up at 1/2; ties all over give the diagonal: two triangles of 1/8."""
    assert abroca(np.array([0, 1, 0]), np.array([0.1, 0.5, 0.9]), np.array([0, 1]), np.array([0.5, 0.5])) == pytest.approx(1 / 4)


def test_abroca_of_slopes_that_cross():
    """One curve goes through (1/2, 3/4), the other through (1/4, 1/4) and (1/2, 1): they cross between."""
    one = np.array([0, 0, 1, 1, 1, 1.0]), np.array([0, 1, 1, 1, 1, 0.0])
    other = np.array([0, 0, 0, 0, 1, 1, 1, 1.0]), np.array([2, 1, 0, 0, 2, 1, 1, 1.0])
    grid = np.linspace(0, 1, 400_001)
    curves = [np.interp(grid, *roc_curve(*group, drop_intermediate=False)[:2]) for group in (one, other)]
    assert abroca(*one, *other) == pytest.approx(np.trapezoid(np.abs(curves[0] - curves[1]), grid), abs=1e-5)
    assert ((curves[0] > curves[1] + 0.01).any(), (curves[0] < curves[1] - 0.01).any()) == (True, True)


def test_abroca_is_a_distance():
    rng = np.random.default_rng(0)
    groups = [(np.tile([0.0, 1.0], 15), rng.integers(0, 8, 30) / 8) for _ in range(6)]
    for one, other in itertools.product(groups, groups):
        found = abroca(*one, *other)
        assert found == pytest.approx(abroca(*other, *one))
        assert found >= abs(roc_auc_score(*one) - roc_auc_score(*other)) - 1e-12
        assert one is not other or found == 0


@pytest.mark.parametrize(("task", "score"), [(LEAVES, roc_auc_score), (MATH, r2_score)])
def test_groups_are_scored_on_their_rows_of_all_folds_averaged_over_seeds(task, score):
    runs = [made_up(task, fold, seed) for seed in (0, 1) for fold in (1, 2)]
    found = rows_of(measure_fairness(runs))
    for group in "abc":
        each = []
        for seed in (0, 1):
            mine = [(run, run.groups["sex"] == group) for run in runs if run.seed == seed]
            targets, p = (
                np.concatenate([getter(run)[rows] for run, rows in mine])
                for getter in (lambda r: r.targets, lambda r: r.models["federated"])
            )
            each.append((score(targets, p), (p - targets).mean()))
        assert (found[group].score, found[group].gap) == pytest.approx(tuple(np.mean(each, axis=0)))
        assert found[group].students == {"a": 600, "b": 400, "c": 120}[group]
        assert np.isnan(found[group].abroca) == (group == "a" or task is MATH)


def test_the_school_sizes_are_quartiles_of_schools():
    school = np.repeat(np.arange(8), [40, 42, 50, 52, 60, 62, 70, 72])
    found = rows_of(measure_fairness([made_up(sizes=(("a", len(school)),), school=school)]), "school size")
    assert {group: served.students for group, served in found.items()} == {
        "1st quartile": 82,
        "2nd quartile": 102,
        "3rd quartile": 122,
        "4th quartile": 142,
    }


def test_a_student_with_several_rows_is_one_student():
    run = made_up(sizes=(("a", 200), ("b", 200), ("c", 76)))
    assert rows_of(measure_fairness([run]))["c"].students == 76
    quarter = dataclasses.replace(run, student=np.arange(run.rows) // 4)
    assert rows_of(measure_fairness([quarter]))["c"] is None


@pytest.mark.parametrize(
    ("sizes", "shown"),
    [
        ((("a", 300), ("b", 200), ("c", 60), ("d", 40)), "abcd"),
        ((("a", 300), ("b", 200), ("c", 60), ("d", 38)), "ab"),  # 19 of either class: hidden, and the next with it
        ((("a", 300), ("b", 200), ("c", 38), ("d", 38)), "ab"),  # two hide each other
        ((("a", 300), ("b", 200), ("c", 2), ("d", 2)), "a"),  # four students: one of each two could be guessed
        ((("a", 300), ("b", 19)), ""),
    ],
)
def test_groups_are_hidden_in_numbers(sizes, shown):
    found = rows_of(measure_fairness([made_up(sizes=sizes)]))
    assert "".join(group for group, served in found.items() if served) == shown


def test_regression_counts_students_not_classes():
    found = rows_of(measure_fairness([made_up(MATH, sizes=(("a", 300), ("b", 20), ("c", 20)))]))
    assert all(found.values())
    assert rows_of(measure_fairness([made_up(MATH, sizes=(("a", 300), ("b", 20), ("c", 19)))]))["b"] is None


def test_what_is_suppressed_cannot_be_recovered():
    """From all that is printed and kept, with the totals of all rows known, two different hidden groups look the same."""
    one = measure_fairness([made_up(sizes=(("a", 300), ("b", 200), ("c", 50), ("d", 6)))])
    other = made_up(sizes=(("a", 300), ("b", 200), ("c", 50), ("d", 6)))
    hidden = np.isin(other.groups["sex"], ("c", "d"))
    swapped = other.groups["sex"].copy()
    swapped[hidden] = np.roll(swapped[hidden], 7)  # other students are in the small group now
    swapped[np.flatnonzero(hidden)[:5]] = "d"
    two = measure_fairness([dataclasses.replace(other, groups={"sex": swapped})])
    kept = [[row for row in report.rows if row.grouping == "sex"] for report in (one, two)]
    assert str(kept[0]) == str(kept[1])  # NaN is not equal to itself
    assert [row.served is None for row in kept[0]] == [False, False, True, True] * 2
    for form in ("markdown", "csv", "latex"):
        assert getattr(one.table(), form)() == getattr(two.table(), form)()
    cells = [row[4:] for row in one.table().rows if row[3] in ("c", "d")]
    assert cells == [(SUPPRESSED,) * 4] * 4


def test_labels_of_codes_words_and_numbers():
    assert labels_of(np.array([0, 1, -1])).tolist() == ["0", "1", "missing"]
    assert labels_of(np.array(["f", "", None], object)).tolist() == ["f", "missing", "missing"]
    numbers = np.random.default_rng(0).normal(size=400)
    assert {int((labels_of(numbers) == label).sum()) for label in np.unique(labels_of(numbers))} == {100}


def test_a_model_that_diverged_has_no_numbers():
    run = made_up()
    run.models["ridge"][:] = np.nan
    served = rows_of(measure_fairness([run]), model="ridge")["b"]
    assert np.isnan([served.score, served.gap, served.abroca]).all()


def test_an_unknown_model_is_named():
    assert {row.model for row in measure_fairness([made_up()], models=["ridge"]).rows} == {"ridge"}
    with pytest.raises(fe.errors.ArgumentError, match=r"^models: got pooled; name models that leaves has: federated, ridge"):
        measure_fairness([made_up()], models=["pooled"])
