"""A joint encoder: modalities read each other, then all of their tokens, in a space that each of them shares."""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from fedjax_edu.models.attention import Attention
from fedjax_edu.models.fusion.fused import Fused, Views
from fedjax_edu.models.linear import Linear
from fedjax_edu.models.tokens import Tokens
from fedjax_edu.models.transformer import Transformer, TransformerConfig


class JointFusion(nnx.Module):
    r"""Tokens of each modality read those of the others, then a transformer reads all; one map leads from there, and from each modality
    alone, to unit vectors.

    .. math:: z = \overline{\mathrm{unit}(C t)}, \qquad z_m = \mathrm{unit}(C \bar x_m), \qquad z + V \max(0, U z + u) + v

    is what heads read, with t the tokens behind the transformer, :math:`\bar x_m` the mean of a modality's tokens as its encoder made them,
    and bars over tokens that are there.

    Args:
        modalities: names.
        width: of tokens.
        config: of the transformer.
        rngs: source of the starting values.

    Reference: Che et al. (2024), "FedMVP", arXiv:2406.11048. We differ: any number of modalities, each normalised before it reads.
    """

    def __init__(self, modalities: Sequence[str], width: int, config: TransformerConfig, *, rngs: nnx.Rngs):
        self.before = nnx.Dict({modality: nnx.LayerNorm(width, rngs=rngs) for modality in modalities})
        self.crossing = nnx.Dict({modality: Attention(width, config.heads, rngs=rngs) for modality in modalities})
        self.transformer = Transformer(width, config, rngs=rngs)
        self.last = nnx.LayerNorm(width, rngs=rngs)
        self.common, self.into, self.out = (Linear(width, width, rngs=rngs) for _ in range(3))

    def __call__(self, parts: Mapping[str, Tokens], tasks: Sequence[str], domain: jax.Array | None = None) -> Fused:
        """One representation [B, D] for each task, here the same for all, what experts say, and the views.

        Args:
            parts: modality -> tokens.
            tasks: names.
            domain: of the rows; not read here.
        """
        tokens, report = self.transformer(Tokens.join(*(self._crossed(modality, parts) for modality in parts)))
        joint = Tokens.masked(_unit(self.common(self.last(tokens.values))), tokens.mask).mean()
        alone = {modality: (self._alone(own), own.mask.any(axis=1)) for modality, own in parts.items()}
        representation = joint + self.out(jax.nn.relu(self.into(joint)))
        return Fused(dict.fromkeys(tasks, representation), report, Views(joint, alone))

    def _crossed(self, modality: str, parts: Mapping[str, Tokens]) -> Tokens:
        """A modality's tokens, to which what they read of the others' is added."""
        own = parts[modality]
        others = [Tokens(self.before[name](tokens.values), tokens.mask) for name, tokens in parts.items() if name != modality]
        if not others:
            return own
        read = Tokens.join(*others)
        answers = self.crossing[modality](Tokens(self.before[modality](own.values), own.mask), read)
        some = read.mask.any(axis=1)[:, None, None]
        return Tokens.masked(own.values + jnp.where(some, answers, jnp.zeros_like(answers)), own.mask)

    def _alone(self, own: Tokens) -> jax.Array:
        there = own.mask.any(axis=1, keepdims=True)
        seen = _unit(self.common(own.mean()))
        return jnp.where(there, seen, jnp.zeros_like(seen))


def _unit(values: jax.Array) -> jax.Array:
    """Rows of norm 1; zeros stay zeros."""
    square = jnp.sum(values**2, axis=-1, keepdims=True)
    return values / jnp.sqrt(jnp.where(square > 0, square, 1.0))
