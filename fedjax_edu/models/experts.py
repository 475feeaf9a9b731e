"""A mixture of experts: a router sends each token to a few of many feed-forward networks."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from fedjax_edu.core.errors import ArgumentError
from fedjax_edu.models.linear import Linear
from fedjax_edu.models.tokens import Tokens, where_present

BLOCK = 128  # rows of a block at most: so many rows that reading an expert's matrices costs little beside multiplying by them


class Routed(NamedTuple):
    """What a layer of experts says about a batch; padding and absent tokens are in none of it.

    Args:
        loss: scalar, to be added to a training loss: balancing and z terms with their weights.
        choices: float [B, T, E], 1 where a token chose an expert.
        entropy: float [B, T], of the router's probabilities of each token, nats.
        dropped: float [B, T], how many of a token's choices an expert without room refused.
    """

    loss: jax.Array
    choices: jax.Array
    entropy: jax.Array
    dropped: jax.Array

    def after(self, start: int) -> "Routed":
        """What it says about the tokens from `start` on; the loss is still that of all."""
        return Routed(self.loss, *(leaf[:, start:] for leaf in self[1:]))

    def with_absent(self, start: int, count: int) -> "Routed":
        """The same with `count` tokens more from `start` on, which are not there."""

        def widened(leaf: jax.Array) -> jax.Array:
            absent = jnp.zeros((len(leaf), count, *leaf.shape[2:]), leaf.dtype)
            return jnp.concatenate([leaf[:, :start], absent, leaf[:, start:]], axis=1)

        return Routed(self.loss, *map(widened, self[1:]))


class Places(NamedTuple):
    """Where choices go: S stacks of M slots each, a stack read by one expert.

    Args:
        source: int [S, M], number of the token in a slot; the number of tokens where a slot is empty.
        slot: int [choices], the slot of each choice; S · M where it was refused.
        owner: int [S], the expert of each stack; None: stack e is expert e's.
    """

    source: jax.Array
    slot: jax.Array
    owner: jax.Array | None


class Experts(nnx.Module):
    r"""Sends each token x to the k experts with the highest probability and adds what they answer.

    .. math:: p = \mathrm{softmax}(x W_r), \quad K = \mathrm{top}_k(x W_r + \beta), \quad
        y = \sum_{e \in K} g_e \, E_e(x), \quad g_e = \frac{p_e}{\sum_{j \in K} p_j}, \quad E_e(x) = \sigma(x U_e + u_e) V_e + v_e

    Gates are divided by their sum, except with k = 1: there the router would have no gradient, so :math:`g = p`.

    The batch's loss keeps experts busy and logits small, with f_e the share of choices that went to e and P_e its mean probability:

    .. math:: L = \alpha E \sum_e f_e P_e + \zeta \, \overline{\log^2 \textstyle\sum_e \exp(x W_r)_e}
        + \rho \sum_e \beta_e \, \mathrm{sign}(f_e - 1/E)

    The last term counts as zero but its gradient does not: plain gradient descent with rate η on it is
    :math:`\beta_e \leftarrow \beta_e + \eta\rho \, \mathrm{sign}(1/E - f_e)`, balancing without a loss. :math:`\beta` orders experts
    only, it is in no gate.

    Args:
        width: of tokens.
        hidden: of an expert.
        experts: E.
        chosen: k.
        capacity: None: every choice finds room. Otherwise an expert takes ``ceil(capacity * k * tokens / E)`` choices of a batch, first
            choices first, then in order; a refused choice adds nothing.
        balance: :math:`\alpha`.
        z: :math:`\zeta`.
        bias: :math:`\rho`; 0: no :math:`\beta`.
        rngs: source of the starting values.

    Raises:
        ArgumentError: more chosen than experts, or a capacity that is not positive.

    References: Shazeer et al. (2017), arXiv:1701.06538; Fedus et al. (2021), arXiv:2101.03961 for the balancing loss (f divided by k
    here) and capacity; Zoph et al. (2022), arXiv:2202.08906 for z; Wang et al. (2024), arXiv:2408.15664 for the bias, whose rule is here
    a gradient, so that clients aggregate it as any parameter; Gale et al. (2022), arXiv:2211.15841 for blocks.
    """

    def __init__(
        self,
        width: int,
        hidden: int,
        *,
        experts: int,
        chosen: int = 2,
        capacity: float | None = None,
        balance: float = 1e-2,
        z: float = 1e-3,
        bias: float = 0.0,
        rngs: nnx.Rngs,
    ):
        if not 1 <= chosen <= experts:
            raise ArgumentError("chosen", chosen, f"use 1 .. {experts}, the number of experts")
        if capacity is not None and not capacity > 0:
            raise ArgumentError("capacity", capacity, "use a positive number, or None so that no choice is refused")
        self.router = Linear(width, experts, rngs=rngs, bias=False)
        self.order = nnx.Param(jnp.zeros(experts)) if bias else None
        self.into = nnx.Param(jax.random.normal(rngs.params(), (experts, width, hidden)) / width**0.5)
        self.into_bias = nnx.Param(jnp.zeros((experts, hidden)))
        self.out = nnx.Param(jax.random.normal(rngs.params(), (experts, hidden, width)) / hidden**0.5)
        self.out_bias = nnx.Param(jnp.zeros((experts, width)))
        self.experts, self.chosen, self.capacity = experts, chosen, capacity
        self.balance, self.z, self.rate = balance, z, bias

    def __call__(self, tokens: Tokens) -> tuple[jax.Array, Routed]:
        """Tokens of width D -> their answers [B, T, D], zeros for those that are not there, and what to say about it."""
        batch, length, width = tokens.values.shape
        rows, mask = tokens.values.reshape(-1, width), tokens.mask.reshape(-1)
        logits = self.router(rows)
        order = logits if self.order is None else logits + lax.stop_gradient(self.order[...])[None, :]
        choice = lax.top_k(order, self.chosen)[1]
        gates = self._gates(logits, choice)
        places = self._places(choice, mask)
        answers = self._answer(rows, places)
        kept = places.slot < answers.shape[0]
        read = jnp.take(answers, places.slot, axis=0, mode="fill", fill_value=0).reshape(len(rows), self.chosen, width)
        mixed = jnp.einsum("nk,nkd->nd", gates, read)
        return mixed.reshape(batch, length, width), self._report(logits, choice, kept, tokens.mask)

    def _gates(self, logits: jax.Array, choice: jax.Array) -> jax.Array:
        if self.chosen == 1:
            return jnp.take_along_axis(jax.nn.softmax(logits), choice, axis=1)
        return jax.nn.softmax(jnp.take_along_axis(logits, choice, axis=1))

    def _places(self, choice: jax.Array, mask: jax.Array) -> Places:
        count = choice.size
        if self.capacity is None:
            block = max(1, min(BLOCK, count // (2 * self.experts)))
            return blocks(choice, mask, self.experts, block)
        return stacks(choice, mask, self.experts, max(1, -int(-self.capacity * count // self.experts)))

    def _answer(self, rows: jax.Array, places: Places) -> jax.Array:
        """What experts say in their slots, [slots, D]."""

        def of_stacks(leaf: nnx.Param[jax.Array]) -> jax.Array:
            return leaf[...] if places.owner is None else leaf[...][places.owner]

        held = jnp.take(rows, places.source, axis=0, mode="fill", fill_value=0)
        hidden = jax.nn.gelu(jnp.einsum("smd,sdh->smh", held, of_stacks(self.into)) + of_stacks(self.into_bias)[:, None], approximate=False)
        answers = jnp.einsum("smh,shd->smd", hidden, of_stacks(self.out)) + of_stacks(self.out_bias)[:, None]
        return answers.reshape(-1, answers.shape[2])

    def _report(self, logits: jax.Array, choice: jax.Array, kept: jax.Array, mask: jax.Array) -> Routed:
        there = mask.reshape(-1)
        total = jnp.maximum(there.sum(dtype=logits.dtype), 1.0)

        def mean(values: jax.Array) -> jax.Array:
            return where_present(there, values).sum(axis=0) / total

        chosen = jax.nn.one_hot(choice, self.experts, dtype=logits.dtype).sum(axis=1)
        logs = jax.nn.log_softmax(logits)
        share = lax.stop_gradient(mean(chosen)) / self.chosen
        loss = self.balance * self.experts * jnp.sum(share * mean(jnp.exp(logs)))
        loss = loss + self.z * mean(jax.nn.logsumexp(logits, axis=1) ** 2)
        if self.order is not None:
            pull = self.rate * jnp.sum(self.order[...] * jnp.sign(share - 1 / self.experts))
            loss = loss + pull - lax.stop_gradient(pull)
        refused = (~kept).reshape(choice.shape).sum(axis=1, dtype=logits.dtype)
        return Routed(
            loss=loss,
            choices=where_present(mask, chosen.reshape(*mask.shape, -1)),
            entropy=where_present(mask, -jnp.sum(jnp.exp(logs) * logs, axis=1).reshape(mask.shape)),
            dropped=where_present(mask, refused.reshape(mask.shape)),
        )


def stacks(choice: jax.Array, mask: jax.Array, experts: int, capacity: int) -> Places:
    """A stack of `capacity` slots for each expert; first choices of all tokens come before second ones, and tokens in order.

    Args:
        choice: int [tokens, k], experts in order of preference.
        mask: bool [tokens].
        experts: E.
        capacity: slots of an expert.

    >>> places = stacks(jnp.array([[1], [1], [0]]), jnp.array([True, True, True]), experts=2, capacity=1)
    >>> places.source.tolist(), places.slot.tolist()
    ([[2], [0]], [1, 2, 0])
    """
    wanted, position, _ = _queue(choice, mask, experts)
    slot = jnp.where((wanted < experts) & (position < capacity), wanted * capacity + position, experts * capacity)
    return _filled(slot, choice, (experts, capacity), None)


def blocks(choice: jax.Array, mask: jax.Array, experts: int, block: int) -> Places:
    """As many stacks of `block` slots for an expert as its tokens fill: nothing is refused, and at most a block an expert is empty.

    Args:
        choice: int [tokens, k].
        mask: bool [tokens].
        experts: E.
        block: slots of a stack.
    """
    wanted, position, load = _queue(choice, mask, experts)
    ends = jnp.cumsum(-(-load // block), dtype=jnp.int32)  # in stacks
    starts = jnp.concatenate([jnp.zeros(1, ends.dtype), ends])  # a start for nobody too, who is expert E
    count = -(-choice.size // block) + experts
    slot = jnp.where(wanted < experts, starts[wanted] * block + position, count * block)
    owner = jnp.minimum(jnp.searchsorted(ends, jnp.arange(count, dtype=jnp.int32), side="right"), experts - 1)
    return _filled(slot, choice, (count, block), owner)


def _queue(choice: jax.Array, mask: jax.Array, experts: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """(expert that each choice wants, E for absent tokens; its place in that expert's queue; lengths of the queues)."""
    wanted = jnp.where(mask[:, None], choice, experts)
    wants = jax.nn.one_hot(wanted.T.reshape(-1), experts, dtype=jnp.int32)  # first choices first
    before = jnp.cumsum(wants, axis=0) - wants
    position = jnp.sum(before * wants, axis=1, dtype=jnp.int32).reshape(choice.shape[::-1]).T
    return wanted.reshape(-1), position.reshape(-1), wants.sum(axis=0, dtype=jnp.int32)


def _filled(slot: jax.Array, choice: jax.Array, shape: tuple[int, int], owner: jax.Array | None) -> Places:
    tokens, chosen = choice.shape
    token = jnp.repeat(jnp.arange(tokens), chosen)
    source = jnp.full(shape[0] * shape[1], tokens).at[slot].set(token, mode="drop")
    return Places(source.reshape(shape), slot, owner)
