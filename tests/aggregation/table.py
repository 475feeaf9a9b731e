"""The table of aggregators: one row each, run through every test of test_suite.py."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_edu.aggregation import Chain, chain, clip, mean, quantise, randk, sign, topk
from fedjax_edu.core.algorithm import Channel
from tests.aggregation.puppet import MODULES, PARAMS
from tests.reference.clients import context


class Seen(NamedTuple):
    """What a twin is told beside the update.

    Args:
        weight: [modules], of the client.
        rounds: sums taken before.
        key: the chain's key of the client and the round.
    """

    weight: np.ndarray
    rounds: int
    key: jax.Array


Twin = Callable[[Any, Any, Seen], tuple[Any, Any, dict[str, float]]]
"""``(update, memory, seen) -> (update, memory, {statistic: value})``: a client half on one private value in NumPy."""

ZEROS = jax.tree.map(lambda leaf: np.zeros(leaf.shape), PARAMS)
OWNERS = MODULES.owners(PARAMS)


class Row(NamedTuple):
    """An aggregator under test.

    Args:
        name: of the test case.
        make: the chain.
        twin: its client half in NumPy.
        sensitivity: largest norm of a private value after the client half.
        bytes: of the private channel, counted by hand: encoder (leaves of 2 and 6), head (4) and scale (1).
        memory: what the twin remembers of a client at first, leaf for leaf the client state of the chain.
        transparent: whether an update of small norm passes unchanged.
    """

    name: str
    make: Callable[[], Chain]
    twin: Twin
    sensitivity: float = math.inf
    bytes: tuple[int, int, int] = (32, 16, 4)
    memory: Any = ()
    transparent: bool = True


def norm(tree: Any) -> float:
    return float(np.linalg.norm(np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])))


def _mean(update, memory, seen):
    return update, memory, {}


def _clip(bound: float) -> Twin:
    def twin(update, memory, seen):
        size = norm(update)
        scale = min(1.0, bound / size) if size else 1.0
        return jax.tree.map(lambda leaf: leaf * scale, update), memory, {"clip.norm": size, "clip.clipped": float(size > bound)}

    return twin


def _clip_by_module(bound: float) -> Twin:
    def twin(update, memory, seen):
        sizes = {module: norm(part) for module, part in update.items()}
        shares = {module: min(1.0, bound / 3**0.5 / size) if size else 1.0 for module, size in sizes.items()}
        clipped = {module: jax.tree.map(lambda leaf, share=shares[module]: leaf * share, part) for module, part in update.items()}
        return clipped, memory, {"clip.norm": norm(update), "clip.clipped": np.mean([share < 1 for share in shares.values()])}

    return twin


def _with_memory(name: str, compress: Callable[[np.ndarray, int, Seen], np.ndarray]) -> Twin:
    """Error feedback around ``(p, number of the leaf, seen) -> sent``."""

    def twin(update, memory, seen):
        leaves, form = jax.tree.flatten(update)
        sent, kept = [], []
        for number, (leaf, old, owner) in enumerate(zip(leaves, jax.tree.leaves(memory), jax.tree.leaves(OWNERS), strict=True)):
            goes = seen.weight[owner] > 0
            sent.append(compress(old + leaf, number, seen) if goes else np.zeros_like(leaf))
            kept.append(old + leaf - sent[-1] if goes else old)
        return form.unflatten(sent), form.unflatten(kept), {f"{name}.residual": norm(kept)}

    return twin


def _topk(fraction: float) -> Twin:
    def compress(p, number, seen):
        order = np.argsort(-np.abs(p), axis=None, kind="stable")[: math.ceil(fraction * p.size)]
        return np.where(np.isin(np.arange(p.size), order).reshape(p.shape), p, 0.0)

    return _with_memory("topk", compress)


def drawn(link, rounds: int, params=PARAMS, modules=MODULES, seed: int = 0):
    """The coordinates that a link sends of a client without memory: of an update of ones, where its answer is not 0."""
    ones = jax.tree.map(lambda leaf: jnp.ones(leaf.shape), params)
    channel = {"update": Channel(ones, jnp.ones(()), True)}
    channels, _, _ = link.client(jnp.int32(rounds), jax.tree.map(jnp.zeros_like, ones), channel, context(modules, seed=seed))
    return jax.tree.map(lambda leaf: np.asarray(leaf) != 0, channels["update"].value)


def _randk(fraction: float, seed: int) -> Twin:
    link, masks = randk(fraction, seed), {}

    def compress(p, number, seen):
        if seen.rounds not in masks:
            masks[seen.rounds] = jax.tree.leaves(drawn(link, seen.rounds))
        return np.where(masks[seen.rounds][number], p, 0.0)

    return _with_memory("randk", compress)


def _sign(p, number, seen):
    return np.abs(p).mean() * np.sign(p)


def _quantise(levels: int, position: int) -> Twin:
    """Tosses the coins of the link that stands at `position` of the chain."""

    def twin(update, memory, seen):
        leaves, form = jax.tree.flatten(update)
        key = jax.random.fold_in(seen.key, position)
        found = []
        for number, leaf in enumerate(leaves):
            coins = np.asarray(jax.random.uniform(jax.random.fold_in(key, number), leaf.shape))
            size = np.linalg.norm(leaf)
            exact = levels * np.abs(leaf) / size if size else leaf
            found.append(size * np.sign(leaf) * np.where(coins < exact % 1, np.ceil(exact), np.floor(exact)) / levels)
        return form.unflatten(found), memory, {}

    return twin


def _in_turn(*twins: Twin) -> Twin:
    def twin(update, memory, seen):
        statistics = {}
        for each in twins:
            update, memory, observed = each(update, memory, seen)
            statistics |= observed
        return update, memory, statistics

    return twin


COMPRESSED = {"memory": ZEROS, "transparent": False}
AGGREGATORS = (
    Row("mean", lambda: chain(mean()), _mean),
    Row("clip", lambda: chain(clip(3.0), mean()), _clip(3.0), 3.0),
    Row("clip-that-does-not-bind", lambda: chain(chain(clip(1e6), mean())), _clip(1e6), 1e6),
    Row("clip-by-module", lambda: chain(clip(3.0, per_module=True), mean()), _clip_by_module(3.0), 3.0),
    # 3 levels are 7 symbols: 3 bits. 6 + 32, 18 + 32 | 12 + 32 | 3 + 32 bits.
    Row("quantise", lambda: chain(quantise(3), mean()), _quantise(3, 1), bytes=(5 + 7, 6, 5), transparent=False),
    # 1 of 2, 2 of 6 | 2 of 4 | 1 of 1 values, with indices of 1, 3 | 2 | 0 bits: 33, 70 | 68 | 32 bits.
    Row("topk", lambda: chain(topk(0.3), mean()), _topk(0.3), bytes=(5 + 9, 9, 4), **COMPRESSED),
    # 1 of 2, 2 of 6 | 2 of 4 | 1 of 1 values, and no index.
    Row("randk", lambda: chain(randk(0.3, seed=7), mean()), _randk(0.3, 7), bytes=(4 + 8, 8, 4), **COMPRESSED),
    # 2 + 32, 6 + 32 | 4 + 32 | 1 + 32 bits.
    Row("sign", lambda: chain(sign(), mean()), _with_memory("sign", _sign), bytes=(5 + 5, 5, 5), **COMPRESSED),
    # One value of each leaf, with indices of 1, 3 | 2 | 0 bits: 4 levels are 9 symbols, 4 bits. 4 + 1 + 32, 4 + 3 + 32 | 38 | 36.
    Row(
        "topk-quantise",
        lambda: chain(topk(0.1), quantise(4), mean()),
        _in_turn(_topk(0.1), _quantise(4, 2)),
        bytes=(5 + 5, 5, 5),
        **COMPRESSED,
    ),
    # 33, 35 | 34 | 32 bits.
    Row("topk-clip", lambda: chain(topk(0.1), clip(1.0), mean()), _in_turn(_topk(0.1), _clip(1.0)), 1.0, (5 + 5, 5, 4), **COMPRESSED),
)
