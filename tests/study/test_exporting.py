"""A model that leaves: what it predicts elsewhere, what its folder holds and does not hold, and folders that are refused."""

import dataclasses
import hashlib
import json
import re
import shutil

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import optax
import pandas as pd
import pytest
from safetensors.numpy import load_file, save_file
from scipy.special import expit

import fedjax_edu as fe
from fedjax_edu.data.standardiser import Scale
from fedjax_edu.data.studies import STUDIES
from fedjax_edu.data.studies.examples import join
from fedjax_edu.study import school_run as run
from fedjax_edu.study.card import NO_GUARANTEE, CardFacts, model_card
from fedjax_edu.study.encoding import Encoding
from fedjax_edu.study.networks import Ensemble
from fedjax_edu.study.results import Score
from fedjax_edu.study.training import Trained

ROWS = 260
FACTS = CardFacts(5, 150, "fedavg, all clients", (2, 70), {"passed": Score(0.812, 0.701), "score": Score(0.25, float("nan"))})
CLIENTS = [f"Zephyr{number:02d} College" for number in range(7)]


@pytest.fixture(scope="module")
def table():
    """Seven schools, whose last two are held out in fold 1 or in another; essays that no other file can hold by chance."""
    rng = np.random.default_rng(0)
    ability = rng.normal(size=ROWS)
    return pd.DataFrame(
        {
            "school": rng.choice(CLIENTS, ROWS),
            "before": np.where(rng.random(ROWS) < 0.9, 500 + 40 * ability, np.nan),
            "sex": rng.choice(["f", "m"], ROWS),
            "track": rng.choice(["a", "b", None], ROWS),
            "essay": [f"quokka {number} sat here" for number in range(ROWS)],
            "passed": np.where(ability + rng.normal(size=ROWS) > 0, "yes", "no"),
            "score": 50 + 10 * ability + rng.normal(size=ROWS),
        }
    )


@pytest.fixture(scope="module")
def population(table):
    return fe.data.Population.from_table(table, client="school", tasks={"passed": "binary", "score": "regression"}, say=None)


@pytest.fixture(scope="module")
def trained(population, config):
    """Two rounds of the study's federation on the table."""
    config = dataclasses.replace(config, tasks={"default": config.tasks["hsb_mach"]}, studies=[])
    trainer = fe.study.Trainer(fe.study.prepare(population, 1, 0), config)
    engine, state = trainer.federation()
    return trainer, engine, engine.run(state, rounds=2)[0]


@pytest.fixture(scope="module")
def folder(trained, tmp_path_factory):
    trainer, _, state = trained
    return fe.export(state, tmp_path_factory.mktemp("model"), network=trainer.network, facts=FACTS)


@pytest.fixture(scope="module")
def model(folder):
    return fe.load_model(folder)


@pytest.fixture
def copy(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "copy")


def predict(model, table, **options):
    return model.predict(table, say=None, **options)


def assert_equal_bits(found, expected):
    pd.testing.assert_frame_equal(found.reset_index(drop=True), expected.reset_index(drop=True), check_exact=True)


def test_a_reloaded_model_agrees_with_the_engine_and_with_itself_in_every_bit(trained, model, population, table):
    trainer, engine, state = trained
    found = predict(model, population)
    before = fe.study.ExportedModel(state.params, trainer.network)
    assert_equal_bits(found, predict(before, population))
    for side in (trainer.data.train, trainer.data.within, trainer.data.held_out):
        expected = trainer.data.encoding.decode(Trained(engine, state, trainer).outputs(side))
        np.testing.assert_array_equal(found[["passed probability", "score"]].to_numpy()[side.rows], expected)


def _state(params):
    """A state of an engine that has never trained."""

    def loss(params, batch, key):
        return batch["x"] * sum(jnp.sum(leaf.astype(jnp.float32)) for leaf in jax.tree.leaves(params))

    population = fe.data.Population.from_arrays({"x": np.ones(2, np.float32)}, offsets=[0, 1, 2])
    algorithm = fe.algorithms.fedavg(loss, client_optimizer=optax.sgd(0.1), local=fe.LocalTraining(epochs=1, batch_size=1))
    engine = fe.Engine(population, algorithm, cohort=fe.cohorts.everyone(), aggregator=fe.aggregation.mean())
    return engine.init(params, seed=0)


