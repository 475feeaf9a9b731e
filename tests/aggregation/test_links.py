"""What single links do beside the table: several channels, updates that a link itself breaks, arguments that cannot work."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType

import fedjax_edu as fe
from fedjax_edu.core.algorithm import Channel
from fedjax_edu.core.errors import ArgumentError
from tests.aggregation import puppet
from tests.reference.clients import context

CONTEXT = context(fe.modules.assign({"w": 0.0}))


def channels(**values: tuple[list[float], bool]) -> dict[str, Channel]:
    return {name: Channel({"w": jnp.array(value)}, jnp.ones(()), private) for name, (value, private) in values.items()}


def test_clip_clips_each_private_channel_by_itself_and_no_other():
    given = channels(long=([3.0, 4.0], True), short=([0.3, 0.4], True), public=([30.0, 40.0], False))
    found, _, statistics = fe.aggregation.clip(1.0).client((), (), given, CONTEXT)
    np.testing.assert_allclose(found["long"].value["w"], [0.6, 0.8], rtol=1e-6)
    assert found["short"].value["w"] is not None
    np.testing.assert_array_equal(found["short"].value["w"], given["short"].value["w"])
    np.testing.assert_array_equal(found["public"].value["w"], [30.0, 40.0])
    np.testing.assert_allclose([statistics["norm"], statistics["clipped"]], [(5 + 0.5) / 2, 0.5], rtol=1e-6)
    assert all(found[name].weight is given[name].weight and found[name].private == given[name].private for name in given)


def test_clip_without_a_private_channel_does_nothing():
    given = channels(public=([30.0, 40.0], False))
    found, state, statistics = fe.aggregation.clip(1.0).client((), (), given, CONTEXT)
    assert found == given
    assert (state, statistics) == ((), {})


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_clip_where_squares_overflow_or_vanish(scale):
    given = channels(update=([3 * scale, -4 * scale], True))
    found, _, statistics = fe.aggregation.clip(scale).client((), (), given, CONTEXT)
    np.testing.assert_allclose(found["update"].value["w"], [0.6 * scale, -0.8 * scale], rtol=1e-6)
    np.testing.assert_allclose(statistics["norm"], 5 * scale, rtol=1e-6)


@pytest.mark.parametrize("norm", [0.0, -1.0, math.inf, math.nan])
def test_clip_norms_that_cannot_work(norm):
    with pytest.raises(ArgumentError) as caught:
        fe.aggregation.clip(norm)
    assert caught.value.argument == "norm"


@pytest.mark.parametrize("devices", [1, 8])
def test_a_client_whose_update_a_link_breaks_is_rejected_with_its_state(devices):
    count, broken = 6, 4
    rng = np.random.default_rng(0)
    updates = jax.tree.map(lambda leaf: rng.normal(size=(count, *leaf.shape)).astype(np.float32), puppet.PARAMS)
    population = puppet.population(updates, np.ones((count, 3), np.float32))
    target = int(population.ids[broken])

    def breaks(server, state, channels, context):
        """Divides the target's update by 0; its state would take the broken number."""
        factor = jnp.where(context.client.id == jnp.uint32(target), jnp.inf, 1.0)
        update = channels["update"]
        value = jax.tree.map(lambda leaf: leaf * factor, update.value)
        return {**channels, "update": update._replace(value=value)}, state + factor, {}

    breaking = puppet.counter()._replace(name="breaking", place="compress", client=breaks, init_client=lambda params, info: jnp.ones(()))
    engine = fe.Engine(
        population,
        puppet.algorithm(),
        cohort=fe.cohorts.everyone(),
        aggregator=fe.aggregation.chain(puppet.counter(), breaking, fe.aggregation.mean()),
        plan=fe.ExecutionPlan(lanes=2, mesh=jax.make_mesh((devices,), ("clients",), axis_types=(AxisType.Auto,))),
        report_rejected=True,
    )
    state, info = engine.run(engine.init(puppet.PARAMS, seed=0), 2)
    others = np.arange(count) != broken
    np.testing.assert_array_equal(info.participants, [count - 1] * 2)
    np.testing.assert_array_equal(info.rejected_ids[:, 0], [target] * 2)
    np.testing.assert_array_equal(state.links_clients[0], 2 * others)
    np.testing.assert_array_equal(state.links_clients[1], 1 + 2.0 * others)
    expected = jax.tree.map(lambda leaf: leaf[others].mean(0), updates)
    jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6), state.params, expected)
