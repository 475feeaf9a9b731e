"""Encoders: their formulas in NumPy, and one table for what absent content must not do."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.test_util import check_grads

import fedjax_edu as fe
from fedjax_edu.models.encoders.audio import AudioEncoder, log_mel, mel_filters
from fedjax_edu.models.encoders.features import FeaturesEncoder, Stamped, waves
from fedjax_edu.models.encoders.image import ImageEncoder
from fedjax_edu.models.encoders.phrases import Bag, PhraseEncoder
from fedjax_edu.models.encoders.sequence import Interactions, SequenceEncoder
from fedjax_edu.models.encoders.tabular import Record, TabularEncoder
from fedjax_edu.models.encoders.text import TextConfig, TextEncoder
from fedjax_edu.models.transformer import TransformerConfig
from tests.reference import transformers

WIDTH, HEADS, ROWS = 8, 2, 4
DENSE = TransformerConfig(layers=2, heads=HEADS, hidden=1.5)
EXPERTS_WITH_ROOM = TransformerConfig(layers=1, heads=HEADS, experts=4, capacity=0.5)
EXPERTS = TransformerConfig(layers=1, heads=HEADS, hidden=1.0, experts=4)
RATE = {"rate": 4000, "window": 64, "hop": 32, "bins": 6}
RANDOM = np.random.default_rng(0)
PRESENT = np.array([True, False, True, True])
LENGTHS = np.array([5, 5, 2, 0], np.int32)


def normal(*shape):
    return RANDOM.normal(size=shape).astype(np.float32)


def phrase_encoder():
    """One that has learned something; it starts without an opinion."""
    encoder = PhraseEncoder(20, WIDTH, rank=3, gain=3.0, rngs=nnx.Rngs(6))
    assert not np.any(encoder.table[...])
    encoder.table[...] = jnp.asarray(normal(20, 3))
    return encoder


class Case(NamedTuple):
    """An encoder, contents for it, whether each is there, and its length in the content's own unit."""

    encoder: nnx.Module
    values: object
    present: np.ndarray
    lengths: np.ndarray | None


RECORD_PRESENT = np.array([[True, True, False], [False, False, False], [False, True, True], [True, True, True]])
CASES = {
    "tabular": Case(
        TabularEncoder([0, 3, 0], WIDTH, rngs=nnx.Rngs(0)),
        Record(np.stack([normal(ROWS), np.array([0.0, 1, 2, 1], np.float32), normal(ROWS)], axis=1)),
        RECORD_PRESENT,
        None,
    ),
    "tabular, listed features": Case(
        TabularEncoder([0, 3, 0, 2], WIDTH, rngs=nnx.Rngs(0)),
        Record(np.ones((ROWS, 3), np.float32), np.array([[0, 1, 2], [3, 2, 1], [2, 3, 0], [1, 1, 1]], np.int32)),
        PRESENT,
        np.array([3, 3, 2, 1], np.int32),
    ),
    "sequence": Case(
        SequenceEncoder(6, 5, WIDTH, DENSE, rngs=nnx.Rngs(1)),
        Interactions(RANDOM.integers(6, size=(ROWS, 5)).astype(np.int32), normal(ROWS, 5), np.abs(normal(ROWS, 5))),
        PRESENT,
        LENGTHS,
    ),
    "sequence of experts": Case(
        SequenceEncoder(6, 5, WIDTH, EXPERTS, rngs=nnx.Rngs(1)),
        Interactions(RANDOM.integers(6, size=(ROWS, 5)).astype(np.int32), normal(ROWS, 5), np.abs(normal(ROWS, 5))),
        PRESENT,
        LENGTHS,
    ),
    "text": Case(
        TextEncoder(TextConfig(vocabulary=20, positions=6, width=WIDTH, layers=2, heads=HEADS, hidden=12), rngs=nnx.Rngs(2)),
        RANDOM.integers(20, size=(ROWS, 5)).astype(np.int32),
        PRESENT,
        LENGTHS,
    ),
    "phrases": Case(
        phrase_encoder(),
        Bag(RANDOM.integers(20, size=(ROWS, 5)).astype(np.int32), np.abs(normal(ROWS, 5))),
        PRESENT,
        LENGTHS,
    ),
    "image": Case(ImageEncoder(4, 6, 3, patch=2, tokens=WIDTH, config=DENSE, rngs=nnx.Rngs(3)), normal(ROWS, 4, 6, 3), PRESENT, LENGTHS),
    "audio": Case(
        AudioEncoder(WIDTH, DENSE, patch=2, **RATE, rngs=nnx.Rngs(4)),
        0.3 * normal(ROWS, 400),
        PRESENT,
        np.array([400, 400, 130, 95], np.int32),
    ),
    "features": Case(
        FeaturesEncoder(7, WIDTH, DENSE, rngs=nnx.Rngs(5)), Stamped(normal(ROWS, 5, 7), 40 * np.abs(normal(ROWS, 5))), PRESENT, LENGTHS
    ),
}
every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
dense = {name: case for name, case in CASES.items() if "experts" not in name}  # experts compare the rows of a batch, and have borders
every_dense_case = pytest.mark.parametrize("case", dense.values(), ids=dense)


