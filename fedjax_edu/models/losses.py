"""What a client minimises: the losses of its tasks, and what experts ask for."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fedjax_edu.core.loss import Loss
from fedjax_edu.core.trees import Tree
from fedjax_edu.models.multimodal import Answers, Content
from fedjax_edu.models.transformer import Report

Metrics = dict[str, tuple[jax.Array, jax.Array]]  # name -> values and weights, [B] each


class Wanted(NamedTuple):
    """What is to be said about the rows of a batch for a task.

    Args:
        values: as the head's losses read them, leaves [B, ...].
        present: bool [B], or [B, T] for each step of a history.
    """

    values: Any
    present: jax.Array


def make_loss(apply: Callable[..., Answers], heads: Mapping[str, Any], weights: Mapping[str, float] | None = None) -> Callable[..., Loss]:
    """The loss of a multi-modal multi-task model, for the engine.

    Rows of a batch are ``{"contents": {modality: Content}, "wanted": {task: Wanted}}``; a modality or task that a row lacks is absent by
    its mask. Padding reaches no expert and no statistic.

    Args:
        apply: ``(params, contents) -> Answers``, from :func:`fedjax_edu.models.functional`.
        heads: of the model.
        weights: of tasks; those left out count 1.

    Returns:
        ``(params, batch, key, valid) -> fe.Loss``. Metrics are each task's loss, and for each layer of experts the share of choices that
        went to each of them, the entropy of the router in nats, and the share of choices that was refused.
    """
    weights = dict(weights or {})

    def loss(params: Tree, batch: dict[str, Any], key: jax.Array, *, valid: jax.Array) -> Loss:
        contents = {name: _of_valid_rows(content, valid) for name, content in batch["contents"].items()}
        answers = apply(params, contents)
        metrics: Metrics = {}
        total = jnp.zeros(len(valid))
        for task, wanted in batch["wanted"].items():
            present = _rows(wanted.present, valid)
            losses = heads[task].losses(answers.outputs[task], wanted.values, present)
            metrics[task] = losses, present.reshape(len(valid), -1).any(axis=1).astype(losses.dtype)
            total = total + weights.get(task, 1.0) * losses
        asked = sum((routed.loss for routed in answers.report.values()), jnp.zeros(()))
        return Loss(total, regulariser=asked, metrics=metrics | expert_metrics(answers.report))

    return loss


def expert_metrics(report: Report) -> Metrics:
    """What layers of experts did, so that weighted means over rows are means over choices and tokens.

    Args:
        report: of a batch.

    Returns:
        ``<module>.load.<expert>``, ``<module>.entropy`` and ``<module>.dropped``.
    """
    metrics: Metrics = {}
    for module, routed in report.items():
        choices = routed.choices.sum(axis=1)  # [B, experts]
        count = choices.sum(axis=1)
        tokens = (routed.choices.sum(axis=2) > 0).sum(axis=1).astype(count.dtype)
        for expert in range(choices.shape[1]):
            metrics[f"{module}.load.{expert}"] = _ratio(choices[:, expert], count), count
        metrics[f"{module}.entropy"] = _ratio(routed.entropy.sum(axis=1), tokens), tokens
        metrics[f"{module}.dropped"] = _ratio(routed.dropped.sum(axis=1), count), count
    return metrics


def _ratio(values: jax.Array, counts: jax.Array) -> jax.Array:
    return values / jnp.maximum(counts, 1.0)


def _rows(present: jax.Array, valid: jax.Array) -> jax.Array:
    return present & valid.reshape((-1,) + (1,) * (present.ndim - 1))


def _of_valid_rows(content: Content, valid: jax.Array) -> Content:
    return content._replace(present=_rows(content.present, valid))
