"""Only the largest coordinates of an update travel."""

import math
from fractions import Fraction
from typing import Any

import jax
import jax.numpy as jnp

from fedjax_edu.aggregation.error_feedback import error_feedback, keep
from fedjax_edu.core.errors import check_positive
from fedjax_edu.core.link import Link, Wire


def topk(fraction: float) -> Link:
    r"""Sends the largest coordinates of each leaf, with error feedback.

    Of :math:`p = e + \Delta` the :math:`k = \lceil q d \rceil` coordinates of largest magnitude of each leaf of size d are sent,
    ties to the lowest index; the others stay with the client as e. The sum of all that was sent and e is the sum of
    all updates, bit for bit where these add up exactly.

    A client sends k values and k indices of :math:`\lceil \log_2 d \rceil` bits. Indices differ between clients, so sums of sparse
    vectors cannot be masked: use :func:`fedjax_edu.aggregation.randk` with secure aggregation.

    Args:
        fraction: q, of the coordinates; in (0, 1], 1 sends all.

    Returns:
        A link on the channel "update"; it reports ``topk.residual``, the mean norm of e.

    Raises:
        ArgumentError: `fraction` outside (0, 1].

    >>> topk(0.1).wire("update", True, Wire(size=1000, values=1000, bits=32)).bytes  # 100 values of 32 bits, 100 indices of 10
    525

    Reference: Stich, Cordonnier, Jaggi (2018), "Sparsified SGD with memory", arXiv:1809.07599. We differ: leaf by leaf, and the
    memory is of a client's whole update, not of each of its steps.
    """
    fraction = check_fraction(fraction)

    def compress(leaf: jax.Array, number: int, server: Any) -> tuple[jax.Array, jax.Array]:
        _, largest = jax.lax.top_k(jnp.abs(leaf).reshape(-1), count(fraction, leaf.size))
        return keep(jnp.zeros(leaf.size, bool).at[largest].set(True).reshape(leaf.shape), leaf)

    def wire(leaf: Wire) -> Wire:
        values = count(fraction, leaf.size)
        return leaf._replace(values=values, overhead=values * (leaf.size - 1).bit_length())

    return error_feedback("topk", compress, wire)


def check_fraction(fraction: float) -> float:
    """A share of a leaf's coordinates, in (0, 1]."""
    return check_positive("fraction", fraction, at_most=1.0, remedy="use a share of the coordinates in (0, 1]")


def count(fraction: float, size: int) -> int:
    """Coordinates that a fraction of a leaf is, rounded up; the fraction is the decimal number as it is written.

    >>> count(0.07, 100), math.ceil(0.07 * 100)
    (7, 8)
    """
    return math.ceil(Fraction(str(fraction)) * size)
