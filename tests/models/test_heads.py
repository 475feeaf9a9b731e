"""Heads: probabilities that add up, losses by their definition, and no answer that reads itself."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.test_util import check_grads
from scipy.special import expit, log_expit, softmax
from sklearn.metrics import log_loss

import fedjax_edu as fe
from fedjax_edu.models import heads
from fedjax_edu.models.encoders.sequence import Interactions, SequenceEncoder
from fedjax_edu.models.tokens import Tokens
from fedjax_edu.models.transformer import TransformerConfig

WIDTH, ROWS = 5, 7
THERE = jnp.ones(ROWS, bool)


def normal(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def whole(*shape, below, seed=0):
    return np.random.default_rng(seed).integers(below, size=shape)


def test_binary_losses_are_cross_entropies():
    outputs, targets = heads.BinaryHead(WIDTH, rngs=nnx.Rngs(0))(normal(ROWS, WIDTH)), whole(ROWS, below=2)
    ours = heads.BinaryHead.losses(outputs, jnp.asarray(targets, jnp.float32), THERE)
    assert float(ours.mean()) == pytest.approx(log_loss(targets, expit(np.asarray(outputs, float))), rel=1e-5)


def test_categorical_losses_are_cross_entropies():
    outputs, targets = heads.CategoricalHead(WIDTH, 4, rngs=nnx.Rngs(0))(normal(ROWS, WIDTH)), whole(ROWS, below=4)
    ours = heads.CategoricalHead.losses(outputs, jnp.asarray(targets), THERE)
    probabilities = softmax(np.asarray(outputs, float), axis=1)
    assert float(ours.mean()) == pytest.approx(log_loss(targets, probabilities, labels=range(4)), rel=1e-5)


def test_regression_losses_are_half_squares():
    ours = heads.RegressionHead.losses(jnp.array([1.0, -2.0]), jnp.array([0.0, 1.0]), THERE[:2])
    assert ours.tolist() == [0.5, 4.5]
    assert heads.RegressionHead(WIDTH, rngs=nnx.Rngs(0))(normal(ROWS, WIDTH)).shape == (ROWS,)


@pytest.mark.parametrize("levels", [2, 3, 6])
def test_ordinal_losses_are_those_of_a_proportional_odds_model(levels):
    head = heads.OrdinalHead(WIDTH, levels, rngs=nnx.Rngs(0))
    head.steps[...] = normal(levels - 2, seed=3)
    inputs = normal(ROWS, WIDTH)
    thresholds = np.cumsum([-(levels - 2) / 2, *np.log1p(np.exp(np.asarray(head.steps[...], float)))])
    scores = np.asarray(inputs, float) @ np.asarray(head.linear.kernel[...], float)
    above = np.hstack([np.ones((ROWS, 1)), expit(scores - thresholds), np.zeros((ROWS, 1))])
    probabilities = above[:, :-1] - above[:, 1:]
    for level in range(levels):
        ours = heads.OrdinalHead.losses(head(inputs), jnp.full(ROWS, level), THERE)
        np.testing.assert_allclose(ours, -np.log(probabilities[:, level]), rtol=1e-4)


def test_ordinal_losses_stay_finite_far_away():
    outputs = jnp.array([[90.0, 80.0], [-80.0, -90.0]])
    for level in range(3):
        losses, slopes = jax.vmap(
            jax.value_and_grad(lambda row, at=level: heads.OrdinalHead.losses(row[None], jnp.array([at]), THERE[:1])[0])
        )(outputs)
        assert np.all(np.isfinite(losses))
        assert np.all(np.isfinite(slopes))


def test_ordinal_gradients_are_numerical_ones():
    targets = jnp.asarray(whole(ROWS, below=4))
    with jax.enable_x64(True):
        outputs = -jnp.sort(jnp.asarray(normal(ROWS, 3), jnp.float64), axis=1)
        check_grads(lambda outputs: heads.OrdinalHead.losses(outputs, targets, THERE).sum(), (outputs,), order=1, modes=["rev"])


class Tracing(nnx.Module):
    """A history and the head that predicts its answers."""

    def __init__(self):
        rngs = nnx.Rngs(0)
        self.encoder = SequenceEncoder(6, 5, 8, TransformerConfig(layers=2, heads=2), rngs=rngs)
        self.head = heads.NextResponseHead(8, 6, rngs=rngs)

    def __call__(self, values, present):
        return self.head(self.encoder(values, present)[0], values.items)


def test_an_answer_is_predicted_from_those_before_it():
    """No leak: the slope of prediction t in answers from t on is zero."""
    values = Interactions(jnp.asarray(whole(2, 5, below=6)), normal(2, 5), jnp.abs(normal(2, 5)))
    apply, params = fe.models.functional(Tracing())
    slopes = jax.jacrev(lambda responses: apply(params, values._replace(responses=responses), jnp.ones(2, bool)))(values.responses)
    for step in range(5):
        assert np.all(slopes[0, step, 0, :step])
        assert not np.any(slopes[0, step, 0, step:])
        assert not np.any(slopes[0, step, 1])


def test_an_answer_reads_what_is_asked_now():
    head = heads.NextResponseHead(WIDTH, 6, rngs=nnx.Rngs(0))
    head.easiness[...] = normal(6)
    history = Tokens(normal(1, 3, WIDTH), jnp.ones((1, 3), bool))
    outputs = head(history, jnp.array([[4, 2, 1]]))
    queries, easiness = np.asarray(head.queries[...]), np.asarray(head.easiness[...])
    known = np.asarray(head.linear(history.values))[0]
    np.testing.assert_allclose(
        outputs[0], [easiness[4], known[0] @ queries[2] + easiness[2], known[1] @ queries[1] + easiness[1]], rtol=1e-4
    )


def test_next_response_losses_are_means_over_a_history():
    outputs, targets, mask = normal(3, 4), whole(3, 4, below=2).astype(float), np.array([[1, 1, 0, 1], [1, 0, 0, 0], [0, 0, 0, 0]], bool)
    entropies = -np.where(targets == 1, log_expit(np.asarray(outputs, float)), log_expit(-np.asarray(outputs, float)))
    ours = heads.NextResponseHead.losses(outputs, jnp.asarray(np.where(mask, targets, np.nan), jnp.float32), jnp.asarray(mask))
    np.testing.assert_allclose(ours, [entropies[0][mask[0]].mean(), entropies[1, 0], 0.0], rtol=1e-5)


def test_ranking_losses_are_those_of_pairs():
    scores, targets, groups = normal(8), whole(8, below=3).astype(float), whole(8, below=2, seed=1)
    valid = np.array([1, 1, 1, 0, 1, 1, 1, 1], bool)
    expected = []
    for own in range(8):
        pairs = [
            np.log1p(np.exp(-np.sign(targets[own] - targets[other]) * float(scores[own] - scores[other])))
            for other in range(8)
            if valid[own] and valid[other] and groups[own] == groups[other] and targets[own] != targets[other]
        ]
        expected.append(np.mean(pairs) if pairs else 0.0)
    wanted = heads.Ranked(jnp.asarray(targets, jnp.float32), jnp.asarray(groups))
    ours = heads.RankingHead.losses(scores, wanted, jnp.asarray(valid))
    np.testing.assert_allclose(ours, expected, rtol=1e-5)
    moved = heads.RankingHead.losses(scores.at[3].set(50.0), wanted, jnp.asarray(valid))
    np.testing.assert_array_equal(ours, moved)
    assert heads.RankingHead(WIDTH, rngs=nnx.Rngs(0))(normal(ROWS, WIDTH)).shape == (ROWS,)


def test_levels_that_are_too_few_are_named():
    with pytest.raises(fe.errors.ArgumentError, match="levels: got 1; use 2 or more"):
        heads.OrdinalHead(WIDTH, 1, rngs=nnx.Rngs(0))


ABSENT = {
    "binary": (heads.BinaryHead, normal(3), jnp.array([1.0, jnp.nan, 0.0])),
    "regression": (heads.RegressionHead, normal(3), jnp.array([1.0, jnp.nan, 0.0])),
    "categorical": (heads.CategoricalHead, normal(3, 4), jnp.array([3, 10**6, 0])),
    "ordinal": (heads.OrdinalHead, -jnp.sort(normal(3, 2), axis=1), jnp.array([2, -5, 0])),
    "next response": (heads.NextResponseHead, normal(3, 4), jnp.array([[1.0] * 4, [jnp.nan] * 4, [0.0] * 4])),
    "ranking": (heads.RankingHead, normal(3), heads.Ranked(jnp.array([1.0, jnp.nan, 0.0]), jnp.zeros(3, int))),
}


@pytest.mark.parametrize(("head", "outputs", "targets"), ABSENT.values(), ids=ABSENT)
def test_absent_targets_cost_nothing(head, outputs, targets):
    present = jnp.array([True, False, True])
    if head is heads.NextResponseHead:
        present = jnp.broadcast_to(present[:, None], (3, 4))
    losses, slope = jax.value_and_grad(lambda outputs: head.losses(outputs, targets, present).sum())(outputs)
    assert np.isfinite(losses)
    assert not np.any(slope[1])
    assert np.all(np.any(np.atleast_2d(slope[0]) != 0, axis=-1))
