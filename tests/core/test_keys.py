"""Keys are folds of the root key; different purposes, rounds, clients and steps never share one."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_edu.core.keys import ClientPurpose, Purpose, fold, permute


def words(key: jax.Array) -> tuple[int, ...]:
    return tuple(np.asarray(jax.random.key_data(key)).tolist())


@pytest.mark.parametrize("data", [(), (0,), (3, 1, 4), (Purpose.CLIENT, 7, ClientPurpose.STEP), (2**31 - 1, 0)])
def test_fold_is_repeated_fold_in(data):
    expected = jax.random.key(11)
    for value in data:
        expected = jax.random.fold_in(expected, int(value))
    assert words(fold(jax.random.key(11), *data)) == words(expected)


def test_fold_takes_traced_numbers():
    key = jax.random.key(5)
    found = jax.jit(jax.vmap(lambda client: fold(key, Purpose.CLIENT, client)))(jnp.arange(4, dtype=jnp.uint32))
    assert [words(each) for each in found] == [words(fold(key, Purpose.CLIENT, client)) for client in range(4)]


def test_the_order_of_what_is_folded_matters():
    key = jax.random.key(1)
    assert words(fold(key, 1, 2)) != words(fold(key, 2, 1))


def test_purposes_are_distinct():
    key = jax.random.key(0)
    numbers = range(20)
    found = [words(fold(key, purpose, number)) for purpose, number in itertools.product(Purpose, numbers)]
    found += [words(fold(key, Purpose.CLIENT, 0, client, purpose)) for client, purpose in itertools.product(numbers, ClientPurpose)]
    found += [words(fold(key, purpose)) for purpose in Purpose] + [words(key)]
    assert len(set(found)) == len(found)
    assert len({int(purpose) for purpose in Purpose}) == len(Purpose)
    assert len({int(purpose) for purpose in ClientPurpose}) == len(ClientPurpose)


@pytest.mark.parametrize("size", [1, 2, 9, 50])
def test_permute_is_a_bijection_of_its_own_for_each_key(size):
    keys = jax.random.split(jax.random.key(2), 40)
    found = np.asarray(jax.vmap(lambda key: permute(key, jnp.arange(size), jnp.int32(size)))(keys))
    np.testing.assert_array_equal(np.sort(found, axis=1), np.broadcast_to(np.arange(size), found.shape))
    assert len({tuple(order) for order in found.tolist()}) == {1: 1, 2: 2, 9: 40, 50: 40}[size]
