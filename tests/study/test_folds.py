"""Means over folds and seeds, from runs whose predictions are made up."""

import io
import json

import numpy as np
import pytest
from rich.console import Console

import fedjax_edu as fe
from fedjax_edu.study import federations, folds
from fedjax_edu.study.results import Result, over_tasks, task_result
from fedjax_edu.study.tables import number
from fedjax_edu.study.task_run import TaskRun
from tests.study.small import NAMES, TASKS


def predicted(task, signal, error, rng):
    noisy = signal + error * rng.normal(size=len(signal))
    return 1 / (1 + np.exp(-2 * noisy)) if task.binary else noisy


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
                TaskRun(task, fold, seed, school, targets, {name: predicted(task, signal, error, rng) for name, error in errors.items()})
            )
        predictions[test] = tuple(of_tasks)
    tasks = {
        task.name: task_result(*(predictions[test][position] for test in ("held_out", "within"))) for position, task in enumerate(TASKS)
    }
    return Result(fold, seed, 1, 0, 0, tasks, over_tasks(predictions["within"]), {}, predictions)


@pytest.fixture(scope="module")
def found(small, config, tmp_path_factory):
    folder, text = tmp_path_factory.mktemp("folds"), io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(federations, "run_schools", lambda run, workdir, console, population: made_up(run.fold, run.seed))
        report = fe.study.run_folds(config, folder, seeds=2, folds=3, console=Console(file=text, width=200))
    return report, folder, text.getvalue()


@pytest.mark.parametrize("position", range(len(TASKS)), ids=NAMES)
def test_a_score_is_the_mean_over_folds_and_seeds(found, position):
    report, folder, _ = found
    written = json.loads((folder / "folds.json").read_text())
    for test in ("held_out", "within"):
        score = report.comparisons[test].of(NAMES[position], "federated")
        expected = [made_up(fold, seed).predictions[test][position].score("federated") for fold in (1, 2, 3) for seed in (0, 1)]
        assert score.mean == pytest.approx(np.mean(expected))
        means = [one["mean"] for one in written[test]["scores"] if (one["task"]["name"], one["model"]) == (NAMES[position], "federated")]
        assert means == pytest.approx([score.mean])


def test_the_share_of_schools_is_the_mean_over_runs(found):
    report, folder, text = found
    rows = {row[0]: row[1] for row in report.tables["federated_at_least_local"].rows}
    for task in TASKS:
        shares = [made_up(fold, seed).tasks[task.name].federated_at_least_local.wins for fold in (1, 2, 3) for seed in (0, 1)]
        assert rows[task.title].value == pytest.approx(np.mean(shares))
        assert np.mean(shares) > 0.8
    overall = [made_up(fold, seed).federated_at_least_local.wins for fold in (1, 2, 3) for seed in (0, 1)]
    assert rows[folds.ALL_TASKS].value == pytest.approx(np.mean(overall))
    line = next(line for line in text.splitlines() if line.startswith(f"| {folds.ALL_TASKS}"))
    assert number(np.mean(overall)) in line
    assert line in (folder / "report.md").read_text()


def test_every_table_is_a_file_and_every_binary_task_a_figure(found):
    report, folder, _ = found
    files = {f"{name}.{suffix}" for name in report.tables for suffix in ("csv", "tex")}
    assert {path.name for path in (folder / "tables").iterdir()} == files
    assert {path.name for path in folder.glob("reliability*.pdf")} == {"reliability-star-leaves.pdf"}
    columns, first = (folder / "tables" / "tasks.csv").read_text().splitlines()[:2]
    assert columns == "task,unit,rows,schools,ICC"
    assert first.startswith("HSB82 mathematics,test points,600,24,")  # 200 rows of eight schools in each of three folds
    assert r"\toprule" in (folder / "tables" / "scores_held_out.tex").read_text()


@pytest.mark.parametrize(("argument", "value"), [("folds", 0), ("folds", 6), ("seeds", 0)])
def test_a_number_of_folds_or_seeds_that_cannot_be_run(argument, value, config, tmp_path):
    with pytest.raises(fe.errors.ArgumentError, match=f"^{argument}: got {value}; "):
        fe.study.run_folds(config, tmp_path, **{argument: value})
