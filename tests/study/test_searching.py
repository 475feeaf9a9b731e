"""Searches: what Optuna asks for is what members train, whoever is pruned beside them and whatever kills the process."""

import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import optax
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState

import fedjax_edu as fe
from fedjax_edu.study.searching import sampler_seed

ROOT = Path(__file__).resolve().parents[2]
POPULATION = fe.data.Population.from_arrays({"y": np.arange(6, dtype=np.float32)}, offsets=[0, 2, 6])
PARAMS = {"mean": jnp.zeros(())}
RATE = "client_optimizer.learning_rate"
SPACE = {RATE: FloatDistribution(0.05, 1.5), "server_optimizer.learning_rate": FloatDistribution(0.1, 1.0, log=True)}
MEAN, ROUNDS = 2.5, 6


def loss(params, batch, key):
    return 0.5 * (params["mean"] - batch["y"]) ** 2


ENGINE = fe.Engine(
    POPULATION,
    fe.algorithms.fedavg(
        loss,
        client_optimizer=optax.inject_hyperparams(optax.sgd)(learning_rate=0.1),
        server_optimizer=optax.inject_hyperparams(optax.sgd)(learning_rate=1.0),
        local=fe.LocalTraining(steps=1),
    ),
    cohort=fe.cohorts.everyone(),
    aggregator=fe.aggregation.mean(),
    plan=fe.ExecutionPlan(lanes=2, mesh=None),
)


def objective(state):
    return abs(float(state.params["mean"]) - MEAN)


def closed_form(params, rounds=ROUNDS):
    """A full batch step at rate c and a server at rate s take the mean to within (1 - c s)^rounds of where it started."""
    return MEAN * abs(1 - params[RATE] * params["server_optimizer.learning_rate"]) ** rounds


def search(study, trials=12, members=4, space=SPACE, objective=objective, **options):
    options = {"rounds": ROUNDS, "segment": 2, "sampler": partial(optuna.samplers.TPESampler, n_startup_trials=6)} | options
    fe.study.search(ENGINE, study, space, objective, params=PARAMS, trials=trials, members=members, **options)


def fresh(pruner=None):
    return optuna.create_study(pruner=pruner or optuna.pruners.NopPruner())  # Optuna's own default is the median


def states(study):
    return [trial.state.name for trial in study.trials]


def test_trials_are_those_of_a_pure_optuna_twin_on_the_closed_form():
    study, twin = fresh(), fresh()
    search(study, seed=3)
    for start in range(0, 12, 4):
        asked = []
        for number in range(start, start + 4):
            twin.sampler = optuna.samplers.TPESampler(seed=sampler_seed(3, number), n_startup_trials=6)
            asked.append(twin.ask(SPACE))
        for trial in asked:
            for done in (2, 4, 6):
                trial.report(closed_form(trial.params, done), done)
            twin.tell(trial, closed_form(trial.params))
    for found, expected in zip(study.trials, twin.trials, strict=True):
        assert found.params == pytest.approx(expected.params, rel=1e-4)  # the sampler sees values that differ by rounding
        assert found.value == pytest.approx(expected.value, abs=1e-5)
        assert found.intermediate_values == pytest.approx(expected.intermediate_values, abs=1e-5)
    again = fresh()
    search(again, seed=3)
    assert [trial.params for trial in again.trials] == [trial.params for trial in study.trials]


def test_a_member_has_the_value_of_its_lone_run():
    study = fresh()
    search(study, trials=5, members=3)
    for trial in study.trials:
        alone = fe.study.sweep(ENGINE, [trial.params], [0], params=PARAMS, rounds=ROUNDS)
        assert trial.value == pytest.approx(objective(alone.state.member(0)), abs=1e-6)


def test_a_diverging_trial_is_pruned_makes_room_and_disturbs_nobody():
    space = {RATE: CategoricalDistribution([1e30, 0.3, 0.4, 0.5])}
    rates = [0.3, 1e30, 0.4, 0.5]
    study = fresh()
    for rate in rates:
        study.enqueue_trial({RATE: rate})
    search(study, trials=4, members=2, space=space)
    assert states(study) == ["COMPLETE", "PRUNED", "COMPLETE", "COMPLETE"]
    assert np.isnan(study.trials[1].intermediate_values[2]) and study.trials[1].value is None
    for trial in (study.trials[0], *study.trials[2:]):
        whole = trial.params | {"server_optimizer.learning_rate": 1.0}
        assert trial.intermediate_values == pytest.approx({done: closed_form(whole, done) for done in (2, 4, 6)}, abs=1e-5)
    assert study.trials[2].datetime_start < study.trials[0].datetime_complete  # the third did not wait for the first


