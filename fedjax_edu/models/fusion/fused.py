"""What fusions give back."""

from collections.abc import Mapping
from typing import NamedTuple

import jax

from fedjax_edu.models.transformer import Report


class Views(NamedTuple):
    """A row as all of its modalities together see it, and as each of them does.

    Args:
        joint: [B, D].
        alone: by modality, [B, D] and which rows have it, bool [B].
    """

    joint: jax.Array
    alone: Mapping[str, tuple[jax.Array, jax.Array]]


class Fused(NamedTuple):
    """What a fusion makes of a batch.

    Args:
        representations: [B, D] by task.
        report: what experts say.
        views: of fusions that know how each modality sees a row.
    """

    representations: dict[str, jax.Array]
    report: Report
    views: Views | None = None
