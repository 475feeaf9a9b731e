"""Models of several widths: the published example, and narrow clients that are a federation of a narrow model."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fedjax_edu as fe
from tests.reference.problems import Linear, largest_gap

A = fe.algorithms
AXES = {"hidden.kernel": [1], "hidden.bias": [0], "out.kernel": [0]}


def federation(population, params, algorithm, rounds: int):
    everyone, mean = fe.cohorts.everyone(), fe.aggregation.mean()
    engine = fe.Engine(population, algorithm, cohort=everyone, aggregator=mean)
    return engine, engine.run(engine.init(params), rounds)[0]


def test_each_number_is_the_mean_of_those_who_have_it():
    """Two clients whose ends are 0 ... 15 in four rows, and 100 ... 103 at half the width."""
    ends = np.zeros((2, 4, 4), np.float32)
    ends[0], ends[1, :2, :2] = np.arange(16).reshape(4, 4), 100 + np.arange(4).reshape(2, 2)
    population = fe.data.Population.from_arrays({"end": ends}, [0, 1, 2], attributes={"width": np.float32([1, 0.5])})

    def loss(params, batch, key):
        return 0.5 * jnp.sum((params["w"][None] - batch["end"]) ** 2, axis=(1, 2))

    algorithm = A.heterofl(loss, widths="width", axes={"w": [0, -1]}, client_optimizer=optax.sgd(1.0), local=fe.LocalTraining(steps=1))
    _, state = federation(population, {"w": jnp.full((4, 4), 0.25)}, algorithm, 1)
    expected = np.arange(16.0).reshape(4, 4)
    expected[:2, :2] = [[50, 51], [53, 54]]
    np.testing.assert_allclose(state.params["w"], expected, atol=1e-5)


def network(params, x):
    hidden = jnp.tanh(x @ params["hidden"]["kernel"] + params["hidden"]["bias"][None])
    return (hidden @ params["out"]["kernel"])[:, 0]


def loss(params, batch, key):
    return 0.5 * (network(params, batch["x"]) - batch["y"]) ** 2


def start(width: int):
    random = np.random.default_rng(0)
    whole = {
        "hidden": {"kernel": random.normal(size=(3, 5)), "bias": random.normal(size=5)},
        "out": {"kernel": random.normal(size=(5, 1))},
    }
    whole = jax.tree.map(np.float32, whole)
    return {
        "hidden": {"kernel": whole["hidden"]["kernel"][:, :width], "bias": whole["hidden"]["bias"][:width]},
        "out": {"kernel": whole["out"]["kernel"][:width]},
    }


def test_narrow_clients_alone_train_a_narrow_network():
    problem = Linear()
    population = fe.data.Population.from_arrays(
        {"x": problem.x, "y": problem.y}, problem.offsets, attributes={"width": np.full(12, 0.5, np.float32)}
    )
    options = {"client_optimizer": optax.sgd(0.1, momentum=0.9), "local": fe.LocalTraining(epochs=1, batch_size=4)}
    engine, state = federation(population, start(5), A.heterofl(loss, widths="width", axes=AXES, **options), 3)
    _, narrow = federation(population, start(3), A.fedavg(loss, **options), 3)
    kept = {
        "hidden": {"kernel": state.params["hidden"]["kernel"][:, :3], "bias": state.params["hidden"]["bias"][:3]},
        "out": {"kernel": state.params["out"]["kernel"][:3]},
    }
    assert largest_gap(kept, narrow.params) < 1e-6 < largest_gap(narrow.params, start(3))
    np.testing.assert_array_equal(state.params["hidden"]["kernel"][:, 3:], start(5)["hidden"]["kernel"][:, 3:])
    seen = engine.predict(state, population, lambda params, batch: network(params, batch["x"]))
    np.testing.assert_allclose(seen, network(narrow.params, problem.x), atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"widths": "size"}, "name a client attribute: group, width"),
        ({"widths": "group"}, "above 0 and 1 at most"),
        ({"axes": {"hidden": [0]}}, "name shared leaves: head.b, layer.w"),
        ({"axes": {"layer.w": [1]}}, "use axes of"),
    ],
)
def test_arguments_that_make_no_sense(options, message):
    problem = Linear()
    given = {"widths": "width", "axes": {"layer.w": [0]}} | options
    algorithm = A.heterofl(problem.loss, client_optimizer=optax.sgd(0.1), local=fe.LocalTraining(epochs=1), **given)
    with pytest.raises(fe.errors.ArgumentError, match=message):
        federation(problem.population(), problem.params, algorithm, 1)
