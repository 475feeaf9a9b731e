"""Every algorithm on clients that do not hold every module: each module is trained by those who hold it, as if they were alone."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType

import fedjax_edu as fe
from tests.algorithms.table import ALGORITHMS, Row
from tests.reference.problems import SIZES, Linear, identical, largest_gap

ROUNDS = 3
LOCAL = fe.LocalTraining(epochs=2, batch_size=4)
HOLDERS = np.array([position % 3 != 0 for position in range(len(SIZES))])
COUPLED = ("qffl", "afl", "term", "ifca")  # weigh or group clients by their whole loss
NAMING = ("tap", "heterofl", "routed")  # name modules or leaves, which a federation of the others lacks
WITH_HEADS = tuple(row for row in ALGORITHMS if row.personal is None)


class Apart(Linear):
    """Two regressions that share nothing: one by the layer, one by the head, which only its holders have targets for."""

    def __init__(self):
        super().__init__()
        self.z = np.random.default_rng(1).normal(size=len(self.y)).astype(np.float32)
        self.has = np.repeat(HOLDERS, np.diff(self.offsets))

    def population(self):
        return super().population(z=self.z, has=self.has).holding({"head": HOLDERS})

    @staticmethod
    def layer_loss(params, batch, key):
        residual = batch["x"] @ params["layer"]["w"] - batch["y"]
        return 0.5 * residual**2, {"absolute": jnp.abs(residual)}

    @staticmethod
    def head_loss(params, batch, key):
        return 0.5 * (params["head"]["b"][None] - batch["z"]) ** 2

    @staticmethod
    def loss(params, batch, key):
        of_layer, metrics = Apart.layer_loss(params, batch, key)
        return of_layer + jnp.where(batch["has"], Apart.head_loss(params, batch, key), 0), metrics


def train(row: Row, population, loss, params, lanes=3, devices=1, **options):
    mesh = jax.make_mesh((devices,), ("clients",), axis_types=(AxisType.Auto,))
    plan = fe.ExecutionPlan(lanes=lanes, mesh=mesh, chunk=ROUNDS)
    cohort, mean = fe.cohorts.everyone(), fe.aggregation.mean()
    engine = fe.Engine(population, row.make(loss, local=LOCAL), cohort=cohort, aggregator=mean, plan=plan, **options)
    return engine, *engine.run(engine.init(params, seed=3), ROUNDS)


def of_head(state) -> list[np.ndarray]:
    """What the server and the clients keep of the head, value and moments; of IFCA's clusters, among which it chooses one to show."""
    return _leaves((getattr(state.server, "clusters", state.server), state.clients), of_head=True)


def _leaves(tree, *, of_head: bool) -> list[np.ndarray]:
    named = ((jax.tree_util.keystr(path), leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree))
    return [np.asarray(leaf) for name, leaf in named if ("head" in name) == of_head]


@pytest.fixture(scope="module", params=WITH_HEADS, ids=lambda row: row.name)
def row(request) -> Row:
    return request.param


@pytest.fixture(scope="module")
def both(row):
    problem = Apart()
    return train(row, problem.population(), problem.loss, problem.params)


def test_each_module_is_trained_by_its_holders_as_if_they_were_alone(row, both):
    if row.name in COUPLED:
        pytest.skip("the algorithm weighs clients by their loss over all modules")
    problem, (_, state, info) = Apart(), both
    _, layer, alone = train(row, Linear().population(), problem.layer_loss, {"layer": problem.params["layer"]})
    np.testing.assert_array_equal(info.participants, alone.participants)
    assert largest_gap(state.params["layer"], layer.params["layer"]) < 1e-6
    if row.name in NAMING:
        return
    holders = Linear().population(z=problem.z).select(HOLDERS)
    _, head, _ = train(row, holders, problem.head_loss, {"head": problem.params["head"]})
    assert largest_gap(state.params["head"], head.params["head"]) < 1e-6
    assert largest_gap(state.params, problem.params) > 0.01


def test_who_lacks_a_module_keeps_its_state_of_it(both):
    engine, state, _ = both
    start = engine.init(Apart().params, seed=3)
    for (path, leaf), before in zip(jax.tree_util.tree_leaves_with_path(state.clients), jax.tree.leaves(start.clients), strict=True):
        if "head" in jax.tree_util.keystr(path):
            np.testing.assert_array_equal(np.asarray(leaf)[~HOLDERS], np.asarray(before)[~HOLDERS])


