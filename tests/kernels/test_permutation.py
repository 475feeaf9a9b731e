"""Swap-or-not is a permutation, equals its twin bit for bit, and cannot be told from a random permutation by chi-square."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import chi2, chi2_contingency

from fedjax_edu.kernels import swap_or_not
from tests.reference import permutation as reference

ALARM = 1e-7  # of one statistic; a few thousand are looked at, all with fixed seeds
LARGEST = 2**31 - 1


@partial(jax.jit, static_argnums=2)
def images(seeds: jax.Array, size: jax.Array, width: int) -> jax.Array:
    """[seeds, width]: images of 0 … width - 1, taken modulo `size` so that one program serves every size."""
    return jax.vmap(lambda seed: swap_or_not(seed, jnp.arange(width, dtype=jnp.int32) % size, size))(seeds)


def random_seeds(number: int, root: int = 0) -> np.ndarray:
    return np.random.default_rng(root).integers(0, 2**32, (number, 2), dtype=np.uint32)


def permutations(seeds: np.ndarray, size: int, width: int) -> np.ndarray:
    return np.asarray(images(jnp.asarray(seeds), jnp.int32(size), width))[:, :size]


def p_values(outcomes: np.ndarray, cells: int) -> np.ndarray:
    """Chi-square of each column of `outcomes` [trials, columns] against the uniform distribution on range(cells)."""
    trials, columns = outcomes.shape
    counts = np.bincount((outcomes + cells * np.arange(columns)).ravel(), minlength=cells * columns).reshape(columns, cells)
    expected = trials / cells
    return chi2.sf(((counts - expected) ** 2).sum(1) / expected, cells - 1)


@pytest.mark.parametrize("size", [*range(1, 66), 100, 127, 128, 1000, 1023, 4097])
def test_is_a_bijection(size):
    width = 66 if size <= 66 else 4097
    found = np.sort(permutations(random_seeds(50, size), size, width), axis=1)
    np.testing.assert_array_equal(found, np.broadcast_to(np.arange(size), found.shape))


@pytest.mark.parametrize("size", [1, 2, 3, 5, 64, 1000, 2**20 + 7, 2**30, LARGEST])
def test_equals_its_numpy_twin(size):
    rng = np.random.default_rng(size)
    index = np.unique(np.concatenate([np.arange(min(size, 50)), size - 1 - np.arange(min(size, 50)), rng.integers(0, size, 200)]))
    for seed in [*random_seeds(10, size), (0, 0), (2**32 - 1, 2**32 - 1)]:
        found = swap_or_not(jnp.array(seed, jnp.uint32), jnp.asarray(index, jnp.int32), jnp.int32(size))
        assert found.dtype == jnp.int32
        np.testing.assert_array_equal(found, reference.swap_or_not(seed, index, size))


def test_every_position_goes_everywhere_equally_often():
    seeds = random_seeds(6400)
    for size in range(2, 65):
        assert p_values(permutations(seeds, size, 64), size).min() > ALARM, size


def test_neighbouring_seeds_are_as_uniform_as_random_ones():
    count = np.arange(6400, dtype=np.uint32)
    for seeds in (np.stack([count, 0 * count], 1), np.stack([0 * count, count], 1)):
        for size in (2, 3, 7, 16, 60, 64):
            assert p_values(permutations(seeds, size, 64), size).min() > ALARM, size


@pytest.mark.parametrize("size", [2, 3, 4, 5, 8, 13, 16, 31])
def test_every_pair_goes_to_every_pair_equally_often(size):
    found = permutations(random_seeds(20_000, 1), size, 31)
    for near in range(1, min(size, 8)):
        left, right = found, np.roll(found, -near, axis=1)
        code = left * (size - 1) + right - (right > left)
        assert p_values(code, size * (size - 1)).min() > ALARM


@pytest.mark.parametrize("size", [2, 3, 4, 5])
def test_every_order_appears_equally_often(size):
    orders = np.array(list(itertools.permutations(range(size))))
    places = size ** np.arange(size)
    number = np.full(size**size, -1)
    number[orders @ places] = np.arange(len(orders))
    found = number[permutations(random_seeds(60_000, 2), size, 31) @ places]
    assert p_values(found[:, None], len(orders)).min() > ALARM


@pytest.mark.parametrize("step", [(0, 1), (1, 0), (0x9E3779B1, 0), (0, 0x80000000)])
def test_permutations_of_different_seeds_are_independent(step):
    seeds = random_seeds(8000, 3)
    others = seeds + np.array(step, np.uint32)
    for size in (2, 5, 12):
        first, second = permutations(seeds, size, 31), permutations(others, size, 31)
        for position in range(size):
            table = np.zeros((size, size), int)
            np.add.at(table, (first[:, position], second[:, position]), 1)
            assert chi2_contingency(table, correction=False).pvalue > ALARM


def test_the_largest_size_stays_in_range_and_spreads_evenly():
    size, index = jnp.int32(LARGEST), jnp.asarray(np.random.default_rng(4).choice(LARGEST // 997, 50_000, replace=False) * 997, jnp.int32)
    found = np.asarray(swap_or_not(jnp.array([1, 2], jnp.uint32), index, size))
    assert found.min() >= 0
    assert found.max() < LARGEST
    assert len(np.unique(found)) == len(index)
    assert p_values((found.astype(np.int64) * 64 // LARGEST)[:, None], 64).min() > ALARM


def test_a_single_point_stays():
    assert swap_or_not(jnp.array([5, 6], jnp.uint32), jnp.int32(0), jnp.int32(1)) == 0


def test_shape_is_kept_and_jit_and_vmap_change_nothing():
    seed, size, index = jnp.array([8, 9], jnp.uint32), jnp.int32(12), jnp.arange(12, dtype=jnp.int32)
    compiled = jax.jit(swap_or_not)(seed, index, size)
    with jax.disable_jit():
        eager = swap_or_not(seed, index, size)
    one_by_one = jax.vmap(swap_or_not, (None, 0, None))(seed, index, size)
    np.testing.assert_array_equal(compiled, eager)
    np.testing.assert_array_equal(compiled, one_by_one)
    square = swap_or_not(seed, index.reshape(3, 4), size)
    assert square.shape == (3, 4)
    np.testing.assert_array_equal(square.ravel(), compiled)