def test_predictions_are_those_of_a_numpy_twin(model, folder, table):
    """The formulas of the encoder and of the heads, from the files alone."""
    tensors = load_file(folder / "model.safetensors")
    scales = json.loads((folder / "scaling.json").read_text())
    assert json.loads((folder / "config.json").read_text())["model"]["arguments"]["products"]
    pairs = np.array([(0, level) for level in range(2, 8)])  # the number with every level, missing ones among them
    before = table["before"].to_numpy()
    z = (before.astype(np.float32).astype(float) - scales["inputs"]["before"]["mean"]) / scales["inputs"]["before"]["deviation"]
    known = np.isfinite(before)
    x = [np.where(known, z, 0), known, *(table["sex"] == level for level in ("f", "m")), np.zeros(ROWS)]
    x = np.stack([*x, table["track"] == "a", table["track"] == "b", table["track"].isna()], axis=1).astype(float)

    def layer(name, values):
        kernel, bias = (tensors[f"{name}.{part}"].astype(float) for part in ("kernel", "bias"))
        return np.einsum("bi,mio->bmo" if values.ndim == 2 else "bmi,mio->bmo", values, kernel) + bias

    def gelu(values):
        return np.asarray(jax.nn.gelu(jnp.asarray(values, jnp.float32)), float)

    hidden = gelu(layer("encoders.tabular.first", x))
    hidden = hidden + gelu(layer("encoders.tabular.residual.0", hidden))
    products = layer("encoders.tabular.products", x[:, pairs[:, 0]] * x[:, pairs[:, 1]])
    tokens = layer("encoders.tabular.linear", x) + layer("encoders.tabular.last", hidden) + products
    passed, score = (layer(f"heads.{task}", tokens)[:, :, 0].mean(axis=1) for task in ("passed", "score"))
    found = predict(model, table)
    np.testing.assert_allclose(found["passed probability"], expit(passed), rtol=1e-4)
    target = scales["targets"]["score"]
    np.testing.assert_allclose(found["score"], score * target["deviation"] + target["mean"], rtol=1e-4)


def test_the_frame_names_rows_clients_and_labels(model, table):
    found = predict(model, table)
    assert list(found.columns) == ["row", "client", "passed", "passed probability", "score"]
    assert found["row"].tolist() == list(range(ROWS))
    assert found["client"].tolist() == table["school"].tolist()
    assert found["passed"].tolist() == ["yes" if value >= 0.5 else "no" for value in found["passed probability"]]
    assert set(found["passed"]) == {"yes", "no"}


def test_clients_are_named_as_in_the_file(model, table, tmp_path):
    rows = table.head(4).assign(school=["007", "08", None, "7"])
    rows.to_csv(tmp_path / "new.csv", index=False)
    found = model.predict(tmp_path / "new.csv", say=None)["client"]
    assert found[found.notna()].tolist() == ["007", "08", "7"]


def test_what_is_no_number_has_no_label(trained, table):
    trainer, _, state = trained
    params = jax.tree.map(lambda leaf: leaf * np.nan, jax.device_get(state.params))
    found = fe.study.ExportedModel(params, trainer.network).predict(table, say=None)
    assert found[["passed", "passed probability", "score"]].isna().all().all()


def test_a_row_is_predicted_alike_in_any_company(model, table):
    whole = predict(model, table)
    for rows in ([17], [3, 2], list(range(200, 20, -1))):
        found = predict(model, table.iloc[rows])
        assert_equal_bits(found.drop(columns="row"), whole.iloc[rows].drop(columns="row"))


def test_a_row_of_a_wide_model_is_predicted_alike_alone():
    """A matrix product of one row adds 500 products in another order than one of many rows does."""
    rng = np.random.default_rng(0)
    schema = fe.data.Schema(
        "s",
        (*(fe.data.Feature(f"x{number}", "number") for number in range(150)), fe.data.Feature("level", "category", ("a", "b", "c"))),
        (fe.data.Task("y", "regression"),),
    )
    scales = fe.data.Standardiser({f"x{number}": Scale(0.0, 1.0) for number in range(150)}, {"y": Scale(0.0, 1.0)})
    network = Ensemble(Encoding(schema, scales), {"width": 64, "tokens": 32, "products": True})
    params = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), network.params)
    model = fe.study.ExportedModel(params, network)
    table = {f"x{number}": rng.normal(size=90) for number in range(150)} | {"level": rng.choice(["a", "b", "c"], 90)}
    whole = predict(model, table)
    for row in (0, 40, 89):
        assert_equal_bits(predict(model, {name: values[[row]] for name, values in table.items()})[["y"]], whole.loc[[row], ["y"]])


