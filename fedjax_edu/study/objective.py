"""What a school minimises: one loss over all tasks."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from fedjax_edu.core.loss import Loss
from fedjax_edu.core.trees import Tree
from fedjax_edu.data import Task


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


def make_loss(apply: Callable[..., jax.Array], tasks: Sequence[Task], weights: np.ndarray) -> Callable[..., Loss]:
    """The loss for the engine.

    Args:
        apply: ``(params, inputs) -> outputs [B, members, tasks]``.
        tasks: what is predicted.
        weights: of the tasks, float32 [tasks].

    Returns:
        ``(params, batch, key) -> fe.Loss`` with each task's own loss as a metric.
    """

    def loss(params: Tree, batch: dict[str, jax.Array], key: jax.Array) -> Loss:
        losses = task_losses(tasks, apply(params, batch["inputs"]), batch["targets"])
        present = batch["present"]
        metrics = {task.name: (losses[:, position], present[:, position]) for position, task in enumerate(tasks)}
        total = jnp.sum(jnp.where(present > 0, losses, 0.0) * weights[None, :], axis=1)
        return Loss(total, metrics=metrics)

    return loss


def make_predict(apply: Callable[..., jax.Array]) -> Callable[[Tree, Any], jax.Array]:
    """``(params, batch) -> [B, tasks]``: standardised scores and log-odds, means over members."""

    def predict(params: Tree, batch: dict[str, jax.Array]) -> jax.Array:
        return apply(params, batch["inputs"]).mean(axis=1)

    return predict