def content_mask(case, leaf):
    """Which parts of a leaf of the content are there, broadcast to its shape."""
    mask = np.broadcast_to(case.present.reshape(ROWS, -1), (ROWS, leaf.shape[1]) if leaf.ndim > 1 else (ROWS, 1))
    if case.lengths is not None and not isinstance(case.encoder, ImageEncoder):
        mask = mask & (np.arange(leaf.shape[1]) < case.lengths[:, None])
    return mask.reshape(mask.shape + (1,) * (leaf.ndim - 2))


def poisoned(case):
    """The same content, with NaN, or numbers that no table has, where it is absent."""

    def poison(leaf):
        wrong = np.nan if leaf.dtype.kind == "f" else 10**6
        return np.where(content_mask(case, leaf), leaf, np.asarray(wrong, leaf.dtype))

    return jax.tree.map(poison, case.values)


@functools.cache
def compiled(encoder):
    return jax.jit(fe.models.functional(encoder)[0])


def run(case, params, values, present=None):
    return compiled(case.encoder)(params, values, jnp.asarray(case.present if present is None else present), case.lengths)


def total(case, values, present=None):
    """A loss that reads every token, as a function of parameters."""

    def loss(params):
        tokens, report = run(case, params, values, present)
        shape = tokens.values.shape
        return jnp.sum(tokens.values * jnp.cos(jnp.arange(tokens.values.size).reshape(shape))) + sum(one.loss for one in report.values())

    return loss


@every_case
def test_absent_content_changes_nothing(case):
    _, params = fe.models.functional(case.encoder)
    clean, dirty = (jax.jit(jax.value_and_grad(total(case, values)))(params) for values in (case.values, poisoned(case)))
    for one, two in zip(jax.tree.leaves(clean), jax.tree.leaves(dirty), strict=True):
        assert np.all(np.isfinite(one))
        np.testing.assert_array_equal(one, two)
    assert any(np.any(leaf) for leaf in jax.tree.leaves(clean[1]))


@every_case
def test_a_modality_that_nobody_has_leaves_its_encoder_alone(case):
    _, params = fe.models.functional(case.encoder)
    slope = jax.grad(total(case, poisoned(case), np.zeros_like(case.present)))(params)
    for leaf in jax.tree.leaves(slope):
        assert not np.any(leaf)


@every_case
def test_absent_content_has_no_gradient(case):
    _, params = fe.models.functional(case.encoder)
    floats, others = (
        jax.tree.map(lambda leaf, k=kind: leaf if (leaf.dtype.kind == "f") == k else None, case.values) for kind in (True, False)
    )

    def loss(floats):
        values = jax.tree.map(lambda a, b: b if a is None else a, floats, others, is_leaf=lambda leaf: leaf is None)
        return total(case, values)(params)

    for leaf, slope in zip(jax.tree.leaves(floats), jax.tree.leaves(jax.grad(loss)(floats)), strict=True):
        assert not np.any(np.where(content_mask(case, leaf), 0.0, slope))
        assert np.any(slope) or isinstance(case.encoder, TabularEncoder)


