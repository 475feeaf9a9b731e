"""Representations that clients send, and the mean that they weigh: against NumPy, on federations whose answer is known."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType

import fedjax_edu as fe
from fedjax_edu.algorithms.representations import gram

CLIENTS, WIDTH, RATE = 6, 4, 0.3
RANDOM = np.random.default_rng(0)
TARGETS = RANDOM.normal(size=(CLIENTS, WIDTH)).astype(np.float32)
START = {"body": {"w": RANDOM.normal(size=WIDTH).astype(np.float32)}, "head": {"b": np.float32(0.5)}}
PROBE = RANDOM.normal(size=(7, WIDTH)).astype(np.float32)
HOLDERS = np.arange(CLIENTS) % 3 > 0


def loss(params, batch, key):
    """Half the squared distance to a client's target: a step of rate r moves a share of r of the way."""
    return 0.5 * jnp.sum((params["body"]["w"][None] - batch["y"]) ** 2, axis=1) + 0.5 * (params["head"]["b"][None] - batch["y"][:, 0]) ** 2


def represent(params, probe):
    return jnp.tanh(probe * params["body"]["w"][None])


def run(targets=TARGETS, represent=represent, aggregator=None, holds=None, devices=1, rounds=2, examples=1, **options):
    """Clients of `examples` rows each, after some rounds."""
    rows = np.repeat(targets, examples, axis=0)
    population = fe.data.Population.from_arrays({"y": rows}, examples * np.arange(len(targets) + 1), ids=100 - np.arange(len(targets)))
    plain = fe.algorithms.fedavg(loss, client_optimizer=optax.sgd(RATE), local=fe.LocalTraining(steps=1), **options)
    engine = fe.Engine(
        population.holding(holds or {}),
        fe.algorithms.with_representations(plain, represent, PROBE),
        cohort=fe.cohorts.everyone(),
        aggregator=fe.aggregation.cka_graph() if aggregator is None else aggregator,
        plan=fe.ExecutionPlan(lanes=2, mesh=jax.make_mesh((devices,), ("clients",), axis_types=(AxisType.Auto,))),
    )
    return engine.run(engine.init(START, seed=0), rounds)


def alignment(one, other):
    """Linear CKA of two matrices of representations, in FedMVP's steps."""
    grams = []
    for matrix in (one, other):
        rows = matrix / np.linalg.norm(matrix, axis=1, keepdims=True)
        rows = rows - rows.mean(0)
        grams.append(rows @ rows.T)
    a, b = grams
    return np.trace(a @ b) / np.sqrt(np.trace(a @ a) * np.trace(b @ b))


def twin(holders, rounds):
    """In NumPy: every client a step towards its target, each module the mean of its holders by their degrees."""
    w, b = START["body"]["w"].astype(float), float(START["head"]["b"])
    for _ in range(rounds):
        own = w + RATE * (TARGETS - w)
        seen = [np.tanh(PROBE * model) for model in own]
        edges = np.array([[alignment(one, other) for other in seen] for one in seen])
        heads = edges[np.ix_(holders, holders)].sum(1)
        w = np.average(own, axis=0, weights=edges.sum(1))
        b = np.average(b + RATE * (TARGETS[holders, 0] - b), weights=heads)
    return w, b


@pytest.mark.parametrize("holders", [np.ones(CLIENTS, bool), HOLDERS], ids=["all", "some"])
@pytest.mark.parametrize("devices", [1, 4])
def test_it_equals_its_numpy_twin(holders, devices):
    holds = None if holders.all() else {"head": holders}
    state, _ = run(holds=holds, devices=devices)
    w, b = twin(holders, rounds=2)
    assert np.abs(w - np.mean(TARGETS, 0)).max() > 0.01  # which a plain mean is not
    np.testing.assert_allclose(state.params["body"]["w"], w, rtol=1e-5)
    np.testing.assert_allclose(state.params["head"]["b"], b, rtol=1e-5)


def test_sizes_of_clients_do_not_count():
    """Of as many rows each as with fewer; weights by examples are all the same to degrees."""
    few, _ = run()
    many, _ = run(examples=5)
    np.testing.assert_allclose(few.params["body"]["w"], many.params["body"]["w"], rtol=1e-5)


