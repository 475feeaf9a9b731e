"""Samplers around samplers: clients that are away, clients that always take part."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_edu.core.errors import ArgumentError
from fedjax_edu.data.validation import as_array
from fedjax_edu.engine.cohorts.sampler import Bound, Cohort, Draw, per_client


def available(cohort: Cohort, mask: str | np.ndarray) -> Cohort:
    """Drops drawn clients that are away; nobody is drawn in their place.

    The others' participation does not change, so a run with a client away equals the run that rejected its updates.
    Weights are those of the clients that are there. Who is away is public: it amplifies no privacy, and takes none.

    Args:
        cohort: who would take part.
        mask: bool [clients], bool [rounds, clients] (a trace, repeated from its start when it ends), or the name of a
            client attribute, bool [clients] or [clients, rounds].

    Raises:
        ArgumentError: a mask of another shape or dtype.

    >>> from fedjax_edu.engine.cohorts import everyone
    >>> available(everyone(), np.array([True, False])).name
    'available(everyone())'
    """
    _check_cohort(cohort)

    def bind(ids: np.ndarray, attributes: dict[str, np.ndarray], sizes: np.ndarray) -> Bound:
        bound = cohort.bind(ids, attributes, sizes)
        given = per_client("mask", mask, len(ids), attributes)
        given = given.T if isinstance(mask, str) else given
        if given.dtype != bool or given.ndim > 2 or not len(given):
            raise ArgumentError("mask", given, f"use bool[{len(ids)}] or bool[rounds, {len(ids)}]")
        trace = np.atleast_2d(given)
        table = jnp.asarray(trace)

        def draw(state: Any, key: jax.Array, round_: jax.Array, losses: Callable[[jax.Array], jax.Array]) -> tuple[Draw, Any]:
            drawn, state = bound.draw(state, key, round_, losses)
            return drawn._replace(present=drawn.present & table[round_ % len(trace), drawn.clients]), state

        return bound._replace(draw=draw)

    return cohort._replace(name=f"available({cohort.name})", bind=bind)


def including(cohort: Cohort, ids: Sequence[int] | np.ndarray) -> Cohort:
    """Adds clients that take part in every round, such as the server's own data set for :func:`fedjax_edu.aggregation.fltrust`.

    They keep the weight that the algorithm gives them. They are no random subset, so nobody's privacy is amplified.

    Args:
        cohort: who takes part beside them.
        ids: of the clients that always do.

    Raises:
        ArgumentError: an id that the population does not have, or one given twice.

    >>> from fedjax_edu.engine.cohorts import uniform
    >>> including(uniform(8), [0]).name
    'including(uniform(8))'
    """
    _check_cohort(cohort)
    wanted = np.atleast_1d(as_array("ids", ids))
    if wanted.ndim != 1 or wanted.dtype.kind not in "iu" or len(np.unique(wanted)) < len(wanted):
        raise ArgumentError("ids", wanted, "use distinct ids of clients")

    def bind(ids: np.ndarray, attributes: dict[str, np.ndarray], sizes: np.ndarray) -> Bound:
        bound = cohort.bind(ids, attributes, sizes)
        missing = wanted[~np.isin(wanted, ids)]
        if len(missing):
            raise ArgumentError("ids", missing[:3], "use ids of the population")
        always = jnp.asarray(np.flatnonzero(np.isin(ids, wanted)), jnp.int32)

        def draw(state: Any, key: jax.Array, round_: jax.Array, losses: Callable[[jax.Array], jax.Array]) -> tuple[Draw, Any]:
            drawn, state = bound.draw(state, key, round_, losses)
            twice = jnp.any(drawn.clients[:, None] == always[None, :], axis=1)
            joined = drawn._replace(
                clients=jnp.concatenate([drawn.clients, always]),
                present=jnp.concatenate([drawn.present & ~twice, jnp.ones(always.shape, bool)]),
                staleness=jnp.concatenate([drawn.staleness, jnp.zeros_like(always)]),
            )
            return joined, state

        return bound._replace(capacity=bound.capacity + len(wanted), draw=draw)

    return cohort._replace(name=f"including({cohort.name})", bind=bind, amplification="none")


def _check_cohort(cohort: Any) -> None:
    if not isinstance(cohort, Cohort):
        raise ArgumentError("cohort", cohort, "pass a sampler, for instance fe.cohorts.uniform(32)")
