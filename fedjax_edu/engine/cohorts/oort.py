"""Oort: clients whose losses are large and whose machines are fast, beside some that nobody has seen yet."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_edu.core import trees
from fedjax_edu.core.errors import ArgumentError, check_integer, check_positive
from fedjax_edu.core.keys import fold
from fedjax_edu.engine.cohorts.sampler import Bound, Cohort, Draw, Feedback, check_enough, positive_per_client, successive, synchronous


class Seen(NamedTuple):
    """What is known of each client, leaves [clients].

    Args:
        utility: statistical utility at its last participation.
        last: int32, its last round, counted from 1; 0 for a client that never took part.
    """

    utility: jax.Array
    last: jax.Array


def statistical_utility(square: jax.Array, examples: jax.Array) -> jax.Array:
    r""":math:`|B_k| \sqrt{\frac{1}{|B_k|} \sum_{i \in B_k} \ell_i^2}` from the mean squared loss; 0 for one that is not finite.

    >>> print(f"{statistical_utility(jnp.mean(jnp.square(jnp.array([1.0, 2.0, 3.0]))), jnp.int32(50)):.3f}")
    108.012
    """
    utility = examples.astype(square.dtype) * jnp.sqrt(square)
    return jnp.where(jnp.isfinite(utility), utility, jnp.zeros_like(utility))


def slowness(seconds: np.ndarray, deadline: float, penalty: float) -> np.ndarray:
    r"""Factor of the systemic utility: :math:`(T / t_k)^\alpha` for a client that takes longer than T, else 1.

    >>> slowness(np.array([200.0, 50.0]), 100.0, 0.5).round(6).tolist()
    [0.707107, 1.0]
    """
    return np.minimum(deadline / seconds, 1.0) ** penalty


def oort(
    size: int,
    *,
    exploration: float = 0.9,
    decay: float = 0.98,
    least: float = 0.2,
    cutoff: float = 0.95,
    seconds: str | np.ndarray | None = None,
    deadline: float | None = None,
    penalty: float = 2.0,
) -> Cohort:
    r"""Guided participant selection: exploits clients of high utility, explores those never seen.

    In round R, counted from 1, a client that last took part in round :math:`L_k` has the utility

    .. math:: U_k = \left( |B_k| \sqrt{\tfrac{1}{|B_k|} \textstyle\sum_{i \in B_k} \ell_i^2} + \sqrt{0.1 \log R / L_k} \right)
              \cdot \begin{cases} (T / t_k)^\alpha & t_k > T \\ 1 & \text{else} \end{cases}

    with the losses of its training batches at that time. A share :math:`\epsilon` of the cohort, rounded to whole clients, is
    drawn from the clients never seen; it falls from `exploration` by the factor `decay` a round, down to `least`. The other m
    seats are drawn without replacement and with probability proportional to utility among the clients that reach the share
    `cutoff` of the m-th largest utility. Where one of the two groups is too small, the other fills the seats.

    Weights: utility grows with the number of examples, so means have to count clients alike: combine it with
    ``weighting="uniform"``. The means are biased towards large losses and fast clients, on purpose and without a correction.

    Privacy: who is drawn depends on the training, so nothing is amplified: an accountant assumes every client in every round.
    The utilities are read from the losses without noise, and no accountant of the updates covers them.

    Args:
        size: clients a round.
        exploration: share of the first cohort that explores, in (0, 1].
        decay: factor of that share from round to round, in (0, 1].
        least: share at which it stays, in (0, exploration].
        cutoff: c, in (0, 1]; 1 admits hardly anybody but the m of largest utility.
        seconds: :math:`t_k`, how long a client's round takes, float [clients] or the name of an attribute; new clients are
            then drawn with probability proportional to their speed :math:`1 / t_k`. None draws them uniformly.
        deadline: T, the round's preferred duration in seconds; None punishes nobody.
        penalty: :math:`\alpha`.

    Returns:
        A sampler; ``info.cohort["new"]`` is how many of the cohort were never seen before.

    Raises:
        ArgumentError: a share outside its bounds, a deadline without seconds, bad seconds, or (when the engine is built) fewer
            clients with examples than `size`.

    >>> oort(10).name
    'oort(10)'

    Reference: Lai, Zhu, Madhyastha, Chowdhury (2021), "Oort: efficient federated learning via guided participant selection",
    arXiv:2010.06081. We differ: T stays what it was (the paper's pacer moves it), utilities are not clipped, and no client is
    retired. A client that was drawn but was away, or whose update was rejected, stays as unknown as it was.
    """
    size = check_integer("size", size)
    exploration = check_positive("exploration", exploration, at_most=1.0, remedy="use a share in (0, 1]")
    decay = check_positive("decay", decay, at_most=1.0, remedy="use a factor in (0, 1]")
    least = check_positive("least", least, at_most=exploration, remedy=f"use a share in (0, {exploration}]")
    cutoff = check_positive("cutoff", cutoff, at_most=1.0, remedy="use a share in (0, 1]")
    deadline = None if deadline is None else check_positive("deadline", deadline, remedy="use a positive number of seconds, or None")
    penalty = check_positive("penalty", penalty)
    if deadline is not None and seconds is None:
        raise ArgumentError("seconds", seconds, "say how long the clients take, or leave out deadline")

    def bind(ids: np.ndarray, attributes: dict[str, np.ndarray], sizes: np.ndarray) -> Bound:
        check_enough("size", size, sizes)
        clients, eligible, identity = len(ids), sizes > 0, jnp.asarray(ids)
        taken = np.ones(clients) if seconds is None else positive_per_client("seconds", seconds, eligible, attributes)
        taken = np.where(eligible, taken, 1.0)
        speed = jnp.asarray(np.where(eligible, -np.log(taken), -np.inf), jnp.float32)
        factor = jnp.asarray(np.ones(clients) if deadline is None else slowness(taken, deadline, penalty), trees.float_dtype())

        def init(key: jax.Array) -> Seen:
            return Seen(jnp.zeros(clients, trees.float_dtype()), jnp.zeros(clients, jnp.int32))

        def utilities(state: Seen, now: jax.Array) -> jax.Array:
            age = 0.1 * jnp.log(now) / jnp.maximum(state.last, 1).astype(now.dtype)
            return (state.utility + jnp.sqrt(age)) * factor

        def draw(state: Seen, key: jax.Array, round_: jax.Array, losses: Callable[[jax.Array], jax.Array]) -> tuple[Draw, Seen]:
            before = round_.astype(state.utility.dtype)
            known = state.last > 0
            number = jnp.sum(known, dtype=jnp.int32)
            wanted = jnp.round(jnp.maximum(least, exploration * decay**before) * size).astype(jnp.int32)
            new = jnp.clip(wanted, size - number, int(eligible.sum()) - number)
            utility = jnp.where(known, utilities(state, before + 1), -jnp.inf)
            cut = cutoff * -jnp.sort(-utility)[jnp.maximum(size - new - 1, 0)]
            admitted = jnp.where(known & (utility >= cut), jnp.log(jnp.maximum(utility, 0)), -jnp.inf)
            exploited = successive(fold(key, 0), identity, admitted.astype(jnp.float32), size)
            explored = successive(fold(key, 1), identity, jnp.where(known, -jnp.inf, speed), size)
            seat = jnp.arange(size, dtype=jnp.int32)
            cohort = jnp.where(seat < new, explored, exploited[(seat - new) % size])
            return synchronous(cohort, new=new), state

        def learn(state: Seen, feedback: Feedback) -> Seen:
            at = jnp.where(feedback.accepted, feedback.clients, clients)
            utility = statistical_utility(feedback.square, feedback.examples)
            return Seen(state.utility.at[at].set(utility, mode="drop"), state.last.at[at].set(feedback.round + 1, mode="drop"))

        return Bound(size, init, draw, learn)

    return Cohort(f"oort({size})", bind, independent=False, amplification="none", by_size=True, adaptive=True)
