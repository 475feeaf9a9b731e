"""Which path takes which leaf, and that splitting and merging lose nothing."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from fedjax_edu.core.errors import ArgumentError
from fedjax_edu.core.modules import KINDS, NO_MODULE, Modules, Params, assign
from fedjax_edu.core.trees import named_leaves


class Layer(NamedTuple):
    kernel: jax.Array
    bias: jax.Array


class Network(nnx.Module):
    def __init__(self, rngs: nnx.Rngs):
        self.encoder = nnx.Dict(text=nnx.Linear(3, 2, rngs=rngs), grades=nnx.Linear(4, 2, rngs=rngs))
        self.blocks = nnx.List([nnx.Linear(2, 2, rngs=rngs) for _ in range(2)])
        self.head = nnx.Linear(2, 1, rngs=rngs)


def array(*shape: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(sum(shape)).normal(size=shape), jnp.float32)


TREES = {
    "dict": {"encoder": {"text": array(3), "grades": {"w": array(2, 2)}}, "blocks": {"0": array(2)}, "head": {"w": array(2), "b": array()}},
    "list": {"encoder": [array(3), {"text": array(2)}], "blocks": [array(2), array(3)], "head": array(2)},
    "named tuple": {
        "encoder": {"text": Layer(array(3, 2), array(2))},
        "blocks": [Layer(array(2, 2), array(2))],
        "head": Layer(array(2), array()),
    },
    "nnx": nnx.to_pure_dict(nnx.state(Network(nnx.Rngs(0)), nnx.Param)),
}


def kinds(modules: Modules) -> dict[str, str]:
    return {leaf: modules.kinds[owner] for leaf, owner in zip(modules.leaves, modules.owner, strict=True)}


def owners(modules: Modules) -> dict[str, str]:
    return {leaf: modules.names[owner] for leaf, owner in zip(modules.leaves, modules.owner, strict=True)}


def test_longest_path_wins():
    params = {"encoder": {"text": {"w": array(1), "lora": array(2)}, "image": array(3)}, "head": array(1)}
    modules = assign(params, frozen=("encoder", "head"), personal="encoder.text", shared="encoder.text.lora")
    assert owners(modules) == {
        "encoder.image": "encoder",
        "encoder.text.lora": "encoder.text.lora",
        "encoder.text.w": "encoder.text",
        "head": "head",
    }
    assert kinds(modules) == {"encoder.image": "frozen", "encoder.text.lora": "shared", "encoder.text.w": "personal", "head": "frozen"}


def test_a_path_ends_at_a_dot():
    params = {"head": array(1), "heads": {"a": array(1), "ab": array(1)}}
    modules = assign(params, personal=("head", "heads.a"))
    assert kinds(modules) == {"head": "personal", "heads.a": "personal", "heads.ab": "shared"}


def test_default_groups_leaves_by_their_first_key_and_shares_them():
    modules = assign(TREES["dict"])
    assert modules.names == ("blocks", "encoder", "head")
    assert modules.kinds == ("shared",) * 3
    assert modules.owner == (0, 1, 1, 2, 2)


@pytest.mark.parametrize("kind", KINDS)
def test_ellipsis_takes_what_no_path_takes(kind):
    other = "frozen" if kind != "frozen" else "shared"
    modules = assign(TREES["dict"], **{kind: ..., other: "encoder.text"})
    assert set(kinds(modules).values()) == {kind, other}
    assert [leaf for leaf, found in kinds(modules).items() if found == other] == ["encoder.text"]
    assert owners(modules)["encoder.grades.w"] == "encoder"


@pytest.mark.parametrize("seed", range(30))
def test_random_selectors_follow_the_rule(seed):
    """The rule once more, from the leaf's side: its nearest selected ancestor decides; else its first key, by default."""
    rng = np.random.default_rng(seed)
    params: dict = {}
    for _ in range(12):
        node, path = params, rng.choice(list("abc"), rng.integers(1, 5))
        for key in path[:-1]:
            node = node.setdefault(key, {})
            if not isinstance(node, dict):
                break
        else:
            node.setdefault(path[-1], array(1))
    leaves = [name for name, _ in named_leaves(params)]
    prefixes = sorted({leaf.rsplit(".", cut)[0] for leaf in leaves for cut in range(leaf.count(".") + 1)})
    kind_of = {}
    for path in rng.permutation(prefixes)[:3].tolist():
        kind_of[path] = str(rng.choice(KINDS[1:]))
    expected = {}
    for leaf in leaves:
        parts = leaf.split(".")
        ancestors = [".".join(parts[:end]) for end in range(len(parts), 0, -1)]
        expected[leaf] = next(((path, kind_of[path]) for path in ancestors if path in kind_of), (parts[0], "shared"))
    taking = sorted(set(kind_of) & {path for path, _ in expected.values()})  # a path that takes no leaf would be an error
    modules = assign(params, **{kind: tuple(path for path in taking if kind_of[path] == kind) or None for kind in KINDS[1:]})
    assert {leaf: (owners(modules)[leaf], kinds(modules)[leaf]) for leaf in leaves} == expected


