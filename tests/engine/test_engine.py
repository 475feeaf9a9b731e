"""What users see of an engine beside the rounds: personal modules, work after the federation, evaluation, prediction, reports."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType

import fedjax_edu as fe
from tests.reference.problems import SIZES, Linear, identical, largest_gap

ONE_DEVICE = jax.make_mesh((1,), ("clients",), axis_types=(AxisType.Auto,))
LOCAL = fe.LocalTraining(epochs=1, batch_size=4)


def build(problem=None, *, loss=Linear.loss, modules=None, cohort=None, **options) -> fe.Engine:
    problem = problem or Linear()
    fine_tuning, plan = options.pop("fine_tuning", None), options.pop("plan", fe.ExecutionPlan(mesh=ONE_DEVICE))
    algorithm = fe.algorithms.fedavg(loss, client_optimizer=optax.sgd(0.05), local=LOCAL, fine_tuning=fine_tuning)
    return fe.Engine(
        problem.population(),
        algorithm,
        cohort=cohort or fe.cohorts.uniform(6),
        aggregator=fe.aggregation.mean(),
        modules=modules,
        plan=plan,
        **options,
    )


@pytest.fixture(scope="module")
def problem():
    return Linear()


@pytest.fixture(scope="module")
def engine(problem):
    return build(problem)


@pytest.fixture(scope="module")
def trained(engine, problem):
    return engine.run(engine.init(problem.params, seed=2), 3)


def test_frozen_modules_never_change(problem):
    modules = fe.modules.assign(problem.params, frozen="layer")
    engine = build(problem, modules=modules)
    state, info = engine.run(engine.init(problem.params), 3)
    np.testing.assert_array_equal(state.params["layer"]["w"], problem.params["layer"]["w"])
    assert float(state.params["head"]["b"]) != float(problem.params["head"]["b"])
    np.testing.assert_array_equal(info.bytes_up, info.participants * 4)


def test_personal_modules_stay_with_their_client(problem):
    modules = fe.modules.assign(problem.params, personal="head")
    engine = build(problem, modules=modules)
    start = engine.init(problem.params, seed=4)
    state, info = engine.run(start, 1)
    (cohort,), _ = engine.schedule(start, 1)
    moved = np.asarray(state.clients["head"]["b"]) != np.asarray(start.clients["head"]["b"])
    np.testing.assert_array_equal(np.flatnonzero(moved), cohort)
    np.testing.assert_array_equal(state.params["head"]["b"], problem.params["head"]["b"])
    np.testing.assert_array_equal(info.bytes_up, info.participants * 12)


def test_all_personal_is_training_alone(problem):
    modules = fe.modules.assign(problem.params, personal=...)
    engine = build(problem, modules=modules, cohort=fe.cohorts.everyone())
    start = engine.init(problem.params, seed=4)
    state, info = engine.run(start, 2)
    cohorts, rows = engine.schedule(start, 2)
    for position, client in enumerate(cohorts[0]):
        params = problem.params
        for batches in (rows[0][position], rows[1][position]):
            for batch in batches:
                params = jax.tree.map(lambda w, g: w - 0.05 * g, params, problem.gradient(params, batch))
        assert largest_gap(jax.tree.map(lambda leaf, client=client: leaf[client], state.clients), params) < 1e-5
    assert not info.bytes_up.any() and not info.update_norm.any()


def test_finalise_trains_personal_modules_of_everyone_and_nothing_else(problem):
    modules = fe.modules.assign(problem.params, personal="head")
    engine = build(problem, modules=modules, fine_tuning=fe.LocalTraining(epochs=3))
    state, _ = engine.run(engine.init(problem.params, seed=4), 1)
    final = engine.finalise(state)
    assert identical(final._replace(clients=state.clients), state)
    for client, (first, end) in enumerate(zip(problem.offsets[:-1], problem.offsets[1:], strict=True)):
        bias = float(state.clients["head"]["b"][client])
        for _ in range(3 if end > first else 0):
            params = {"layer": jax.tree.map(np.asarray, state.params["layer"]), "head": {"b": bias}}
            bias -= 0.05 * problem.gradient(params, np.arange(first, end))["head"]["b"]
        np.testing.assert_allclose(final.clients["head"]["b"][client], bias, rtol=1e-5)


def test_finalise_without_work_returns_the_state(engine, trained):
    assert identical(engine.finalise(trained[0]), trained[0])


def test_losses_after_training_are_those_of_the_trained_clients(problem):
    engine = build(problem, measure_after=True)
    plain = build(problem)
    start = engine.init(problem.params, seed=6)
    state, info = engine.run(start, 2)
    expected_state, expected = plain.run(plain.init(problem.params, seed=6), 2)
    assert largest_gap(state, expected_state) < 1e-6
    np.testing.assert_array_equal(info.steps, expected.steps)
    np.testing.assert_allclose(info.loss, expected.loss, rtol=1e-6)
    assert expected.loss_after is None
    (cohort,), (rows,) = engine.schedule(start, 1)
    total = 0.0
    for client, batches in zip(cohort, rows, strict=True):
        params = problem.params
        for batch in batches:
            params = jax.tree.map(lambda w, g: w - 0.05 * g, params, problem.gradient(params, batch))
        total += problem.losses(params, np.arange(problem.offsets[client], problem.offsets[client + 1])).sum()
    np.testing.assert_allclose(info.loss_after[0], total / sum(SIZES[client] for client in cohort), rtol=1e-5)


def test_predictions_come_in_row_order(problem, engine, trained):
    def fn(params, batch):
        return {"y": batch["x"] @ params["layer"]["w"] + params["head"]["b"][None], "x": batch["x"]}

    found = engine.predict(trained[0], problem.population(), fn)
    np.testing.assert_array_equal(found["x"], problem.x)
    params = jax.tree.map(np.asarray, trained[0].params)
    np.testing.assert_allclose(found["y"], problem.x @ params["layer"]["w"] + params["head"]["b"], rtol=1e-5, atol=1e-6)


def test_known_clients_use_their_personal_modules_and_new_ones_the_federations(problem):
    modules = fe.modules.assign(problem.params, personal="head")
    engine = build(problem, modules=modules, cohort=fe.cohorts.everyone())
    state, _ = engine.run(engine.init(problem.params, seed=4), 2)
    known = problem.population().select([7, 2])
    new = fe.data.Population.from_arrays({"x": problem.x[:3], "y": problem.y[:3]}, offsets=[0, 3], ids=[99], allow_nonfinite=("x",))

    def bias(params, batch):
        return jnp.broadcast_to(params["head"]["b"][None], batch["y"].shape)

    own = np.asarray(state.clients["head"]["b"])
    np.testing.assert_array_equal(engine.predict(state, known, bias), np.repeat(own[[7, 2]], [SIZES[7], SIZES[2]]))
    np.testing.assert_array_equal(engine.predict(state, new, bias), np.repeat(problem.params["head"]["b"], 3))


def test_models_whose_rows_interact_see_which_rows_are_real(problem):
    """Centring over the batch reads every row, so padding must be kept out by `valid`; losses on it are poisoned."""

    def loss(params, batch, key, valid):
        prediction = batch["x"] @ params["layer"]["w"] + params["head"]["b"][None]
        mean = jnp.sum(jnp.where(valid, prediction, 0)) / jnp.maximum(jnp.sum(valid).astype(prediction.dtype), 1)
        return jnp.where(valid, 0.5 * (prediction - mean[None] - batch["y"]) ** 2, jnp.nan)

    engine = build(problem, loss=loss, cohort=fe.cohorts.everyone())
    start = engine.init(problem.params, seed=1)
    state, info = engine.run(start, 1)
    cohorts, rows = engine.schedule(start, 1)
    total = jax.tree.map(np.zeros_like, problem.params)
    for client, batches in zip(cohorts[0], rows[0], strict=True):
        local = jax.tree.map(jnp.asarray, problem.params)
        for batch in batches:
            real = {"x": problem.x[batch], "y": problem.y[batch]}
            gradient = jax.grad(lambda p, real=real, batch=batch: loss(p, real, None, np.ones(len(batch), bool)).mean())(local)
            local = jax.tree.map(lambda w, g: w - 0.05 * g, local, gradient)
        total = jax.tree.map(lambda t, new, old, n=SIZES[client]: t + n * (np.asarray(new) - old), total, local, problem.params)
    expected = jax.tree.map(lambda w, t: w + t / sum(SIZES), problem.params, total)
    assert largest_gap(state.params, expected) < 1e-5 and np.isfinite(info.loss).all()


def test_losses_may_carry_a_regulariser_and_weighted_metrics(problem):
    def loss(params, batch, key):
        losses, _ = Linear.loss(params, batch, key)
        positive = (batch["y"] > 0).astype(losses.dtype)
        return fe.Loss(losses, regulariser=0.3 * jnp.sum(params["layer"]["w"] ** 2), metrics={"positive": (losses, positive)})

    modules = fe.modules.assign(problem.params, frozen="head")
    engine = build(problem, loss=loss, cohort=fe.cohorts.everyone(), modules=modules)
    state = engine.init(problem.params)
    found = engine.evaluate(state, problem.population())
    losses = problem.losses(problem.params, np.arange(sum(SIZES)))
    np.testing.assert_allclose(found.loss, losses.mean(), rtol=1e-5)
    np.testing.assert_allclose(found.metrics["positive"], losses[problem.y > 0].mean(), rtol=1e-5)
    one_step = fe.algorithms.fedavg(loss, client_optimizer=optax.sgd(0.1), local=fe.LocalTraining(steps=1))
    engine = fe.Engine(problem.population(), one_step, cohort=fe.cohorts.everyone(), aggregator=fe.aggregation.mean(), modules=modules)
    state, _ = engine.run(engine.init(problem.params), 1)
    w = problem.params["layer"]["w"]
    gradient = problem.gradient(problem.params, np.arange(sum(SIZES)))["layer"]["w"] + 0.6 * w
    np.testing.assert_allclose(state.params["layer"]["w"], w - 0.1 * gradient, rtol=1e-4, atol=1e-6)


def test_keys_given_to_the_loss_are_those_of_client_and_step_whatever_the_lanes(problem):
    def loss(params, batch, key):
        noise = jax.random.normal(key, (batch["y"].shape[0],))
        return (params["head"]["b"][None] - noise) ** 2 + 0 * params["layer"]["w"][0][None]

    results = [build(problem, loss=loss, plan=fe.ExecutionPlan(lanes=lanes, chunk=chunk)) for lanes, chunk in ((1, 64), (4, 2))]
    states = [engine.run(engine.init(problem.params, seed=8), 3)[0] for engine in results]
    assert largest_gap(states[0].params, states[1].params) < 1e-6
    other, _ = results[0].run(results[0].init(problem.params, seed=9), 3)
    assert largest_gap(other.params, states[0].params) > 1e-4


def test_ids_not_positions_seed_randomness(problem):
    """The same clients under the same ids in another order: the same federation."""
    population = problem.population()
    order = np.random.default_rng(0).permutation(len(SIZES))
    algorithm = fe.algorithms.fedavg(problem.loss, client_optimizer=optax.sgd(0.05), local=LOCAL)
    options = {"cohort": fe.cohorts.poisson(0.5), "aggregator": fe.aggregation.mean()}
    states = []
    for each in (population, population.select(order)):
        engine = fe.Engine(each, algorithm, **options)
        states.append(engine.run(engine.init(problem.params, seed=1), 4))
    assert largest_gap(states[0][0].params, states[1][0].params) < 1e-6
    np.testing.assert_array_equal(states[0][1].participants, states[1][1].participants)


def test_schedule_is_what_the_rounds_did(problem, engine, trained):
    cohorts, rows = engine.schedule(engine.init(problem.params, seed=2), 3)
    info = trained[1]
    np.testing.assert_array_equal([len(cohort) for cohort in cohorts], info.participants)
    np.testing.assert_array_equal([sum(len(client) for client in each) for each in rows], info.steps)
    np.testing.assert_array_equal([sum(len(step) for client in each for step in client) for each in rows], info.examples)
    np.testing.assert_array_equal(info.bytes_up, info.participants * 16)
    np.testing.assert_array_equal(info.bytes_down, info.participants * 16)


def test_no_rounds_is_no_change(problem, engine):
    start = engine.init(problem.params, seed=2)
    state, info = engine.run(start, 0)
    assert identical(state, start) and info.loss.shape == (0,)


def test_update_that_overflows_the_sum_is_rejected():
    """2e38 is finite, five times 2e38 is not: the other client's update must survive."""
    arrays = {"x": np.array([2e38, 0, 0, 0, 0, 1, 1, 1, 1, 1], np.float32)}
    population = fe.data.Population.from_arrays(arrays, offsets=[0, 5, 10])
    algorithm = fe.algorithms.fedavg(
        lambda params, batch, key: -params[0][None] * batch["x"],
        client_optimizer=optax.sgd(1.0),
        local=fe.LocalTraining(steps=5, batch_size=1),
    )
    plan = fe.ExecutionPlan(mesh=ONE_DEVICE)
    engine = fe.Engine(population, algorithm, cohort=fe.cohorts.everyone(), aggregator=fe.aggregation.mean(), plan=plan)
    state, info = engine.run(engine.init(jnp.zeros(1)), 1)
    np.testing.assert_array_equal(state.params, [5.0])
    assert (info.participants[0], info.rejected[0]) == (1, 1)


def test_client_optimisers_see_the_tree_of_the_model(problem):
    """Labels by the model's own paths: one rate for the layer, none for the head."""
    labels = {"layer": {"w": "moving"}, "head": {"b": "fixed"}}
    optimizer = optax.partition({"moving": optax.sgd(0.05), "fixed": optax.set_to_zero()}, labels)
    algorithm = fe.algorithms.fedavg(problem.loss, client_optimizer=optimizer, local=LOCAL)
    plan = fe.ExecutionPlan(mesh=ONE_DEVICE)
    engine = fe.Engine(problem.population(), algorithm, cohort=fe.cohorts.uniform(6), aggregator=fe.aggregation.mean(), plan=plan)
    frozen = build(problem, modules=fe.modules.assign(problem.params, frozen="head"))
    (state, _), (expected, _) = (each.run(each.init(problem.params, seed=2), 2) for each in (engine, frozen))
    assert largest_gap(state.params, expected.params) < 1e-6
