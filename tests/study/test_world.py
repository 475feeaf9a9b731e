"""The world as a study: what models are shown, and what scores mean, by predictions whose scores are known."""

import dataclasses

import jax
import numpy as np
import pytest

import fedjax_edu as fe
from experiments.configs.world import get_config
from fedjax_edu.data.worlds.world import TASKS
from fedjax_edu.study.worlds import adapting, missing, pairs, together
from fedjax_edu.study.worlds.setting import Setting, over_seeds, shown

CONFIG = dataclasses.replace(fe.study.world_config(get_config().to_dict()), institutions=24, students=40)


@pytest.fixture(scope="module")
def world():
    return CONFIG.draw()


@pytest.fixture(scope="module")
def setting(world):
    return Setting(shown(world, CONFIG.modalities), CONFIG, seed=1)


def table_of(name, **fields):
    """A table's configuration, small enough for a test."""
    small = {"institutions": 16, "students": 12, "rounds": 2, "cohort": 4, "width": 8, "heads": 1, "lanes": 1}
    return dataclasses.replace(fe.study.world_config(get_config(name).to_dict()), **small | fields)


def best(setting):
    return np.stack([setting.test.arrays["best"][task] for task in TASKS], axis=1)


def test_nobody_trains_on_a_student_of_the_test(setting, world):
    sides = setting.train.num_examples, setting.test.num_examples
    assert sum(sides) == world.population.num_examples and sides[1] / sum(sides) == pytest.approx(CONFIG.test, abs=0.03)
    records = [
        {tuple(row) for row in side.arrays["contents"]["tabular"].values.values.tolist() if any(row)}
        for side in (setting.train, setting.test)
    ]
    assert not records[0] & records[1]


def test_models_are_shown_what_the_world_shows_and_not_its_answers(setting, world):
    contents = shown(world, CONFIG.modalities).arrays["contents"]
    drawn = world.population.arrays
    for name, content in contents.items():
        np.testing.assert_array_equal(content.present if content.present.ndim == 1 else content.present[:, 0], drawn["present"][name])
    assert set(contents) == set(setting.model.encoders)
    np.testing.assert_array_equal(contents["image"].values, drawn["contents"]["image"]["pixels"])


def test_the_best_predictions_have_come_all_the_way_and_constants_none_of_it(setting):
    predicted, constant = best(setting), np.stack([np.full(setting.test.num_examples, 0.5)] * len(TASKS), axis=1)
    for number, task in enumerate(TASKS):
        assert setting.share(task, predicted[:, number]) == pytest.approx(1)
        assert setting.share(task, constant[:, number]) <= 1e-6
    assert np.nanmax(setting.gaps(predicted)) == 0 and np.nanmin(setting.gaps(constant)) > 0


def test_the_table_says_who_is_how_far_and_where(setting, world):
    """Half of the way on average, and nearer in all institutions."""
    half = (best(setting) + np.mean(best(setting), axis=0)) / 2
    found = [{"federated": best(setting), "alone": half}]
    table = together.tabulated(world, [setting], found)
    assert [row[0] for row in table.rows] == list(TASKS)
    for _, _, federated, alone in table.rows:
        assert federated.value == pytest.approx(1) and federated.low == pytest.approx(1) and federated.high == pytest.approx(1)
        assert alone.low <= alone.value <= alone.high
    assert dict(zip(TASKS, table.rows, strict=True))["score"][3].value < 1
    assert "synthetic" in table.note and "100% [100%, 100%]" in table.note


def test_the_worlds_knobs_are_those_of_the_issue(setting):
    """512 institutions, five modalities, half of them lacking two or more; whoever changes a default changes every committed number."""
    config = fe.study.world_config(get_config().to_dict())
    assert (config.institutions, config.students, config.world) == (512, 60, 0)
    holds = fe.data.m3t_world(jax.random.key(0), 512, 2).population.holds
    lacking = sum(1 - holds[name] for name in holds if name.startswith("encoders."))
    assert 0.45 < np.mean(lacking >= 2) < 0.55


def test_institutions_hold_what_the_world_gave_them(setting, world):
    engine = setting.engine(setting.fedadam(setting.loss), 4)
    assert engine.population.holds.keys() == world.population.holds.keys()
    for module, held in world.population.holds.items():
        np.testing.assert_array_equal(engine.population.holds[module], held)


