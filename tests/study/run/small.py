"""A small federation with everything that has a state, and runs of it."""

import jax
import numpy as np
import optax
from jax.sharding import AxisType
from rich.console import Console

import fedjax_edu as fe
from fedjax_edu.study import Run, Saving

ROUNDS = 6
RANDOM = np.random.default_rng(0)
SIZES = RANDOM.integers(1, 12, 24)
PARAMS = {"network": {"w": np.zeros((3, 1), np.float32)}, "offset": np.zeros((), np.float32)}
X = RANDOM.normal(size=(SIZES.sum(), 3)).astype(np.float32)
Y = X @ np.array([1, -2, 0.5], np.float32) + 1


def population(scale=1):
    return fe.data.Population.from_arrays({"x": X, "y": np.float32(scale) * Y}, offsets=np.concatenate([[0], np.cumsum(SIZES)]))


def loss(params, batch, key):
    noise = 0.1 * jax.random.normal(key, batch["y"].shape)
    return 0.5 * ((batch["x"] @ params["network"]["w"])[:, 0] + params["offset"] + noise - batch["y"]) ** 2


def build(*, devices=2, algorithm=fe.algorithms.scaffold, clients=None, **plan):
    """Everything that has a state: control variates, moments, residuals, personal leaves, a sampler that learns."""
    clients = population() if clients is None else clients
    return fe.Engine(
        clients,
        algorithm(
            loss,
            client_optimizer=optax.sgd(0.05),
            server_optimizer=optax.adam(0.1),
            local=fe.LocalTraining(epochs=1, batch_size=4),
            weighting="uniform",
        ),
        cohort=fe.cohorts.oort(8),
        aggregator=fe.aggregation.chain(fe.aggregation.topk(0.5), fe.aggregation.mean()),
        modules=fe.modules.assign(PARAMS, personal="offset"),
        plan=fe.ExecutionPlan(lanes=2, mesh=jax.make_mesh((devices,), ("clients",), axis_types=(AxisType.Auto,)), chunk=4, **plan),
    )


def make(folder, engine=None, *, console=None, **options):
    settings = {"saving": Saving(rounds=2, last=10), "report": 3, "score": lambda state: {"w": float(state.params["network"]["w"][0, 0])}}
    return Run(engine or build(), PARAMS, folder, seed=5, console=console or Console(quiet=True), **(settings | options))


def bits(state):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(state._replace(key=jax.random.key_data(state.key)))]


def assert_same_bits(found, expected):
    for one, other in zip(bits(found), bits(expected), strict=True):
        np.testing.assert_array_equal(one, other)


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
