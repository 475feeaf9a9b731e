"""How the losses of several tasks become one: by uncertainty, or so that gradients do not pull against each other."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from fedjax_edu.core.errors import check_number
from fedjax_edu.core.trees import Tree

STEPS = 300  # of the search for CAGrad's weights; they are as many numbers as there are tasks


class Uncertainty(nnx.Module):
    r"""Weighs each loss by a learned precision: :math:`\sum_t e^{-s_t} L_t + s_t / 2`.

    Args:
        tasks: names.

    Reference: Kendall, Gal, Cipolla (2017), arXiv:1705.07115; the losses of regression are halves of squared errors.
    """

    def __init__(self, tasks: Sequence[str]):
        self.log_variances = nnx.Dict({task: nnx.Param(jnp.zeros(1)) for task in tasks})
        self.tasks = tuple(tasks)  # a dictionary that was split and merged has another order

    def __call__(self, losses: jax.Array, present: jax.Array) -> jax.Array:
        """Losses [B, tasks] and whether they count, bool [B, tasks] -> [B]."""
        logs = jnp.concatenate([self.log_variances[task][...] for task in self.tasks])[None, :]
        return jnp.where(present, jnp.exp(-logs) * losses + logs / 2, 0.0).sum(axis=1)


def gram(losses: Callable[[Tree], jax.Array], params: Tree) -> jax.Array:
    """Products of the gradients of several losses, [T, T].

    Args:
        losses: ``params -> [T]``.
        params: those on which tasks may disagree.

    >>> gram(lambda w: jnp.stack([w[0], w[0] - w[1]]), jnp.zeros(2)).tolist()
    [[1.0, 1.0], [1.0, 2.0]]
    """
    gradients = jax.tree.leaves(jax.jacrev(losses)(params))
    flat = jnp.concatenate([leaf.reshape(len(leaf), -1) for leaf in gradients], axis=1)
    return flat @ flat.T


def pcgrad(products: jax.Array, key: jax.Array) -> jax.Array:
    r"""Weights w such that :math:`\sum_j w_j g_j` is the mean of gradients from which conflicts were projected away.

    Each gradient :math:`g_i` visits the others in random order: :math:`g_i \leftarrow g_i - \frac{\min(g_i^\top g_j, 0)}{|g_j|^2} g_j`.
    It stays a combination of the gradients, so that their products say all.

    Args:
        products: of the gradients, [T, T].
        key: of the orders.

    Returns:
        float [T].

    >>> pcgrad(jnp.array([[1.0, -1.0], [-1.0, 2.0]]), jax.random.key(0)).tolist()
    [1.0, 0.75]

    Reference: Yu et al. (2020), arXiv:2001.06782; there gradients are added, here their mean is taken, as without conflicts.
    """
    tasks = len(products)

    def surgery(own: jax.Array, key: jax.Array) -> jax.Array:
        def visit(combination: jax.Array, other: jax.Array) -> tuple[jax.Array, None]:
            conflict = jnp.minimum(combination @ products[other], 0.0)
            length = products[other, other]
            share = jnp.where((other == own) | (length <= 0), 0.0, conflict / jnp.where(length > 0, length, 1.0))
            return combination.at[other].add(-share), None

        start = jax.nn.one_hot(own, tasks, dtype=products.dtype)
        return lax.scan(visit, start, jax.random.permutation(key, tasks))[0]

    numbers = jnp.arange(tasks)
    return jax.vmap(surgery)(numbers, jax.vmap(lambda number: jax.random.fold_in(key, number))(numbers)).mean(axis=0)


def cagrad(products: jax.Array, c: float = 0.5) -> jax.Array:
    r"""Weights of the step that helps the worst task most while it stays near the mean gradient.

    .. math:: d = g_0 + \frac{c |g_0|}{|g_w|} g_w, \quad w = \arg\min_{w \in \Delta} \; g_w^\top g_0 + c |g_0| |g_w|, \quad
        g_0 = \tfrac{1}{T} \textstyle\sum_i g_i, \; g_w = \sum_i w_i g_i

    Args:
        products: of the gradients, [T, T].
        c: in [0, 1); 0 is the mean.

    Returns:
        float [T]: v with :math:`d = \sum_i v_i g_i`.

    Raises:
        ArgumentError: c outside [0, 1).

    Reference: Liu et al. (2021), arXiv:2110.14048, without the division by 1 + c that its code makes. The minimum is searched as by
    Platt (1998), "Sequential minimal optimization": weight moves between the two tasks that gain most, as far as is best; gradients may
    differ in size by orders of magnitude.
    """
    check_number("c", c, at_least=0, below=1)
    tasks = len(products)
    mean = jnp.full(tasks, 1 / tasks, products.dtype)
    size = jnp.sqrt(jnp.maximum(mean @ products @ mean, 0.0))
    pull, towards = c * size, products @ mean
    floor = 1e-12 * jnp.max(jnp.diag(products))

    def norm(weights: jax.Array) -> jax.Array:
        return jnp.sqrt(jnp.maximum(weights @ products @ weights, jnp.where(floor > 0, floor, 1.0)))

    def step(_: int, weights: jax.Array) -> jax.Array:
        own = products @ weights
        slope = towards + pull / norm(weights) * own
        into, out = jnp.argmin(slope), jnp.argmax(jnp.where(weights > 0, slope, -jnp.inf))
        way = jax.nn.one_hot(into, tasks, dtype=products.dtype) - jax.nn.one_hot(out, tasks, dtype=products.dtype)
        share = _best_step(way @ towards, pull, weights @ own, way @ own, way @ products @ way)
        return weights + jnp.clip(share, 0.0, weights[out]) * way

    best = lax.fori_loop(0, STEPS, step, mean)
    return mean + pull / norm(best) * best


def _best_step(slope: jax.Array, pull: jax.Array, start: jax.Array, cross: jax.Array, length: jax.Array) -> jax.Array:
    r"""The t that minimises :math:`t b + k \sqrt{A + 2 t B + t^2 C}`; infinite where it falls for ever."""
    safe = jnp.where(length > 0, length, 1.0)
    bend = pull**2 * length - slope**2
    rest = jnp.maximum(start - cross**2 / safe, 0.0)
    turning = bend > 0
    found = -slope * jnp.sqrt(rest / (safe * jnp.where(turning, bend, 1.0))) - cross / safe
    return jnp.where(length > 0, jnp.where(turning, found, jnp.where(slope < 0, jnp.inf, 0.0)), 0.0)
