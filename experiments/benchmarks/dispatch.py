"""Ways to bring tokens to experts: ours, and those of others, as functions of the same parameters."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from fedjax_edu.models import Experts, Tokens, functional

Params = dict[str, jax.Array]
Layer = Callable[[Params, jax.Array], jax.Array]  # parameters, tokens [N, D] -> answers [N, D]


class Sizes(NamedTuple):
    """Of a layer and what it reads.

    Args:
        tokens: N.
        width: D.
        hidden: of an expert.
        experts: E.
        chosen: k.
    """

    tokens: int = 1024
    width: int = 128
    hidden: int = 512
    experts: int = 8
    chosen: int = 2


def start(sizes: Sizes) -> Params:
    """Parameters by name."""
    params = functional(_ours(sizes, None))[1]
    return {name: value["kernel"] if name == "router" else value for name, value in params.items()}


def ours(sizes: Sizes, capacity: float | None) -> Layer:
    """:class:`fedjax_edu.models.Experts`.

    Args:
        sizes: of the layer.
        capacity: room of an expert, in its even share; None: every choice finds room.
    """
    apply, like = functional(_ours(sizes, capacity))

    def layer(params: Params, rows: jax.Array) -> jax.Array:
        nested = {**{name: params[name] for name in like if name != "router"}, "router": {"kernel": params["router"]}}
        return apply(nested, Tokens(rows[None], jnp.ones((1, len(rows)), bool)))[0][0]

    return layer


def one_hot(sizes: Sizes, capacity: float) -> Layer:
    """Products with one-hot tensors [N, E, C] bring tokens to slots and answers back.

    Reference: Lepikhin et al. (2020), arXiv:2006.16668.
    """
    room = -int(-capacity * sizes.chosen * sizes.tokens // sizes.experts)

    def layer(params: Params, rows: jax.Array) -> jax.Array:
        gates, choice = _route(params, rows, sizes.chosen)
        wants = jax.nn.one_hot(choice, sizes.experts)
        first = wants.swapaxes(0, 1).reshape(-1, sizes.experts)  # first choices of all tokens come first
        place = ((jnp.cumsum(first, axis=0) - first) * first).sum(axis=1).reshape(sizes.chosen, -1).T
        slots = jax.nn.one_hot(place.astype(jnp.int32), room)
        dispatch = jnp.einsum("nke,nkc->nec", wants, slots)
        held = jnp.einsum("nec,nd->ecd", dispatch, rows)
        combine = jnp.einsum("nk,nke,nkc->nec", gates, wants, slots)
        return jnp.einsum("nec,ecd->nd", combine, _batched(params, held))

    return layer


def ragged(sizes: Sizes) -> Layer:
    """Tokens in the order of their experts, and ``jax.lax.ragged_dot``.

    Reference: Gale et al. (2022), arXiv:2211.15841, for sorting.
    """

    def layer(params: Params, rows: jax.Array) -> jax.Array:
        gates, choice = _route(params, rows, sizes.chosen)
        order = jnp.argsort(choice.reshape(-1), stable=True)
        token, expert = order // sizes.chosen, choice.reshape(-1)[order]
        counts = jnp.bincount(choice.reshape(-1), length=sizes.experts)
        hidden = _gelu(lax.ragged_dot(rows[token], params["into"], counts) + params["into_bias"][expert])
        answers = lax.ragged_dot(hidden, params["out"], counts) + params["out_bias"][expert]
        return jnp.zeros_like(rows).at[token].add(gates.reshape(-1)[order][:, None] * answers)

    return layer


def everybody(sizes: Sizes) -> Layer:
    """Every expert reads every token; most answers count nothing."""

    def layer(params: Params, rows: jax.Array) -> jax.Array:
        gates, choice = _route(params, rows, sizes.chosen)
        weights = jnp.einsum("nk,nke->ne", gates, jax.nn.one_hot(choice, sizes.experts))
        held = jnp.broadcast_to(rows, (sizes.experts, *rows.shape))
        return jnp.einsum("ne,end->nd", weights, _batched(params, held))

    return layer


def _ours(sizes: Sizes, capacity: float | None) -> Experts:
    return Experts(
        sizes.width, sizes.hidden, experts=sizes.experts, chosen=sizes.chosen, capacity=capacity, balance=0.0, z=0.0, rngs=nnx.Rngs(0)
    )


def _route(params: Params, rows: jax.Array, chosen: int) -> tuple[jax.Array, jax.Array]:
    """Gates and experts of each token, [N, k] each."""
    values, choice = lax.top_k(rows @ params["router"], chosen)
    return jax.nn.softmax(values), choice


def _batched(params: Params, held: jax.Array) -> jax.Array:
    """What every expert says of the tokens that it holds, [E, C, D]."""
    hidden = _gelu(jnp.einsum("ecd,edh->ech", held, params["into"]) + params["into_bias"][:, None])
    return jnp.einsum("ech,ehd->ecd", hidden, params["out"]) + params["out_bias"][:, None]


def _gelu(values: jax.Array) -> jax.Array:
    return jax.nn.gelu(values, approximate=False)
