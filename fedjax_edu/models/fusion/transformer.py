"""A transformer over the tokens of all modalities."""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from fedjax_edu.models.fusion.fused import Fused
from fedjax_edu.models.tokens import Tokens, anywhere
from fedjax_edu.models.transformer import Report, Transformer, TransformerConfig


class TransformerFusion(nnx.Module):
    """One token reads all others and stands for the row, whatever the task.

    Every token carries a learned vector of its modality. Beside the transformer runs a short cut, the mean of each modality's
    tokens as its encoder made them: tokens of numbers are linear in them, so that heads contain linear regression. Wide modalities
    take the short cut alone: a transformer that sees which words a text has learns texts by heart.

    Args:
        modalities: names of those that the transformer reads.
        width: of tokens.
        config: of the transformer.
        rngs: source of the starting values.
        wide: names of those that it does not read.

    References: Dosovitskiy et al. (2020), arXiv:2010.11929 for the token; Cheng et al. (2016), arXiv:1606.07792 for a linear path beside
    a network.
    """

    def __init__(self, modalities: Sequence[str], width: int, config: TransformerConfig, *, rngs: nnx.Rngs, wide: Sequence[str] = ()):
        def vector() -> nnx.Param[jax.Array]:
            return nnx.Param(0.02 * jax.random.normal(rngs.params(), (width,)))

        refuses = bool(config.experts) and config.capacity is not None  # how many choices depends on how many tokens a batch has room for
        self.leaves_out = not refuses
        self.row = vector()
        self.kinds = nnx.Dict({modality: vector() for modality in modalities})
        self.transformer = Transformer(width, config, rngs=rngs)
        self.last = nnx.LayerNorm(width, rngs=rngs)
        self.wide = tuple(wide)

    def __call__(self, parts: Mapping[str, Tokens], tasks: Sequence[str], domain: jax.Array | None = None) -> Fused:
        """One representation [B, D] for each task, here the same for all, and what experts say.

        Args:
            parts: modality -> tokens.
            tasks: names.
            domain: of the rows; not read here.
        """
        there = jnp.stack([tokens.mask.any(axis=1) for tokens in parts.values()]).any(axis=0)  # experts see no padding, be it as this token
        row = Tokens.masked(jnp.broadcast_to(self.row[...], (len(there), 1, len(self.row[...]))), there[:, None])
        read = {modality: tokens for modality, tokens in parts.items() if modality not in self.wide}
        marked = [
            Tokens.masked(tokens.values + self.kinds[modality][...].reshape(1, 1, -1), tokens.mask) for modality, tokens in read.items()
        ]
        standing, report = self._read(row, marked)
        short_cut = sum(part.mean() for part in parts.values())
        return Fused(dict.fromkeys(tasks, self.last(standing) + short_cut), report)

    def _read(self, row: Tokens, parts: list[Tokens]) -> tuple[jax.Array, Report]:
        """What the row's token has read, [B, D]. Batches without the modality that has most of the tokens do not pay for these."""

        def whole() -> tuple[jax.Array, Report]:
            tokens, report = self.transformer(Tokens.join(row, *parts))
            return tokens.values[:, 0], {name: routed.after(1) for name, routed in report.items()}

        lengths = [part.mask.shape[1] for part in parts]
        most = max(lengths, default=0)
        if not self.leaves_out or len(parts) < 2 or 2 * most < sum(lengths):
            return whole()
        longest = lengths.index(most)
        start = sum(lengths[:longest])

        def without() -> tuple[jax.Array, Report]:
            tokens, report = self.transformer(Tokens.join(row, *parts[:longest], *parts[longest + 1 :]))
            return tokens.values[:, 0], {name: routed.after(1).with_absent(start, most) for name, routed in report.items()}

        return lax.cond(anywhere(parts[longest].mask.any()), whole, without)