def test_neither_targets_nor_the_client_nor_other_columns_are_needed(model, table):
    whole = predict(model, table)
    found = predict(model, table.drop(columns=["school", "essay", "passed", "score"]).assign(other="x"))
    assert found["client"].isna().all()
    assert_equal_bits(found.drop(columns="client"), whole.drop(columns="client"))
    assert predict(model, table.assign(school="Elsewhere"))["client"].unique().tolist() == ["Elsewhere"]
    assert_equal_bits(predict(model, table.assign(school="Elsewhere")).drop(columns="client"), whole.drop(columns="client"))


def test_unseen_levels_count_as_missing_and_are_said_once(model, table):
    said = []
    changed = table.assign(sex=table["sex"].where(table.index % 2 == 0, "x"), track=[f"new{number}" for number in range(ROWS)])
    found = model.predict(changed, say=said.append)
    assert_equal_bits(found, predict(model, table.assign(sex=table["sex"].where(table.index % 2 == 0), track=None)))
    assert said == [
        "levels that the model has not seen count as missing: sex ('x'), track ('new0', 'new1', 'new10', 'new100', 'new101', ...)"
    ]
    assert model.predict(table, say=said.append) is not None
    assert len(said) == 1


def test_a_population_is_predicted_like_its_table(population, model, table):
    found, expected = predict(model, population), predict(model, table)
    assert_equal_bits(found.sort_values("row"), expected)
    part = predict(model, population.select([4, 1]))
    assert set(part["client"]) == {CLIENTS[4], CLIENTS[1]}


def test_codes_of_a_population_with_other_levels_are_translated(model, table):
    own = fe.data.Population.from_table(
        table.assign(sex=pd.Categorical(table["sex"], ["x", "m", "f"])), client="school", tasks={"score": "regression"}, say=None
    )
    assert own.schema.features[1].levels == ("x", "m", "f")
    assert_equal_bits(predict(model, own).sort_values("row"), predict(model, table))


@pytest.mark.parametrize("as_population", [False, True])
def test_other_inputs_are_refused_with_every_difference(model, table, as_population):
    others = table.drop(columns="track").assign(sex=1.5 + table.index, before=["low", *table["before"][1:].astype(str)])
    lines = ["sex: number instead of category", "track: no such column, a category is expected"]
    if as_population:
        kinds = {"before": "text", "sex": "number"}
        others = fe.data.Population.from_table(others, client="school", tasks={"score": "regression"}, inputs=kinds, say=None)
    with pytest.raises(fe.errors.DataError) as caught:
        predict(model, others)
    message = str(caught.value)
    assert message.startswith("population: got" if as_population else "table: got")
    assert all(line in message for line in lines)
    assert "before: text instead of number" in message
    assert as_population or "row 0 has before 'low'" in message


def test_a_category_of_a_file_is_read_alike_in_any_company(tmp_path):
    """Where all cells are numbers, pandas would read 0.5 for .5, and beside an empty one it would round long codes."""
    doses, random = np.array([".5", "1e1", "01", "none", "", "12345678901234567"]), np.random.default_rng(0)
    lines = np.array([f"s{row % 5},{doses[row % 6]},{random.normal()}" for row in range(120)])
    (tmp_path / "all.csv").write_text("\n".join(["self,dose,score", *lines]))
    own = fe.data.Population.from_table(tmp_path / "all.csv", client="self", tasks={"score": "regression"}, say=None)
    assert set(own.schema.features[0].levels) == {"0.5", "10", "1", "none", "12345678901234567"}
    network = Ensemble(fe.study.prepare(own, 1, 0).encoding, {"width": 4, "tokens": 2, "products": False})
    random_params = jax.tree.map(lambda leaf: random.normal(size=leaf.shape).astype(np.float32), network.params)
    model = fe.study.ExportedModel(random_params, network)
    whole = predict(model, tmp_path / "all.csv")
    for kinds in ([0], [1], [2], [0, 1, 2], [4, 5]):
        rows = np.flatnonzero(np.isin(np.arange(120) % 6, kinds))
        (tmp_path / "some.csv").write_text("\n".join(["self,dose,score", *lines[rows]]))
        said = []
        found = model.predict(tmp_path / "some.csv", say=said.append)
        assert_equal_bits(found.drop(columns="row"), whole.iloc[rows].drop(columns="row"))
        assert not said


