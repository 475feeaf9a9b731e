"""Functions on pytrees against NumPy; `select` and `all_finite` in the presence of NaN."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_edu.core import trees


class Pair(NamedTuple):
    left: jax.Array
    right: tuple


def random_tree(seed: int) -> dict:
    rng = np.random.default_rng(seed)
    return {
        "matrix": jnp.asarray(rng.normal(size=(3, 4)), jnp.float32),
        "pair": Pair(jnp.asarray(rng.normal(size=2), jnp.float32), (jnp.asarray(rng.normal(), jnp.float32), None)),
        "empty": jnp.zeros((0, 5), jnp.float32),
    }


def flat(tree) -> np.ndarray:
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


@pytest.mark.parametrize("seed", range(5))
def test_global_norm_is_the_norm_of_all_numbers_together(seed):
    tree = random_tree(seed)
    np.testing.assert_allclose(trees.global_norm(tree), np.linalg.norm(flat(tree).astype(np.float64)), rtol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_global_norm_accumulates_in_float32(dtype):
    norm = trees.global_norm({"big": jnp.full(4, 300, dtype), "many": jnp.full(5000, 1, dtype)})
    assert norm.dtype == jnp.float32
    np.testing.assert_allclose(norm, np.sqrt(4 * 300.0**2 + 5000), rtol=1e-6)


@pytest.mark.parametrize("scale", [1e-38, 1e-30, 1e30, 5e37])
def test_global_norm_where_squares_overflow_or_vanish(scale):
    tree = {"a": jnp.array([3 * scale]), "b": jnp.array([[-4 * scale]]), "zero": jnp.zeros(2)}
    np.testing.assert_allclose(trees.global_norm(tree), np.linalg.norm(flat(tree).astype(np.float64)), rtol=1e-6)


def test_global_norm_of_nothing_is_zero():
    assert trees.global_norm({}) == 0
    assert trees.global_norm({"none": None, "empty": jnp.zeros((0, 2))}) == 0


def test_global_norm_shows_what_is_not_finite():
    assert np.isnan(trees.global_norm([jnp.array([1.0, jnp.nan])]))
    assert np.isinf(trees.global_norm([jnp.array([1.0, -jnp.inf])]))


def test_sums_are_float64_inside_x64_only():
    assert trees.float_dtype() == jnp.float32
    with jax.enable_x64(True):
        assert trees.float_dtype() == jnp.float64
        assert trees.global_norm([jnp.ones(2)]).dtype == jnp.float64
    assert trees.global_norm([jnp.ones(2)]).dtype == jnp.float32


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float16, jnp.bfloat16, jnp.complex64])
def test_all_finite_sees_one_bad_number(bad, dtype):
    tree = {"a": jnp.ones((2, 3)), "b": [jnp.zeros(4, dtype), jnp.arange(3)]}
    assert trees.all_finite(tree)
    assert not trees.all_finite({**tree, "b": [tree["b"][0].at[3].set(bad), tree["b"][1]]})


def test_all_finite_of_nothing_or_integers():
    assert trees.all_finite({})
    assert trees.all_finite([jnp.arange(3), jnp.array(True), jnp.zeros(0), None])


@pytest.mark.parametrize("flag", [True, False])
@pytest.mark.parametrize("jitted", [True, False])
def test_select_takes_one_side_bit_for_bit(flag, jitted):
    good = {"a": jnp.array([-0.0, 1e-45, 2.0]), "n": jnp.array([3, -4], jnp.int32), "b": jnp.array(True)}
    bad = {"a": jnp.array([np.nan, np.inf, -np.inf]), "n": jnp.array([2**31 - 1, 0], jnp.int32), "b": jnp.array(False)}
    select = jax.jit(trees.select) if jitted else trees.select
    for new, old in ((good, bad), (bad, good)):
        found = select(jnp.array(flag), new, old)
        wanted = new if flag else old
        for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
            assert one.dtype == other.dtype
            assert np.asarray(one).tobytes() == np.asarray(other).tobytes()


def test_the_gradient_through_select_is_that_of_the_side_taken():
    gradient = jax.grad(lambda x: trees.select(jnp.array(True), 3 * x, jnp.float32(np.nan)))(2.0)
    assert gradient == 3


def test_index_reads_what_put_wrote():
    tree = {"a": jnp.arange(12.0).reshape(4, 3), "b": (jnp.arange(4),)}
    row = {"a": jnp.array([7.0, 8.0, 9.0]), "b": (jnp.array(-1),)}
    written = jax.jit(trees.put)(tree, jnp.int32(2), row)
    for position in range(4):
        expected = row if position == 2 else jax.tree.map(lambda leaf, position=position: np.asarray(leaf)[position], tree)
        jax.tree.map(np.testing.assert_array_equal, trees.index(written, position), expected)


def test_add_is_leafwise():
    left, right = random_tree(1), random_tree(2)
    np.testing.assert_array_equal(flat(trees.add(left, right)), flat(left) + flat(right))


def test_byte_size_reads_shapes_only():
    tree = {"h": jnp.zeros((3, 2), jnp.float16), "n": jnp.zeros((), jnp.int32), "none": None}
    assert trees.byte_size(tree) == trees.byte_size(jax.eval_shape(lambda: tree)) == 3 * 2 * 2 + 4


def test_names_follow_dicts_lists_and_fields():
    tree = {"z": 1, "a": [Pair(2, (3, None)), {"deep": 4}]}
    assert trees.named_leaves(tree) == [("a.0.left", 2), ("a.0.right.0", 3), ("a.1.deep", 4), ("z", 1)]
    assert trees.named_leaves({3: 1}) == [("3", 1)]
    assert trees.named_leaves(7) == [("", 7)]