def test_an_interval_is_over_institutions(setting):
    """Of the share of test rows in the largest institution the interval is wide, of a constant a point."""
    largest = np.bincount(setting.test.row_clients).argmax()

    def share(number, times):
        counts = np.ones(setting.test.num_examples) if times is None else times
        return float(counts[setting.test.row_clients == largest].sum() / counts.sum())

    found, constant = over_seeds([setting, setting], share), over_seeds([setting], lambda number, times: 0.5)
    assert found.value == pytest.approx(np.mean(setting.test.row_clients == largest))
    assert found.low == 0 and found.high > 2 * found.value
    assert (constant.value, constant.low, constant.high) == (0.5, 0.5, 0.5)


def test_institutions_of_a_pair_have_that_modality_and_that_task(world):
    population = pairs.paired(
        shown(fe.data.m3t_world(jax.random.key(0), 16, 10, lacking=(0,), missing=0.0, labelled=1.0), CONFIG.modalities), each=2
    )
    arrays, owners = population.arrays, population.row_clients
    for name, content in arrays["contents"].items():
        theirs = [number for number, pair in enumerate(pairs.PAIRS) if pair[0] == name]
        there = content.present.reshape(len(owners), -1)
        np.testing.assert_array_equal(there.all(axis=1), np.isin(owners // 2, theirs))
        np.testing.assert_array_equal(there.any(axis=1), there.all(axis=1))
        np.testing.assert_array_equal(population.holds[f"encoders.{name}"], np.isin(np.arange(16) // 2, theirs))
    for task, wanted in arrays["wanted"].items():
        theirs = [number for number, pair in enumerate(pairs.PAIRS) if pair[1] == task]
        np.testing.assert_array_equal(wanted.present, np.isin(owners // 2, theirs))


@pytest.mark.slow
def test_a_pair_by_itself_is_the_measure_of_pairs():
    table = pairs.make_table(table_of("pairs", counts=[1], students=40, modalities=["sequence"]), range(1), lambda line: None)
    assert [row[0] for row in table.rows] == ["1"]
    assert table.rows[0][1:] == pytest.approx([1] * 6)
    assert "synthetic" in table.note


@pytest.mark.slow
def test_with_nothing_missing_masks_and_complete_students_are_one_federation(monkeypatch):
    chosen = {name: missing.METHODS[name] for name in ("absent, by mask", "complete students alone")}
    monkeypatch.setattr(missing, "METHODS", chosen)
    config = table_of("missing", modalities=["tabular", "audio"], ratios=[0.0], public=4, probe=6, students=30)
    rows = dict(missing.make_table(config, range(1), lambda line: None).rows)
    assert list(rows) == list(chosen)
    assert rows["absent, by mask"].value == pytest.approx(rows["complete students alone"].value, abs=1e-5)


@pytest.mark.slow
def test_fedmvp_learns_from_translated_students(monkeypatch):
    monkeypatch.setattr(missing, "METHODS", {"FedMVP": missing.METHODS["FedMVP"]})
    ((_, cell),) = missing.make_table(
        table_of("missing", modalities=["tabular", "audio"], ratios=[0.5], public=4, probe=6), range(1), lambda line: None
    ).rows
    assert np.isfinite(cell.value)


@pytest.mark.slow
def test_what_replaces_always_does_so_whenever_a_client_takes_part(monkeypatch):
    monkeypatch.setattr(adapting, "VARIANTS", {"TAP": {"margin": -np.inf}})
    config = table_of("adapting", tuning_epochs=1, students=30, modalities=["tabular"])
    table = adapting.make_table(config, range(1), lambda line: None)
    replaced = {row[0]: row[4] for row in table.rows}
    assert 0.4 < replaced["TAP"] <= 1
    assert np.isnan(replaced["FedAvg"]) and np.isnan(replaced["FedAvg, then each alone"])
    assert all(row[2] <= row[3] for row in table.rows)


def test_a_table_that_there_is_not_is_refused():
    with pytest.raises(fe.errors.ConfigError, match=r"config\.table: got nothing; use one of together, missing, adapting, pairs"):
        fe.study.world_config({"table": "nothing"})
