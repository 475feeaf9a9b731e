"""Power-of-choice: of a few candidates, those whose loss is largest."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_edu.core.errors import ArgumentError, check_integer
from fedjax_edu.engine.cohorts.sampler import Bound, Cohort, Draw, check_enough, successive, synchronous


def power_of_choice(size: int, candidates: int) -> Cohort:
    r"""The clients with the largest losses among candidates that are drawn by size.

    Candidates are drawn one after another without replacement, each next one with probability proportional to its number of
    examples :math:`n_k`. Each measures the mean loss :math:`F_k(w)` of the present model on its own examples (its own personal
    modules included), and the `size` largest take part. As many candidates as clients is plain sampling by size; more of them
    move the federation faster towards its badly served clients, and its fixed point away from the minimiser of the mean loss.

    Weights: sizes decide who is a candidate, so means have to count clients alike: combine it with ``weighting="uniform"``.
    The means are biased towards large losses, on purpose and without a correction.

    Privacy: who is drawn depends on the training, so nothing is amplified: an accountant assumes every client in every round.
    The losses themselves leave the candidates without noise, and no accountant of the updates covers them.

    Args:
        size: clients a round.
        candidates: clients a round whose losses are measured, at least `size`; each costs a pass over its examples, and the
            model that it receives for that is not counted in ``info.bytes_down``.

    Returns:
        A sampler; ``info.cohort["candidate_loss"]`` is the mean loss of the candidates. One whose loss is not finite comes last.

    Raises:
        ArgumentError: fewer candidates than clients, or (when the engine is built) more than have examples.

    >>> power_of_choice(8, candidates=20).name
    'power_of_choice(8, 20)'

    Reference: Cho, Wang, Joshi (2020), "Client selection in federated learning: convergence analysis and power-of-choice
    selection strategies", arXiv:2010.01243.
    """
    size, candidates = check_integer("size", size), check_integer("candidates", candidates)
    if candidates < size:
        raise ArgumentError("candidates", candidates, f"use at least the {size} clients of a cohort")

    def bind(ids: np.ndarray, attributes: dict[str, np.ndarray], sizes: np.ndarray) -> Bound:
        check_enough("candidates", candidates, sizes)
        with np.errstate(divide="ignore"):
            logits, identity = jnp.asarray(np.log(sizes), jnp.float32), jnp.asarray(ids)

        def draw(state: Any, key: jax.Array, round_: jax.Array, losses: Callable[[jax.Array], jax.Array]) -> tuple[Draw, Any]:
            asked = successive(key, identity, logits, candidates)
            found = losses(asked)
            order = jnp.lexsort((identity[asked], -jnp.where(jnp.isfinite(found), found, -jnp.inf)))
            return synchronous(asked[order[:size]], candidate_loss=jnp.mean(found)), state

        return Bound(size, init=lambda key: (), draw=draw, learn=lambda state, feedback: state)

    return Cohort(
        f"power_of_choice({size}, {candidates})",
        bind,
        independent=False,
        amplification="none",
        by_size=True,
        adaptive=True,
        measures=True,
    )
