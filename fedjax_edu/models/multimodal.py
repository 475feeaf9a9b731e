"""The multi-modal multi-task model: encoders of modalities, a fusion of their tokens, a head for each task."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from fedjax_edu.core.errors import ArgumentError
from fedjax_edu.core.trees import named_leaves
from fedjax_edu.models.fusion.fused import Fused, Views
from fedjax_edu.models.heads import NextResponseHead
from fedjax_edu.models.tokens import Tokens, anywhere
from fedjax_edu.models.transformer import Report


class Content(NamedTuple):
    """What a batch holds of a modality.

    Args:
        values: as the modality's encoder reads them, leaves [B, ...].
        present: bool [B], or [B, T] for each token.
        lengths: int [B], or None.
    """

    values: Any
    present: jax.Array
    lengths: jax.Array | None = None


class Answers(NamedTuple):
    """What the model says about a batch.

    Args:
        outputs: task -> [B, ...].
        report: module -> what its experts say.
        views: of a fusion that knows how each modality sees a row; None of others.
        alone: modality -> what heads say of its view, by task; empty without views.
    """

    outputs: dict[str, jax.Array]
    report: Report
    views: Views | None = None
    alone: Mapping[str, dict[str, jax.Array]] = MappingProxyType({})


class M3T(nnx.Module):
    """Its modules are ``encoders.<modality>``, ``fusion`` and ``heads.<task>``.

    Args:
        encoders: modality -> encoder.
        fusion: of the modalities' tokens.
        heads: task -> head.

    Raises:
        ArgumentError: a head of next responses without a modality ``sequence``.
    """

    def __init__(self, encoders: Mapping[str, nnx.Module], fusion: nnx.Module, heads: Mapping[str, nnx.Module]):
        if "sequence" not in encoders and any(isinstance(head, NextResponseHead) for head in heads.values()):
            raise ArgumentError("encoders", sorted(encoders), "add a modality `sequence`: next responses are predicted from it")
        self.encoders, self.fusion, self.heads = nnx.Dict(encoders), fusion, nnx.Dict(heads)

    def __call__(self, contents: Mapping[str, Content], domain: jax.Array | None = None) -> Answers:
        """Contents by modality -> answers by task.

        Args:
            contents: of some of the modalities; encoders of the others are not run.
            domain: of the rows, int scalar, for a fusion that routes by it.

        Raises:
            ArgumentError: no modality, or one without an encoder.
        """
        if not contents:
            raise ArgumentError("contents", "nothing", f"give one of {', '.join(sorted(self.encoders))} at least")
        if unknown := sorted(contents.keys() - set(self.encoders)):
            raise ArgumentError("contents", unknown, f"use {', '.join(sorted(self.encoders))}")
        parts: dict[str, Tokens] = {}
        report: Report = {}
        for modality, content in contents.items():
            parts[modality], said = _encoded(modality, self.encoders[modality], content)
            report |= {f"encoders.{modality}.{name}": routed for name, routed in said.items()}
        heads = {task: self.heads[task] for task in self.heads}  # by key: a task may be called like one of a dictionary's methods
        pooled = [task for task, head in heads.items() if not isinstance(head, NextResponseHead)]
        fused: Fused = self.fusion(parts, pooled, domain)
        report |= {f"fusion.{name}": routed for name, routed in fused.report.items()}
        outputs = {task: heads[task](representation) for task, representation in fused.representations.items()}
        views = {} if fused.views is None else fused.views.alone
        alone = {modality: {task: heads[task](view) for task in pooled} for modality, (view, _) in views.items()}
        for task, head in heads.items():
            if isinstance(head, NextResponseHead) and "sequence" in contents:
                outputs[task] = head(parts["sequence"], contents["sequence"].values.items)
        return Answers(outputs, report, fused.views, alone)


def _encoded(modality: str, encoder: nnx.Module, content: Content) -> tuple[Tokens, Report]:
    """What an encoder makes of its modality, which batches that have nothing of it do not pay for."""
    if not isinstance(content, Content):
        raise ArgumentError(f"contents[{modality!r}]", type(content).__name__, "wrap it: fe.models.Content(values, present)")
    try:
        shapes = jax.eval_shape(lambda: encoder(*content))
    except (TypeError, AttributeError) as error:  # of shapes that do not fit, and of arrays where an encoder reads a tuple of them
        got = ", ".join(f"{name} {leaf.dtype}{list(leaf.shape)}" for name, leaf in named_leaves(content))
        raise ArgumentError(f"contents[{modality!r}]", got, f"pass what {type(encoder).__name__} reads: {error}") from error
    absent = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    return lax.cond(anywhere(content.present.any()), lambda: encoder(*content), lambda: absent)
