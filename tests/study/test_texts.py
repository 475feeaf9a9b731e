"""Texts of a table in the study's multi-modal network: what is read, what is trained, and that it leaves and comes back the same."""

import dataclasses
import re
import shutil

import jax
import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file

import fedjax_edu as fe
from fedjax_edu.core.trees import named_leaves
from fedjax_edu.data import Population
from fedjax_edu.study.identity import digest
from fedjax_edu.study.networks.words import Texts, phrases_of, texts_of, words_of
from fedjax_edu.study.training import Trained, Trainer
from tests.models import small_bert
from tests.study.test_networks import M3T

pytest.importorskip("tokenizers")


def frame() -> pd.DataFrame:
    """Ten clients of twelve rows; some have neither of the two texts."""
    random = np.random.default_rng(0)
    titles = random.choice(["algebra of sets", "sets of sets", "of algebra", None], 120)
    notes = random.choice(["sets", "", None, "algebra"], 120)
    passed = np.array(["algebra" in (title or "") for title in titles])
    school, age = np.repeat(np.arange(10), 12), random.normal(size=120)
    return pd.DataFrame({"school": school, "age": age, "title": titles, "note": notes, "passed": passed.astype(int)})


INPUTS = {"age": "number", "title": "text", "note": "text"}


@pytest.fixture(scope="module")
def table() -> Population:
    return Population.from_table(frame(), client="school", tasks={"passed": "binary"}, inputs=INPUTS, say=None)


@pytest.fixture(scope="module")
def trained(table, config, tmp_path_factory):
    return train(table, config, small_bert.write(tmp_path_factory.mktemp("bert")))


def train(table, config, source, rank=2) -> Trained:
    texts = {"source": str(source), "rank": rank, "pieces": 7, "buckets": 64, "gain": 3.0, "phrases": 40, "stop_words": "english"}
    changes = {"model": M3T | {"texts": texts}, "tasks": {"default": dataclasses.asdict(next(iter(config.tasks.values())))}}
    trainer = Trainer(fe.study.prepare(table, 1, 0), fe.study.SchoolsConfig.from_mapping(dataclasses.asdict(config) | changes))
    engine, state = trainer.federation()
    return Trained(engine, engine.run(state, rounds=2)[0], trainer)


def pieces_of(trained):
    return trained.trainer.network.model.encoders["text"].language.pieces


def test_the_texts_of_a_row_are_read_one_after_another(table, trained):
    pieces = pieces_of(trained)
    features = tuple(feature for feature in table.schema.features if feature.kind == "text")
    content = words_of(texts_of(table, features), pieces, 7)
    rows = frame()
    for position in range(120):
        texts = [text for text in rows.loc[position, ["title", "note"]] if isinstance(text, str) and text]
        (expected,), (length,) = pieces.numbers([" ".join(texts)], 7)
        assert content.present[position] == bool(texts)
        if texts:
            np.testing.assert_array_equal(content.values[position], expected)
            assert content.lengths[position] == length


@pytest.mark.parametrize("stop_words", ["english", ""])
def test_phrases_are_neighbouring_words(table, stop_words):
    """Up to three, each once, the longer the heavier; texts that share them share numbers; frequent words can be left out."""
    features = tuple(feature for feature in table.schema.features if feature.kind == "text")
    texts = texts_of(table, features)
    content = phrases_of(texts, 2**20, 40, stop_words)
    rows = frame()
    phrases = {}
    for position in range(120):
        words = " ".join(text for text in rows.loc[position, ["title", "note"]] if isinstance(text, str)).split()
        kept = [word for word in words if not (stop_words and word == "of")]
        expected = {tuple(kept[at : at + size]) for size in (1, 2, 3) for at in range(len(kept) - size + 1)}
        numbers, weights = (leaf[position, : content.lengths[position]] for leaf in content.values)
        assert len(set(numbers.tolist())) == len(expected) and content.present[position] == bool(words)
        sizes = np.sort([(len(phrase) + 1) / 2 for phrase in expected])
        np.testing.assert_allclose(np.sort(weights), sizes / max(np.linalg.norm(sizes), 1), rtol=1e-6)
        phrases[frozenset(expected)] = set(numbers.tolist())
    for one, numbers in phrases.items():
        for other, others in phrases.items():
            assert len(numbers & others) == len(one & other)
    few = phrases_of(texts, 2**20, 3, stop_words)
    np.testing.assert_array_equal(few.values.numbers, content.values.numbers[:, :3])
    np.testing.assert_allclose(np.linalg.norm(few.values.weights, axis=1), few.lengths > 0, rtol=1e-6)
    np.testing.assert_array_equal(few.lengths, np.minimum(content.lengths, 3))


def test_words_of_any_script():
    """Marks belong to their letters, however a text is composed; one Latin letter alone is no word."""
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    texts = Texts([composed, decomposed, "हिन्दी भाषा", "我 爱 你", "C R", "Set-theory, 2", "SET theory 2"], np.arange(7), np.ones(7, bool))
    content = phrases_of(texts, 2**20, 9, "english")
    np.testing.assert_array_equal(content.lengths, [1, 1, 3, 6, 0, 3, 3])
    numbers = content.values.numbers
    assert numbers[0, 0] == numbers[1, 0] and np.array_equal(numbers[5], numbers[6])


def test_phrases_need_no_text_encoder(table, config, tmp_path):
    trained = train(table, config, "", rank=0)
    assert sorted(trained.trainer.network.params["encoders"]) == ["phrases", "tabular"]
    model = fe.load_model(fe.export(trained.state, tmp_path / "model", network=trained.trainer.network))
    found = model.predict(frame().drop(columns="passed"), say=None)
    outputs = trained.trainer.data.encoding.decode(trained.outputs(trained.trainer.data.held_out))[:, 0]
    np.testing.assert_allclose(found["passed probability"][trained.trainer.data.held_out.rows], outputs, rtol=1e-5)
    other = model.predict(frame().assign(title="sets of algebra", note="sets"), say=None)
    assert not np.allclose(other["passed probability"], found["passed probability"])