def test_clients_that_are_alike_count_alike():
    """Representations that do not depend on the model, even none at all, make it the plain mean of clients."""
    expected, _ = run(aggregator=fe.aggregation.mean(), weighting="uniform")
    for seen in (lambda params, probe: probe, lambda params, probe: jnp.ones((7, 3)), lambda params, probe: jnp.zeros((7, 3))):
        found, _ = run(represent=seen)
        np.testing.assert_allclose(found.params["body"]["w"], expected.params["body"]["w"], rtol=1e-5)


def test_one_that_sees_things_otherwise_counts_least():
    """Five clients agree; the sixth sees at random, and moves the mean by less than a sixth of what it wants."""
    targets = np.zeros((CLIENTS, WIDTH), np.float32)
    targets[2] = 60

    def odd(params, probe):
        return jnp.where(params["body"]["w"][0] > 10, jax.random.normal(jax.random.key(1), probe.shape), probe)

    start = np.mean((1 - RATE) * START["body"]["w"])
    state, _ = run(targets, odd, rounds=1)
    share = (np.mean(state.params["body"]["w"]) - start) / (60 * RATE)
    assert 0.01 < share < 0.8 / CLIENTS


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_a_gram_matrix_is_that_of_any_rotation_and_of_any_scale(dtype):
    seen = RANDOM.normal(size=(9, 5))
    rotation, _ = np.linalg.qr(RANDOM.normal(size=(5, 5)))
    plain = np.asarray(gram(jnp.asarray(seen, dtype)))
    tolerance = 0.02 if dtype == np.float16 else 1e-5
    np.testing.assert_allclose(np.linalg.norm(plain), 1, rtol=1e-5)
    np.testing.assert_allclose(gram(jnp.asarray(seen @ rotation, dtype)), plain, atol=tolerance)
    np.testing.assert_allclose(gram(jnp.asarray(seen * RANDOM.uniform(0.5, 2, size=(9, 1)), dtype)), plain, atol=tolerance)
    np.testing.assert_allclose(gram(jnp.asarray(seen.reshape(9, 5, 1), dtype)), plain, atol=tolerance)
    other = RANDOM.normal(size=(9, 5))
    np.testing.assert_allclose(np.sum(plain * np.asarray(gram(jnp.asarray(other)))), alignment(seen, other), atol=tolerance)


def test_gradients_of_a_gram_matrix_are_finite_where_nothing_is_seen():
    slope = jax.grad(lambda seen: gram(seen).sum())(jnp.zeros((4, 2)))
    assert np.isfinite(slope).all()


def test_a_client_sends_the_matrix_too():
    """49 numbers beside its five of the model."""
    _, info = run(rounds=1)
    np.testing.assert_array_equal(info.bytes_up, [CLIENTS * 4 * (49 + 5)])


def test_a_client_without_finite_representations_is_rejected():
    def broken(params, probe):
        return jnp.where(params["body"]["w"][0] > 10, jnp.nan, 1.0) * probe

    targets = np.array(TARGETS)
    targets[1] = 60
    _, info = run(targets, broken, rounds=1)
    np.testing.assert_array_equal(info.rejected, [1])


def test_a_graph_of_clients_that_send_nothing_is_refused():
    algorithm = fe.algorithms.fedavg(loss, client_optimizer=optax.sgd(RATE), local=fe.LocalTraining(steps=1))
    population = fe.data.Population.from_arrays({"y": TARGETS}, np.arange(CLIENTS + 1))
    engine = fe.Engine(population, algorithm, cohort=fe.cohorts.everyone(), aggregator=fe.aggregation.cka_graph())
    with pytest.raises(fe.errors.ArgumentError, match=r"^aggregator: got cka_graph; give the engine fe.algorithms.with_representations"):
        engine.run(engine.init(START), rounds=1)


@pytest.mark.parametrize("shape", [(7,), (1, 3)])
def test_representations_of_less_than_two_rows_are_refused(shape):
    with pytest.raises(fe.errors.ArgumentError, match=r"^represent: got "):
        run(represent=lambda params, probe: jnp.ones(shape), rounds=1)
