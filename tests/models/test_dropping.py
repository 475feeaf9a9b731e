"""Modalities dropped in training: probabilities of every set, and nothing is left behind."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fedjax_edu as fe
from fedjax_edu.models import Content, drop_modalities

NAMES = ("audio", "image", "text")
HAVE = np.array(list(itertools.product((False, True), repeat=3)))  # a row for every set of modalities that it may have


def contents(have: np.ndarray) -> dict[str, Content]:
    found = {name: Content(jnp.zeros((len(have), 2)), jnp.asarray(have[:, number])) for number, name in enumerate(NAMES)}
    tokens = jnp.asarray(have[:, 2:]) & jnp.asarray([[True, True, False]])
    return found | {"text": Content(jnp.zeros((len(have), 3)), tokens)}  # one of them has a mask for each token


def kept(dropped) -> np.ndarray:
    return np.stack([np.asarray(dropped[name].present).reshape(len(dropped[name].present), -1).any(axis=1) for name in NAMES], axis=1)


@pytest.mark.parametrize("rate", [0.2, 0.7])
def test_every_set_is_as_likely_as_independent_draws_that_leave_one(rate):
    draws = 20_000
    keys = jax.random.split(jax.random.key(1), draws)
    masks = jax.vmap(lambda key: [content.present for content in drop_modalities(contents(HAVE), key, rate).values()])(keys)
    rows = np.stack([np.asarray(mask).reshape(draws, len(HAVE), -1).any(axis=2) for mask in masks], axis=2)
    for row, have in enumerate(HAVE):
        size = have.sum()
        for chosen in HAVE:
            share = np.mean((rows[:, row] == chosen).all(axis=1))
            possible = not (chosen & ~have).any() and chosen.any()
            count = chosen.sum()
            expected = (1 - rate) ** count * rate ** (size - count) / (1 - rate**size) if possible else float(size == 0 == count)
            assert abs(share - expected) < 5 * np.sqrt(expected * (1 - expected) / draws) + 1e-12


def test_masks_of_tokens_lose_all_or_nothing():
    dropped = drop_modalities(contents(HAVE), jax.random.key(0), 0.5)
    before, after = (np.asarray(each["text"].present) for each in (contents(HAVE), dropped))
    np.testing.assert_array_equal(after, before & after.any(axis=1)[:, None])


def test_without_a_rate_nothing_is_dropped():
    np.testing.assert_array_equal(kept(drop_modalities(contents(HAVE), jax.random.key(0), 0.0)), HAVE)


def test_arguments_that_make_no_sense():
    with pytest.raises(fe.errors.ArgumentError, match=r"rate.*\[0, 1\)"):
        drop_modalities(contents(HAVE), jax.random.key(0), 1.0)
    many = {str(number): Content(jnp.zeros((1, 1)), jnp.ones(1, bool)) for number in range(13)}
    with pytest.raises(fe.errors.ArgumentError, match="12 at most"):
        drop_modalities(many, jax.random.key(0), 0.5)
