"""Federations beside the main one: they see its split, whichever studies they have, and are rows of its tables."""

import dataclasses
import io

import jax
import numpy as np
import pytest
from rich.console import Console

import fedjax_edu as fe
from fedjax_edu.data.studies import STUDIES
from fedjax_edu.data.studies.examples import join
from fedjax_edu.study import federations
from fedjax_edu.study.config import SchoolsConfig, StudyConfig
from fedjax_edu.study.results import Result, with_row
from fedjax_edu.study.schools import raw_targets, split
from fedjax_edu.study.task_run import TaskRun
from tests.study.small import TASKS


def of_study(examples_tasks, fold, seed, error):
    """Forty rows of each task; predictions that are off by `error`."""
    school = np.repeat(np.arange(2), 20)
    targets = np.tile([0.0, 1.0], 20)
    return tuple(TaskRun(task, fold, seed, school, targets, {"federated": np.abs(targets - error)}) for task in examples_tasks)


@pytest.fixture
def ran(monkeypatch, config, studies):
    """Runs that are made up: what a federation of given studies predicts is off by a tenth for each of its rounds."""
    folders = []

    def run(one, workdir, console, population):
        folders.append(workdir.name)
        tasks = [task for task in TASKS if task.study in one.studies]
        predictions = {test: of_study(tasks, one.fold, one.seed, one.rounds / 10) for test in ("held_out", "within")}
        return Result(one.fold, one.seed, one.rounds, 0, 0, {}, None, {}, predictions)

    monkeypatch.setattr(federations, "run_schools", run)
    named = {examples.study: examples for examples in studies}
    monkeypatch.setattr(federations, "population_of", lambda one: join([named[study] for study in one.studies], STUDIES))
    return folders


def beside(config, rounds, *studies):
    return dataclasses.replace(config, rounds=rounds, studies=list(studies))


def trained(config, rows, workdir):
    return federations.Federations(config, rows, None).run(2, 7, workdir, Console(file=io.StringIO()))


def test_each_row_has_the_predictions_of_its_own_runs(ran, config, tmp_path):
    rows = {"M3T, dense": [beside(config, 1, "hsb", "star")], "alone": [beside(config, 2, "star"), beside(config, 4, "hsb")]}
    result = trained(config, rows, tmp_path)
    assert ran == ["fold2-seed7", "fold2-seed7-M3T-dense-1", "fold2-seed7-alone-1", "fold2-seed7-alone-2"]
    for runs in result.predictions.values():
        for run in runs:
            off = {name: abs(values[0] - run.targets[0]) for name, values in run.models.items()}
            assert off == pytest.approx({"federated": 0.3, "M3T, dense": 0.1, "alone": 0.4 if run.task.study == "hsb" else 0.2})


def test_programs_of_ended_runs_are_let_go(ran, config, tmp_path, monkeypatch):
    """All programs of a study take more memory maps than Linux gives a process, and the next one to be compiled would end it."""
    made_up, counts = federations.run_schools, []
    program = jax.jit(lambda x, number: x * number, static_argnums=1)

    def run(*arguments, **named):
        counts.append(len(jax.devices()[0].client.live_executables()))
        program(np.arange(3.0), len(counts))
        return made_up(*arguments, **named)

    monkeypatch.setattr(federations, "run_schools", run)
    trained(config, {"alone": [beside(config, 2, "star"), beside(config, 4, "hsb")], "others": [beside(config, 1, "hsb")]}, tmp_path)
    assert len(counts) == 4
    assert counts[1] == counts[2] == counts[3]


def test_a_task_that_no_run_of_a_row_has_stays_without_the_row(ran, config, tmp_path):
    result = trained(config, {"alone": [beside(config, 2, "star")]}, tmp_path)
    assert {run.task.name: len(run.models) for run in result.predictions["within"]} == {
        task.name: 2 if task.study == "star" else 1 for task in TASKS
    }


def test_a_task_that_two_runs_of_a_row_have_is_refused(ran, config, tmp_path):
    result = trained(config, {}, tmp_path)
    with pytest.raises(fe.errors.DataError, match=r"^alone.hsb.mach: got 2 runs; "):
        with_row(result, "alone", [result, result])


