"""The table of algorithms, on two small studies."""

import dataclasses
import io
import json

import numpy as np
import pytest
from rich.console import Console

import fedjax_edu as fe
from experiments.configs.personal import get_config
from fedjax_edu.study import algorithms, estimates, metrics, training
from fedjax_edu.study.choice import make_algorithm
from fedjax_edu.study.results import collect
from tests.study.small import NAMES, TASKS

METHODS = algorithms.AlgorithmsConfig.from_mapping(get_config().to_dict())


@pytest.fixture(scope="module")
def compared(config):
    fields = dataclasses.asdict(config.federated) | {"algorithm": "fedavg", "arguments": {}, "personal": [], "tuning_epochs": 0}
    plain = algorithms.MethodConfig(**fields)
    settings = {"fedavg": plain, "still": dataclasses.replace(plain, client_learning_rate=1e-9)}
    grids = {"fedavg": {"client_learning_rate": [0.1, 0.2], "weighting": ["uniform"]}}
    return algorithms.AlgorithmsConfig(schools=config, test="held_out", settings=settings, grids=grids)


@pytest.fixture(scope="module", autouse=True)
def few_draws():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(estimates, "RESAMPLES", 20)
        yield


def test_scores_are_means_over_runs_of_what_the_federation_predicts(small, compared, tmp_path):
    text = io.StringIO()
    found = algorithms.run_algorithms(compared, tmp_path, seeds=2, folds=1, console=Console(file=text, width=200))
    assert json.loads((tmp_path / "algorithms.json").read_text())["fedavg"]["star.math"]["score"]["mean"] == pytest.approx(
        found["fedavg"]["star.math"].score.mean
    )
    expected = []
    for data, schools in algorithms.splits(compared.schools, seeds=2, folds=1):
        outputs = algorithms.predict(data, schools, compared.settings["fedavg"], "held_out")
        expected.append([one.score("it") for one in collect(data, data.held_out, {"it": outputs})])
    for name, value in zip(NAMES, np.mean(expected, axis=0), strict=True):
        one = found["fedavg"][name]
        assert one.score.mean == pytest.approx(value, abs=1e-6)
        assert (one.difference.mean, one.difference.interval.low, one.difference.interval.high) == (0, 0, 0)
        assert found["still"][name].difference.mean == pytest.approx(found["still"][name].score.mean - value, abs=1e-6)
    table = (tmp_path / "algorithms.md").read_text()
    assert table.count("\n| ") == 6  # scores, and schools one by one
    assert "| still " in text.getvalue()


def test_tuning_looks_at_no_test_school_and_prints_every_point(small, compared, monkeypatch):
    seen = []
    real = algorithms.prepare
    monkeypatch.setattr(algorithms, "prepare", lambda *args, validation: seen.append(validation) or real(*args, validation=validation))
    monkeypatch.setattr(algorithms, "predict", lambda data, *_: np.zeros((len(data.held_out.rows), len(NAMES))))
    text = io.StringIO()
    algorithms.tune_algorithms(compared, folds=2, console=Console(file=text, width=200))
    lines = text.getvalue().splitlines()
    assert seen == [True, True]
    assert [line.split("   ")[-1] for line in lines] == [
        "{'client_learning_rate': 0.1, 'weighting': 'uniform'}",
        "{'client_learning_rate': 0.2, 'weighting': 'uniform'}",
    ]


@pytest.mark.parametrize(("argument", "value"), [("folds", 0), ("folds", 6), ("seeds", 0)])
def test_a_number_of_folds_or_seeds_that_cannot_be_run(argument, value, compared, tmp_path):
    with pytest.raises(fe.errors.ArgumentError, match=f"^{argument}: got {value}; "):
        algorithms.run_algorithms(compared, tmp_path, **{argument: value})


def test_a_wrong_setting_is_found_before_anything_is_trained(compared, tmp_path, monkeypatch):
    monkeypatch.setattr(algorithms, "predict", lambda *_: pytest.fail("trained"))
    wrong = dataclasses.replace(compared.settings["fedavg"], arguments={"mu": 0.1})
    config = dataclasses.replace(compared, settings=compared.settings | {"wrong": wrong})
    with pytest.raises(fe.errors.ConfigError, match=r"^federated\.arguments: got for fedavg: .*'mu'; it takes"):
        algorithms.run_algorithms(config, tmp_path)


@pytest.mark.parametrize("name", ["fedporx", "still"])  # one without settings, one without a grid
def test_tuning_what_cannot_be_tuned(name, compared):
    with pytest.raises(fe.errors.ArgumentError, match=f"^names: got {name}; use algorithms with settings and a grid: fedavg"):
        algorithms.tune_algorithms(compared, names=[name])


def test_there_is_something_to_measure_against(compared, tmp_path):
    alone = dataclasses.replace(compared, settings={"still": compared.settings["still"]})
    with pytest.raises(fe.errors.ConfigError, match=r"^config.settings: got \['still'\]; add fedavg"):
        algorithms.run_algorithms(alone, tmp_path)


def test_a_run_that_diverged_has_neither_a_mean_nor_a_mark():
    lost = estimates.Estimate(float("nan"), metrics.Interval(-9e68, -7e68), (float("nan"),))
    found = {"lost": {name: algorithms.Score(lost, lost, (float("nan"),) * 3) for name in NAMES}}
    lines = algorithms._markdown(found, TASKS, "held_out", seeds=1, folds=1).splitlines()
    scores, schools = ([cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith("| lost"))
    assert scores == ["lost", *["diverged"] * len(NAMES)] and schools == ["lost", *["– – –"] * len(NAMES)]


def test_what_stays_with_schools(small, compared):
    """Tuned at a rate of nothing a school's model is the federation's; with all modules its own a school learns from nobody."""
    plain = dataclasses.replace(compared.settings["fedavg"], client_learning_rate=0.1)
    data, schools = next(algorithms.splits(compared.schools, seeds=1, folds=1))

    def predict(split=data, **changes):
        return algorithms.predict(split, schools, dataclasses.replace(plain, **changes), "within")

    shared, tuned, heads, alone = (
        predict(**changes) for changes in ({}, {"tuning_epochs": 2}, {"personal": ["heads"]}, {"personal": ["..."]})
    )
    assert all(np.abs(one - shared).max() > 1e-3 for one in (tuned, heads, alone))
    trainer = training.Trainer(data, dataclasses.replace(schools, federated=dataclasses.replace(plain, client_learning_rate=1e-9)))
    federation = training.Trained(*trainer.federation(), trainer)
    np.testing.assert_allclose(trainer.tuned(federation, 2).outputs(data.within), federation.outputs(data.within), atol=1e-5)
    train = data.train.population
    others = np.repeat(train.ids, train.sizes) != train.ids[0]
    targets = np.where(others[:, None], train.arrays["targets"] + 1, train.arrays["targets"])
    moved = type(train).from_arrays({**train.arrays, "targets": targets}, train.offsets, ids=train.ids)
    changed = predict(dataclasses.replace(data, train=dataclasses.replace(data.train, population=moved)), personal=["..."])
    of_first = data.within.school == train.ids[0]
    assert of_first.any()
    np.testing.assert_allclose(changed[of_first], alone[of_first], rtol=1e-5)


@pytest.mark.parametrize("name", METHODS.settings)
def test_the_committed_methods_fit_their_algorithms(name):
    make_algorithm(lambda params, batch, key: None, METHODS.settings[name], rounds=10)
    assert METHODS.grids[name]
