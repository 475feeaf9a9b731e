"""The network of records as one matrix: linear paths beside small residual networks, several members side by side."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from fedjax_edu.core.loss import Loss
from fedjax_edu.core.trees import Tree
from fedjax_edu.data import Population, Task
from fedjax_edu.models.function import functional
from fedjax_edu.models.multitask import MultiTaskModel
from fedjax_edu.study.networks.network import Network


class Ensemble(Network):
    """:class:`fedjax_edu.models.MultiTaskModel` on all numbers and categories as one matrix.

    Its arguments are those of the model, with a flag for `products`: whether the encoder reads products of numbers and levels.
    """

    def _build(self, seed: int) -> Tree:
        sizes = {**self.arguments, "products": self.encoding.products if self.arguments["products"] else ()}
        self._apply, params = functional(MultiTaskModel(len(self.encoding.columns), self.tasks, seed=seed, **sizes))
        return params

    def leaves(self, population: Population) -> dict[str, Any]:
        """``inputs``, float32 [rows, columns]."""
        return {"inputs": self.encoding.encode(population)}

    def loss(self, weights: np.ndarray) -> Callable[..., Loss]:
        """The sum of the tasks' losses, means over members."""

        def loss(params: Tree, batch: dict[str, jax.Array], key: jax.Array) -> Loss:
            losses = task_losses(self.encoding.schema.tasks, self._apply(params, batch["inputs"]), batch["targets"])
            present = batch["present"]
            metrics = {task: (losses[:, position], present[:, position]) for position, task in enumerate(self.tasks)}
            total = jnp.sum(jnp.where(present > 0, losses, 0.0) * weights[None, :], axis=1)
            return Loss(total, metrics=metrics)

        return loss

    def predict(self, params: Tree, batch: dict[str, jax.Array]) -> jax.Array:
        """Means over members, float32 [B, tasks]."""
        return self._apply(params, batch["inputs"]).mean(axis=1)


def task_losses(tasks: Sequence[Task], outputs: jax.Array, targets: jax.Array) -> jax.Array:
    """Half squared error of standardised scores, cross-entropy of log-odds.

    Args:
        tasks: what is predicted.
        outputs: [B, members, tasks].
        targets: [B, tasks], zeros where absent.

    Returns:
        Losses [B, tasks], means over members.
    """
    wanted = targets[:, None, :]
    squared = 0.5 * (outputs - wanted) ** 2
    entropy = optax.sigmoid_binary_cross_entropy(outputs, jnp.broadcast_to(wanted, outputs.shape))
    binary = np.array([task.binary for task in tasks])[None, None, :]
    return jnp.where(binary, entropy, squared).mean(axis=1)