@pytest.mark.parametrize("name", TREES)
@pytest.mark.parametrize(
    "selectors", [{}, {"personal": "head"}, {"frozen": "encoder"}, {"frozen": ..., "shared": "head", "personal": "blocks.0"}]
)
def test_split_and_merge_lose_nothing(name, selectors):
    params = TREES[name]
    modules = assign(params, **selectors)
    split = modules.split(params)
    merged = split.merge()
    assert jax.tree.structure(merged) == jax.tree.structure(params)
    for one, other in zip(jax.tree.leaves(merged), jax.tree.leaves(params), strict=True):
        assert one is other
    parts = [dict(named_leaves(part)) for part in split]
    for leaf, kind in kinds(modules).items():
        assert [leaf in part for part in parts] == [kind == each for each in KINDS]


def test_nnx_paths_are_those_of_the_model():
    modules = assign(TREES["nnx"], personal="head", frozen=("encoder.text", "blocks.1"))
    assert modules.names == ("head", "encoder.text", "blocks.1", "blocks", "encoder")
    assert owners(modules)["blocks.0.kernel"] == "blocks"
    model = Network(nnx.Rngs(1))
    graph, state = nnx.split(model)
    nnx.replace_by_pure_dict(state, modules.split(TREES["nnx"]).merge())
    np.testing.assert_array_equal(nnx.merge(graph, state).head.kernel[...], TREES["nnx"]["head"]["kernel"])


def test_merge_of_parts_changed_apart():
    split = Params({"a": 1, "b": None}, {"a": None, "b": 2}, {"a": None, "b": None})
    assert split._replace(shared={"a": 10, "b": None}).merge() == {"a": 10, "b": 2}


def test_owners_of_a_part_and_of_what_is_no_parameter():
    params = TREES["dict"]
    modules = assign(params, personal="head", frozen="encoder.grades")
    split = modules.split(params)
    assert modules.owners(split.personal) == {
        "blocks": {"0": None},
        "encoder": {"text": None, "grades": {"w": None}},
        "head": {"w": 0, "b": 0},
    }
    assert modules.owners({"head": {"w": 0}, "losses": {"count": 0}}) == {"head": {"w": 0}, "losses": {"count": NO_MODULE}}
    assert (modules.has("personal"), modules.has("frozen"), assign(params).has("personal")) == (True, True, False)


def test_shapes_are_enough_and_modules_are_static():
    params = TREES["list"]
    shapes = jax.eval_shape(lambda: params)
    assert assign(shapes, personal="head") == assign(params, personal="head")
    modules = assign(params)
    assert jax.tree.leaves(modules) == []
    assert jax.jit(lambda static, x: x * len(static.names))(modules, jnp.int32(2)) == 2 * 3


@pytest.mark.parametrize(
    ("selectors", "named"),
    [
        ({"personal": "haed"}, "haed"),
        ({"personal": "encoder.tex"}, "encoder.tex"),
        ({"personal": "head", "frozen": "head"}, "head"),
        ({"personal": ("head", "head")}, "head"),
        ({"personal": ..., "frozen": ...}, "..."),
        ({"shared": "encoder"}, "blocks.0"),
        ({"shared": "head", "personal": "blocks"}, "encoder.grades.w"),
    ],
)
def test_selectors_that_cannot_work(selectors, named):
    with pytest.raises(ArgumentError) as caught:
        assign(TREES["dict"], **selectors)
    assert named in str(caught.value)
    assert next(iter(selectors)) in caught.value.argument


@pytest.mark.parametrize("params", [{}, {"a": None}, []])
def test_parameters_without_leaves(params):
    with pytest.raises(ArgumentError, match="params"):
        assign(params)


def test_split_of_other_parameters_names_the_difference():
    modules = assign(TREES["dict"])
    with pytest.raises(ArgumentError, match=r"modules: got .*extra"):
        modules.split({**TREES["dict"], "extra": array(1)})
    with pytest.raises(ArgumentError, match="head"):
        modules.split({key: value for key, value in TREES["dict"].items() if key != "head"})


def test_an_ellipsis_among_paths_takes_the_rest():
    params = {"encoders": {"image": 0.0, "text": 0.0}, "heads": 0.0}
    modules = assign(params, shared=["encoders.image", ...], frozen="heads")
    assert dict(zip(modules.names, modules.kinds, strict=True)) == {"encoders.image": "shared", "heads": "frozen", "encoders": "shared"}
    with pytest.raises(ArgumentError, match="give the ellipsis to one of them"):
        assign(params, shared=["encoders.image", ...], personal=...)