def test_cells_that_are_no_single_value_are_refused(model, table):
    strange = table.assign(before=[[1.0]] * ROWS, sex=1j)
    with pytest.raises(fe.errors.DataError, match=r"^table: .*before: has lists.*; sex: has lists, or other cells"):
        predict(model, strange)


def test_numbers_too_large_for_float32_are_missing_and_close_ones_are_taken(model, table):
    """A refusal would depend on the rows beside them."""
    few = table.head(3)
    found = predict(model, few.assign(before=[1e39, np.inf, None])).drop(columns="row")
    assert_equal_bits(found, predict(model, few.assign(before=None)).drop(columns="row"))
    close = few.assign(before=[1e9, 1e9 + 1, 1e9 + 2])
    assert_equal_bits(predict(model, close), predict(model, few.assign(before=1e9)))


@pytest.fixture(scope="module")
def joined(studies, config):
    """An untrained model of two studies, and their population."""
    population = join(studies, STUDIES)
    trainer = fe.study.Trainer(fe.study.prepare(population, 1, 0), config)
    return population, fe.study.ExportedModel(trainer.network.params, trainer.network)


def test_rows_of_a_study_have_its_tasks(joined):
    population, model = joined
    found = predict(model, population)
    assert found["client"].tolist() == population.ids[population.row_clients].tolist()
    star = found["client"] >= 1_000_000
    assert found["hsb.mach"].isna().tolist() == star.tolist()
    assert found["star.leaves probability"].isna().tolist() == (~star).tolist()
    assert set(found["star.leaves"][star]) <= {0, 1}


def test_a_study_alone_is_matched_by_name(joined, studies):
    population, model = joined
    both = predict(model, population)
    expected = both[both["client"] >= 1_000_000]
    expected = expected.assign(row=np.arange(len(expected)))
    assert_equal_bits(predict(model, join(studies[1:], STUDIES)), expected)
    assert_equal_bits(predict(model, population.select(population.attributes["study"] == 1)), expected)


def test_a_joined_model_refuses_tables_and_other_studies(joined, population):
    _, model = joined
    with pytest.raises(fe.errors.ArgumentError, match=r"^table: got a table; pass a Population, in a script: .*hsb, star"):
        predict(model, {"hsb.before": [1.0]})
    with pytest.raises(fe.errors.DataError, match=r"^population: .*the study '': not known"):
        predict(model, population)


def test_no_client_and_no_text_of_a_student_is_in_the_folder(folder, table):
    assert {path.name for path in folder.iterdir()} == {"README.md", "config.json", "model.safetensors", "scaling.json", "schema.json"}
    content = b"".join(path.read_bytes() for path in folder.iterdir())
    assert b"Zephyr" not in content
    assert b"quokka" not in content
    assert content.count(b'"f"') == 1  # of a category, the levels are


