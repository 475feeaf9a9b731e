"""Low-rank matrices, adapters and prompts: nothing at the start, their formula later, and a place of their own in the tree."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import fedjax_edu as fe
from fedjax_edu.models import corrections
from fedjax_edu.models.linear import Linear
from fedjax_edu.models.tokens import Tokens
from fedjax_edu.models.transformer import FeedForward, Transformer, TransformerConfig
from tests.reference import transformers

CONFIG = TransformerConfig(layers=2, heads=2)


def everywhere(path):
    return True


def tokens(seed=0):
    return Tokens(jnp.asarray(np.random.default_rng(seed).normal(size=(3, 4, 6)), jnp.float32), jnp.ones((3, 4), bool))


def shaken(params, seed=0):
    keys = iter(jax.random.split(jax.random.key(seed), len(jax.tree.leaves(params))))
    return jax.tree.map(lambda leaf: leaf + 0.3 * jax.random.normal(next(keys), leaf.shape), params)


ADDITIONS = {
    "lora": lambda model: corrections.add_low_rank(model, everywhere, rank=3, alpha=6.0),
    "adapters": lambda model: corrections.add_adapters(model, lambda path: path.endswith("feed_forward"), hidden=5),
}


@pytest.mark.parametrize("kind", ADDITIONS)
def test_an_addition_starts_as_nothing_and_stands_apart(kind):
    model, plain = (Transformer(6, CONFIG, rngs=nnx.Rngs(0)) for _ in range(2))
    ADDITIONS[kind](model)
    apply, params = fe.models.functional(model)
    apply = jax.jit(apply)
    _, untouched = fe.models.functional(plain)
    added = params.pop(kind)
    for one, two in zip(jax.tree.leaves(params), jax.tree.leaves(untouched), strict=True):
        np.testing.assert_array_equal(one, two)
    np.testing.assert_allclose(apply(params | {kind: added}, tokens())[0].values, plain(tokens())[0].values, rtol=1e-4, atol=1e-5)
    changed = apply(params | {kind: shaken(added)}, tokens())[0].values
    assert np.abs(changed - plain(tokens())[0].values).max() > 0.01


def test_a_low_rank_matrix_is_one_that_could_be_merged():
    model = Linear(6, 5, rngs=nnx.Rngs(0))
    corrections.add_low_rank(model, everywhere, rank=2, alpha=8.0)
    apply, params = fe.models.functional(model)
    apply = jax.jit(apply)
    params = shaken(params)
    (pair,) = params["lora"]["corrections"].values()
    merged = np.asarray(params["kernel"]) + 8.0 / 2 * np.asarray(pair["a"]) @ np.asarray(pair["b"])
    x = tokens().values
    np.testing.assert_allclose(apply(params, x), np.asarray(x) @ merged + np.asarray(params["bias"]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("reads", ["inputs", "outputs"])
def test_an_adapter_is_its_formula(reads):
    model = FeedForward(6, 9, rngs=nnx.Rngs(0))
    corrections.add_adapters(model, lambda path: path == "", hidden=4, reads=reads)
    apply, params = fe.models.functional(model)
    apply = jax.jit(apply)
    params = shaken(params)
    tree = transformers.doubles(params)
    (adapter,) = tree["adapters"]["corrections"].values()
    x = np.asarray(tokens().values, float)
    plain = transformers.feed_forward(tree, x)
    hidden = (x if reads == "inputs" else plain) @ adapter["into"] + adapter["into_bias"]
    expected = plain + transformers.gelu(hidden) @ adapter["out"] + adapter["out_bias"]
    np.testing.assert_allclose(apply(params, tokens().values), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("rank", [0, 1, 3])
def test_ranks_beyond_a_clients_own_count_for_nothing(rank):
    model = Transformer(6, CONFIG, rngs=nnx.Rngs(0))
    corrections.add_low_rank(model, lambda path: path.endswith("query"), rank=3)
    apply, params = fe.models.functional(model)
    apply = jax.jit(apply)
    params = params | {"lora": shaken(params["lora"])}

    def loss(params, rank):
        return jnp.sum(apply(corrections.mask_ranks(params, rank), tokens())[0].values ** 2)

    slope = jax.jit(jax.grad(loss))(params, rank)["lora"]
    for path, leaf in jax.tree_util.tree_leaves_with_path(slope):
        inside, beyond = (leaf[:, :rank], leaf[:, rank:]) if path[-1].key == "a" else (leaf[:rank], leaf[rank:])
        assert not np.any(beyond)
        assert inside.size == 0 or np.all(np.any(inside != 0, axis=None))
    changed = jax.tree.map(jnp.copy, params)
    changed["lora"] = jax.tree_util.tree_map_with_path(
        lambda path, leaf: leaf.at[..., rank:].set(jnp.nan) if path[-1].key == "a" else leaf.at[rank:].set(jnp.nan), changed["lora"]
    )
    assert float(loss(changed, rank)) == float(loss(params, rank))


def test_a_prompt_is_read_and_left_out_again():
    model = Transformer(6, TransformerConfig(layers=2, heads=2, experts=3), rngs=nnx.Rngs(0))
    plain, _ = model(tokens())
    corrections.add_prompts(model, lambda path: path == "", tokens=2)
    apply, params = fe.models.functional(model)
    apply = jax.jit(apply)
    assert set(params["prompts"]) == {"prompt"}
    read, report = apply(params, tokens())
    assert read.values.shape == plain.values.shape
    assert np.abs(read.values - plain.values).max() > 1e-3
    assert report["layers.0"].choices.shape == (3, 4, 3)
    longer = Tokens.join(Tokens(jnp.broadcast_to(params["prompts"]["prompt"]["values"], (3, 2, 6)), jnp.ones((3, 2), bool)), tokens())
    model.prompt = None
    np.testing.assert_allclose(model(longer)[0].values[:, 2:], read.values, rtol=1e-5, atol=1e-6)


def test_a_federation_trains_the_additions_alone():
    """The frozen backbone keeps its values and is not sent."""
    model = Linear(6, 1, rngs=nnx.Rngs(0))
    corrections.add_low_rank(model, everywhere, rank=2)
    apply, params = fe.models.functional(model)
    apply = jax.jit(apply)
    random = np.random.default_rng(0)
    population = fe.data.Population.from_arrays({"x": random.normal(size=(40, 6)).astype(np.float32)}, [0, 10, 25, 40])
    algorithm = fe.algorithms.fedavg(
        lambda params, batch, key: (apply(params, batch["x"])[:, 0] - 1.0) ** 2,
        client_optimizer=optax.sgd(0.1),
        local=fe.LocalTraining(epochs=1, batch_size=5),
    )
    modules = fe.modules.assign(params, shared="lora", frozen=...)
    engine = fe.Engine(population, algorithm, cohort=fe.cohorts.everyone(), aggregator=fe.aggregation.mean(), modules=modules)
    state, info = engine.run(engine.init(params, seed=0), rounds=5)
    np.testing.assert_array_equal(state.params["kernel"], params["kernel"])
    assert np.abs(state.params["lora"]["corrections"][0]["b"]).max() > 0
    assert info.loss[-1] < info.loss[0]
    assert int(info.bytes_up[0]) == 3 * 4 * (6 * 2 + 2 * 1)


@pytest.mark.parametrize(
    ("add", "message"),
    [
        (lambda model: corrections.add_low_rank(model, everywhere, rank=0), "rank: got 0; use 1 or more"),
        (
            lambda model: corrections.add_low_rank(model, lambda path: False, rank=1),
            "where: got nothing taken; take some of layers.0.attention",
        ),
        (lambda model: corrections.add_adapters(model, everywhere, hidden=0), "hidden: got 0; use 1 or more"),
        (lambda model: corrections.add_adapters(model, everywhere, hidden=2, reads="both"), 'reads: got both; use "inputs" or "outputs"'),
        (lambda model: corrections.add_prompts(model, everywhere, tokens=0), "tokens: got 0; use 1 or more"),
        (
            lambda model: corrections.add_prompts(model, lambda path: path == "layers.0", tokens=1),
            "where: got nothing taken; take some of ",
        ),
        (lambda model: corrections.mask_ranks(fe.models.functional(model)[1], 1), "params: got ["),
    ],
)
def test_additions_that_do_not_fit_are_named(add, message):
    with pytest.raises(fe.errors.ArgumentError) as error:
        add(Transformer(6, CONFIG, rngs=nnx.Rngs(0)))
    assert str(error.value).startswith(message)
