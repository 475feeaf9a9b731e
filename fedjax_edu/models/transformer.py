"""Layers of attention and feed-forward networks, dense or of experts."""

import dataclasses
from typing import Any

import jax
from flax import nnx

from fedjax_edu.core.errors import ArgumentError
from fedjax_edu.models.attention import Attention
from fedjax_edu.models.corrections import Prompted
from fedjax_edu.models.experts import Experts, Routed
from fedjax_edu.models.linear import Corrected, Linear
from fedjax_edu.models.tokens import Tokens

Report = dict[str, Routed]  # module -> what it says about the batch


@dataclasses.dataclass(frozen=True, kw_only=True)
class TransformerConfig:
    """Sizes of a transformer.

    Attributes:
        layers: attention and feed-forward network, so many times.
        heads: of the attention.
        hidden: width of the feed-forward networks, in widths of a token.
        experts: of each feed-forward network; 0: dense.
        chosen: experts a token.
        capacity: see :class:`fedjax_edu.models.Experts`, as are the next three.
        balance: weight of the balancing loss.
        z: weight of the z loss.
        bias: rate of balancing by bias.
    """

    layers: int
    heads: int
    hidden: float = 4.0
    experts: int = 0
    chosen: int = 2
    capacity: float | None = None
    balance: float = 1e-2
    z: float = 1e-3
    bias: float = 0.0

    def feed_forward(self, width: int, rngs: nnx.Rngs) -> nnx.Module:
        """One feed-forward network."""
        hidden = round(self.hidden * width)
        if not self.experts:
            return FeedForward(width, hidden, rngs=rngs)
        routing: dict[str, Any] = {name: getattr(self, name) for name in ("experts", "chosen", "capacity", "balance", "z", "bias")}
        return Experts(width, hidden, rngs=rngs, **routing)


class FeedForward(Corrected):
    r"""y = σ(x U + u) V + v, σ the exact GELU.

    Args:
        width: of x and y.
        hidden: of the layer between.
        rngs: source of the starting values.
    """

    def __init__(self, width: int, hidden: int, *, rngs: nnx.Rngs):
        super().__init__(width, width)
        self.into = Linear(width, hidden, rngs=rngs)
        self.out = Linear(hidden, width, rngs=rngs)

    def __call__(self, values: jax.Array) -> jax.Array:
        """[..., width] -> [..., width]."""
        return self.corrected(values, self.out(jax.nn.gelu(self.into(values), approximate=False)))


class Layer(nnx.Module):
    r"""x + A(N(x)), then h + F(N(h)): normalised before each part.

    Args:
        width: of tokens.
        config: sizes.
        rngs: source of the starting values.
        causal: a token reads no later one.

    Reference: Xiong et al. (2020), arXiv:2002.04745.
    """

    def __init__(self, width: int, config: TransformerConfig, *, rngs: nnx.Rngs, causal: bool = False):
        self.attention = Attention(width, config.heads, rngs=rngs, causal=causal)
        self.feed_forward = config.feed_forward(width, rngs)
        self.before_attention, self.before_feed_forward = (nnx.LayerNorm(width, rngs=rngs) for _ in range(2))

    def __call__(self, tokens: Tokens) -> tuple[Tokens, Routed | None]:
        """Tokens, and what experts say, if there are any."""
        values = tokens.values + self.attention(Tokens(self.before_attention(tokens.values), tokens.mask))
        ready = self.before_feed_forward(values)
        if isinstance(self.feed_forward, Experts):
            answers, routed = self.feed_forward(Tokens(ready, tokens.mask))
        else:
            answers, routed = self.feed_forward(ready), None
        return Tokens.masked(values + answers, tokens.mask), routed


class Transformer(Prompted):
    """Layers, one after another; what they add to a token is added to what it was.

    Args:
        width: of tokens.
        config: sizes.
        rngs: source of the starting values.
        causal: a token reads no later one.

    Raises:
        ArgumentError: a causal one of experts with a capacity: a later token would take the room of an earlier one.
    """

    def __init__(self, width: int, config: TransformerConfig, *, rngs: nnx.Rngs, causal: bool = False):
        super().__init__(width)
        if causal and config.experts and config.capacity is not None:
            raise ArgumentError("capacity", config.capacity, "leave it out where histories are read: later steps would refuse earlier ones")
        self.layers = nnx.List([Layer(width, config, rngs=rngs, causal=causal) for _ in range(config.layers)])

    def __call__(self, tokens: Tokens) -> tuple[Tokens, Report]:
        """Tokens, and what the experts of each layer say; a prompt takes part and is left out of both."""
        report: Report = {}
        start = 0
        if self.prompt is not None:
            start = self.prompt.count
            tokens = self.prompt.before(tokens)
        for number, layer in enumerate(self.layers):
            tokens, routed = layer(tokens)
            if routed is not None:
                report[f"layers.{number}"] = routed.after(start)
        return Tokens(tokens.values[:, start:], tokens.mask[:, start:]), report
