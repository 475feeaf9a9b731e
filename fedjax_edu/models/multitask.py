"""One model for several tasks and studies: a shared encoder, and a head for each task."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from fedjax_edu.models.ensemble import MemberLinear, TabularEnsemble


class MultiTaskModel(nnx.Module):
    """Tabular records of pupils to one output for each task.

    Its modules are ``encoders.tabular`` and ``heads.<task>``.

    Args:
        inputs: width of the encoded records.
        tasks: names of the tasks; outputs stand in this order.
        width: of hidden layers.
        depth: residual layers.
        tokens: width of the encoding that heads read.
        members: independent networks trained side by side; predictions are their mean.
        seed: of the starting values.
        products: pairs of columns whose products the encoder reads too.

    >>> model = MultiTaskModel(6, ["math", "read"], width=8, depth=1, tokens=4, members=2, seed=0)
    >>> model(jnp.ones((5, 6))).shape
    (5, 2, 2)
    """

    def __init__(
        self,
        inputs: int,
        tasks: Sequence[str],
        *,
        width: int = 64,
        depth: int = 1,
        tokens: int = 32,
        members: int = 4,
        seed: int = 0,
        products: Sequence[tuple[int, int]] = (),
    ):
        rngs = nnx.Rngs(seed)
        encoder = TabularEnsemble(inputs, width=width, depth=depth, tokens=tokens, members=members, rngs=rngs, products=products)
        self.encoders = nnx.Dict({"tabular": encoder})
        self.heads = nnx.Dict({task: MemberLinear(members, tokens, 1, rngs=rngs, scale=0.5) for task in tasks})
        self.tasks = tuple(tasks)

    def __call__(self, inputs: jax.Array) -> jax.Array:
        """Records [B, inputs] -> outputs [B, members, tasks]: standardised scores, or log-odds."""
        tokens = self.encoders["tabular"](inputs)
        return jnp.concatenate([self.heads[task](tokens) for task in self.tasks], axis=2)
