"""What is personal stays with its client: no sum over clients has it, and nobody else's value acts.

Where a client trains on another device than the one that stores its state, the state travels there and back, row by row.
"""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AxisType

import fedjax_edu as fe
from tests.reference.problems import identical

CLIENTS, ROWS, OWN = 24, 5, 11  # no other axis has the personal module's length
RANDOM = np.random.default_rng(0)
X, Y = RANDOM.normal(size=(CLIENTS * ROWS, OWN)).astype(np.float32), RANDOM.normal(size=CLIENTS * ROWS).astype(np.float32)
PARAMS = {"body": {"b": np.float32(0.3)}, "head": {"w": RANDOM.normal(size=OWN).astype(np.float32)}}


def loss(params, batch, key):
    return 0.5 * (batch["x"] @ params["head"]["w"] + params["body"]["b"][None] - batch["y"]) ** 2


def build(devices: int, **modules: str | list[str]) -> fe.Engine:
    mesh = jax.make_mesh((devices,), ("clients",), axis_types=(AxisType.Auto,))
    return fe.Engine(
        fe.data.Population.from_arrays({"x": X, "y": Y}, np.arange(CLIENTS + 1) * ROWS),
        fe.algorithms.fedavg(loss, client_optimizer=optax.sgd(0.1), local=fe.LocalTraining(steps=2, batch_size=3)),
        cohort=fe.cohorts.uniform(8),
        aggregator=fe.aggregation.mean(),
        modules=fe.modules.assign(PARAMS, **modules or {"shared": "body", "personal": "head"}),
        plan=fe.ExecutionPlan(lanes=2, mesh=mesh),
    )


def summed(jaxpr: Any) -> Iterator[tuple[int, ...]]:
    """Shapes of everything that is summed or averaged over devices, however deep."""
    for equation in jaxpr.eqns:
        if equation.primitive.name.split("_invariant")[0].rstrip("2") in ("psum", "pmax", "pmin", "pmean"):
            yield from (value.aval.shape for value in equation.invars)
        for inner in jax.tree.leaves(equation.params, is_leaf=lambda leaf: hasattr(leaf, "eqns") or hasattr(leaf, "jaxpr")):
            if hasattr(inner, "eqns") or hasattr(inner, "jaxpr"):
                yield from summed(getattr(inner, "jaxpr", inner))


def shapes(engine: fe.Engine) -> list[tuple[int, ...]]:
    state = engine.init(PARAMS)
    return list(summed(engine._compiled(state.params).chunk.trace(state, engine._resident, jnp.int32(1), None).jaxpr))


def test_no_sum_over_devices_has_a_personal_leaf():
    found = shapes(build(2))
    assert () in found and not any(OWN in shape for shape in found)
    assert any(OWN in shape for shape in shapes(build(2, shared=["body", "head"])))


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