def test_the_card_says_what_is_known(folder):
    card = (folder / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: fedjax_edu\n")
    assert "5 clients trained on 150 rows of theirs; 2 other clients with 70 rows were held out." in card
    assert re.search(r"\| passed +\| AUC +\| \.812 +\| \.701 ", card)
    assert re.search(r"\| score +\| R² +\| \.250 +\| – ", card)
    assert "fedavg, all clients; 2 rounds" in card
    assert NO_GUARANTEE in card
    assert "`sex`, `track`" in card
    assert "://" not in card


def test_a_card_says_what_was_applied(model):
    facts = CardFacts(3, 60, "fedavg", privacy="Epsilon is 2 for a delta of 1e-5.")
    card = model_card(model.schema, 2, 10, facts)
    assert "Epsilon is 2" in card
    assert "No formal privacy guarantee" not in card
    assert "Not measured." in card
    assert "no formal privacy guarantee was" in model_card(None, 2, 10, None)


def test_a_state_alone_leaves_its_arrays(tmp_path):
    params = {"a.b": {"w": np.arange(6, dtype=np.float32).reshape(2, 3).T, "half": np.ones(2, ml_dtypes.bfloat16)}, "list": [np.float32(3)]}
    state = _state(params)
    columns_first = state._replace(server=jax.tree.map(np.asfortranarray, state.server))  # as a checkpoint may bring them
    found = fe.load_model(fe.export(columns_first, tmp_path))
    np.testing.assert_array_equal(found.params["a.b"]["w"], params["a.b"]["w"])
    assert found.params["a.b"]["half"].dtype == ml_dtypes.bfloat16
    assert found.params["list"][0] == 3
    assert load_file(tmp_path / "model.safetensors")["a.b.w"].tolist() == params["a.b"]["w"].tolist()
    with pytest.raises(fe.errors.ArgumentError, match=r"^model: got parameters alone; export it with its network"):
        found.predict({"x": [1.0]})


def test_an_export_replaces_an_earlier_one_and_nothing_else(tmp_path, monkeypatch):
    place = tmp_path / "deep" / "model"
    first, second = (_state({"w": np.float32(value)}) for value in (1, 2))
    fe.export(first, place)
    fe.export(second, place)
    assert fe.load_model(place).params["w"] == 2
    monkeypatch.setattr("safetensors.numpy.save", lambda tensors: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(fe.errors.ArgumentError, match=r"^folder: .*disk full"):
        fe.export(first, place)
    assert fe.load_model(place).params["w"] == 2
    assert [path.name for path in place.parent.iterdir()] == ["model"]
    (place / "thesis.txt").write_text("mine")
    with pytest.raises(fe.errors.ArgumentError, match=r"^folder: got .*which holds thesis.txt; name a folder that is new"):
        fe.export(second, place)
    assert (place / "thesis.txt").read_text() == "mine"
    with pytest.raises(fe.errors.ArgumentError, match=r"^folder: got .*thesis.txt; name a folder; this is a file"):
        fe.export(second, place / "thesis.txt")


def test_a_run_does_not_begin_where_it_could_not_leave_its_model(config, tmp_path, monkeypatch):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "thesis.txt").write_text("mine")
    monkeypatch.setattr(run, "prepare", lambda *args, **kwargs: pytest.fail("worked before it looked at the folder"))
    with pytest.raises(fe.errors.ArgumentError, match=r"^folder: got .*which holds thesis.txt"):
        run.run_schools(config, tmp_path)
    assert (tmp_path / "model" / "thesis.txt").read_text() == "mine"


def test_what_cannot_be_exported_is_refused(model, tmp_path):
    state = _state({"w": np.float32(1)})
    stacked = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), state)
    for bad, options, message in (
        ({"w": 1}, {}, r"^state: got {'w': 1}; pass the state"),
        (stacked, {}, r"^state: got 2 runs; export one of them: state.member\(0\)"),
        (state, {"network": "ensemble"}, r"^network: got ensemble; pass the network that was trained"),
        (state, {"network": model.network}, r"^model, encoders.tabular.first.bias: got nothing; it should be float32\[2, 8\]"),
    ):
        with pytest.raises(fe.errors.ArgumentError, match=message):
            fe.export(bad, tmp_path / "model", **options)
    assert not (tmp_path / "model").exists()
    for place in (None, 3, "a\0b"):
        for call in (lambda place: fe.export(state, place), fe.load_model):
            with pytest.raises(fe.errors.ArgumentError, match=r"^folder: got .*; name a folder"):
                call(place)


@pytest.mark.parametrize("name", ["README.md", "config.json", "language/thesis.txt", "model.safetensors"])
def test_files_of_others_are_not_replaced(tmp_path, name):
    """Though an export has files of these names."""
    file = tmp_path / "mine" / name
    file.parent.mkdir(parents=True)
    file.write_text("years of work")
    with pytest.raises(fe.errors.ArgumentError, match=rf"^folder: got .*mine, which holds {name}; name a folder that is new, empty, or"):
        fe.export(_state({"w": np.float32(1)}), tmp_path / "mine")
    assert file.read_text() == "years of work"


def test_a_stranger_in_an_earlier_export_is_not_removed(tmp_path):
    state = _state({"w": np.float32(1)})
    folder = fe.export(state, tmp_path / "model")
    fe.export(state, folder)
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(fe.errors.ArgumentError, match=r"which holds notes\.txt; "):
        fe.export(state, folder)
    assert (folder / "notes.txt").read_text() == "mine"


