"""Experts against a loop over tokens, published numbers of the losses, and what padding must not do."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.test_util import check_grads

import fedjax_edu as fe
from fedjax_edu.models.tokens import Tokens
from tests.reference import transformers

WIDTH, HIDDEN, EXPERTS = 6, 10, 5


def layer(seed=0, **arguments):
    model = fe.models.Experts(WIDTH, HIDDEN, experts=EXPERTS, rngs=nnx.Rngs(seed), **arguments)
    apply, params = fe.models.functional(model)
    noise = iter(jax.random.split(jax.random.key(seed), 10))
    return jax.jit(apply), {
        name: jax.tree.map(lambda leaf: leaf + 0.3 * jax.random.normal(next(noise), leaf.shape), params[name]) for name in params
    }


def example(rows=4, steps=9, seed=0):
    random = np.random.default_rng(seed)
    values = jnp.asarray(random.normal(size=(rows, steps, WIDTH)), jnp.float32)
    return Tokens.masked(values, jnp.asarray(random.random((rows, steps)) < 0.7))


def there(tokens, leaf):
    return np.asarray(leaf)[np.asarray(tokens.mask)]


@pytest.mark.parametrize("chosen", [1, 2, 5])
@pytest.mark.parametrize("bias", [0.0, 1.0])
def test_answers_are_those_of_a_loop_over_tokens(chosen, bias):
    apply, params = layer(chosen=chosen, bias=bias)
    tokens = example()
    answers, routed = jax.jit(apply)(params, tokens)
    expected, taken = transformers.experts(transformers.doubles(params), there(tokens, tokens.values).astype(float), chosen)
    np.testing.assert_allclose(there(tokens, answers), expected, rtol=1e-4, atol=1e-5)
    assert not np.any(np.asarray(answers)[~np.asarray(tokens.mask)])
    np.testing.assert_array_equal(there(tokens, routed.choices), (taken[:, :, None] == np.arange(EXPERTS)).sum(axis=1))
    assert not np.any(routed.dropped)


@pytest.mark.parametrize("capacity", [0.3, 1.0, 1.25])
@pytest.mark.parametrize("chosen", [1, 2])
def test_experts_refuse_choices_beyond_their_capacity(chosen, capacity):
    apply, params = layer(chosen=chosen, capacity=capacity)
    tokens = example()
    answers, routed = apply(params, tokens)
    room = int(np.ceil(capacity * chosen * tokens.mask.size / EXPERTS))
    expected, taken = transformers.experts(transformers.doubles(params), there(tokens, tokens.values).astype(float), chosen, room)
    np.testing.assert_allclose(there(tokens, answers), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(there(tokens, routed.dropped), (taken < 0).sum(axis=1))
    assert (taken < 0).any() == (capacity == 0.3)


@pytest.mark.parametrize("capacity", [None, 0.5])
@pytest.mark.parametrize("chosen", [1, 2])
def test_gradients_are_numerical_ones(chosen, capacity):
    apply, params = layer(chosen=chosen, capacity=capacity, bias=1.0)
    tokens = example(rows=2, steps=5)
    direction = jnp.asarray(np.random.default_rng(1).normal(size=tokens.values.shape), jnp.float32)

    def loss(params, values):
        answers, routed = apply(params, Tokens.masked(values, tokens.mask))
        return jnp.sum(answers * direction) + 100 * routed.loss

    smooth = {name: leaf for name, leaf in params.items() if name != "order"}  # the order of experts has a rule instead of a slope
    with jax.enable_x64(True):
        doubles = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), (smooth, params["order"], tokens.values, direction))
        smooth, order, values, direction = doubles
        check_grads(lambda one, x: loss(one | {"order": order}, x), (smooth, values), order=1, modes=["rev"], atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("capacity", [None, 1.0])
def test_what_stands_in_absent_tokens_changes_nothing(capacity):
    apply, params = layer(capacity=capacity)
    tokens = example()
    poisoned = Tokens(jnp.where(tokens.mask[:, :, None], tokens.values, 7.0), tokens.mask)

    def loss(params, tokens):
        answers, routed = apply(params, tokens)
        return jnp.sum(jnp.where(tokens.mask[:, :, None], answers, 0.0) ** 2) + routed.loss, routed

    (clean, routed), slope = jax.value_and_grad(loss, has_aux=True)(params, tokens)
    (other, other_routed), other_slope = jax.value_and_grad(loss, has_aux=True)(params, poisoned)
    for one, two in zip(jax.tree.leaves((clean, routed, slope)), jax.tree.leaves((other, other_routed, other_slope)), strict=True):
        np.testing.assert_array_equal(one, two)


def test_padding_takes_no_room():
    apply, params = layer(capacity=1.0, chosen=1)
    tokens = example(rows=2)
    padded = Tokens(jnp.pad(tokens.values, ((0, 0), (0, 9), (0, 0))), jnp.pad(tokens.mask, ((0, 0), (0, 9))))
    wide = fe.models.functional(fe.models.Experts(WIDTH, HIDDEN, experts=EXPERTS, chosen=1, capacity=0.5, rngs=nnx.Rngs(0)))[0]
    (answers, routed), (others, other_routed) = apply(params, tokens), wide(params, padded)
    np.testing.assert_allclose(answers, others[:, :9], rtol=1e-6)
    np.testing.assert_array_equal(routed.dropped, other_routed.dropped[:, :9])
    np.testing.assert_allclose(routed.loss, other_routed.loss, rtol=1e-6)


def test_clients_side_by_side_are_those_alone():
    apply, _ = layer()
    clients = [layer(seed)[1] for seed in range(3)]
    batches = [example(seed=seed) for seed in range(3)]
    together = jax.vmap(apply)(*(jax.tree.map(lambda *leaves: jnp.stack(leaves), *each) for each in (clients, batches)))
    for number, (params, tokens) in enumerate(zip(clients, batches, strict=True)):
        for one, two in zip(jax.tree.leaves(apply(params, tokens)), jax.tree.leaves(together), strict=True):
            np.testing.assert_allclose(one, two[number], rtol=1e-4, atol=1e-5)


def routed(logits, chosen=1, **arguments):
    """What a layer says whose router repeats its tokens."""
    logits = jnp.asarray(logits, jnp.float32)
    experts = logits.shape[1]
    arguments = {"balance": 0.0, "z": 0.0} | arguments
    model = fe.models.Experts(experts, 2, experts=experts, chosen=chosen, rngs=nnx.Rngs(0), **arguments)
    model.router.kernel[...] = jnp.eye(experts)
    return model(Tokens(logits[None], jnp.ones((1, len(logits)), bool)))[1]


def test_losses_of_a_published_example():
    """Four tokens, worked out by hand in double precision."""
    logits = [[2, 0, 0, 0], [2, 0, 0, 0], [0, 2, 0, 0], [0, 0, 0, 2]]
    assert float(routed(logits, balance=1.0).loss) == pytest.approx(1.307489729, rel=1e-6)
    assert float(routed(logits, z=1.0).loss) == pytest.approx(5.479124391, rel=1e-6)


def test_losses_at_their_bounds():
    assert float(routed(np.zeros((3, 8)), z=1.0).loss) == pytest.approx(np.log(8) ** 2, rel=1e-6)
    assert float(routed(np.eye(4) * 1e-6, balance=1.0).loss) == pytest.approx(1.0, rel=1e-5)
    assert float(routed([[60.0, 0, 0, 0]] * 5, balance=1.0).loss) == pytest.approx(4.0, rel=1e-6)


@pytest.mark.parametrize("chosen", [1, 2, 3])
def test_the_balancing_loss_of_random_logits(chosen):
    logits = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32)
    assert float(routed(logits, chosen, balance=1.0).loss) == pytest.approx(transformers.balance(logits.astype(float), chosen, 4), rel=1e-5)


def test_a_step_of_gradient_descent_is_the_rule_of_balancing_by_bias():
    """b_e + u sign(mean load - load of e), and the loss is the same as without."""
    apply, params = layer(bias=1.0, balance=0.0, z=0.0)
    tokens = example()
    loss, slope = jax.value_and_grad(lambda params: apply(params, tokens)[1].loss)(params)
    load = np.asarray(apply(params, tokens)[1].choices).sum(axis=(0, 1))
    assert float(loss) == 0.0
    np.testing.assert_array_equal(-np.asarray(slope["order"]), np.sign(load.mean() - load))
    assert not any(np.any(leaf) for name, leaf in slope.items() if name != "order" for leaf in jax.tree.leaves(leaf))


def test_balancing_by_bias_spreads_tokens():
    apply, params = layer(bias=1.0, balance=0.0, z=0.0, chosen=1)
    params["router"]["kernel"] = params["router"]["kernel"].at[:, 0].add(1.0)
    values = np.abs(np.random.default_rng(0).normal(size=(16, 16, WIDTH)))
    tokens = Tokens(jnp.asarray(values, jnp.float32), jnp.ones((16, 16), bool))

    def load(params):
        return apply(params, tokens)[1].choices.sum(axis=(0, 1)) / tokens.mask.size

    before = load(params)
    step = jax.jit(
        lambda params: jax.tree.map(lambda leaf, slope: leaf - 0.01 * slope, params, jax.grad(lambda p: apply(p, tokens)[1].loss)(params))
    )
    for _ in range(500):
        params = step(params)
    assert before.max() > 0.5
    assert load(params).max() < 0.25
    assert load(params).min() > 0.15


def test_entropy_is_that_of_the_router():
    logits = np.random.default_rng(0).normal(size=(7, 4))
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(routed(logits).entropy[0], -(probabilities * np.log(probabilities)).sum(axis=1), rtol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"chosen": 6}, "chosen: got 6; use 1 .. 5"),
        ({"chosen": 0}, "chosen: got 0; use 1 .. 5"),
        ({"capacity": 0.0}, "capacity: got 0.0; use a positive number"),
    ],
)
def test_arguments_out_of_range_are_named(arguments, message):
    with pytest.raises(fe.errors.ArgumentError) as error:
        layer(**arguments)
    assert str(error.value).startswith(message)
