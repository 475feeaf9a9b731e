"""What a sampler is: who takes part in each round, drawn inside the compiled program."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_edu.core import trees
from fedjax_edu.core.errors import ArgumentError
from fedjax_edu.data.validation import as_array


class Draw(NamedTuple):
    """A drawn cohort.

    Args:
        clients: int32 [capacity], positions in the population, each at most once among those present.
        present: bool [capacity].
        overflow: bool scalar; it makes the round a no-op.
        staleness: int32 [capacity], how many server steps old the parameters are that a client starts from.
        observed: ``{name: scalar}``, reported as ``info.cohort``.
    """

    clients: jax.Array
    present: jax.Array
    overflow: jax.Array
    staleness: jax.Array
    observed: dict[str, jax.Array]


class Feedback(NamedTuple):
    """What a sampler learns from a round.

    Args:
        round: int32 scalar, rounds done before.
        clients: int32 [seats], positions in the population.
        accepted: bool [seats], who took part and was not rejected.
        loss: [seats], mean training loss.
        square: [seats], mean squared training loss.
        examples: int32 [seats], size of the client.
        applied: bool scalar, whether the server took a step.
    """

    round: jax.Array
    clients: jax.Array
    accepted: jax.Array
    loss: jax.Array
    square: jax.Array
    examples: jax.Array
    applied: jax.Array


class Bound(NamedTuple):
    """A sampler bound to a population.

    Args:
        capacity: static, seats of a cohort.
        init: ``key -> state``, any pytree.
        draw: ``(state, key, round, losses) -> (Draw, state)``; ``losses(clients [K]) -> [K]`` are the clients' mean losses
            on their own examples under the present model, for the price of a pass over them.
        learn: ``(state, Feedback) -> state``.
    """

    capacity: int
    init: Callable[[jax.Array], Any]
    draw: Callable[[Any, jax.Array, jax.Array, Callable[[jax.Array], jax.Array]], tuple[Draw, Any]]
    learn: Callable[[Any, Feedback], Any]


class Cohort(NamedTuple):
    """A sampler.

    Args:
        name: how errors and reports call it.
        bind: ``(ids uint32 [N], attributes, sizes int64 [N]) -> Bound``; checks its arguments against the population.
        independent: whether one client's participation does not depend on the others (exact unlearning needs it).
        amplification: the kind of random subset that privacy amplification can count on: "poisson", "fixed size", or "none",
            for which an accountant has to assume that every client takes part in every round.
        by_size: whether larger clients are drawn more often, in which case means have to count clients alike.
        adaptive: whether who is drawn depends on the training so far.
        stale: whether clients start from older parameters than the newest.
        measures: whether `draw` asks for losses.
    """

    name: str
    bind: Callable[[np.ndarray, dict[str, np.ndarray], np.ndarray], Bound]
    independent: bool
    amplification: str
    by_size: bool = False
    adaptive: bool = False
    stale: bool = False
    measures: bool = False


def synchronous(clients: jax.Array, present: jax.Array | None = None, **observed: jax.Array) -> Draw:
    """A draw of clients that start from the newest parameters; all of them present unless told."""
    present = jnp.ones(clients.shape, bool) if present is None else present
    return Draw(clients, present, jnp.array(False), jnp.zeros(clients.shape, jnp.int32), observed)


def untrained(round_: jax.Array, clients: jax.Array, present: jax.Array, examples: jax.Array) -> Feedback:
    """What a sampler learns of a round that was drawn and not trained, if everyone who is present is accepted; losses are 0."""
    unseen = jnp.zeros(clients.shape, trees.float_dtype())
    return Feedback(round_, clients, present, unseen, unseen, examples, applied=jnp.any(present))


def memoryless(capacity: int, draw: Callable[[jax.Array, jax.Array], Draw]) -> Bound:
    """A sampler that remembers nothing: ``draw(key, round)``."""
    return Bound(
        capacity=capacity,
        init=lambda key: (),
        draw=lambda state, key, round_, losses: (draw(key, round_), state),
        learn=lambda state, feedback: state,
    )


def successive(key: jax.Array, ids: jax.Array, logits: jax.Array, size: int) -> jax.Array:
    r"""Clients drawn one after another without replacement, each next one with probability proportional to its weight.

    The `size` largest of :math:`\log w_k + G_k` with Gumbel noise (Gumbel-top-k); a client's noise depends on its id alone.

    Args:
        key: of this draw.
        ids: uint32 [N].
        logits: float32 [N], logarithms of the weights; -inf is drawn only when nobody else is left.
        size: clients to draw.

    Returns:
        int32 [size], positions, in the order of the draw.
    """
    noise = jax.vmap(lambda client: jax.random.gumbel(jax.random.fold_in(key, client), dtype=jnp.float32))(ids)
    return jax.lax.top_k(logits + noise, size)[1].astype(jnp.int32)


def check_fits(size: int, clients: int, argument: str = "cohort") -> None:
    """Makes sure that a population has as many clients as a cohort asks for."""
    if size > clients:
        raise ArgumentError(argument, size, f"use at most the population's {clients} clients, or everyone()")


def check_enough(argument: str, size: int, sizes: np.ndarray) -> None:
    """Makes sure that as many clients have examples as are wanted at the same time."""
    if size > (sizes > 0).sum():
        raise ArgumentError(argument, size, f"use at most the {(sizes > 0).sum()} clients that have examples")


def per_client(argument: str, value: str | np.ndarray, clients: int, attributes: dict[str, np.ndarray]) -> np.ndarray:
    """An array with one entry a client as its last axis: as given, or the attribute of that name."""
    if isinstance(value, str):
        if value not in attributes:
            raise ArgumentError(argument, value, f"name one of the population's attributes: {sorted(attributes)}")
        return attributes[value]
    array = as_array(argument, value)
    if array.ndim == 0:
        raise ArgumentError(argument, value, f"use an array with one entry for each of the {clients} clients, or the name of an attribute")
    if array.shape[-1] != clients:
        raise ArgumentError(argument, array, f"use one entry for each of the {clients} clients")
    return array


def positive_per_client(argument: str, value: str | np.ndarray, needed: np.ndarray, attributes: dict[str, np.ndarray]) -> np.ndarray:
    """One number a client, float64 [N], positive and finite in the engine's precision where it is `needed` (bool [N])."""
    numbers = per_client(argument, value, len(needed), attributes)
    if numbers.ndim != 1 or numbers.dtype.kind not in "iuf":
        raise ArgumentError(argument, numbers, "use one number for each client")
    with np.errstate(over="ignore"):
        held = numbers.astype(trees.float_dtype())
    bad = needed & ~((held > 0) & np.isfinite(held))
    if bad.any():
        raise ArgumentError(argument, numbers[bad][:3], "use positive finite numbers")
    return numbers.astype(np.float64)
