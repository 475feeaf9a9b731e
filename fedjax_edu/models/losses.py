"""What a client minimises: the losses of its tasks, and what experts ask for."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fedjax_edu.core.errors import ArgumentError, check_number
from fedjax_edu.core.loss import Loss
from fedjax_edu.core.trees import Tree
from fedjax_edu.models.agreement import aligned_margin, contrastive_matching
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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Agreement:
    """What FedMVP asks for beside the tasks' losses, of a model whose fusion has views (:class:`fedjax_edu.models.JointFusion`).

    Attributes:
        matching: weight of :func:`fedjax_edu.models.contrastive_matching`.
        temperature: of the same.
        margin: weight of :func:`fedjax_edu.models.aligned_margin`.

    Reference: Che et al. (2024), "FedMVP", arXiv:2406.11048.
    """

    matching: float = 0.01
    temperature: float = 0.1
    margin: float = 0.5


def make_loss(
    apply: Callable[..., Answers],
    heads: Mapping[str, Any],
    weights: Mapping[str, float] | None = None,
    agreement: Agreement | None = None,
) -> Callable[..., Loss]:
    """The loss of a multi-modal multi-task model, for the engine.

    Rows of a batch are ``{"contents": {modality: Content}, "wanted": {task: Wanted}}``; a modality or task that a row lacks is absent by
    its mask. Padding reaches no expert and no statistic.

    Args:
        apply: ``(params, contents) -> Answers``, from :func:`fedjax_edu.models.functional`.
        heads: of the model.
        weights: of tasks; those left out count 1.
        agreement: of modalities with the joint view, which is trained on but not reported; None asks for none.

    Returns:
        ``(params, batch, key, valid) -> fe.Loss``. Metrics are each task's loss, and for each layer of experts the share of choices that
        went to each of them, the entropy of the router in nats, and the share of choices that was refused.

    Raises:
        ArgumentError: a task without a head, a weight that is negative or no number.
    """
    weights = dict(weights or {})
    _check_tasks("weights", weights, heads)
    for task, weight in weights.items():
        check_number(f"weights[{task!r}]", weight, at_least=0)

    def loss(params: Tree, batch: dict[str, Any], key: jax.Array, *, valid: jax.Array) -> Loss:
        _check_tasks("wanted", batch["wanted"], heads)
        contents = {name: _of_valid_rows(content, valid) for name, content in batch["contents"].items()}
        answers = apply(params, contents)
        wanted: dict[str, Wanted] = {task: one._replace(present=_rows(one.present, valid)) for task, one in batch["wanted"].items()}
        losses = of_tasks(answers.outputs, wanted)
        metrics: Metrics = {task: (values, _somewhere(wanted[task].present).astype(values.dtype)) for task, values in losses.items()}
        asked = sum((routed.loss for routed in answers.report.values()), jnp.zeros(()))
        if agreement is not None:
            asked = asked + disagreement(agreement, answers, wanted, losses, valid)
        return Loss(weighted(losses, valid), regulariser=asked, metrics=metrics | expert_metrics(answers.report))

    def of_tasks(outputs: Mapping[str, jax.Array], wanted: Mapping[str, Wanted]) -> dict[str, jax.Array]:
        return {task: heads[task].losses(outputs[task], one.values, one.present) for task, one in wanted.items() if task in outputs}

    def weighted(losses: Mapping[str, jax.Array], valid: jax.Array) -> jax.Array:
        return sum((weights.get(task, 1.0) * values for task, values in losses.items()), jnp.zeros(len(valid)))

    def disagreement(
        agreement: Agreement, answers: Answers, wanted: Mapping[str, Wanted], losses: Mapping[str, jax.Array], valid: jax.Array
    ) -> jax.Array:
        if answers.views is None:
            raise ArgumentError("agreement", agreement, "leave it out, or use a fusion with views: fe.models.JointFusion")
        joint, seen = answers.views
        alone = {modality: of_tasks(outputs, wanted) for modality, outputs in answers.alone.items()}
        together = {modality: weighted({task: losses[task] for task in own}, valid) for modality, own in alone.items()}
        matching = contrastive_matching(joint, seen, temperature=agreement.temperature)
        margin = sum(
            aligned_margin(joint, together[name], {name: seen[name]}, {name: weighted(own, valid)}, valid) for name, own in alone.items()
        )
        return agreement.matching * matching + agreement.margin * margin

    return loss


def _check_tasks(argument: str, tasks: Mapping[str, Any], heads: Mapping[str, Any]) -> None:
    if unknown := sorted(set(tasks) - set(heads)):
        raise ArgumentError(argument, unknown[0], f"use {', '.join(sorted(heads))}")


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


def _somewhere(present: jax.Array) -> jax.Array:
    return present.reshape(len(present), -1).any(axis=1)


def _rows(present: jax.Array, valid: jax.Array) -> jax.Array:
    return present & valid.reshape((-1,) + (1,) * (present.ndim - 1))


def _of_valid_rows(content: Content, valid: jax.Array) -> Content:
    return content._replace(present=_rows(content.present, valid))
