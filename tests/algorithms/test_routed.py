"""Experts by tokens: where a leaf's experts sit, what is refused, and what fixed routing means."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fedjax_edu as fe

A = fe.algorithms
LOCAL = fe.LocalTraining(epochs=1)
SGD = optax.sgd(1.0)


def loss(params, batch, key):
    """Each row reads the expert that it names, whose vector is drawn to the row's own."""
    read = params["bank"]["into"][batch["expert"]]
    names = {f"bank.load.{expert}": (batch["expert"] == expert).astype(jnp.float32) for expert in range(3)}
    return 0.5 * jnp.sum((read - batch["x"]) ** 2, axis=1), names


def build(algorithm, arrays, offsets):
    engine = fe.Engine(
        fe.data.Population.from_arrays(arrays, offsets), algorithm, cohort=fe.cohorts.everyone(), aggregator=fe.aggregation.mean()
    )
    return engine, engine.init({"bank": {"into": np.zeros((3, 2), np.float32)}})


def test_an_expert_is_the_mean_of_the_rows_that_it_read():
    """Experts that start from 0 and take one whole step towards the mean of a client's rows end at w t times it: in the mean over clients
    by tokens each row counts once, if steps are divided by the share of rows that the expert reads. One that nobody reads stays."""
    expert = np.array([0, 0, 1, 0, 0, 0], np.int32)  # two clients of three rows
    x = np.random.default_rng(0).normal(size=(6, 2)).astype(np.float32)
    plain = A.fedavg(loss, client_optimizer=SGD, local=LOCAL)
    engine, state = build(A.with_routed_tokens(plain, {"bank.into": "bank"}), {"x": x, "expert": expert}, [0, 3, 6])
    found = np.asarray(engine.run(state, 1)[0].params["bank"]["into"])
    moved = {0: (x[:2].sum(0) / 3, x[3:].sum(0) / 3), 1: (x[2] / 3,)}
    np.testing.assert_allclose(found[0], (2 * moved[0][0] + 3 * moved[0][1]) / 5, rtol=1e-5)
    np.testing.assert_allclose(found[1], moved[1][0], rtol=1e-5)
    assert not np.any(found[2])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda plain: A.with_routed_tokens(plain, {"bank.out": "bank"}), ["experts", "bank.out", "bank.into"]),
        (lambda plain: A.with_routed_tokens(plain, {"bank.into": "layers.0"}), ["experts", "layers.0.load.0", "bank.load.0"]),
        (lambda plain: A.with_routed_tokens(A.mime(loss, client_optimizer=SGD, local=LOCAL), {}), ["algorithm", "2 stages"]),
    ],
)
def test_what_cannot_be_counted_says_so(make, words):
    rows = {"x": np.zeros((2, 2), np.float32), "expert": np.zeros(2, np.int32)}

    def train():
        engine, state = build(make(A.fedavg(loss, client_optimizer=SGD, local=LOCAL)), rows, [0, 2])
        engine.run(state, 1)

    with pytest.raises(fe.errors.ArgumentError) as error:
        train()
    assert all(word in str(error.value) for word in words)