@every_dense_case
def test_rows_do_not_read_each_other(case):
    _, params = fe.models.functional(case.encoder)
    tokens, _ = run(case, params, case.values)
    alone = Case(
        case.encoder,
        jax.tree.map(lambda leaf: leaf[2:3], case.values),
        case.present[2:3],
        None if case.lengths is None else case.lengths[2:3],
    )
    one, _ = run(alone, params, alone.values)
    np.testing.assert_allclose(one.values[0], tokens.values[2], rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(one.mask[0], tokens.mask[2])


@every_dense_case
def test_gradients_are_numerical_ones(case):
    _, params = fe.models.functional(case.encoder)
    check_grads(jax.jit(total(case, case.values)), (params,), order=1, modes=["rev"], atol=0.05, rtol=0.05, eps=2e-3)


def embedded(case, params, row, tokens):
    """The expected output of a row: embeddings [T, D] through a transformer in NumPy."""
    mask = np.asarray(run(case, params, case.values)[0].mask[row])
    causal = isinstance(case.encoder, SequenceEncoder)
    return transformers.transformer(transformers.doubles(params)["transformer"], tokens, mask, HEADS, causal)


def check(case, formula):
    """Every row against `formula(parameters in double precision, row) -> embeddings [T, D]`."""
    _, params = fe.models.functional(case.encoder)
    tokens, _ = run(case, params, case.values)
    for row in range(ROWS):
        expected = embedded(case, params, row, formula(transformers.doubles(params), row))
        np.testing.assert_allclose(tokens.values[row], expected, rtol=1e-3, atol=1e-4)


def test_tabular_tokens_are_their_formula():
    case = CASES["tabular"]
    _, params = fe.models.functional(case.encoder)
    tokens, report = run(case, params, case.values)
    table, bias = np.asarray(params["table"]), np.asarray(params["bias"])  # rows: number, three levels, number
    for row in range(ROWS):
        number, level, other = case.values.values[row]
        expected = np.stack([number * table[0] + bias[0], table[1 + int(level)] + bias[1], other * table[4] + bias[2]])
        np.testing.assert_allclose(tokens.values[row], np.where(RECORD_PRESENT[row][:, None], expected, 0.0), rtol=1e-6)
    np.testing.assert_array_equal(tokens.mask, RECORD_PRESENT)
    assert report == {}


def test_a_row_may_list_its_features():
    encoder = TabularEncoder([0, 3, 0, 2], WIDTH, rngs=nnx.Rngs(0))
    all_there, _ = encoder(Record(jnp.array([[0.5, 2.0, -1.0, 1.0]])), jnp.ones((1, 4), bool))
    listed, _ = encoder(Record(jnp.array([[1.0, 0.5, 9.0]]), jnp.array([[3, 0, 2]])), jnp.ones(1, bool), jnp.array([2]))
    np.testing.assert_array_equal(listed.values[0, :2], all_there.values[0][jnp.array([3, 0])])
    np.testing.assert_array_equal(listed.mask, [[True, True, False]])


def test_sequence_tokens_are_their_formula():
    case = CASES["sequence"]
    items, responses, gaps = case.values

    def formula(tree, row):
        interactions = tree["items"][items[row]] + responses[row][:, None] * tree["slopes"][items[row]]
        return interactions + np.log1p(gaps[row])[:, None] * tree["gap"]["kernel"] + tree["places"]

    check(case, formula)


def test_image_tokens_are_their_formula():
    case = CASES["image"]

    def formula(tree, row):
        image = case.values[row].astype(float)
        patches = [image[2 * i : 2 * i + 2, 2 * j : 2 * j + 2].ravel() for i in range(2) for j in range(3)]
        return transformers.linear(tree["project"], np.stack(patches)) + tree["places"]

    check(case, formula)


def test_features_tokens_are_their_formula():
    case = CASES["features"]

    def formula(tree, row):
        rates = 10_000.0 ** (-2 * np.arange(WIDTH // 2) / WIDTH)
        angles = case.values.times[row].astype(float)[:, None] * rates
        return transformers.linear(tree["project"], case.values.embeddings[row]) + np.concatenate([np.sin(angles), np.cos(angles)], axis=1)

    check(case, formula)


def spectrogram(samples):
    """Log-mel by its definition: one frame, one frequency, one triangle after another."""
    rate, window, hop, bins = (RATE[name] for name in ("rate", "window", "hop", "bins"))
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)
    frames = []
    for start in range(0, len(samples) - window + 1, hop):
        frame = samples[start : start + window].astype(float) * hann
        waves = np.exp(-2j * np.pi * np.outer(np.arange(window // 2 + 1), np.arange(window)) / window)
        frames.append(np.log(np.maximum(np.abs(waves @ frame) ** 2 @ mel_filters(rate, window, bins), 1e-10)))
    return np.stack(frames)


def test_audio_tokens_are_their_formula():
    case = CASES["audio"]

    def formula(tree, row):
        frames = 1 - 2 / np.log(1e-10) * spectrogram(np.where(np.arange(400) < case.lengths[row], case.values[row], 0.0))
        patches = np.stack([frames[2 * i : 2 * i + 2].ravel() for i in range(len(frames) // 2)])
        return transformers.linear(tree["project"], patches) + np.asarray(waves(jnp.arange(len(patches), dtype=jnp.float32), WIDTH))

    check(case, formula)


def test_patches_of_a_recording_end_with_it():
    """Frames of 64 samples every 32, two a patch: 96 samples make the first patch."""
    tokens, _ = run(CASES["audio"], fe.models.functional(CASES["audio"].encoder)[1], CASES["audio"].values)
    assert tokens.mask.sum(axis=1).tolist() == [5, 0, 1, 0]


def test_mel_filters_have_area_one_and_peak_where_they_should():
    filters = mel_filters(16_000, 4096, 40)
    step = 16_000 / 4096
    np.testing.assert_allclose(filters.sum(axis=0) * step, 1.0, rtol=0.02)
    mels = np.linspace(0, 15 + 27 * np.log(8) / np.log(6.4), 42)[1:-1]
    peaks = np.where(mels < 15, 200 * mels / 3, 1000 * 6.4 ** ((mels - 15) / 27))
    np.testing.assert_allclose(filters.argmax(axis=0) * step, peaks, atol=step)


def test_a_tone_sounds_in_its_bin():
    times = np.arange(16_000) / 16_000
    heard = [
        int(np.asarray(log_mel(np.sin(2 * np.pi * tone * times).astype(np.float32))).mean(axis=0).argmax()) for tone in (200, 1000, 4000)
    ]
    centres = mel_filters(16_000, 400, 80).argmax(axis=0) * 40.0
    np.testing.assert_allclose(centres[heard], [200, 1000, 4000], rtol=0.06)


def test_text_tokens_are_their_formula():
    case = CASES["text"]
    _, params = fe.models.functional(case.encoder)
    tokens, report = run(case, params, case.values)
    tree = transformers.doubles(params)
    for row in range(ROWS):
        mask = np.asarray(tokens.mask[row])
        x = transformers.normalise(
            tree["first"], tree["words"][np.where(mask, case.values[row], 0)] + tree["positions"][:5] + tree["types"][0], 1e-12
        )
        for number in range(2):
            layer = tree["layers"][number]
            x = transformers.normalise(layer["after_attention"], x + transformers.attention(layer["attention"], x, mask, HEADS), 1e-12)
            x = transformers.normalise(layer["after_feed_forward"], x + transformers.feed_forward(layer["feed_forward"], x), 1e-12)
        np.testing.assert_allclose(tokens.values[row], x * mask[:, None], rtol=1e-3, atol=1e-4)
    assert report == {}


def test_a_token_of_phrases_is_its_formula():
    case = CASES["phrases"]
    table, bias, kernel, last = normal(20, 3), normal(3), normal(3, WIDTH), normal(WIDTH)
    tokens, report = run(case, {"table": table, "bias": bias, "read": {"kernel": kernel, "bias": last}}, case.values)
    for row in range(ROWS):
        count = LENGTHS[row] if PRESENT[row] else 0
        assert tokens.mask[row] == (count > 0)
        numbers, weights = (leaf[row, :count] for leaf in case.values)
        summed = sum((weight * table[number] for number, weight in zip(numbers, weights, strict=True)), bias)
        np.testing.assert_allclose(tokens.values[row, 0], (3 * summed @ kernel + last) * (count > 0), rtol=1e-4, atol=1e-5)
    assert report == {}


def test_a_level_that_there_is_not_is_missing():
    case = CASES["tabular"]
    _, params = fe.models.functional(case.encoder)
    for code in (3, -1, np.nan):
        record = np.where(np.arange(3) == 1, np.float32(code), case.values.values)
        tokens, _ = run(case, params, Record(record))
        without, _ = run(case, params, case.values, case.present & (np.arange(3) != 1))
        np.testing.assert_array_equal(tokens.mask, without.mask)
        np.testing.assert_array_equal(tokens.values, without.values)


def test_time_does_not_run_backwards():
    case = CASES["sequence"]
    _, params = fe.models.functional(case.encoder)
    back, still = (run(case, params, case.values._replace(gaps=gaps))[0] for gaps in (case.values.gaps - 9, case.values.gaps * 0))
    np.testing.assert_array_equal(back.values, still.values)


def test_a_step_knows_no_later_one():
    case = CASES["sequence"]
    _, params = fe.models.functional(case.encoder)

    def step(responses, number):
        return run(case, params, case.values._replace(responses=responses))[0].values[0, number].sum()

    for number in range(5):
        slope = np.asarray(jax.grad(step)(jnp.asarray(case.values.responses), number))
        assert np.all(slope[0, : number + 1])
        assert not np.any(slope[0, number + 1 :])
        assert not np.any(slope[1:])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TabularEncoder([], 4, rngs=nnx.Rngs(0)), "levels: got []; give each feature"),
        (lambda: PhraseEncoder(0, 4, rank=2, gain=1.0, rngs=nnx.Rngs(0)), "buckets: got 0; use a positive integer"),
        (lambda: PhraseEncoder(9, 4, rank=0, gain=1.0, rngs=nnx.Rngs(0)), "rank: got 0; use a positive integer"),
        (lambda: PhraseEncoder(9, 4, rank=2, gain=np.nan, rngs=nnx.Rngs(0)), "gain: got nan; use a positive"),
        (lambda: SequenceEncoder(3, 4, 4, EXPERTS_WITH_ROOM, rngs=nnx.Rngs(0)), "capacity: got 0.5; leave it out where histories are read"),
        (
            lambda: CASES["tabular"].encoder(Record(jnp.zeros((ROWS, 2))), jnp.ones(ROWS, bool)),
            "values: got (4, 2); give rows of 3 features",
        ),
        (
            lambda: CASES["sequence"].encoder(Interactions(*(jnp.zeros((1, 6), kind) for kind in (int, float, float))), jnp.ones(1, bool)),
            "values: got (1, 6); cut histories to 5 steps",
        ),
        (lambda: TabularEncoder([2, -1], 4, rngs=nnx.Rngs(0)), "levels: got [2, -1]; give each feature"),
        (lambda: ImageEncoder(5, 4, 1, patch=2, tokens=4, config=DENSE, rngs=nnx.Rngs(0)), "patch: got 2; use a side that divides 5 and 4"),
        (lambda: log_mel(jnp.zeros(399)), "samples: got (399,); pass at least the 400 samples"),
        (lambda: waves(jnp.zeros(3), 5), "width: got 5; use an even width"),
        (lambda: SequenceEncoder(6, 5, 9, DENSE, rngs=nnx.Rngs(0)), "heads: got 2; use a divisor of the width 9"),
        (lambda: CASES["text"].encoder(jnp.zeros((1, 7), int), jnp.ones(1, bool)), "values: got (1, 7); cut texts to 6 word pieces"),
        (lambda: CASES["image"].encoder(CASES["image"].values, jnp.ones((4, 5), bool)), "present: got (4, 5); use [rows] or [rows, 6]"),
    ],
)
def test_what_does_not_fit_is_named(make, message):
    with pytest.raises(fe.errors.ArgumentError) as error:
        make()
    assert str(error.value).startswith(message)
