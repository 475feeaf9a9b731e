"""Means over folds and seeds, from runs whose predictions are made up."""

import io
import json

import numpy as np
import pytest
from rich.console import Console

import fedjax_edu as fe
from fedjax_edu.study import estimates, folds, report
from fedjax_edu.study.results import Result, over_tasks, task_result
from fedjax_edu.study.task_run import TaskRun
from tests.study.small import NAMES, TASKS


def made_up(fold: int, seed: int) -> Result:
    """Eight schools of 25 rows; the federated model has a quarter of the error variance of the others."""
    rng = np.random.default_rng([fold, seed])
    school = np.repeat(np.arange(8) + 8 * fold, 25)
    predictions = {}
    for test in ("held_out", "within"):
        of_tasks = []
        for task in TASKS:
            signal = rng.normal(size=200)
            targets = (signal > 0).astype(float) if task.binary else signal
            errors = {"federated": 0.5, "local_ridge": 1.0, "ridge": 1.0, "constant": 2.0}
            of_tasks.append(
                TaskRun(task, fold, seed, school, targets, {name: signal + error * rng.normal(size=200) for name, error in errors.items()})
            )
        predictions[test] = tuple(of_tasks)
    tasks = {
        task.name: task_result(*(predictions[test][position] for test in ("held_out", "within"))) for position, task in enumerate(TASKS)
    }
    return Result("complete", fold, seed, 1, 0, 0, tasks, over_tasks(predictions["within"]), {}, predictions)


@pytest.fixture(scope="module")
def summary(small, config, tmp_path_factory):
    folder, text = tmp_path_factory.mktemp("folds"), io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folds, "run_schools", lambda run, workdir, console, population: made_up(run.fold, run.seed))
        patch.setattr(estimates, "RESAMPLES", 20)
        found = fe.study.run_folds(config, folder, seeds=2, folds=3, console=Console(file=text, width=120))
    return found, json.loads((folder / "folds.json").read_text()), text.getvalue()


@pytest.mark.parametrize("position", range(len(TASKS)), ids=NAMES)
def test_an_estimate_is_the_mean_over_folds_and_seeds(summary, position):
    found, written, _ = summary
    for test in ("held_out", "within"):
        estimate = found[test][NAMES[position]]["federated"]
        expected = [[made_up(fold, seed).predictions[test][position].score("federated") for seed in (0, 1)] for fold in (1, 2, 3)]
        assert estimate.folds == pytest.approx(np.mean(expected, axis=1))
        assert estimate.mean == pytest.approx(np.mean(expected))
        assert estimate.interval.low <= estimate.mean <= estimate.interval.high
        assert written[test][NAMES[position]]["federated"]["mean"] == pytest.approx(estimate.mean)


def test_the_share_of_schools_is_the_mean_over_runs(summary):
    found, _, text = summary
    for name in NAMES:
        shares = [made_up(fold, seed).tasks[name].federated_at_least_local.wins for fold in (1, 2, 3) for seed in (0, 1)]
        assert found["federated_at_least_local"][name].mean == pytest.approx(np.mean(shares))
        assert np.mean(shares) > 0.8
    overall = [made_up(fold, seed).federated_at_least_local.wins for fold in (1, 2, 3) for seed in (0, 1)]
    assert found["federated_at_least_local"]["all tasks"].mean == pytest.approx(np.mean(overall))
    assert f"all of a school's tasks │ {report.number(np.mean(overall))}" in text
    assert "Federated at least as good as local-only" in text


@pytest.mark.parametrize(("argument", "value"), [("folds", 0), ("folds", 6), ("seeds", 0)])
def test_a_number_of_folds_or_seeds_that_cannot_be_run(argument, value, config, tmp_path):
    with pytest.raises(fe.errors.ArgumentError, match=f"^{argument}: got {value}; "):
        fe.study.run_folds(config, tmp_path, **{argument: value})
