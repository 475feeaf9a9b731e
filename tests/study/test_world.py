"""The world as a study: what models are shown, and what scores mean, by predictions whose scores are known."""

import dataclasses

import jax
import numpy as np
import pytest

import fedjax_edu as fe
from experiments.configs.world import get_config
from fedjax_edu.data.worlds.world import TASKS
from fedjax_edu.study import world as study

CONFIG = dataclasses.replace(fe.study.WorldConfig.from_mapping(get_config().to_dict()), institutions=24, students=40)


@pytest.fixture(scope="module")
def setting():
    drawn = fe.data.m3t_world(jax.random.key(CONFIG.world), CONFIG.institutions, CONFIG.students)
    return study.Setting(drawn, CONFIG, seed=1)


def best(setting):
    return np.stack([setting.test.arrays["best"][task] for task in TASKS], axis=1)


def test_nobody_trains_on_a_student_of_the_test(setting):
    sides = setting.train.num_examples, setting.test.num_examples
    assert sum(sides) == setting.world.population.num_examples and sides[1] / sum(sides) == pytest.approx(CONFIG.test, abs=0.03)
    records = [
        {tuple(row) for row in side.arrays["contents"]["tabular"].values.values.tolist() if any(row)}
        for side in (setting.train, setting.test)
    ]
    assert not records[0] & records[1]


def test_models_are_shown_what_the_world_shows_and_not_its_answers(setting):
    shown = study.rows(setting.world).arrays["contents"]
    drawn = setting.world.population.arrays
    for name, content in shown.items():
        np.testing.assert_array_equal(content.present if content.present.ndim == 1 else content.present[:, 0], drawn["present"][name])
    assert set(shown) == set(setting.model.encoders)
    np.testing.assert_array_equal(shown["image"].values, drawn["contents"]["image"]["pixels"])


def test_the_best_predictions_have_come_all_the_way_and_constants_none_of_it(setting):
    predicted, constant = best(setting), np.stack([np.full(setting.test.num_examples, 0.5)] * len(TASKS), axis=1)
    for number, task in enumerate(TASKS):
        assert setting.share(task, predicted[:, number]) == pytest.approx(1)
        assert setting.share(task, constant[:, number]) <= 1e-6
    assert np.nanmax(setting.gaps(predicted)) == 0 and np.nanmin(setting.gaps(constant)) > 0


def test_the_table_says_who_is_how_far_and_where(setting):
    """Half of the way on average, and nearer in all institutions."""
    half = (best(setting) + np.mean(best(setting), axis=0)) / 2
    found = [{"federated": best(setting), "alone": half}]
    table = study._table(setting.world, [setting], found)
    assert [row[0] for row in table.rows] == list(TASKS)
    for _, _, federated, alone in table.rows:
        assert federated.value == pytest.approx(1) and federated.low == pytest.approx(1) and federated.high == pytest.approx(1)
        assert alone.low <= alone.value <= alone.high
    assert dict(zip(TASKS, table.rows, strict=True))["score"][3].value < 1
    assert "synthetic" in table.note and "100% [100%, 100%]" in table.note


def test_the_worlds_knobs_are_those_of_the_issue(setting):
    """512 institutions, five modalities, half of them lacking two or more; whoever changes a default changes every committed number."""
    config = fe.study.WorldConfig.from_mapping(get_config().to_dict())
    assert (config.institutions, config.students, config.world) == (512, 60, 0)
    holds = fe.data.m3t_world(jax.random.key(0), 512, 2).population.holds
    lacking = sum(1 - holds[name] for name in holds if name.startswith("encoders."))
    assert 0.45 < np.mean(lacking >= 2) < 0.55
