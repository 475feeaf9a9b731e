"""Fusion: absent modalities, the linear path, and the four paths of a modality to a task."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import fedjax_edu as fe
from fedjax_edu.models.fusion.gated import SHARED, GatedFusion
from fedjax_edu.models.fusion.joint import JointFusion
from fedjax_edu.models.fusion.transformer import TransformerFusion
from fedjax_edu.models.tokens import Tokens
from fedjax_edu.models.transformer import TransformerConfig
from tests.reference import transformers

WIDTH, ROWS = 6, 4
MODALITIES, TASKS = ("image", "text"), ("math", "read")
FUSIONS = {
    "transformer": TransformerFusion(MODALITIES, WIDTH, TransformerConfig(layers=1, heads=2), rngs=nnx.Rngs(0)),
    "experts": TransformerFusion(MODALITIES, WIDTH, TransformerConfig(layers=1, heads=2, experts=3), rngs=nnx.Rngs(0)),
    "joint": JointFusion(MODALITIES, WIDTH, TransformerConfig(layers=1, heads=2), rngs=nnx.Rngs(0)),
    "gated": GatedFusion(MODALITIES, TASKS, WIDTH, layers=1, heads=2, hidden=5, domains=3, rngs=nnx.Rngs(0)),
}
every_fusion = pytest.mark.parametrize("fusion", FUSIONS.values(), ids=FUSIONS)


def parts(seed=0):
    """Two modalities; the first row lacks the second, the last row both."""
    random = np.random.default_rng(seed)
    masks = {"image": np.ones((ROWS, 3), bool), "text": random.random((ROWS, 5)) < 0.7}
    masks["text"][0] = masks["image"][-1] = masks["text"][-1] = False
    return {
        name: Tokens.masked(jnp.asarray(random.normal(size=(*mask.shape, WIDTH)), jnp.float32), jnp.asarray(mask))
        for name, mask in masks.items()
    }


@functools.cache
def shaken(fusion):
    apply, params = fe.models.functional(fusion)
    apply = jax.jit(apply, static_argnums=2)
    keys = iter(jax.random.split(jax.random.key(0), len(jax.tree.leaves(params))))
    return apply, jax.tree.map(lambda leaf: leaf + 0.3 * jax.random.normal(next(keys), leaf.shape), params)


@every_fusion
def test_every_task_gets_a_finite_representation_of_every_row(fusion):
    apply, params = shaken(fusion)
    representations, report, views = apply(params, parts(), TASKS)
    assert (views is None) == (fusion is not FUSIONS["joint"])
    assert {task: leaf.shape for task, leaf in representations.items()} == dict.fromkeys(TASKS, (ROWS, WIDTH))
    assert all(np.all(np.isfinite(leaf)) for leaf in representations.values())
    assert set(report) == ({"layers.0"} if fusion is FUSIONS["experts"] else set())
    for routed in report.values():
        assert routed.choices.shape == (ROWS, 3 + 5, 3)


def test_rows_without_a_token_reach_no_expert():
    """Padding takes no room and changes no loss, be it as the token that stands for the row."""
    config = TransformerConfig(layers=1, heads=2, experts=3, capacity=None)
    apply, params = shaken(TransformerFusion(MODALITIES, WIDTH, config, rngs=nnx.Rngs(0)))
    few = parts()
    nothing = jax.tree.map(lambda leaf: jnp.zeros((7, *leaf.shape[1:]), leaf.dtype), few)
    many = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), few, nothing)
    (short, report), (long, padded) = (apply(params, each, TASKS)[:2] for each in (few, many))
    np.testing.assert_allclose(padded["layers.0"].loss, report["layers.0"].loss, rtol=1e-5)
    np.testing.assert_allclose(long["math"][:ROWS], short["math"], rtol=1e-4, atol=1e-5)
    assert np.all(np.isfinite(long["math"]))


@pytest.mark.parametrize("capacity", [None, 4.0])
def test_a_batch_without_most_of_the_tokens_does_not_pay_for_them(capacity):
    """What heads and experts see is what they see of a batch without the modality; experts with a capacity have room by the whole batch."""
    config = TransformerConfig(layers=1, heads=2, experts=3, capacity=capacity)
    apply, params = shaken(TransformerFusion(MODALITIES, WIDTH, config, rngs=nnx.Rngs(0)))
    images = parts()["image"]
    nothing = Tokens(jnp.zeros((ROWS, 5, WIDTH)), jnp.zeros((ROWS, 5), bool))
    (bare, few, _), (full, many, _) = (apply(params, each, TASKS) for each in ({"image": images}, {"image": images, "text": nothing}))
    np.testing.assert_allclose(full["math"], bare["math"], rtol=1e-5, atol=1e-6)
    for one, other in zip(few["layers.0"][1:], many["layers.0"][1:], strict=True):
        np.testing.assert_allclose(other[:, :3], one, rtol=1e-5, atol=1e-6)
        assert not np.any(other[:, 3:])
    traced = jax.make_jaxpr(apply, static_argnums=2)(params, {"image": images, "text": nothing}, TASKS)
    assert ("cond[" in str(traced)) == (capacity is None)


def test_a_wide_modality_takes_the_short_cut_alone():
    """Only its mean is added to what the others say; it may be the only one."""
    nil = jnp.zeros((ROWS, 5, WIDTH))
    fusion = TransformerFusion(["image"], WIDTH, TransformerConfig(layers=1, heads=2), rngs=nnx.Rngs(0), wide=["text"])
    without, both = (fusion({name: parts()[name] for name in names}, TASKS).representations for names in (["image"], ["image", "text"]))
    alone, silent = (fusion({"text": tokens}, TASKS).representations for tokens in (parts()["text"], parts()["text"]._replace(values=nil)))
    for task in TASKS:
        np.testing.assert_allclose(both[task] - without[task], parts()["text"].mean(), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(alone[task] - silent[task], parts()["text"].mean(), rtol=1e-4, atol=1e-5)
    assert np.any(parts()["text"].mean())


@every_fusion
def test_absent_tokens_are_not_read(fusion):
    apply, params = shaken(fusion)
    poisoned = {name: Tokens(jnp.where(tokens.mask[:, :, None], tokens.values, jnp.nan), tokens.mask) for name, tokens in parts().items()}

    def loss(params, parts):
        masked = {name: Tokens.masked(*tokens) for name, tokens in parts.items()}
        return sum(jnp.sum(jnp.sin(leaf)) for leaf in apply(params, masked, TASKS)[0].values())

    clean, dirty = (jax.jit(jax.value_and_grad(loss))(params, each) for each in (parts(), poisoned))
    for one, two in zip(jax.tree.leaves(clean), jax.tree.leaves(dirty), strict=True):
        np.testing.assert_array_equal(one, two)


def test_heads_on_the_short_cut_are_linear_regression():
    """Without what the transformer adds, a representation is the sum of the means of modalities."""
    apply, params = shaken(FUSIONS["transformer"])
    params = params | {"last": jax.tree.map(jnp.zeros_like, params["last"])}
    one, two = (apply(params, parts(seed), TASKS).representations for seed in (0, 0))
    expected = sum(np.asarray(tokens.mean()) for tokens in parts().values())
    np.testing.assert_allclose(one["math"], expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(one["math"], two["read"])


def unit(x):
    return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-30)


def test_joint_fusion_equals_its_numpy_twin():
    """Modalities read each other, a transformer all; a row without a modality has nothing to read, and no view of it."""
    apply, params = shaken(FUSIONS["joint"])
    tree, tokens = transformers.doubles(params), parts()
    tree["transformer"]["layers"] = dict(enumerate(tree["transformer"]["layers"].values()))
    representations, _, views = apply(params, tokens, TASKS)
    for row in range(ROWS):
        x = {name: np.asarray(own.values[row], float) for name, own in tokens.items()}
        mask = {name: np.asarray(own.mask[row]) for name, own in tokens.items()}
        ready = {name: transformers.normalise(tree["before"][name], x[name]) for name in MODALITIES}
        crossed = []
        for name, other in (MODALITIES, MODALITIES[::-1]):
            layer = tree["crossing"][name]
            read = transformers.attend(
                transformers.linear(layer["query"], ready[name]),
                transformers.linear(layer["key"], ready[other]),
                transformers.linear(layer["value"], ready[other]),
                mask[other],
                2,
            )
            crossed.append(x[name] + mask[other].any() * transformers.linear(layer["out"], read))
        every = np.concatenate([mask[name] for name in MODALITIES])
        out = transformers.transformer(tree["transformer"], np.concatenate(crossed), every, 2)
        seen = unit(transformers.linear(tree["common"], transformers.normalise(tree["last"], out)))
        joint = seen[every].mean(axis=0) if every.any() else np.zeros(WIDTH)
        np.testing.assert_allclose(views.joint[row], joint, rtol=1e-3, atol=1e-4)
        hidden = np.maximum(transformers.linear(tree["into"], joint), 0)
        np.testing.assert_allclose(representations["math"][row], joint + transformers.linear(tree["out"], hidden), rtol=1e-3, atol=1e-4)
        for name in MODALITIES:
            view, present = views.alone[name]
            assert present[row] == mask[name].any()
            alone = unit(transformers.linear(tree["common"], x[name][mask[name]].mean(axis=0))) if mask[name].any() else np.zeros(WIDTH)
            np.testing.assert_allclose(view[row], alone, rtol=1e-3, atol=1e-4)


def test_one_modality_alone_is_enough_for_joint_fusion():
    apply, params = shaken(FUSIONS["joint"])
    alone = {"image": parts()["image"]}
    slope = jax.jit(jax.grad(lambda params: jnp.sum(apply(params, alone, TASKS).representations["math"] ** 2)))(params)
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(slope["crossing"]))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slope))


def domain_expert(tree, x, domain):
    hidden = transformers.gelu(x @ tree["into"][domain] + tree["into_bias"][domain])
    return x + hidden @ tree["out"][domain] + tree["out_bias"][domain]


def through(attention, expert, x, mask, domain):
    """One layer with an expert for its feed-forward network, one row."""
    read = transformers.normalise(attention["before"], x)
    query = domain_expert(attention["query_domains"], transformers.linear(attention["query"], read), domain)
    value = domain_expert(attention["value_domains"], transformers.linear(attention["value"], read), domain)
    answer = transformers.attend(query, transformers.linear(attention["key"], read), value, mask, 2)
    x = x + transformers.linear(attention["out"], answer)
    return (x + transformers.feed_forward(expert, transformers.normalise(attention["after"], x))) * mask[:, None]


@pytest.mark.parametrize("domain", [0, 2])
def test_gated_fusion_is_the_mean_of_its_four_paths(domain):
    apply, params = shaken(FUSIONS["gated"])
    tree, tokens = transformers.doubles(params), parts()
    representations = apply(params, tokens, TASKS, jnp.asarray(domain)).representations
    for task, row in itertools.product(TASKS, range(ROWS)):
        means = []
        for modality in MODALITIES:
            x, mask = np.asarray(tokens[modality].values[row], float), np.asarray(tokens[modality].mask[row])
            if not mask.any():
                continue
            common = transformers.linear(tree["project"], x) * mask[:, None]
            paths = [
                (common, SHARED, (SHARED, SHARED), SHARED, (SHARED, SHARED)),
                (common, modality, (SHARED, task), task, (task, SHARED)),
                (x, modality, (modality, task), task, (task, modality)),
                (x, modality, (modality, SHARED), SHARED, (SHARED, modality)),
            ]
            for start, first, (row_of, column), then, (row_then, column_then) in paths:
                middle = through(tree["modalities"][first][0], tree["task_experts"][row_of][column][0], start, mask, domain)
                end = through(tree["tasks"][then][0], tree["modality_experts"][row_then][column_then][0], middle, mask, domain)
                means.append(end[mask].mean(axis=0))
        expected = np.mean(means, axis=0) if means else np.zeros(WIDTH)
        np.testing.assert_allclose(representations[task][row], expected, rtol=1e-3, atol=1e-4)


def test_a_client_trains_the_parts_of_its_own_modalities_and_tasks():
    """With texts for mathematics only, parts of images and of reading have gradients of exactly zero."""
    apply, params = shaken(FUSIONS["gated"])
    own = {name: tokens for name, tokens in parts().items() if name == "text"}
    slope = jax.jit(jax.grad(lambda params: jnp.sum(apply(params, own, ("math",))[0]["math"] ** 2)))(params)

    def touched(tree):
        return any(np.any(leaf) for leaf in jax.tree.leaves(tree))

    assert {name for name, tree in slope["modalities"].items() if touched(tree)} == {"text", SHARED}
    assert {name for name, tree in slope["tasks"].items() if touched(tree)} == {"math", SHARED}
    experts = {(row, column) for row, trees in slope["task_experts"].items() for column, tree in trees.items() if touched(tree)}
    assert experts == {(SHARED, SHARED), (SHARED, "math"), ("text", "math"), ("text", SHARED)}
    experts = {(row, column) for row, trees in slope["modality_experts"].items() for column, tree in trees.items() if touched(tree)}
    assert experts == {(SHARED, SHARED), ("math", SHARED), ("math", "text"), (SHARED, "text")}


def test_a_domain_trains_its_own_expert():
    apply, params = shaken(FUSIONS["gated"])
    slope = jax.jit(jax.grad(lambda params: jnp.sum(apply(params, parts(), TASKS, jnp.asarray(1))[0]["math"] ** 2)))(params)
    for path, leaf in jax.tree_util.tree_leaves_with_path(slope):
        if "domains" in str(path) and np.any(leaf):
            assert not np.any(leaf[0])
            assert not np.any(leaf[2])


def test_a_name_that_is_taken_is_refused():
    with pytest.raises(fe.errors.ArgumentError, match="modalities, tasks: got shared"):
        GatedFusion(["shared"], TASKS, WIDTH, layers=1, heads=2, hidden=5, rngs=nnx.Rngs(0))