def test_predictions_of_other_rows_are_refused(ran, config, tmp_path, monkeypatch):
    changed = iter([0, 1])
    made_up = federations.run_schools

    def run(one, *arguments, **named):
        result = made_up(one, *arguments, **named)
        return result if not next(changed) else dataclasses.replace(result, seed=8, predictions=moved(result.predictions))

    def moved(predictions):
        return {test: tuple(dataclasses.replace(one, school=one.school[::-1]) for one in runs) for test, runs in predictions.items()}

    monkeypatch.setattr(federations, "run_schools", run)
    with pytest.raises(fe.errors.DataError, match=r"^M3T.hsb.mach: got other rows; "):
        trained(config, {"M3T": [beside(config, 2, "hsb", "star")]}, tmp_path)


WRONG = {
    "name of a model": ({"ridge": ["hsb"]}, {}, "beside: got ridge; "),
    "title of a model": ({"gradient boosting": ["hsb"]}, {}, "beside: got gradient boosting; "),
    "no federation": ({"none": []}, {}, "beside: got none; give the row a list of one federation or more"),
    "a task twice": ({"twice": ["star", "star"]}, {}, "beside.twice: got star.leaves in two federations; "),
    "unknown algorithm": ({"row": ["star"]}, {"algorithm": "fedall"}, "federated.algorithm: got fedall; "),
}


@pytest.mark.parametrize("case", WRONG)
def test_rows_that_cannot_be_run_are_refused_before_any_work(ran, config, case):
    rows, changes, message = WRONG[case]
    other = dataclasses.replace(config, federated=dataclasses.replace(config.federated, **changes))
    with pytest.raises(fe.errors.ArgumentError) as error:
        federations.Federations(config, {name: [beside(other, 1, study) for study in studies] for name, studies in rows.items()}, None)
    assert str(error.value).startswith(message)
    assert ran == []


def test_a_row_may_not_have_tasks_of_its_own(ran, config):
    with pytest.raises(fe.errors.ArgumentError, match=r"^beside.more: got star.leaves; name tasks that the main federation has"):
        federations.Federations(beside(config, 1, "hsb"), {"more": [beside(config, 1, "star")]}, None)


def test_folders_of_rows_are_different():
    names = federations.file_names(["a b", "a-b-2", "a/b", "a b "])
    assert len(set(names.values())) == 4


@pytest.mark.parametrize("fold", [1, 4])
def test_a_study_alone_has_the_split_that_it_has_among_others(population, studies, fold):
    """Otherwise a federation of one study would be tested on rows that another was trained on."""
    for position, examples in enumerate(studies):
        alone = join([examples], STUDIES)
        for mine, whole in zip(split(alone, fold, 3), split(population, fold, 3), strict=True):
            there = np.isin(whole.ids, alone.ids)
            of_study = whole.select(there)
            np.testing.assert_array_equal(mine.ids, of_study.ids)
            offset = 0 if position == 0 else len(studies[0].school)
            np.testing.assert_array_equal(mine.arrays["row"] + offset, of_study.arrays["row"])
        assert raw_targets(alone).shape[1] == len(examples.tasks)


def test_a_study_is_read_from_a_mapping(config):
    """A run's own configuration is a study of that run."""
    alone = dataclasses.asdict(config)
    assert StudyConfig.from_mapping(alone) == StudyConfig(main=config, beside={})
    both = StudyConfig.from_mapping({"main": alone, "beside": {"other": [alone | {"rounds": 9}]}})
    assert both.beside == {"other": [dataclasses.replace(config, rounds=9)]}
    with pytest.raises(fe.errors.ConfigError, match=r"^config.beside.other\[0\].rounds: got 0; "):
        StudyConfig.from_mapping({"main": alone, "beside": {"other": [alone | {"rounds": 0}]}})
    with pytest.raises(fe.errors.ConfigError, match=r"^config.rounds: got 0; "):
        StudyConfig.from_mapping(alone | {"rounds": 0})
    assert isinstance(both.main, SchoolsConfig)