@pytest.mark.parametrize(("lanes", "devices"), [(1, 1), (2, 2)])
def test_lanes_and_devices_do_not_change_results(row, both, lanes, devices):
    problem = Apart()
    _, state, info = train(row, problem.population(), problem.loss, problem.params, lanes, devices)
    assert largest_gap(state, both[1]) < 3e-6
    np.testing.assert_array_equal(info.bytes_down, both[2].bytes_down)
    np.testing.assert_array_equal(info.bytes_up, both[2].bytes_up)


def test_a_module_that_nobody_holds_neither_acts_nor_changes(row):
    """Its value, which the loss uses, moves no bit of anything else, and nothing moves a bit of what is kept of it."""
    problem = Linear()
    population = problem.population().holding({"head": np.zeros(len(SIZES), bool)})
    params = {"layer": problem.params["layer"], "head": {"b": np.float32(0)}}
    engine, zero, expected = train(row, population, problem.loss, params)
    for poison in np.float32([1e30, -7.0]):
        start = engine.init({**params, "head": {"b": poison}}, seed=3)
        state, info = engine.run(start, ROUNDS)
        assert identical(state.params["layer"], zero.params["layer"])
        assert identical(_leaves(state.clients, of_head=False), _leaves(zero.clients, of_head=False))
        assert identical(of_head(state), of_head(start)) and any(poison in leaf for leaf in of_head(state))
        np.testing.assert_array_equal(info.loss, expected.loss)
        assert not info.rejected.any()


@pytest.mark.parametrize(("parts", "expected"), [((1, 0, 1), 500 / 150), ((1, 1, 1), 1100 / 450), ((0.5, 0.25, 1), 3.4285714)])
def test_parts_weigh_a_module(parts, expected):
    """Clients with 100, 300 and 50 examples whose means are 1, 2 and 8: one full step takes each of them there."""
    sizes = np.array([100, 300, 50])
    arrays = {"y": np.repeat(np.float32([1, 2, 8]), sizes)}
    population = fe.data.Population.from_arrays(arrays, offsets=[0, *np.cumsum(sizes)]).holding({"image": parts})
    algorithm = fe.algorithms.fedavg(
        lambda params, batch, key: 0.5 * (params["image"] - batch["y"]) ** 2 + 0.5 * (params["text"] - batch["y"]) ** 2,
        client_optimizer=optax.sgd(1.0),
        local=fe.LocalTraining(epochs=1),
    )
    engine = fe.Engine(population, algorithm, cohort=fe.cohorts.everyone(), aggregator=fe.aggregation.mean())
    state, _ = engine.run(engine.init({"image": np.float32(0), "text": np.float32(0)}), 1)
    np.testing.assert_allclose(state.params["image"], expected, rtol=1e-6)
    np.testing.assert_allclose(state.params["text"], 1100 / 450, rtol=1e-6)


def test_bytes_are_those_of_held_modules():
    problem = Apart()
    _, _, info = train(ALGORITHMS[0], problem.population(), problem.loss, problem.params)
    some = np.array(SIZES) > 0
    expected = 4 * (3 * np.sum(some) + np.sum(some & HOLDERS))  # three weights of the layer, one number of the head
    np.testing.assert_array_equal(info.bytes_up, expected)
    np.testing.assert_array_equal(info.bytes_down, expected)


def test_predictions_use_what_a_client_holds():
    problem = Apart()
    engine, state, _ = train(ALGORITHMS[0], problem.population(), problem.loss, problem.params)
    seen = engine.predict(state, problem.population(), lambda params, batch: jnp.broadcast_to(params["head"]["b"], batch["y"].shape))
    np.testing.assert_array_equal(seen, np.where(problem.has, np.asarray(state.params["head"]["b"]), 0))


def test_holders_of_a_module_that_the_model_lacks():
    problem = Linear()
    population = problem.population().holding({"tail": HOLDERS})
    with pytest.raises(fe.errors.ArgumentError, match="name modules of the model, head, layer, or make it one"):
        train(ALGORITHMS[0], population, problem.loss, problem.params)
    with pytest.raises(fe.errors.DataError, match="one boolean, or one number from 0 on, for each of the 12 clients"):
        problem.population().holding({"head": HOLDERS[:3]})
    with pytest.raises(fe.errors.DataError, match=r"-1\.0 at position 0"):
        problem.population().holding({"head": HOLDERS - 1.0})
