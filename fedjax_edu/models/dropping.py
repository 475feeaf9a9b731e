"""Modalities that are left out in training, so that a model learns to do without any of them."""

import itertools
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_edu.core.errors import ArgumentError, check_number
from fedjax_edu.models.multimodal import Content

MOST = 12  # modalities: every set of them has a probability


def drop_modalities(contents: Mapping[str, Content], key: jax.Array, rate: float) -> dict[str, Content]:
    r"""Contents of a batch, in which each row lacks some more modalities, never all of those that it has.

    Which of the modalities P that it has a row keeps is a set S with the probability of independent draws that leave one,

    .. math:: \Pr(S) = \frac{(1 - r)^{|S|} r^{|P| - |S|}}{1 - r^{|P|}}, \qquad \emptyset \ne S \subseteq P

    Args:
        contents: by modality.
        key: source of the draws, one a row.
        rate: r, in [0, 1).

    Returns:
        The same contents with fewer of them present. Gradients of what is dropped are exactly zero.

    Raises:
        ArgumentError: a rate outside [0, 1), or more than twelve modalities.

    >>> contents = {name: Content(jnp.ones((4, 2)), jnp.ones(4, bool)) for name in ("text", "image")}
    >>> kept = drop_modalities(contents, jax.random.key(0), 0.9)
    >>> bool(jnp.all(kept["text"].present | kept["image"].present))
    True

    Reference: Neverova et al. (2015), "ModDrop: adaptive multi-modal gesture recognition", arXiv:1501.00102. We differ: a row keeps one.
    """
    rate = check_number("rate", rate, at_least=0, below=1)
    if len(contents) > MOST:
        raise ArgumentError("contents", f"{len(contents)} modalities", f"use {MOST} at most")
    if not rate:
        return dict(contents)
    sets = np.array([kept for kept in itertools.product((False, True), repeat=len(contents)) if any(kept)])
    rows = [jnp.any(content.present.reshape(len(content.present), -1), axis=1) for content in contents.values()]
    there = jnp.stack(rows, axis=1)
    possible = ~jnp.any(sets[None] & ~there[:, None], axis=2)
    kept, had = sets.sum(axis=1, dtype=np.float32)[None], there.sum(axis=1, keepdims=True).astype(jnp.float32)
    logits = jnp.where(possible, kept * np.float32(np.log1p(-rate)) + (had - kept) * np.float32(np.log(rate)), -jnp.inf)
    chosen = jnp.asarray(sets)[jax.random.categorical(key, jnp.where(there.any(axis=1, keepdims=True), logits, 0.0))]
    return {name: _keep(content, chosen[:, number]) for number, (name, content) in enumerate(contents.items())}


def _keep(content: Content, rows: jax.Array) -> Content:
    return content._replace(present=content.present & rows.reshape(-1, *(1,) * (content.present.ndim - 1)))