def test_the_current_folder_is_not_replaced(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(fe.errors.ArgumentError, match=r"^folder: got \.; name another one"):
        fe.export(_state({"w": np.float32(1)}), ".")


def test_a_task_may_be_called_as_other_columns_are(table):
    renamed = table.rename(columns={"score": "client"})
    own = fe.data.Population.from_table(renamed, client="school", tasks={"client": "regression"}, inputs=["before"], say=None)
    encoding = fe.study.prepare(own, 1, 0).encoding
    network = Ensemble(encoding, {"width": 4, "tokens": 2, "products": False})
    found = predict(fe.study.ExportedModel(network.params, network), renamed)
    assert found.columns.tolist() == ["row", "client", "client prediction"]
    assert found["client"].tolist() == table["school"].tolist()


def change_config(**changes):
    """As a program would that writes folders itself: the digest fits, unless it is changed too."""

    def change(folder):
        config = json.loads((folder / "config.json").read_text()) | changes
        rest = {name: value for name, value in config.items() if name != "digest"}
        digest = hashlib.sha256((json.dumps(rest, indent=2) + "\n").encode()).hexdigest()
        (folder / "config.json").write_text(json.dumps(config | {"digest": digest} | changes))

    return change


def edit_arguments(folder):
    """As a person would."""
    config = (folder / "config.json").read_text()
    assert '"products": true' in config
    (folder / "config.json").write_text(config.replace('"products": true', '"products": false'))


def change_tensors(change):
    def rewrite(folder):
        tensors = load_file(folder / "model.safetensors")
        change(tensors)
        save_file(tensors, folder / "model.safetensors")

    return rewrite


def change_scales(folder):
    """The bytes are those that the configuration says they are."""
    content = json.dumps({"inputs": {}, "targets": json.loads((folder / "scaling.json").read_text())["targets"]})
    (folder / "scaling.json").write_text(content)
    digests = json.loads((folder / "config.json").read_text())["sha256"]
    change_config(sha256=digests | {"scaling.json": hashlib.sha256(content.encode()).hexdigest()})(folder)


def flip_last_byte(folder):
    content = bytearray((folder / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "model.safetensors").write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (shutil.rmtree, r"^folder: got .*copy; name the folder"),
        (lambda folder: (folder / "config.json").unlink(), r"config.json: got no file; "),
        (lambda folder: (folder / "config.json").write_text("{"), r"config.json: got no JSON"),
        (lambda folder: (folder / "config.json").write_text("[]"), r"config.json: got \[\]; .*'fedjax_edu model'"),
        (change_config(format="other"), r"config.json: got other; .*'fedjax_edu model'"),
        (change_config(version=2), r"config.json: got version 2; .*reads version 1"),
        (change_config(model={"class": "Oracle"}), r"config.json: got a model of class 'Oracle'; "),
        (change_config(model={"class": "ensemble", "arguments": {"depht": 3}}), r"config.json: got .*its network cannot be built"),
        (edit_arguments, r"config.json: got other entries than were exported; "),
        (change_config(sha256={}, digest="0"), r"config.json: got other entries than were exported; "),
        (lambda folder: (folder / "config.json").write_text("[" * 100_000), r"config.json: got no JSON"),
        (change_scales, r"^scales.inputs: got \[\]; use \['before'\], what the schema says"),
        (
            change_tensors(lambda found: found.pop("heads.score.bias")),
            r"model.safetensors, heads.score.bias: got nothing; .*float32\[2, 1\]",
        ),
        (
            change_tensors(lambda found: found.update({"heads.score.bias": np.zeros((3, 1), np.float16)})),
            r"model.safetensors, heads.score.bias: got float16\[3, 1\]; it should be float32\[2, 1\]",
        ),
        (change_tensors(lambda found: found.update(new=np.zeros(1))), r"model.safetensors, new: got float64\[1\]; there should be no such"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"x" * 100), r"model.safetensors: got no whole safetensors file"),
        (lambda folder: (folder / "model.safetensors").unlink(), r"model.safetensors: got no file"),
        (flip_last_byte, r"model.safetensors: got other bytes than were exported"),
        (lambda folder: (folder / "scaling.json").write_text("{}"), r"scaling.json: got other bytes than were exported"),
    ],
)
def test_a_folder_that_is_not_whole_is_refused(copy, damage, message):
    damage(copy)
    with pytest.raises(fe.errors.ArgumentError, match=message):
        fe.load_model(copy)


def test_the_folder_of_a_run_is_told_from_that_of_its_model(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "run" / "model")
    with pytest.raises(fe.errors.ArgumentError, match=r"run/model: this is the folder of its run"):
        fe.load_model(tmp_path / "run")


def test_a_model_says_in_a_line_what_it_is(model):
    assert re.fullmatch(r"ExportedModel\([\d,]+ numbers; reads before, sex, track; predicts passed, score\)", repr(model))


def test_an_edited_card_is_no_damage(copy, table):
    (copy / "README.md").write_text("My own words.")
    assert len(predict(fe.load_model(copy), table)) == ROWS
