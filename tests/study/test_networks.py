"""The multi-modal network of a study: which of a table's rows it reads, and that it leaves and comes back the same."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

import fedjax_edu as fe
from fedjax_edu.data import Standardiser
from fedjax_edu.data.studies import STUDIES
from fedjax_edu.data.studies.examples import join
from fedjax_edu.study.encoding import Encoding
from fedjax_edu.study.networks import MultiModal
from fedjax_edu.study.networks.contents import Contents
from fedjax_edu.study.training import Trained, Trainer

M3T = {
    "width": 8,
    "heads": 2,
    "hidden": 2.0,
    "encoder_layers": 1,
    "fusion_layers": 1,
    "experts": 4,
    "chosen": 2,
    "balance": 0.01,
    "z": 0.001,
    "texts": {"source": "", "rank": 0, "pieces": 16, "buckets": 0, "gain": 30.0, "phrases": 16, "stop_words": ""},
}


@pytest.fixture(scope="module")
def histories(studies):
    """The two small studies; pupils of the second have scores of one and of two years ago, and attendance of last year."""
    hsb, star = studies
    rng = np.random.default_rng(0)
    rows = len(star.school)
    scores = {name: np.where(rng.random(rows) < 0.7, rng.normal(size=rows), np.nan) for name in ("was", "went", "last")}
    series = {"last": ("score", 1), "was": ("score", 2), "went": ("attendance", 1)}
    star = dataclasses.replace(star, numbers={**star.numbers, **scores}, series=series)
    return join((hsb, star), STUDIES)


@pytest.fixture(scope="module")
def trained(histories, config):
    config = fe.study.SchoolsConfig.from_mapping(dataclasses.asdict(config) | {"model": M3T})
    trainer = Trainer(fe.study.prepare(histories, 1, 0), config)
    engine, state = trainer.federation()
    return Trained(engine, engine.run(state, rounds=2)[0], trainer)


def test_every_input_is_read_once(histories):
    """Of each row, the values and names of its record and its history are those of the table."""
    encoding = Encoding(histories.schema, Standardiser.fit(histories))
    contents = Contents(encoding)
    assert [step.name for step in contents.steps] == ["star.was", "star.went", "star.last"]  # the earliest first
    found, scaled = contents.of(histories), encoding.scales.apply(histories).arrays
    record, history = found["tabular"], found["sequence"]
    assert record.present.shape[1] == 4  # before, age, sex, class: of one study, not of both
    series = {step.name: contents.series.index(step.series) for step in contents.steps}
    for row in np.random.default_rng(0).choice(histories.num_examples, 60, replace=False):
        known = [name for name, there in scaled["present"].items() if there[row] and name not in scaled["targets"]]
        plain = [name for name in known if name not in series]
        there = record.present[row]
        names = [contents.features[feature].name for feature in record.values.features[row][there]]
        read = dict(zip(names, record.values.values[row][there].tolist(), strict=True))
        wanted = {name: (scaled["numbers"] if name in scaled["numbers"] else scaled["categories"])[name][row] for name in plain}
        assert read == wanted
        steps = [step for step in contents.steps if step.name in known]
        there = history.present[row]
        assert history.values.items[row][there].tolist() == [series[step.name] for step in steps]
        assert history.values.responses[row][there].tolist() == [scaled["numbers"][step.name][row] for step in steps]
        lags = [step.lag for step in steps]
        assert history.values.gaps[row][there].tolist() == [0.0, *(-np.diff(lags))][: len(lags)]


def test_a_table_without_series_has_records_alone(population):
    network = MultiModal(Encoding(population.schema, Standardiser.fit(population)), M3T)
    assert sorted(network.leaves(population)["contents"]) == ["tabular"]
    assert sorted(network.params["encoders"]) == ["tabular"]


def test_rows_without_a_history_leave_its_encoder_alone(trained):
    """A school of a study without histories: whatever stands in them, the encoder's gradients are exactly zero."""
    trainer = trained.trainer
    train = trainer.data.train
    client = int(np.flatnonzero(train.population.ids < 1_000_000)[0])
    batch = jax.tree.map(jnp.asarray, trainer.rows(train).client(client))
    assert not batch["contents"]["sequence"].present.any()
    history = batch["contents"]["sequence"]
    poisoned = history._replace(values=history.values._replace(responses=jnp.full_like(history.values.responses, jnp.nan)))
    valid, key = jnp.ones(len(batch["targets"]), bool), jax.random.key(0)

    def slopes(history):
        rows = batch | {"contents": batch["contents"] | {"sequence": history}}
        return jax.grad(lambda params: trainer.loss(params, rows, key, valid=valid).per_example.sum())(trained.state.params)

    found, clean = slopes(poisoned), slopes(history)
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(found["encoders"]["sequence"]))
    jax.tree.map(np.testing.assert_array_equal, found, clean)


def test_it_trains_and_says_what_its_experts_do(trained):
    _, info = trained.engine.run(trained.state, rounds=1)
    for layer in ("encoders.sequence.layers.0", "fusion.layers.0"):
        shares = [float(info.metrics[f"{layer}.load.{expert}"][0]) for expert in range(4)]
        assert sum(shares) == pytest.approx(1, abs=1e-5)
    assert {"hsb.mach", "star.math", "star.leaves"} <= info.metrics.keys()


def test_exported_it_predicts_the_same(trained, tmp_path):
    """Reloaded, every bit; in other company up to rounding, since who stands beside a token decides its place in an expert's queue."""
    trainer = trained.trainer
    data = trainer.data
    model = fe.load_model(fe.export(trained.state, tmp_path / "model", network=trainer.network))
    found = model.predict(data.population, say=None)
    pd.testing.assert_frame_equal(
        found, fe.study.ExportedModel(trained.state.params, trainer.network).predict(data.population, say=None), check_exact=True
    )
    outputs = data.encoding.decode(trained.outputs(data.held_out))
    names = [f"{task.name} probability" if task.binary else task.name for task in data.tasks]
    rows = found.loc[data.held_out.rows, names].to_numpy(np.float64)
    known = np.isfinite(rows)
    np.testing.assert_allclose(rows[known], outputs[known], rtol=1e-5)
    alone = model.predict(data.population.select([3]), say=None)
    there = found[data.population.row_clients == 3]
    np.testing.assert_allclose(alone[names].to_numpy(np.float64), there[names].to_numpy(np.float64), rtol=1e-5)


def test_dense_it_has_no_experts(histories):
    network = MultiModal(Encoding(histories.schema, Standardiser.fit(histories)), M3T | {"experts": 0, "hidden": 4.0})
    assert "into" in network.params["fusion"]["transformer"]["layers"][0]["feed_forward"]
