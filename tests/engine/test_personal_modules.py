"""What is personal stays with its client: it is in nothing that devices send each other, and nobody else's value acts."""

import re
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType

import fedjax_edu as fe
from fedjax_edu.engine import evaluation
from tests.reference.problems import identical

CLIENTS, ROWS, OWN = 24, 5, 11  # no other axis has the personal module's length
RANDOM = np.random.default_rng(0)
X, Y = RANDOM.normal(size=(CLIENTS * ROWS, OWN)).astype(np.float32), RANDOM.normal(size=CLIENTS * ROWS).astype(np.float32)
PARAMS = {"body": {"b": np.float32(0.3)}, "head": {"w": RANDOM.normal(size=OWN).astype(np.float32)}}


def loss(params, batch, key):
    return 0.5 * (batch["x"] @ params["head"]["w"] + params["body"]["b"][None] - batch["y"]) ** 2


def build(devices: int, cohort: fe.cohorts.Cohort | None = None, **modules: str | list[str]) -> fe.Engine:
    mesh = jax.make_mesh((devices,), ("clients",), axis_types=(AxisType.Auto,))
    return fe.Engine(
        fe.data.Population.from_arrays({"x": X, "y": Y}, np.arange(CLIENTS + 1) * ROWS),
        fe.algorithms.fedavg(loss, client_optimizer=optax.sgd(0.1), local=fe.LocalTraining(steps=2, batch_size=3), weighting="uniform"),
        cohort=cohort or fe.cohorts.uniform(8),
        aggregator=fe.aggregation.mean(),
        modules=fe.modules.assign(PARAMS, **modules or {"shared": "body", "personal": "head"}),
        plan=fe.ExecutionPlan(lanes=2, mesh=mesh),
    )


COLLECTIVES = ("psum", "pmax", "pmin", "pmean", "all_gather", "psum_scatter", "reduce_scatter", "ppermute", "all_to_all", "pbroadcast")


def exchanged(jaxpr: Any) -> Iterator[tuple[int, ...]]:
    """Shapes of everything that a collective reads, however deep."""
    for equation in jaxpr.eqns:
        if equation.primitive.name.split("_invariant")[0].rstrip("2") in COLLECTIVES:
            yield from (value.aval.shape for value in equation.invars)
        for inner in jax.tree.leaves(equation.params, is_leaf=lambda leaf: hasattr(leaf, "eqns") or hasattr(leaf, "jaxpr")):
            if hasattr(inner, "eqns") or hasattr(inner, "jaxpr"):
                yield from exchanged(getattr(inner, "jaxpr", inner))


def travels(traced: Any) -> tuple[bool, bool]:
    """Whether a collective of the traced program, and of the compiled one, has the length that only the head has."""
    shapes = list(exchanged(traced.jaxpr))
    assert () in shapes
    lines = re.findall(
        r".* (?:all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter)(?:-start)?\(.*", traced.lower().compile().as_text()
    )
    assert lines
    return any(OWN in shape for shape in shapes), any(re.search(rf"\b{OWN}\b[\d,]*\]", line.split("replica_groups")[0]) for line in lines)


COHORTS = {"uniform": fe.cohorts.uniform(8), "losses": fe.cohorts.power_of_choice(4, 8), "everyone": fe.cohorts.everyone()}


@pytest.mark.parametrize("cohort", COHORTS.values(), ids=COHORTS)
def test_no_collective_has_a_personal_leaf(cohort):
    def traced(engine: fe.Engine) -> Any:
        state = engine.init(PARAMS)
        return engine._compiled(state.params).chunk.trace(state, engine._resident, jnp.int32(1), None)

    assert travels(traced(build(8, cohort))) == (False, False)
    assert travels(traced(build(8, cohort, shared=["body", "head"]))) == (True, True)


def test_clients_are_evaluated_where_they_are_at_home():
    """No device sends a head to another, and the losses are those of one device that has all heads."""
    engine, alone = build(8), build(1)
    state, _ = engine.run(engine.init(PARAMS, seed=2), 3)
    whole = jax.device_get(state._replace(key=0))._replace(key=state.key)
    found, expected = engine.evaluate(state, engine.population), alone.evaluate(whole, alone.population)
    np.testing.assert_allclose(found.per_client.loss, expected.per_client.loss, rtol=1e-6)
    assert np.ptp(found.per_client.loss - engine.evaluate(state, engine.population, which="global").per_client.loss) > 0
    models, server, clients = engine._models(state, engine.population, "personal")
    ((arrays, cut, _),) = engine._tiled(engine.population, models.hosted)
    text = evaluation.losses.lower(models, engine._algorithm.loss, server, clients, arrays, cut, state.key).compile().as_text()
    assert not re.search(r"(all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter)(-start)?\(", text)


def test_what_others_keep_acts_on_nobody():
    """Random heads, finite and not, in the places of those who do not take part."""
    for devices in (1, 2):
        engine = build(devices)
        state, _ = engine.run(engine.init(PARAMS, seed=1), 2)
        (cohort,), _ = engine.schedule(state, 1)
        outside = np.setdiff1d(np.arange(CLIENTS), cohort)
        poison = RANDOM.normal(size=(len(outside), OWN)).astype(np.float32) * 100
        poison[0] = np.nan
        heads = state.clients["head"]["w"].at[outside].set(poison)
        poisoned = state._replace(clients={**state.clients, "head": {"w": heads}})
        (after, info), (other, same) = (engine.run(each, 1) for each in (state, poisoned))
        assert identical(after.server, other.server) and identical(info, same)
        ours, theirs = (np.asarray(each.clients["head"]["w"]) for each in (after, other))
        np.testing.assert_array_equal(ours[cohort], theirs[cohort])
        np.testing.assert_array_equal(theirs[outside], poison)
        assert np.any(ours[cohort] != np.asarray(state.clients["head"]["w"])[cohort])
