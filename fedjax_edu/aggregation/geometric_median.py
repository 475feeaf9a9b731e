"""The point whose distances to all updates have the smallest sum."""

import jax
import jax.numpy as jnp

from fedjax_edu.aggregation import rows
from fedjax_edu.core.errors import check_integer, check_positive
from fedjax_edu.core.link import Link


def geometric_median(iterations: int = 8, smoothing: float = 1e-6) -> Link:
    r"""The weighted geometric median, by smoothed Weiszfeld iterations.

    :math:`\arg\min_z \sum_k \omega_k \lVert \Delta_k - z \rVert`: from the weighted mean,
    :math:`z \leftarrow \sum_k \beta_k \Delta_k / \sum_k \beta_k` with
    :math:`\beta_k = \omega_k / \max(\nu, \lVert \Delta_k - z \rVert)`. It holds as long as liars have less than half of the weight.
    Weights are the clients' own, so a client that may lie about its size has as much say as it likes: use it with
    ``weighting="uniform"`` against such.

    Args:
        iterations: of Weiszfeld's algorithm, each a weighted mean; the paper finds 3 enough for training.
        smoothing: :math:`\nu`, in the units of the parameters.

    Returns:
        A reduction. It reads updates through weighted means alone, which secure aggregation can compute.

    Raises:
        ArgumentError: `iterations` is not a positive integer, `smoothing` not a positive finite number.

    >>> geometric_median().needs
    'sums'

    Reference: Pillutla, Kakade, Harchaoui (2022), "Robust aggregation for federated learning", arXiv:1912.13445. We differ: each
    module has its own median, over those who hold it.
    """
    iterations, smoothing = check_integer("iterations", iterations), check_positive("smoothing", smoothing)

    def rule(updates: jax.Array, weights: jax.Array) -> jax.Array:
        def improve(_: jax.Array | int, point: jax.Array) -> jax.Array:
            distance = rows.norms(updates - point[None])
            return rows.mean(updates, weights / jnp.maximum(distance, smoothing))

        return jax.lax.fori_loop(0, iterations, improve, rows.mean(updates, weights))

    return rows.reduction("geometric_median", rows.everywhere(rule), needs="sums")
