"""Losses of FedMVP against NumPy, written as the paper has them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp

from fedjax_edu.models import aligned_margin, contrastive_matching

ROWS, WIDTH = 6, 4


def units(seed: int) -> np.ndarray:
    values = np.random.default_rng(seed).normal(size=(ROWS, WIDTH)).astype(np.float32)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


JOINT, IMAGE, TEXT = units(0), units(1), units(2)
ALL, SOME = np.ones(ROWS, bool), np.array([True, False, True, True, False, True])


def matching(joint, values, temperature) -> float:
    z = np.concatenate([joint, values]).astype(np.float64)
    scores = z @ z.T / temperature
    np.fill_diagonal(scores, -np.inf)
    own = np.tile((joint * values).sum(axis=1), 2) / temperature
    return np.mean(logsumexp(scores, axis=1) - own)


@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_matching_is_the_papers(temperature):
    seen = {"image": (IMAGE, ALL), "text": (TEXT, SOME)}
    expected = matching(JOINT, IMAGE, temperature) + matching(JOINT[SOME], TEXT[SOME], temperature)
    np.testing.assert_allclose(contrastive_matching(JOINT, seen, temperature=temperature), expected, rtol=1e-5)


def test_perfect_matches_of_orthogonal_rows():
    """Each row has one match and 2 B - 2 others at right angles: log(1 + (2 B - 2) e^(-1 / tau))."""
    eye = np.eye(WIDTH, dtype=np.float32)
    found = contrastive_matching(eye, {"text": (eye, np.ones(WIDTH, bool))}, temperature=0.5)
    np.testing.assert_allclose(found, np.log1p((2 * WIDTH - 2) * np.exp(-2)), rtol=1e-5)


def test_what_is_absent_says_nothing():
    noise = np.where(SOME[:, None], TEXT, np.nan)

    def loss(joint, text):
        margin = aligned_margin(joint, jnp.ones(ROWS), {"text": (text, SOME)}, {"text": jnp.zeros(ROWS)}, ALL)
        return margin + contrastive_matching(joint, {"text": (text, SOME)})

    assert loss(JOINT, TEXT) == loss(JOINT, noise)
    slopes = jax.grad(loss, argnums=(0, 1))(JOINT, noise)
    assert all(np.isfinite(slope).all() and not np.any(np.asarray(slope)[~SOME]) and np.any(np.asarray(slope)[SOME]) for slope in slopes)
    nothing = {"text": (noise, np.zeros(ROWS, bool))}
    assert contrastive_matching(JOINT, nothing) == 0
    assert np.isfinite(jax.grad(lambda joint: contrastive_matching(joint, nothing))(JOINT)).all()


def test_the_joint_representation_is_pulled_to_what_is_better():
    rows = np.array([True] * 5 + [False])
    losses = {"image": np.float32([1, 1, 1, 1, 1, 99]), "text": np.float32([3, 0, 3, 3, 0, 0])}
    joint_loss = np.full(ROWS, 2, np.float32)
    found = aligned_margin(JOINT, joint_loss, {"image": (IMAGE, ALL), "text": (TEXT, SOME)}, losses, rows)
    np.testing.assert_allclose(found, np.linalg.norm((JOINT - IMAGE)[rows]) / 5, rtol=1e-6)
    both = aligned_margin(JOINT, joint_loss, {"image": (IMAGE, ALL), "text": (TEXT, ALL)}, losses, rows)
    np.testing.assert_allclose(both, found + np.linalg.norm((JOINT - TEXT)[rows]) / 5, rtol=1e-6)


def test_a_modality_that_is_the_joint_representation_has_a_gradient():
    slope = jax.grad(lambda joint: aligned_margin(joint, jnp.ones(ROWS), {"text": (JOINT, ALL)}, {"text": jnp.zeros(ROWS)}, ALL))(JOINT)
    np.testing.assert_array_equal(slope, 0)
