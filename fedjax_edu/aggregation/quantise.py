"""A few levels instead of floating-point numbers, right on average."""

import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp

from fedjax_edu.core.algorithm import Channel
from fedjax_edu.core.errors import ArgumentError, check_integer
from fedjax_edu.core.keys import fold
from fedjax_edu.core.link import Context, Link, Sent, Wire
from fedjax_edu.core.trees import float_dtype, global_norm

_MOST = 2**22  # a float32 tells a height between two levels from both up to here


def quantise(levels: int) -> Link:
    r"""Rounds every private value at random to a few levels, leaf by leaf: QSGD.

    :math:`Q(v)_i = \lVert v \rVert_2 \operatorname{sgn}(v_i)\, \xi_i / s`, where :math:`\xi_i` is
    :math:`s |v_i| / \lVert v \rVert_2` rounded up with the probability of its fraction, else down. So
    :math:`\mathbb{E}\, Q(v) = v` up to the rounding of the leaf's dtype, and
    :math:`\mathbb{E} \lVert Q(v) - v \rVert^2 \le \min(d / s^2, \sqrt{d} / s) \lVert v \rVert^2` for a leaf of size d. A leaf of
    norm 0 stays 0. Coins belong to the client, the round and the leaf.

    A client sends :math:`\lceil \log_2 (2 s + 1) \rceil` bits for each value and 32 for each leaf's norm.

    The link has no sensitivity: rounding up can stretch a leaf by :math:`1 + \sqrt{d} / s`, and d is not known from a bound on
    norms. Noise that is calibrated on the sum needs values whose bound survives, so leave this link out of such a chain.

    Args:
        levels: s, positive levels beside 0; 1 sends signs and zeros.

    Returns:
        A link; it reports nothing.

    Raises:
        ArgumentError: `levels` not an integer from 1 to 2**22.

    >>> quantise(4).wire("update", True, Wire(size=1000, values=1000, bits=32)).bytes  # 9 symbols are 4 bits
    504

    Reference: Alistarh et al. (2017), "QSGD: communication-efficient SGD via gradient quantization and encoding", arXiv:1610.02132.
    We differ: symbols of a fixed length instead of Elias codes, one norm for each leaf instead of each bucket.
    """
    levels = check_integer("levels", levels)
    if levels > _MOST:
        raise ArgumentError("levels", levels, f"use at most {_MOST}: finer levels are finer than float32")

    def client(server: Any, state: Any, channels: dict[str, Channel], context: Context) -> Sent:
        numbers = itertools.count()

        def rounded(leaf: jax.Array) -> jax.Array:
            return _quantised(leaf, fold(context.key, next(numbers)), levels)

        def coarse(channel: Channel) -> Channel:
            return channel._replace(value=jax.tree.map(rounded, channel.value)) if channel.private else channel

        return {name: coarse(channel) for name, channel in channels.items()}, state, {}

    def wire(channel: str, private: bool, wire: Wire) -> Wire:
        return wire._replace(bits=(2 * levels).bit_length(), overhead=wire.overhead + 32) if private else wire

    return Link(
        name="quantise",
        place="quantise",
        client=client,
        sensitivity=lambda bound: math.inf,
        needs="sum",
        wire=wire,
    )


def _quantised(leaf: jax.Array, key: jax.Array, levels: int) -> jax.Array:
    norm = global_norm(leaf)
    height = levels * (jnp.abs(leaf).astype(norm.dtype) / jnp.where(norm > 0, norm, 1))
    below = jnp.floor(height)
    up = jax.random.uniform(key, leaf.shape, float_dtype()) < height - below
    level = jnp.minimum(below + up.astype(below.dtype), levels)  # a lone coordinate may stand a rounding above the norm
    return (norm * (level / levels)).astype(leaf.dtype) * jnp.sign(leaf)
