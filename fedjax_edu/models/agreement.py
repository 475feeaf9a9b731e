"""Losses by which representations of modalities agree with a joint one (FedMVP)."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from fedjax_edu.core.errors import check_positive

Seen = Mapping[str, tuple[jax.Array, jax.Array]]  # modality -> representations [B, d] and which rows have it, bool [B]


def contrastive_matching(joint: jax.Array, seen: Seen, *, temperature: float = 0.1) -> jax.Array:
    r"""How well each row's joint representation is told from other rows' by its modalities (MCM), sum over modalities.

    With the 2 B rows z of both, :math:`S_{ab} = e^{\langle z_a, z_b \rangle / \tau}` and :math:`S_{aa} = 0`,

    .. math:: \ell_m = -\frac{1}{2B} \sum_a \log \frac{e^{\langle z^{joint}, z^m \rangle_a / \tau}}{\sum_b S_{ab}}

    where a row that lacks the modality, and its joint representation, are left out of both sums.

    Args:
        joint: [B, d], rows of norm 1.
        seen: by modality, representations with rows of norm 1, and which are there.
        temperature: :math:`\tau`.

    Returns:
        Scalar; 0 for modalities of which nothing is there.

    Reference: Che et al. (2024), "FedMVP", arXiv:2406.11048. There the sum is multiplied by 0.01.
    """
    temperature = check_positive("temperature", temperature)
    return jnp.sum(jnp.stack([_matching(joint, values, there, temperature) for values, there in seen.values()]))


def _matching(joint: jax.Array, values: jax.Array, there: jax.Array, temperature: float) -> jax.Array:
    both = jnp.concatenate([jnp.where(there[:, None], each, 0.0) for each in (joint, values)])
    valid = jnp.concatenate([there, there])
    others = valid[None, :] & ~jnp.eye(len(both), dtype=bool)
    scores = both @ both.T / temperature
    total = jax.nn.logsumexp(scores, axis=1, where=others | ~valid[:, None])
    own = jnp.tile(jnp.sum(both[: len(joint)] * both[len(joint) :], axis=1), 2) / temperature
    return jnp.sum(jnp.where(valid, total - own, 0.0)) / jnp.maximum(valid.sum(), 1).astype(joint.dtype)


def aligned_margin(joint: jax.Array, joint_loss: jax.Array, seen: Seen, losses: Mapping[str, jax.Array], rows: jax.Array) -> jax.Array:
    r"""Pulls the joint representation to modalities that do better than it (RAM).

    .. math:: \frac{1}{B} \sum_{m :\, L_m < L_{joint}} \lVert Z^{joint} - Z^m \rVert_F

    over the rows that have the modality; losses are means over them and pass no gradient.

    Args:
        joint: [B, d].
        joint_loss: [B], of the joint prediction.
        seen: by modality, representations and which are there.
        losses: [B] by modality, of the prediction from it alone.
        rows: bool [B], the rows of the batch that are no padding.

    Returns:
        Scalar.

    Reference: Che et al. (2024), "FedMVP", arXiv:2406.11048. There it is multiplied by 0.5, and compared over all rows.
    """
    total = jnp.zeros((), joint.dtype)
    for modality, (values, present) in seen.items():
        there = present & rows
        better = _mean(losses[modality], there) < _mean(joint_loss, there)
        square = jnp.sum(jnp.where(there[:, None], joint - values, 0.0) ** 2)
        distance = jnp.sqrt(jnp.where(square > 0, square, 1.0))  # of nothing the root would have no gradient
        total = total + jnp.where(better & (square > 0), distance, 0.0)
    return total / jnp.maximum(rows.sum(), 1).astype(joint.dtype)


def _mean(values: jax.Array, there: jax.Array) -> jax.Array:
    total = jnp.sum(jnp.where(there, jax.lax.stop_gradient(values), 0.0))
    return total / jnp.maximum(there.sum(), 1).astype(values.dtype)
