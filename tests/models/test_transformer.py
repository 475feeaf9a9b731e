"""Attention and transformers against NumPy, with and without experts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import fedjax_edu as fe
from fedjax_edu.models.attention import Attention
from fedjax_edu.models.tokens import Tokens, token_mask
from fedjax_edu.models.transformer import Transformer, TransformerConfig
from tests.reference import transformers

WIDTH, HEADS = 8, 2


def example(rows=3, steps=6, seed=0):
    random = np.random.default_rng(seed)
    mask = random.random((rows, steps)) < 0.7
    mask[:, 0] = True
    return Tokens.masked(jnp.asarray(random.normal(size=(rows, steps, WIDTH)), jnp.float32), jnp.asarray(mask))


def made(module):
    """The function of a module, and parameters that are all away from where they start."""
    apply, params = fe.models.functional(module)
    keys = iter(jax.random.split(jax.random.key(0), len(jax.tree.leaves(params))))
    return jax.jit(apply), jax.tree.map(lambda leaf: leaf + 0.3 * jax.random.normal(next(keys), leaf.shape), params)


@pytest.mark.parametrize("causal", [False, True])
def test_attention_is_its_definition(causal):
    apply, params = made(Attention(WIDTH, HEADS, rngs=nnx.Rngs(0), causal=causal))
    tokens = example()
    answers = apply(params, tokens)
    for row in range(3):
        values, mask = np.asarray(tokens.values[row], float), np.asarray(tokens.mask[row])
        expected = transformers.attention(transformers.doubles(params), values, mask, HEADS, causal)
        np.testing.assert_allclose(answers[row], expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("layers", [0, 2])
def test_a_transformer_is_its_definition(layers, causal):
    config = TransformerConfig(layers=layers, heads=HEADS, hidden=1.5)
    apply, params = made(Transformer(WIDTH, config, rngs=nnx.Rngs(0), causal=causal))
    tokens = example()
    answers, report = apply(params, tokens)
    assert report == {}
    for row in range(3):
        values, mask = np.asarray(tokens.values[row], float), np.asarray(tokens.mask[row])
        expected = transformers.transformer(transformers.doubles(params), values, mask, HEADS, causal)
        np.testing.assert_allclose(answers.values[row], expected, rtol=1e-3, atol=1e-3)


def test_a_layer_of_experts_says_what_they_did():
    config = TransformerConfig(layers=2, heads=HEADS, hidden=1.0, experts=4)
    tokens = example()
    _, report = Transformer(WIDTH, config, rngs=nnx.Rngs(0))(tokens)
    assert set(report) == {"layers.0", "layers.1"}
    for routed in report.values():
        np.testing.assert_array_equal(routed.choices.sum(axis=2), 2.0 * np.asarray(tokens.mask))
        assert float(routed.loss) > 0


def test_one_expert_is_a_dense_network():
    """With a single expert there is nothing to choose: its answer counts fully."""
    dense = Transformer(WIDTH, TransformerConfig(layers=1, heads=HEADS, hidden=1.5), rngs=nnx.Rngs(0))
    mixed = Transformer(WIDTH, TransformerConfig(layers=1, heads=HEADS, hidden=1.5, experts=1, chosen=1), rngs=nnx.Rngs(0))
    (_, params), (apply_mixed, mixed_params) = (fe.models.functional(model) for model in (dense, mixed))
    network = params["layers"][0].pop("feed_forward")
    router = mixed_params["layers"][0].pop("feed_forward")["router"]
    experts = {"into": network["into"]["kernel"][None], "into_bias": network["into"]["bias"][None]}
    experts |= {"out": network["out"]["kernel"][None], "out_bias": network["out"]["bias"][None], "router": router}
    shared = {"layers": {0: params["layers"][0]}}
    expected = dense(example())[0].values
    shared["layers"][0] = shared["layers"][0] | {"feed_forward": experts}
    np.testing.assert_allclose(apply_mixed(shared, example())[0].values, expected, rtol=1e-4, atol=1e-5)


def test_the_rows_of_an_empty_batch_of_tokens_are_zeros():
    tokens = Tokens(jnp.zeros((2, 3, WIDTH)), jnp.zeros((2, 3), bool))
    answers, _ = Transformer(WIDTH, TransformerConfig(layers=2, heads=HEADS), rngs=nnx.Rngs(0))(tokens)
    assert not np.any(answers.values)
    assert not np.any(answers.mean())


def test_a_mask_joins_presence_and_length():
    present = jnp.array([[True, False, True], [True, True, True]])
    assert token_mask(present, jnp.array([3, 1]), 3).tolist() == [[True, False, True], [True, False, False]]
    assert token_mask(jnp.array([True, False]), None, 2).tolist() == [[True, True], [False, False]]
