"""Randomness by identity: one root key, folded with a purpose, the round, the client's id and the step. Never by position."""

import enum
import functools

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_edu.core.errors import ArgumentError
from fedjax_edu.kernels import swap_or_not


class Purpose(enum.IntEnum):
    """What a key is for; the first thing folded into the root key."""

    COHORT = 1
    CLIENT = 2
    SERVER = 3
    FINALISE = 4
    EVALUATE = 5
    SAMPLER = 6
    MEASURE = 7


class ClientPurpose(enum.IntEnum):
    """What a client's key of one round is for."""

    START = 1
    ORDER = 2
    STEP = 3
    LINKS = 4
    PASS = 5


def check_seed(seed: object) -> int:
    """Checks a seed: of a larger one, JAX would drop what exceeds 32 bits.

    >>> check_seed(2**32)
    Traceback (most recent call last):
    ...
    fedjax_edu.core.errors.ArgumentError: seed: got 4294967296; use an integer from 0 to 2**32 - 1
    """
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or not 0 <= seed < 2**32:
        raise ArgumentError("seed", seed, "use an integer from 0 to 2**32 - 1")
    return int(seed)


def fold(key: jax.Array, *data: int | jax.Array) -> jax.Array:
    """Folds each number into the key, in order.

    >>> bool(jnp.all(jax.random.key_data(fold(jax.random.key(0), 1, 2)) ==
    ...              jax.random.key_data(jax.random.fold_in(jax.random.fold_in(jax.random.key(0), 1), 2))))
    True
    """
    for value in data:
        key = jax.random.fold_in(key, value)
    return key


@functools.partial(jax.jit, inline=True)
def permute(key: jax.Array, index: jax.Array, size: jax.Array) -> jax.Array:
    """Image of `index` under the permutation of ``range(size)`` that belongs to `key`.

    Args:
        key: scalar typed key.
        index: integers of any shape, ``0 <= index < size``.
        size: int32 scalar, at least 1.

    Returns:
        int32 array of the shape of `index`.

    >>> sorted(permute(jax.random.key(3), jnp.arange(4), jnp.int32(4)).tolist())
    [0, 1, 2, 3]
    """
    return swap_or_not(jax.random.bits(key, (2,), jnp.uint32), index, size)
