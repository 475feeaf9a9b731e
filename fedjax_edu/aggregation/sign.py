"""One bit for each coordinate of an update."""

from typing import Any

import jax
import jax.numpy as jnp

from fedjax_edu.aggregation.error_feedback import error_feedback
from fedjax_edu.core.link import Link, Wire
from fedjax_edu.core.trees import float_dtype


def sign() -> Link:
    r"""Sends the signs of each leaf and one scale, with error feedback.

    Of :math:`p = e + \Delta` each leaf of size d sends :math:`\lVert p \rVert_1 / d \cdot \operatorname{sgn}(p)`, with
    :math:`\operatorname{sgn}(0) = 0`; the rest stays with the client as e. Signs without that memory need not converge.

    A client sends one bit for each coordinate and 32 for each leaf's scale. A coordinate that is exactly 0 counts as one bit
    too: there are none but where a parameter never had a gradient.

    Returns:
        A link on the channel "update"; it reports ``sign.residual``, the mean norm of e.

    >>> sign().wire("update", True, Wire(size=1000, values=1000, bits=32)).bytes
    129

    Reference: Karimireddy, Rebjock, Stich, Jaggi (2019), "Error feedback fixes SignSGD and other gradient compression schemes",
    arXiv:1901.09847. We differ: the memory is of a client's whole update, not of each of its steps.
    """
    return error_feedback("sign", _compress, _wire)


def _compress(leaf: jax.Array, number: int, server: Any) -> tuple[jax.Array, jax.Array]:
    scale = jnp.sum(jnp.abs(leaf).astype(float_dtype()) / max(leaf.size, 1))
    sent = scale.astype(leaf.dtype) * jnp.sign(leaf)
    return sent, leaf - sent


def _wire(wire: Wire) -> Wire:
    return wire._replace(values=wire.size, bits=1, overhead=32)