def test_published_weights_stay_and_the_rest_is_trained(trained):
    before, after = dict(named_leaves(trained.trainer.network.params)), dict(named_leaves(trained.state.params))
    moved = {path for path, leaf in after.items() if not np.array_equal(leaf, before[path])}
    assert not any(path.startswith("encoders.text.language") for path in moved)
    assert any(path.startswith("lora.encoders.text.language") for path in moved)
    assert {"encoders.text.read.kernel", "encoders.phrases.table"} <= moved
    assert any(path.startswith("heads.passed") for path in moved)


def test_exported_it_reads_new_tables(trained, tmp_path):
    trainer = trained.trainer
    model = fe.load_model(fe.export(trained.state, tmp_path / "model", network=trainer.network))
    rows = frame()
    found = model.predict(rows.drop(columns="passed"), say=None)
    outputs = trainer.data.encoding.decode(trained.outputs(trainer.data.held_out))[:, 0]
    np.testing.assert_allclose(found["passed probability"][trainer.data.held_out.rows], outputs, rtol=1e-5)
    of_population = model.predict(trainer.data.population, say=None)
    np.testing.assert_allclose(of_population["passed probability"], found["passed probability"], rtol=1e-6)
    other = model.predict(rows.assign(title="sets of algebra"), say=None)
    assert not np.allclose(other["passed probability"], found["passed probability"])
    with pytest.raises(fe.errors.DataError, match="title: no such column, a text is expected"):
        model.predict(rows.drop(columns="title"), say=None)


def test_exported_it_has_its_own_text_encoder(table, config, tmp_path):
    """Weights and tokenizer of the source may change, move or vanish afterwards; what lies in the folder may not."""
    (tmp_path / "bert").mkdir()
    source = small_bert.write(tmp_path / "bert")
    trained = train(table, config, source)
    folder = fe.export(trained.state, tmp_path / "model", network=trained.trainer.network)
    inside = trained.trainer.data.population
    before = fe.study.ExportedModel(trained.state.params, trained.trainer.network).predict(inside, say=None)
    source.rename(tmp_path / "elsewhere")
    shutil.move(folder, tmp_path / "moved")
    model = fe.load_model(tmp_path / "moved")
    pd.testing.assert_frame_equal(model.predict(inside, say=None), before, check_exact=True)
    assert not any(name.startswith("encoders.text.language") for name in load_file(tmp_path / "moved" / "model.safetensors"))
    np.testing.assert_array_equal(
        fe.models.TextEncoder.from_pretrained(tmp_path / "moved" / "language").embed(["algebra of sets"]),
        fe.models.TextEncoder.from_pretrained(tmp_path / "elsewhere").embed(["algebra of sets"]),
    )
    tokenizer = tmp_path / "moved" / "language" / "tokenizer.json"
    tokenizer.write_text(tokenizer.read_text().replace("sets", "sots"))
    with pytest.raises(fe.errors.DataError, match=r"language/tokenizer\.json: got other bytes than were exported"):
        fe.load_model(tmp_path / "moved")
    tokenizer.unlink()
    with pytest.raises(fe.errors.DataError, match=r"language/tokenizer\.json: got no file"):
        fe.load_model(tmp_path / "moved")


def test_weights_that_did_not_stay_are_exported(trained, tmp_path):
    """Somebody's own engine may train everything."""
    params = jax.tree.map(lambda leaf: leaf + 1, trained.state.params)
    model = fe.load_model(fe.export(trained.engine.init(params, seed=0), tmp_path / "model", network=trained.trainer.network))
    jax.tree.map(np.testing.assert_array_equal, model.params, jax.device_get(params))


def test_texts_are_not_read_unless_asked_for(table, config):
    changes = {"model": M3T, "tasks": {"default": dataclasses.asdict(next(iter(config.tasks.values())))}}
    trainer = Trainer(fe.study.prepare(table, 1, 0), fe.study.SchoolsConfig.from_mapping(dataclasses.asdict(config) | changes))
    assert sorted(trainer.network.params["encoders"]) == ["tabular"]
    assert len(jax.tree.leaves(trainer.network.leaves(table))) == 3


def test_texts_are_part_of_what_a_run_is(table):
    """Those of test rows too: positions of texts stay when a text changes."""
    titles = tuple("another" if text == "of algebra" else text for text in table.texts["title"])
    changed = dataclasses.replace(table, texts={**table.texts, "title": titles})
    assert digest(changed) != digest(table)


def test_the_card_names_the_texts_that_are_read(trained, tmp_path):
    folder = fe.export(trained.state, tmp_path / "model", network=trained.trainer.network)
    assert re.search(r"\| title +\| text", (folder / "README.md").read_text())


def test_a_long_text_costs_its_own_length(table, trained):
    """As an array of equally long strings, this table would take 40 GB."""
    rows, long = 10_000, "sets " * 200_000
    places = np.zeros(rows, np.int32)
    places[0] = 1
    arrays = {"texts": {"title": places}}
    whole = Population.from_arrays(arrays, [0, rows], texts={"title": ("of algebra", long)})
    feature = next(feature for feature in table.schema.features if feature.name == "title")
    content = words_of(texts_of(whole, (feature,)), pieces_of(trained), 7)
    np.testing.assert_array_equal(content.lengths[:3], [7, 4, 4])
