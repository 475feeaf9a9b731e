"""A keyed permutation of range(n) for any n: evaluated at single points, without a shuffle buffer."""

import jax
import jax.numpy as jnp

ROUNDS = 24
_GOLDEN = 0x9E3779B1


def _mix(value: jax.Array) -> jax.Array:
    """A 32-bit finaliser of low avalanche bias; uint32 in, uint32 out."""
    value = (value ^ (value >> 16)) * jnp.uint32(0x7FEB352D)
    value = (value ^ (value >> 15)) * jnp.uint32(0x846CA68B)
    return value ^ (value >> 16)


def swap_or_not(seed: jax.Array, index: jax.Array, size: jax.Array) -> jax.Array:
    r"""Image of `index` under a pseudo-random permutation of ``range(size)``.

    Round r pairs x with its partner :math:`x' = K_r - x \bmod n` and swaps the two when the pair's coin
    :math:`F_r(\max(x, x'))` shows heads. Both members of a pair see the same coin, so each round is a
    bijection, for every n and with a fixed number of rounds: no cycle walking, no data-dependent loop.

    Args:
        seed: uint32 [2]; one permutation for each seed.
        index: integer array of any shape with ``0 <= index < size``.
        size: integer scalar, at least 1 and below 2**31.

    Returns:
        int32 array of the shape of `index`.

    >>> order = swap_or_not(jnp.array([7, 11], jnp.uint32), jnp.arange(5), jnp.int32(5))
    >>> sorted(order.tolist())
    [0, 1, 2, 3, 4]

    Reference: Hoang, Morris, Rogaway (2012), "An enciphering scheme based on a card shuffle", arXiv:1208.1176.
    We differ in the round function: two integer finalisers instead of a cipher, enough for sampling, not for secrecy.
    """
    count = size.astype(jnp.uint32)
    position = index.astype(jnp.uint32)
    salts = _mix(_mix(seed[0] + jnp.arange(ROUNDS, dtype=jnp.uint32) * jnp.uint32(_GOLDEN)) + seed[1])
    pivots = _mix(salts ^ seed[0]) % count
    salts, pivots = jax.lax.optimization_barrier((salts, pivots))  # else XLA recomputes them for every index
    for salt, pivot in zip(salts, pivots, strict=True):
        partner = jnp.where(pivot >= position, pivot - position, pivot + count - position)
        heads = _mix(jnp.maximum(position, partner) ^ salt) >> 31
        position = jnp.where(heads == 1, partner, position)
    # Without the barrier, XLA folds the rounds into a gather that reads by the images and compiles for minutes (jax 0.11.2).
    return jax.lax.optimization_barrier(position.astype(jnp.int32))
