"""The benchmark of the models' parts: that rivals of our experts compute the same, and that what is said to train does."""

import jax
import numpy as np
import pytest

import fedjax_edu as fe
from experiments.benchmarks import dispatch
from experiments.benchmarks.suites import model

SIZES = dispatch.Sizes(tokens=96, width=8, hidden=12, experts=4, chosen=2)
ROOM = 4.0  # nobody is refused: a token has two choices, and an expert room for all tokens
LITTLE = 0.7


@pytest.fixture(scope="module")
def inputs():
    params = dispatch.start(SIZES)
    keys = iter(jax.random.split(jax.random.key(0), len(params) + 1))
    params = {name: leaf + 0.1 * jax.random.normal(next(keys), leaf.shape) for name, leaf in params.items()}
    return params, jax.random.normal(next(keys), (SIZES.tokens, SIZES.width))


def of_all_clients(layer, inputs):
    """Answers, and gradients of two clients side by side."""
    params, rows = inputs
    loss = jax.grad(lambda params, rows: (layer(params, rows) ** 2).sum(), argnums=(0, 1))
    doubled = jax.tree.map(lambda leaf: np.stack([leaf, 2 * leaf]), (params, rows))
    return layer(params, rows), jax.vmap(loss)(*doubled)


@pytest.mark.parametrize(
    "layer",
    [dispatch.ours(SIZES, ROOM), dispatch.one_hot(SIZES, ROOM), dispatch.ragged(SIZES), dispatch.everybody(SIZES)],
    ids=["slots", "one-hot", "ragged", "everybody"],
)
def test_every_way_that_refuses_nobody_is_ours(layer, inputs):
    found, expected = (of_all_clients(one, inputs) for one in (layer, dispatch.ours(SIZES, None)))
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


def test_one_hot_products_refuse_whom_our_slots_refuse(inputs):
    found, expected = (layer(*inputs) for layer in (dispatch.one_hot(SIZES, LITTLE), dispatch.ours(SIZES, LITTLE)))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    assert not np.allclose(found, dispatch.ours(SIZES, None)(*inputs), atol=1e-2)


@pytest.mark.parametrize("rank", [0, 2])
def test_bytes_are_those_of_what_trains(rank):
    small = fe.models.TransformerConfig(layers=1, heads=2)
    run = model.adapted(rank, fe.models.Size(width=8, encoders=small, fusion=small))
    before = jax.device_get(run.state.params)
    run()
    moved = jax.tree.map(lambda one, other: not np.array_equal(one, other), before, jax.device_get(run.state.params))
    assert run.bytes_up == 4 * run.trained * model.FEW
    assert {name for name in moved if any(jax.tree.leaves(moved[name]))} == ({"lora", "heads"} if rank else {"encoders", "fusion", "heads"})
    if rank:
        layers = [leaf.shape for leaf in jax.tree.leaves(before["lora"])]
        assert run.trained == sum(map(np.prod, layers)) + sum(leaf.size for leaf in jax.tree.leaves(before["heads"]))


def test_who_has_no_images_sends_no_encoder_of_them(monkeypatch):
    monkeypatch.setattr(model, "TEXTS", 4)
    monkeypatch.setattr(model, "MANY", 4)
    small = fe.models.TransformerConfig(layers=1, heads=2)
    run = model.seeing(0.5, fe.models.Size(width=8, encoders=small, fusion=small))
    before = jax.device_get(run.state.params)
    of_images = sum(leaf.size for leaf in jax.tree.leaves(before["encoders"]["image"]))
    assert run.bytes_up == 4 * model.MANY * (run.trained - of_images / 2)
    run()
    moved = jax.tree.map(lambda one, other: not np.array_equal(one, other), before, jax.device_get(run.state.params))
    assert any(jax.tree.leaves(moved["encoders"]["image"])) and any(jax.tree.leaves(moved["encoders"]["record"]))
