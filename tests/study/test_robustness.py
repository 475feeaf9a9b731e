"""Attacks on STAR's schools, on two small studies."""

import dataclasses
import io

import numpy as np
import pytest
from rich.console import Console

import fedjax_edu as fe
from experiments.configs.robustness import get_config
from fedjax_edu import aggregation
from fedjax_edu.study import estimates, robustness
from fedjax_edu.study.schools import prepare


@pytest.fixture(scope="module")
def attacked(config):
    schools = dataclasses.replace(config, federated=dataclasses.replace(config.federated, client_learning_rate=0.1))
    return robustness.RobustnessConfig(schools=schools, attackers=0.25, gaussian_std=1.0, ipm_scale=2.0, radius=1.0)


@pytest.fixture(scope="module")
def data(population):
    return prepare(population, 1, 0)


@pytest.fixture(scope="module")
def setting(data, attacked):
    train = data.train.population
    return robustness._setting(train.select(np.flatnonzero(train.ids >= 1_000_000)), attacked, data.tasks)


def test_the_committed_configuration_is_one():
    assert robustness.RobustnessConfig.from_mapping(get_config().to_dict()).attackers == 0.2


def test_a_share_of_the_schools_lies_and_the_root_is_the_largest_honest_one(setting):
    assert (setting.clients, len(setting.liars)) == (8, 2)
    honest = {
        int(id_): size for id_, size in zip(setting.population.ids, setting.population.sizes, strict=True) if id_ not in setting.liars
    }
    assert honest[setting.root] == max(honest.values())


def test_flipped_labels_are_opposite_for_liars_alone(setting):
    before, after = setting.population.arrays, robustness._flipped(setting).arrays
    lies = np.isin(setting.population.ids, setting.liars)[setting.population.row_clients]
    scores, leaving = before["present"][:, 1] > 0, before["present"][:, 3] > 0
    np.testing.assert_array_equal(after["targets"][~lies], before["targets"][~lies])
    np.testing.assert_array_equal(after["targets"][lies & scores, 1], -before["targets"][lies & scores, 1])
    np.testing.assert_array_equal(after["targets"][lies & leaving, 3], 1 - before["targets"][lies & leaving, 3])


@pytest.mark.parametrize("attack", robustness.ATTACKS)
@pytest.mark.parametrize("rule", robustness.RULES)
def test_every_attack_meets_every_rule(rule, attack, setting):
    lies, population = robustness.ATTACKS[attack](setting)
    chain = aggregation.chain(*lies, robustness.RULES[rule](setting))
    assert max(link.min_clients for link in chain.links) <= population.num_clients == setting.clients
    assert all(set(link.clients) <= set(population.ids.tolist()) for link in chain.links)


def test_the_table_is_what_attacked_federations_predict(small, data, attacked, tmp_path, monkeypatch):
    """Whoever multiplies an update by -1000 ruins the mean of a quarter of liars and not the median."""
    monkeypatch.setattr(estimates, "RESAMPLES", 20)
    monkeypatch.setattr(robustness, "RULES", {name: robustness.RULES[name] for name in ("mean", "median")})
    lie = lambda setting: ((fe.aggregation.attacks.sign_flip(setting.liars, scale=1000.0),), setting.population)  # noqa: E731
    monkeypatch.setattr(robustness, "ATTACKS", {"nobody lies": robustness.ATTACKS["nobody lies"], "far away": lie})
    text = io.StringIO()
    found = robustness.run_robustness(attacked, tmp_path, seeds=1, folds=1, console=Console(file=text, width=200))
    assert set(found) == {"star.math", "star.read", "star.leaves"}
    of_math = found["star.math"]
    assert of_math["median"]["far away"].mean > -1 > of_math["mean"]["far away"].mean
    assert of_math["mean"]["nobody lies"].mean > of_math["mean"]["far away"].mean
    assert "below -1" in (tmp_path / "robustness.md").read_text()
    assert "| median" in text.getvalue()


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_a_share_of_liars_that_no_rule_survives(share, attacked, tmp_path):
    with pytest.raises(fe.errors.ArgumentError, match=f"^attackers: got {share}; "):
        robustness.run_robustness(dataclasses.replace(attacked, attackers=share), tmp_path)
