"""Coordinate by coordinate: the median, and the mean without the extremes."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_edu.aggregation.rows import everywhere, middle, reduction, rising
from fedjax_edu.core.errors import check_number
from fedjax_edu.core.link import Link


def median() -> Link:
    r"""The median of the clients' values in each coordinate, over the clients that hold the module.

    :math:`\bar\Delta_j = \operatorname{med}_k \Delta_{kj}`, the mean of the two middle values where their number is even. Every
    client counts alike: weights only say who is there. Clients whose data differ have medians that no mean agrees with, so that
    a federation of honest clients pays for it in bias.

    Returns:
        A reduction. It reads every update, which secure aggregation cannot show it, and bounds no client's influence in the
        sense that noise needs.

    >>> median().needs
    'stack'

    Reference: Yin et al. (2018), "Byzantine-robust distributed learning: towards optimal statistical rates", arXiv:1803.01498.
    We differ: a module's median is over those who hold it.
    """
    return reduction("median", everywhere(middle))


def trimmed_mean(fraction: float) -> Link:
    r"""The mean in each coordinate without the largest and the smallest values.

    Of the n clients that hold a module, :math:`\lfloor \beta n \rfloor` values are left out at each end of every coordinate, and the
    others count alike: weights only say who is there. 0 is the mean of clients, not of examples.

    Args:
        fraction: :math:`\beta`, in [0, 0.5): the share of clients that may lie.

    Returns:
        A reduction that reads every update.

    Raises:
        ArgumentError: `fraction` outside of [0, 0.5).

    >>> trimmed_mean(0.1).name
    'trimmed_mean'

    Reference: Yin et al. (2018), "Byzantine-robust distributed learning: towards optimal statistical rates", arXiv:1803.01498.
    We differ: a module's mean is over those who hold it.
    """
    exact = Fraction(check_number("fraction", fraction, at_least=0, below=0.5)).limit_denominator(10**6)  # 2 / 7 of 7 is 2

    def rule(updates: jax.Array, weights: jax.Array) -> jax.Array:
        ordered, count = rising(updates, weights)
        cut = jnp.asarray(np.array([_cut(exact, number) for number in range(len(weights) + 1)], np.int32))[count]
        rank = jnp.arange(len(weights), dtype=jnp.int32)[:, None]
        kept = (rank >= cut) & (rank < count - cut)
        share = 1 / jnp.maximum(count - 2 * cut, 1).astype(updates.dtype)
        return jnp.sum(jnp.where(kept, ordered * share, 0), axis=0)

    return reduction("trimmed_mean", everywhere(rule))


def _cut(share: Fraction, clients: int) -> int:
    """How many to leave out at each end, so that somebody stays."""
    return min(int(share * clients), max(clients - 1, 0) // 2)
