"""TAP: its NumPy twin, margins that make it other algorithms, what is replaced, and the second stage."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.special import rel_entr, softmax

import fedjax_edu as fe
from tests.reference.personal import tap as twin
from tests.reference.problems import SIZES, Linear, identical, largest_gap

A = fe.algorithms
RATE = 0.05
SGD, LOCAL = optax.sgd(RATE), fe.LocalTraining(epochs=1, batch_size=4)
BOTH = {"absolute": ["layer", "head"]}
ROUNDS = 5


def begin(problem, algorithm, *, cohort=None):
    built = fe.Engine(problem.population(), algorithm, cohort=cohort or fe.cohorts.uniform(6), aggregator=fe.aggregation.mean())
    return built, built.init(problem.params, seed=5)


def after(problem, algorithm):
    built, state = begin(problem, algorithm)
    return built.run(state, ROUNDS)[0]


def tap(problem, **options):
    return A.tap(problem.loss, **{"tasks": BOTH, "client_optimizer": SGD, "local": LOCAL} | options)


@pytest.mark.parametrize(("margin", "uses"), [(-0.05, ("layer",)), (0.02, ("layer", "head"))])
def test_personal_models_equal_their_numpy_twin(margin, uses):
    with jax.enable_x64(True):
        problem = Linear(np.float64)
        built, state = begin(problem, tap(problem, tasks={"absolute": uses}, margin=margin))
        own: dict = {}
        twin(problem, problem.params, *built.schedule(state, ROUNDS), client_rate=RATE, margin=margin, uses=uses, own=own)
        state, _ = built.run(state, ROUNDS)
    times = [count for *_, count in own.values()]
    assert min(times) < max(times)
    for position, (model, loss, count) in own.items():
        mine = jax.tree.map(lambda leaf, at=position: np.asarray(leaf[at]), state.clients)
        assert largest_gap(mine.own, model) < 1e-12 and abs(mine.loss[0] - loss) < 1e-12
        counts = dict(zip(state.server.modules.names, mine.replaced, strict=True))
        assert counts == {name: count if name in uses else 0 for name in counts}


def test_the_federations_model_is_that_of_fedavg():
    problem = Linear()
    state, fedavg = after(problem, tap(problem)), after(problem, A.fedavg(problem.loss, client_optimizer=SGD, local=LOCAL))
    assert largest_gap(state.params, fedavg.params) < 1e-6


def test_an_infinite_margin_leaves_clients_alone_bit_for_bit():
    """As Ditto without a pull."""
    problem = Linear()
    state = after(problem, tap(problem, margin=float("inf")))
    alone = after(problem, A.ditto(problem.loss, pull=0.0, client_optimizer=SGD, local=LOCAL))
    assert identical(state.clients.own, alone.clients) and not state.clients.replaced.any()


def test_without_any_margin_clients_tune_what_they_receive_bit_for_bit():
    """The personal model of a round is a second training of the received one, whatever the client had."""
    problem = Linear()
    built, state = begin(problem, tap(problem, margin=-float("inf"), source="global"), cohort=fe.cohorts.everyone())
    state, _ = built.run(state, 2)
    forgotten = state._replace(clients=state.clients._replace(own=jax.tree.map(lambda leaf: leaf + 7, state.clients.own)))
    has = np.array(SIZES) > 0
    ends = [jax.tree.map(lambda leaf: leaf[has], built.run(one, 1)[0].clients.own) for one in (state, forgotten)]
    assert identical(*ends)
    assert largest_gap(state.clients.own, jax.tree.map(lambda leaf: leaf[None], state.params)) > 1e-3
    np.testing.assert_array_equal(state.clients.replaced[:, 0], np.where(has, 2, 0))


def test_modules_of_several_tasks_may_be_left_alone():
    problem = Linear()

    def loss(params, batch, key):
        per_example, metrics = problem.loss(params, batch, key)
        return per_example, metrics | {"squared": per_example}

    tasks = {"absolute": ["layer", "head"], "squared": ["layer"]}
    make = partial(A.tap, loss, tasks=tasks, margin={"absolute": -float("inf"), "squared": 0.0}, client_optimizer=SGD, local=LOCAL)
    names = ("head", "layer")
    counts = {shared: np.asarray(after(problem, make(replace_shared=shared)).clients.replaced).sum(axis=0) for shared in (True, False)}
    assert counts[True][names.index("layer")] == counts[True][names.index("head")] == counts[False][names.index("head")] > 0
    assert counts[False][names.index("layer")] == 0


def two_classes(params, batch):
    return {"one": batch["x"] @ params["layer"]["w"], "three": jnp.outer(batch["x"][:, 0], params["layer"]["w"])}


def test_a_step_of_distillation_is_that_of_its_formula():
    """The gradient by differences of the loss plus the divergence from a teacher that took a step itself."""
    weight, temperature = 3.0, 2.0
    distillation = A.Distillation(two_classes, fe.LocalTraining(steps=1), weight=weight, temperature=temperature)
    with jax.enable_x64(True):
        problem = Linear(np.float64)
        built, state = begin(problem, tap(problem, distillation=distillation))
        state, _ = built.run(state, ROUNDS)
        settled = built.finalise(state)
        assert identical(settled.params, state.params)
        flat, form = jax.flatten_util.ravel_pytree(jax.tree.map(np.asarray, state.params))
        for client in np.flatnonzero(SIZES):
            rows = np.arange(problem.offsets[client], problem.offsets[client + 1])
            received = jax.tree.map(np.asarray, state.params)
            teacher = jax.tree.map(lambda w, g: w - RATE * g, received, problem.gradient(received, rows))

            def objective(values, rows=rows, teacher=teacher):
                own = jax.tree.map(np.asarray, form(values))
                total = problem.losses(own, rows).mean()
                for taught, learned in zip(
                    *(jax.tree.leaves(two_classes(model, {"x": problem.x[rows]})) for model in (teacher, own)), strict=True
                ):
                    logits = [one if one.ndim > 1 else np.stack([0 * one, one], axis=1) for one in map(np.asarray, (taught, learned))]
                    p, q = (softmax(one / temperature, axis=1) for one in logits)
                    total += weight * temperature**2 * rel_entr(p, q).sum(axis=1).mean()
                return total

            start, _ = jax.flatten_util.ravel_pytree(jax.tree.map(lambda leaf, at=client: np.asarray(leaf[at]), state.clients.own))
            steps = np.eye(len(flat)) * 1e-5
            slope = np.array([(objective(start + step) - objective(start - step)) / 2e-5 for step in steps])
            end, _ = jax.flatten_util.ravel_pytree(jax.tree.map(lambda leaf, at=client: np.asarray(leaf[at]), settled.clients.own))
            np.testing.assert_allclose(end, start - RATE * slope, atol=1e-8)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tasks": {}}, "name at least one metric"),
        ({"margin": {"other": 0.1}}, "one for each of absolute"),
        ({"margin": float("nan")}, "margin"),
        ({"source": "server"}, "local_trained, global"),
        ({"distillation": A.Distillation(two_classes, LOCAL, temperature=0.0)}, "temperature"),
        ({"tasks": {"absolute": ["tail"]}}, "name modules: head, layer"),
        ({"tasks": {"relative": ["layer"]}}, "name metrics of the loss: absolute"),
    ],
)
def test_arguments_that_make_no_sense(options, message):
    problem = Linear()
    with pytest.raises(fe.errors.ArgumentError, match=message):
        after(problem, tap(problem, **options))
