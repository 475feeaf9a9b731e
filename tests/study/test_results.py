"""Which local-only model counts, and a school's score over its tasks, against sums by hand."""

import numpy as np
import pytest
from sklearn.metrics import r2_score, roc_auc_score

from fedjax_edu.study.results import over_tasks, stronger_local, task_result
from fedjax_edu.study.task_run import TaskRun
from tests.study.small import TASKS

MATH, LEAVES = TASKS[1], TASKS[3]


def predictions(task, schools, rows, seed, errors):
    """Schools of `rows` rows; each model predicts the signal with its own error."""
    rng = np.random.default_rng(seed)
    signal = rng.normal(size=len(schools) * rows)
    targets = (signal > 0).astype(float) if task.binary else signal
    models = {name: signal + error * rng.normal(size=len(signal)) for name, error in errors.items()}
    return TaskRun(task, 1, 0, np.repeat(schools, rows), targets, models)


def test_the_stronger_local_model_has_the_higher_mean_over_schools():
    errors = {"federated": 0.1, "local_network": 0.3, "local_ridge": 0.6}
    assert stronger_local(predictions(MATH, [1, 2, 3], 30, 0, errors)) == "local_network"
    assert stronger_local(predictions(MATH, [1, 2, 3], 30, 0, errors | {"local_network": 0.9})) == "local_ridge"
    assert stronger_local(predictions(MATH, [1, 2, 3], 5, 0, errors)) == "local_network"
    assert stronger_local(predictions(MATH, [1], 30, 0, {"federated": 0.1})) is None


def test_a_school_counts_with_the_mean_difference_of_the_tasks_that_it_has():
    errors = {"federated": 0.5, "local_ridge": 0.6}
    first, second = predictions(MATH, [1, 2, 3, 4], 25, 1, errors), predictions(LEAVES, [2, 3, 4, 5], 40, 2, errors)
    found = over_tasks([first, second])
    differences = {}
    for task, score in ((first, r2_score), (second, roc_auc_score)):
        for school in np.unique(task.school):
            rows = task.school == school
            fed, local = (score(task.targets[rows], task.models[name][rows]) for name in ("federated", "local_ridge"))
            differences.setdefault(int(school), []).append(fed - local)
    means = np.array([np.mean(values) for values in differences.values()])
    assert found.schools == 5
    assert found.difference == pytest.approx(means.mean())
    assert found.wins == pytest.approx(np.mean(means > 0))


def test_a_run_without_local_models_is_not_compared():
    only = predictions(MATH, [1, 2], 30, 3, {"federated": 0.5})
    assert over_tasks([only]) is None
    assert task_result(only, only).federated_at_least_local is None
