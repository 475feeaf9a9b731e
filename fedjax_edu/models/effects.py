"""What one school adds to the federation's predictions: random effects as personal parameters."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from fedjax_edu.core.trees import Tree


class SchoolEffects(nnx.Module):
    r"""An intercept, slopes and classroom effects for every task, all zero until a school has learnt its own.

    .. math:: e_t(x, c) = a_t + b_t^\top x + u_{c,t}

    with the classroom c of the pupil. Kept personal, they turn a federated model into a mixed model: the federation's
    network holds the fixed effects, each school fits and keeps its random ones; a school never seen has none.

    Args:
        inputs: width of x.
        tasks: how many tasks.
        classrooms: how many classrooms the largest school has.

    >>> effects = SchoolEffects(3, 2, classrooms=4)
    >>> effects(jnp.ones((5, 3)), jnp.zeros(5, int)).tolist()[0]
    [0.0, 0.0]
    """

    def __init__(self, inputs: int, tasks: int, *, classrooms: int):
        self.intercept = nnx.Param(jnp.zeros(tasks))
        self.slopes = nnx.Param(jnp.zeros((inputs, tasks)))
        self.classrooms = nnx.Param(jnp.zeros((classrooms, tasks)))

    def __call__(self, inputs: jax.Array, classroom: jax.Array) -> jax.Array:
        """[B, inputs] and int [B] -> [B, tasks]."""
        return self.intercept[...][None] + inputs @ self.slopes[...] + self.classrooms[...][classroom]


def penalty(effects: Tree, strength: Mapping[str, jax.Array | np.ndarray]) -> jax.Array:
    r"""The negative log prior of school effects, :math:`\tfrac12 \sum_t \lambda_{\cdot,t} \lVert \cdot_t \rVert^2`.

    Args:
        effects: the parameters of :class:`SchoolEffects`.
        strength: λ of ``intercept``, ``slopes`` and ``classrooms``, each [tasks], in rows: an effect is shrunk as if λ
            rows had said that it is zero.

    Returns:
        A scalar, on the scale of a sum of losses over rows.

    >>> one = {"intercept": jnp.ones(2), "slopes": jnp.zeros((3, 2)), "classrooms": jnp.zeros((4, 2))}
    >>> float(penalty(one, {"intercept": jnp.array([1.0, 3.0]), "slopes": jnp.ones(2), "classrooms": jnp.ones(2)}))
    2.0
    """
    terms = [jnp.sum(strength[name] * jnp.sum(effects[name].reshape(-1, len(strength[name])) ** 2, axis=0)) for name in strength]
    return 0.5 * jnp.sum(jnp.stack(terms))
