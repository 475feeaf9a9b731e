"""A whole run on small studies: what the folder holds, that it repeats, that it stops, and tables that say what was found."""

import dataclasses
import io
import json
import re
import shutil
import signal
import sys

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

import fedjax_edu as fe
from fedjax_edu.study import report
from fedjax_edu.study import school_run as run
from fedjax_edu.study.encoding import raw_targets
from fedjax_edu.study.results import MODELS, task_result
from fedjax_edu.study.tables import number
from tests.study.small import NAMES


@pytest.fixture(scope="module")
def finished(small, config, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "nested" / "run"
    text = io.StringIO()
    return run.run_schools(config, folder, Console(file=text, width=100)), folder, text.getvalue()


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_folder_holds_everything(finished):
    _, folder, _ = finished
    files = {
        "config.json",
        "versions.json",
        "schema.json",
        "scaling.json",
        "metrics.jsonl",
        "metrics.parquet",
        "timing.jsonl",
        "final.json",
        "model",
        "run.json",
        "starts.jsonl",
        "log.txt",
        "checkpoints",
        "predictions",
        ".lock",
        *(f"{name}.{suffix}" for name in ("learning_curve", "schools") for suffix in ("png", "pdf", "svg")),
    }
    assert {path.name for path in folder.iterdir()} == files
    for name in ("learning_curve.png", "schools.png"):
        assert (folder / name).read_bytes().startswith(b"\x89PNG")


def test_metrics_have_one_line_a_round_and_no_clock(finished, config):
    result, folder, _ = finished
    records = lines(folder / "metrics.jsonl")
    assert [record["round"] for record in records] == list(range(1, config.rounds + 1))
    assert all(record["participants"] == config.cohort for record in records)
    assert result.bytes_up == sum(record["bytes_up"] for record in records)
    assert [record["round"] for record in records if "held_out" in record] == [2, 3]
    assert not any("second" in name for record in records for name in record)


def test_the_same_records_are_a_parquet_file(finished):
    _, folder, _ = finished
    table, records = pd.read_parquet(folder / "metrics.parquet"), lines(folder / "metrics.jsonl")
    assert table.index.tolist() == [record["round"] for record in records]
    assert table["loss"].tolist() == [record["loss"] for record in records]
    np.testing.assert_array_equal(table["losses.hsb.mach"], np.array([record["losses"]["hsb.mach"] for record in records], float))
    assert table["held_out.hsb.mach"].notna().sum() == 2


def test_the_result_is_complete(finished):
    result, folder, _ = finished
    final = json.loads((folder / "final.json").read_text())
    assert set(final["tasks"]) == set(NAMES)
    for task in final["tasks"].values():
        assert set(task["within"]) == set(MODELS)
        assert set(task["held_out"]) == set(MODELS) - {"local_network", "local_ridge"}
    assert final["tasks"]["star.math"]["within"]["constant"]["score"] == pytest.approx(result.predictions["within"][1].score("constant"))


def test_the_last_point_of_the_curve_is_the_final_score(finished):
    result, folder, _ = finished
    last = lines(folder / "metrics.jsonl")[-1]["held_out"]
    for name in NAMES:
        assert last[name] == pytest.approx(result.tasks[name].held_out["federated"].score, abs=1e-5)


def test_the_model_it_leaves_predicts_what_training_predicted(finished, population):
    result, folder, _ = finished
    found = fe.load_model(folder / "model").predict(population, say=None)
    for task, one in zip(NAMES, result.predictions["held_out"], strict=True):
        rows = np.isin(found["client"], one.school) & np.isfinite(raw_targets(population)[:, NAMES.index(task)])
        column = f"{task} probability" if one.task.binary else task
        np.testing.assert_array_equal(found[column].to_numpy()[rows], one.models["federated"])


def test_the_card_of_its_model_says_what_was_found(finished):
    result, folder, _ = finished
    card = (folder / "model" / "README.md").read_text()
    schools = {test: {school for one in runs for school in one.school.tolist()} for test, runs in result.predictions.items()}
    assert f"{len(schools['within'])} clients trained on " in card
    assert f"{len(schools['held_out'])} other clients with " in card
    for name, task in result.tasks.items():
        score = task.held_out["federated"]
        assert re.search(rf"\| {name} +\| \S+ +\| {number(score.score)} +\| {number(score.tenth_quantile)} ", card)
    assert f"{result.rounds} rounds" in card


def test_the_tables_show_the_scores(finished):
    result, _, text = finished
    for name in NAMES:
        for model in ("federated", "ridge", "constant"):
            assert report.number(result.tasks[name].held_out[model].score) in text
    assert f"{result.rounds} rounds, {result.bytes_up / 1e6:,.1f} MB sent" in text
    assert "ETA" in text


def test_a_run_that_diverged_says_so(finished):
    """Its rows stay in the tables, with dashes, and nothing false is said about schools."""
    result, _, text = finished
    assert report.DIVERGED not in text and result.finite
    broken = {
        test: tuple(dataclasses.replace(one, models={**one.models, "federated": np.full(len(one.targets), np.nan)}) for one in runs)
        for test, runs in result.predictions.items()
    }
    tasks = {held.task.name: task_result(held, within) for held, within in zip(broken["held_out"], broken["within"], strict=True)}
    shown = io.StringIO()
    changed = dataclasses.replace(result, predictions=broken, tasks=tasks)
    report.show(changed, Console(file=shown, width=100))
    assert not changed.finite and "training diverged" in shown.getvalue() and "No school has" not in shown.getvalue()
    assert len(re.findall(r"federated +[│|] +– +[│|] +– +[│|] +– +[│|] +–", shown.getvalue())) == len(tasks)


def test_two_runs_write_the_same_records(small, finished, config, tmp_path):
    _, folder, _ = finished
    run.run_schools(config, tmp_path, Console(file=io.StringIO()))
    for name in ("metrics.jsonl", "final.json", "scaling.json", "config.json"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()


def test_a_run_that_cannot_begin_leaves_the_results_of_the_last_one(small, finished, config):
    _, folder, _ = finished
    before = contents(folder)
    unknown = dataclasses.replace(config, federated=dataclasses.replace(config.federated, algorithm="fedall"))
    with pytest.raises(fe.errors.ConfigError, match=r"^federated.algorithm: got fedall"):
        run.run_schools(unknown, folder, Console(file=io.StringIO()))
    assert contents(folder) == before


def test_ctrl_c_saves_and_the_same_call_goes_on(small, finished, config, tmp_path, monkeypatch):
    """Once while it trains, and once among the models that it compares with."""
    _, folder, _ = finished

    def interrupt_once(module, name):
        original = getattr(module, name)

        def interrupting(*arguments):
            monkeypatch.setattr(module, name, original)
            signal.raise_signal(signal.SIGINT)
            return original(*arguments)

        monkeypatch.setattr(module, name, interrupting)

    for place, done in (((run, "collect"), 2), ((run.baselines, "local_ridge"), 3)):
        interrupt_once(*place)
        with pytest.raises(fe.study.Stopped) as stopped:
            run.run_schools(config, tmp_path, Console(quiet=True))
        assert (stopped.value.code, stopped.value.done) == (130, done)
        assert not (tmp_path / "final.json").exists()
    run.run_schools(config, tmp_path, Console(quiet=True))
    for name in ("metrics.jsonl", "final.json"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()
    assert [start["round"] for start in lines(tmp_path / "starts.jsonl")] == [0, 2, 3]


def test_a_complete_run_computes_nothing_again(small, finished, config, tmp_path, monkeypatch):
    result, folder, _ = finished
    copy = shutil.copytree(folder, tmp_path / "copy")

    def fails(*arguments, **named):
        pytest.fail("computed again")

    for name in ("local_ridge", "random_intercept", "boosting", "ridge", "constant"):
        monkeypatch.setattr(run.baselines, name, fails)
    for name in ("pooled", "local_only", "personalised"):
        monkeypatch.setattr(run.Trainer, name, fails)
    again = run.run_schools(config, copy, Console(quiet=True))
    assert (copy / "final.json").read_bytes() == (folder / "final.json").read_bytes()
    assert again.icc == result.icc
    for test, runs in result.predictions.items():
        for one, other in zip(runs, again.predictions[test], strict=True):
            assert list(one.models) == list(other.models)
            for model, values in one.models.items():
                np.testing.assert_array_equal(values, other.models[model])


def test_predictions_that_are_damaged_or_of_other_versions_are_computed_again(small, finished, config, tmp_path):
    _, folder, _ = finished
    copy = shutil.copytree(folder, tmp_path / "copy")
    file = copy / "predictions" / "ridge.npz"
    file.write_bytes(file.read_bytes()[:-100])
    with np.load(copy / "predictions" / "constant.npz") as arrays:
        old = {name: np.zeros_like(values) for name, values in arrays.items() if name != "versions"}
    np.savez(copy / "predictions" / "constant.npz", **old, versions=np.array("{}"))
    run.run_schools(config, copy, Console(quiet=True))
    assert (copy / "final.json").read_bytes() == (folder / "final.json").read_bytes()
    for name in ("ridge", "constant"):
        with np.load(copy / "predictions" / f"{name}.npz") as found, np.load(folder / "predictions" / f"{name}.npz") as expected:
            for test in ("held_out", "within"):
                np.testing.assert_array_equal(found[test], expected[test])


def test_a_signal_during_the_last_baseline_ends_a_study_of_folds(small, config, tmp_path, monkeypatch):
    """Everything of the first fold is written, and the second does not begin."""
    original = run.baselines.constant

    def interrupting(*arguments):
        signal.raise_signal(signal.SIGTERM)
        return original(*arguments)

    monkeypatch.setattr(run.baselines, "constant", interrupting)
    quick = dataclasses.replace(config, rounds=1, compared=["constant"])
    with pytest.raises(fe.study.Stopped) as stopped:
        fe.study.run_folds(quick, tmp_path, folds=2, console=Console(quiet=True))
    assert stopped.value.code == 143
    assert (tmp_path / "fold1-seed0" / "final.json").exists()
    assert not (tmp_path / "fold2-seed0").exists()


def test_overwriting_removes_results_too(small, config, tmp_path, monkeypatch):
    quick = dataclasses.replace(config, rounds=1, compared=[])
    run.run_schools(quick, tmp_path, Console(quiet=True))

    def killed(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(run.Run, "train", killed)
    with pytest.raises(KeyboardInterrupt):
        run.run_schools(quick, tmp_path, Console(quiet=True), overwrite=True)
    assert not {path.name for path in tmp_path.iterdir()} & set(run.RESULTS)


def test_another_configuration_is_refused(small, finished, config):
    _, folder, _ = finished
    before = contents(folder)
    with pytest.raises(fe.errors.CheckpointError, match=r"config\.rounds was 3 and is 2"):
        run.run_schools(dataclasses.replace(config, rounds=2), folder, Console(quiet=True))
    assert contents(folder) == before


def test_other_rows_of_a_test_are_another_run(small, finished, config, population):
    """Held-out schools train nobody, but the records of the rounds have their scores."""
    _, folder, _ = finished
    before = contents(folder)
    fold = fe.study.prepare(population, config.fold, config.seed)
    scores = population.arrays["targets"]["hsb.mach"].copy()
    mine = population.arrays["present"]["hsb.mach"][fold.held_out.rows]
    scores[fold.held_out.rows[np.flatnonzero(mine)[0]]] += 1
    arrays = {**population.arrays, "targets": {**population.arrays["targets"], "hsb.mach": scores}}
    with pytest.raises(fe.errors.CheckpointError, match=r"config\.rows was"):
        run.run_schools(config, folder, Console(quiet=True), population=dataclasses.replace(population, arrays=arrays))
    assert contents(folder) == before


def test_a_folder_that_cannot_be_written_stops_before_any_work(config, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(run, "prepare", lambda *args, **kwargs: pytest.fail("worked before it looked at the folder"))
    with pytest.raises(fe.errors.ArgumentError, match=r"^workdir: got .*file/run; "):
        run.run_schools(config, tmp_path / "file" / "run")


@pytest.mark.parametrize("package", ["matplotlib", "pandas", "pyarrow", "safetensors", "sklearn"])
def test_a_missing_package_is_named_before_any_work(config, tmp_path, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(fe.errors.MissingDependencyError, match=rf'{package}.*pip install "fedjax_edu\[study\]"'):
        run.run_schools(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
