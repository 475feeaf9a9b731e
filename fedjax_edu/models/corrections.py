"""Small trainable parts for a model whose own weights stay: low-rank matrices, adapters, prompts."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from fedjax_edu.core.errors import ArgumentError
from fedjax_edu.core.low_rank import LOW_RANK, cut_ranks
from fedjax_edu.core.trees import Tree
from fedjax_edu.models.linear import Corrected, Linear
from fedjax_edu.models.tokens import Tokens


class AdapterParam(nnx.Param[Any]):
    """A parameter of an adapter; :func:`fedjax_edu.models.functional` gathers these under ``adapters``."""


class PromptParam(nnx.Param[Any]):
    """Tokens that are learned; :func:`fedjax_edu.models.functional` gathers these under ``prompts``."""


class LowRank(nnx.Module):
    r"""Adds :math:`\frac{\alpha}{r} x A B`, a matrix of rank r; zero at the start.

    Args:
        inputs: width of x.
        outputs: of what is added.
        rank: r.
        alpha: :math:`\alpha`.
        rngs: source of A; B starts at zero.

    Reference: Hu et al. (2021), arXiv:2106.09685. There A and B are transposed and stand in the other order.
    """

    def __init__(self, inputs: int, outputs: int, *, rank: int, alpha: float, rngs: nnx.Rngs):
        self.a = nnx.LoRAParam(jax.random.normal(rngs.params(), (inputs, rank)) / inputs**0.5)
        self.b = nnx.LoRAParam(jnp.zeros((rank, outputs)))
        self.scale = alpha / rank

    def __call__(self, inputs: jax.Array, outputs: jax.Array) -> jax.Array:
        """[..., inputs] -> [..., outputs]."""
        rows = inputs.reshape(-1, inputs.shape[-1])  # of more axes XLA's CPU backend makes gradients that take twice as long
        return self.scale * ((rows @ self.a[...]) @ self.b[...]).reshape(*inputs.shape[:-1], -1)


class Adapter(nnx.Module):
    r"""Adds :math:`\sigma(x U + u) V + v`; zero at the start.

    Args:
        reads: ``"inputs"`` of the layer, so that the adapter stands beside it; ``"outputs"``, so that it stands behind it.
        inputs: width of what is read.
        outputs: of what is added.
        hidden: of the layer between.
        rngs: source of U; V starts at zero.

    References: Houlsby et al. (2019), arXiv:1902.00751 for the one behind; He et al. (2021), arXiv:2110.04366 for the one beside.
    """

    def __init__(self, reads: str, inputs: int, outputs: int, *, hidden: int, rngs: nnx.Rngs):
        self.into = AdapterParam(jax.random.normal(rngs.params(), (inputs, hidden)) / inputs**0.5)
        self.into_bias = AdapterParam(jnp.zeros(hidden))
        self.out = AdapterParam(jnp.zeros((hidden, outputs)))
        self.out_bias = AdapterParam(jnp.zeros(outputs))
        self.reads = reads

    def __call__(self, inputs: jax.Array, outputs: jax.Array) -> jax.Array:
        """[..., width of what is read] -> [..., outputs]."""
        read = inputs if self.reads == "inputs" else outputs
        ones = (1,) * (read.ndim - 1)
        hidden = jax.nn.gelu(read @ self.into[...] + self.into_bias[...].reshape(*ones, -1), approximate=False)
        return hidden @ self.out[...] + self.out_bias[...].reshape(*ones, -1)


class Prompt(nnx.Module):
    """Learned tokens in front of those of a row.

    Args:
        tokens: how many.
        width: of each.
        rngs: source of them.

    Reference: Lester et al. (2021), arXiv:2104.08691.
    """

    def __init__(self, tokens: int, width: int, *, rngs: nnx.Rngs):
        self.values = PromptParam(0.02 * jax.random.normal(rngs.params(), (tokens, width)))
        self.count = tokens

    def before(self, tokens: Tokens) -> Tokens:
        """The prompt and then the tokens; of a row without a token there is neither."""
        shape = (len(tokens.mask), *self.values[...].shape)
        there = jnp.broadcast_to(tokens.mask.any(axis=1, keepdims=True), shape[:2])
        return Tokens.join(Tokens.masked(jnp.broadcast_to(self.values[...], shape), there), tokens)


class Prompted(nnx.Module):
    """A stack of layers to whose tokens a prompt can be added.

    Args:
        width: of tokens.
    """

    def __init__(self, width: int):
        self.width = width
        self.prompt: Prompt | None = nnx.data(None)


Where = Callable[[str], bool]  # of a layer's dotted path


def add_low_rank(model: nnx.Module, where: Where, *, rank: int, alpha: float | None = None, seed: int | jax.Array = 0) -> None:
    """Adds a low-rank matrix to linear layers; outputs stay as they are until it is trained.

    Args:
        model: changed in place; split it afterwards.
        where: which linear layers, by their dotted paths.
        rank: r of all of them; :func:`mask_ranks` gives a client less.
        alpha: the matrix is multiplied by ``alpha / rank``; None: by one.
        seed: of the starting values, or a key.

    Raises:
        ArgumentError: no layer taken, or a rank below 1.

    >>> model = Linear(3, 5, rngs=nnx.Rngs(0))
    >>> add_low_rank(model, lambda path: True, rank=2)
    >>> from fedjax_edu.models.function import functional
    >>> sorted(functional(model)[1])
    ['bias', 'kernel', 'lora']
    """
    rngs = nnx.Rngs(seed)
    if rank < 1:
        raise ArgumentError("rank", rank, "use 1 or more")
    for layer in _taken(model, where, Linear):
        inputs, outputs = layer.kernel[...].shape
        layer.corrections.append(LowRank(inputs, outputs, rank=rank, alpha=rank if alpha is None else alpha, rngs=rngs))


def add_adapters(model: nnx.Module, where: Where, *, hidden: int, reads: str = "outputs", seed: int = 0) -> None:
    """Adds an adapter to feed-forward networks or linear layers; outputs stay as they are until it is trained.

    Args:
        model: changed in place; split it afterwards.
        where: which layers, by their dotted paths.
        hidden: width of the layer between.
        reads: ``"outputs"`` of the layer, or ``"inputs"``: a parallel adapter.
        seed: of the starting values.

    Raises:
        ArgumentError: no layer taken, a width below 1, or something else to read.
    """
    rngs = nnx.Rngs(seed)
    if hidden < 1:
        raise ArgumentError("hidden", hidden, "use 1 or more")
    if reads not in ("inputs", "outputs"):
        raise ArgumentError("reads", reads, 'use "inputs" or "outputs"')
    for layer in _taken(model, where, Corrected):
        inputs, outputs = layer.widths
        layer.corrections.append(Adapter(reads, inputs if reads == "inputs" else outputs, outputs, hidden=hidden, rngs=rngs))


def add_prompts(model: nnx.Module, where: Where, *, tokens: int, seed: int = 0) -> None:
    """Puts learned tokens in front of those that transformers read.

    Args:
        model: changed in place; split it afterwards.
        where: which transformers, by their dotted paths; the model itself has the path ``""``.
        tokens: of each prompt.
        seed: of the starting values.

    Raises:
        ArgumentError: no transformer taken, or a number below 1.
    """
    rngs = nnx.Rngs(seed)
    if tokens < 1:
        raise ArgumentError("tokens", tokens, "use 1 or more")
    for transformer in _taken(model, where, Prompted):
        transformer.prompt = Prompt(tokens, transformer.width, rngs=rngs)


def mask_ranks(params: Tree, rank: jax.Array | int) -> Tree:
    """Parameters whose low-rank matrices count up to a rank only; the rest has gradients of exactly zero.

    Args:
        params: with low-rank matrices, ``a`` [..., inputs, r] and ``b`` [..., r, outputs], under ``lora``.
        rank: may be traced, so that every client can have its own.

    Returns:
        The same tree, zeros in the columns of ``a`` and the rows of ``b`` from `rank` on.

    Raises:
        ArgumentError: parameters without low-rank matrices.
    """
    if LOW_RANK not in params:
        raise ArgumentError("params", sorted(params), "add low-rank matrices to the model before it is split")
    return cut_ranks(params, rank)


def _taken(model: nnx.Module, where: Where, kind: type[Any]) -> Iterator[Any]:
    layers = [(".".join(map(str, path)), layer) for path, layer in nnx.iter_modules(model) if isinstance(layer, kind)]
    taken = [layer for path, layer in sorted(layers, key=lambda pair: pair[0]) if where(path)]
    if not taken:
        raise ArgumentError("where", "nothing taken", f"take some of {', '.join(path for path, _ in layers[:20])}")
    return iter(taken)