def test_a_pruner_gives_up_what_is_worse():
    study = fresh(optuna.pruners.MedianPruner(n_startup_trials=2, n_warmup_steps=0))
    space = {RATE: FloatDistribution(0.0, 1.0)}
    for rate in (0.8, 0.7, 0.01, 0.9):
        study.enqueue_trial({RATE: rate})
    search(study, trials=4, members=2, space=space)
    assert states(study) == ["COMPLETE", "COMPLETE", "PRUNED", "COMPLETE"]
    assert list(study.trials[2].intermediate_values) == [2]


def test_a_search_goes_on_to_the_number_of_finished_trials(tmp_path):
    storage = f"sqlite:///{tmp_path / 'study.sqlite3'}"
    for trials in (3, 3, 7):
        with fe.study.open_study(storage, "toy") as study:
            search(study, trials=trials, members=2)
            assert states(study) == ["COMPLETE"] * trials
    straight = fresh()
    search(straight, trials=3, members=2)
    search(straight, trials=7, members=2)
    assert [trial.params for trial in study.trials] == [trial.params for trial in straight.trials]


KILLED = """
import os, signal, sys
sys.path.insert(0, {root!r})
import jax
jax.config.update("jax_num_cpu_devices", 2)
import fedjax_edu as fe
from tests.study.test_searching import objective, search
looks = 0
def killing(state):
    global looks
    looks += 1
    if looks == 9:  # two trials are finished, one of the other two has been reported once more
        os.kill(os.getpid(), signal.SIGKILL)
    return objective(state)
with fe.study.open_study({storage!r}, "toy") as study:
    search(study, trials=7, members=2, objective=killing)
"""


@pytest.mark.parametrize("kind", ["sqlite", "journal"])
def test_a_search_that_was_killed_goes_on(kind, tmp_path):
    storage = f"sqlite:///{tmp_path / 'study.sqlite3'}" if kind == "sqlite" else str(tmp_path / "study.log")
    script = KILLED.format(root=str(ROOT), storage=storage)
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    with fe.study.open_study(storage, "toy") as study:
        assert states(study) == ["COMPLETE", "COMPLETE", "FAIL", "FAIL", "WAITING", "WAITING"]
        search(study, trials=7, members=2)
        assert states(study) == ["COMPLETE", "COMPLETE", "FAIL", "FAIL", *["COMPLETE"] * 5]
        trials = study.trials
    assert [trial.params for trial in trials[4:6]] == [trial.params for trial in trials[2:4]]
    assert [trial.user_attrs for trial in trials[4:7]] == [{"retry_of": 2}, {"retry_of": 3}, {}]
    straight = fresh()
    search(straight, trials=7, members=2)
    finished = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    for found, expected in zip(finished, straight.trials, strict=True):
        assert found.params == pytest.approx(expected.params, rel=1e-4)  # 2 devices there, 8 here
        assert found.value == pytest.approx(expected.value, abs=1e-5)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"space": {}}, ["space", "client_optimizer.learning_rate"]),
        ({"space": {"learning_rate": FloatDistribution(0, 1)}}, ["space", "learning_rate", "inject_hyperparams"]),
        ({"space": {RATE: CategoricalDistribution(["a", "b"])}}, ["space", RATE, "numbers"]),
        ({"segment": 4}, ["segment", "divisor of the 6 rounds"]),
        ({"members": 0}, ["members"]),
        ({"trials": 0}, ["trials"]),
    ],
)
def test_a_search_that_cannot_work_says_so_before_it_asks(options, words):
    study = fresh()
    with pytest.raises(fe.errors.ArgumentError) as caught:
        search(study, **options)
    assert all(word in str(caught.value) for word in words)
    assert study.trials == []


@pytest.mark.parametrize(
    ("storage", "words"),
    [
        ("postgresql://host/base", "sqlite:///FILE"),
        ("sqlite:///:memory:", "sqlite:///FILE"),
        ("sqlite:///", "sqlite:///FILE"),
        ("absent/study.sqlite3", "a folder you may write to"),
        ("sqlite:///notes.txt", "one that Optuna wrote"),
        ("notes.txt", "one that Optuna wrote"),
    ],
)
def test_a_storage_that_cannot_work_says_so(storage, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("notes.txt").write_text("no study\nat all\n")
    with pytest.raises(fe.errors.ArgumentError, match=words) as caught, fe.study.open_study(storage, "toy"):
        pass
    assert str(caught.value).startswith("storage: ") and "\n" not in str(caught.value)


def test_a_storage_is_used_by_one_search_for_one_purpose(tmp_path):
    storage = str(tmp_path / "study.log")
    with (
        fe.study.open_study(storage, "toy", settings={"rounds": 3}),
        pytest.raises(fe.errors.ArgumentError, match="wait until the search"),
        fe.study.open_study(storage, "toy"),
    ):
        pass
    with pytest.raises(fe.errors.ArgumentError, match="begun with another rounds"), fe.study.open_study(storage, "toy"):
        pass
    with pytest.raises(OSError, match="of the work"), fe.study.open_study(storage, "toy", settings={"rounds": 3}):
        raise OSError("of the work")
