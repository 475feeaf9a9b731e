"""The search for settings of the school federation, on two small studies."""

import dataclasses
import io
import json

import numpy as np
import optuna
import pytest
from rich.console import Console

import fedjax_edu as fe
from experiments.configs.sweep import get_config
from fedjax_edu.study import school_search
from fedjax_edu.study.results import collect
from fedjax_edu.study.schools import prepare
from fedjax_edu.study.training import Trained, Trainer


@pytest.fixture(scope="module")
def searched(config):
    committed = fe.study.SearchConfig.from_mapping(get_config().to_dict())
    federated = dataclasses.replace(config.federated, algorithm="fedavg", arguments={})
    model = dataclasses.replace(config.model, members=1, products=False)
    schools = dataclasses.replace(config, federated=federated, model=model, rounds=4)
    return dataclasses.replace(committed, schools=schools, members=2, segment=2)


@pytest.fixture(scope="module")
def splits(small):
    asked = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(school_search, "prepare", lambda *args, validation: asked.append(validation) or prepare(*args, validation=validation))
        yield asked


@pytest.fixture(scope="module")
def found(splits, searched, tmp_path_factory):
    folder, text = tmp_path_factory.mktemp("search"), io.StringIO()
    return school_search.run_search(searched, folder, trials=3, console=Console(file=text, width=200)), folder, text.getvalue()


def test_a_value_is_the_score_of_the_federation_with_those_rates_on_the_inner_split(found, splits, searched, population):
    result, _, _ = found
    assert splits == [True]
    best = result["trials"][0]
    client, server = (best["params"][f"{side}_optimizer.learning_rate"] for side in ("client", "server"))
    arguments = {"momentum": best["params"]["server_optimizer.momentum"]}  # FedAvg with momentum at the server is FedAvgM
    federated = dataclasses.replace(
        searched.schools.federated, algorithm="fedavgm", arguments=arguments, client_learning_rate=client, server_learning_rate=server
    )
    data = prepare(population, 1, 0, validation=True)
    trainer = Trainer(data, dataclasses.replace(searched.schools, federated=federated))
    engine, state = trainer.federation()
    state, _ = engine.run(state, searched.schools.rounds)
    outputs = data.encoding.decode(Trained(engine, state, trainer).outputs(data.held_out))
    expected = np.mean([one.score("it") for one in collect(data, data.held_out, {"it": outputs})])
    assert best["value"] == pytest.approx(expected, abs=1e-4)


def test_tables_rank_trials(found):
    result, folder, text = found
    values = [trial["value"] for trial in result["trials"]]
    assert result["complete"] + result["pruned"] == 3 and values == sorted(values, reverse=True)
    assert json.loads((folder / "search.json").read_text())["trials"][0]["params"] == result["trials"][0]["params"]
    table = (folder / "search.md").read_text()
    assert table.count("\n| ") == 1 + result["complete"]
    assert f"| {result['trials'][0]['number']} " in table and "client_optimizer.learning_rate" in text
    (name,) = optuna.get_all_study_names(f"sqlite:///{folder / 'study.sqlite3'}")
    assert name == "schools"


def test_what_is_finished_is_not_run_again_nor_continued_under_another_configuration(found, searched, splits, monkeypatch):
    result, folder, _ = found
    quiet = Console(file=io.StringIO())
    monkeypatch.setattr(fe.Engine, "run", None)
    assert school_search.run_search(searched, folder, trials=3, console=quiet) == result
    with pytest.raises(fe.errors.ArgumentError, match="begun with another segment"):
        school_search.run_search(dataclasses.replace(searched, segment=4), folder, trials=3, console=quiet)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"sampler": "TPE"}, ["config.sampler", "TPE", "TPESampler"]),
        ({"sampler_arguments": {"startup": 3}}, ["config.sampler_arguments", "startup", "n_startup_trials"]),
        ({"pruner": "Median"}, ["config.pruner", "MedianPruner"]),
        ({"pruner_arguments": {"n_startup_trials": -1}}, ["config.pruner_arguments", "MedianPruner"]),
        ({"space": [school_search.RangeConfig(name="mu", low=1.0, high=0.5, log=False)]}, ["config.space", "mu", "low < high"]),
        ({"space": [school_search.RangeConfig(name="mu", low=0.0, high=0.5, log=True)]}, ["config.space", "mu", "above 0"]),
        ({"space": [school_search.RangeConfig(name="mu", low=0.0, high=0.5, log=False)]}, ["space", "mu", "client_optimizer"]),
    ],
)
def test_a_configuration_that_cannot_work_says_so(change, words, searched, splits, tmp_path):
    with pytest.raises(fe.errors.ArgumentError) as caught:
        school_search.run_search(dataclasses.replace(searched, **change), tmp_path, trials=3)
    assert all(word in str(caught.value) for word in words)
