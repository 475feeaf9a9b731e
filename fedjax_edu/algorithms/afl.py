"""AFL: the best model for the worst mixture of clients."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from fedjax_edu.algorithms import risk
from fedjax_edu.algorithms.fedavg import fedavg
from fedjax_edu.algorithms.hyperparameters import Hyperparameters
from fedjax_edu.core.algorithm import Aggregates, Algorithm, Channel, ClientInfo, Meta
from fedjax_edu.core.errors import check_number
from fedjax_edu.core.local import LocalTraining
from fedjax_edu.core.modules import Params
from fedjax_edu.core.trees import Tree, float_dtype


class AflState(NamedTuple):
    r"""FedAvg's state, the mixture :math:`\lambda` over clients, its step size, and which clients have examples."""

    params: Params
    optimizer: optax.OptState
    client_optimizer: Hyperparameters
    mixture: jax.Array
    mixture_rate: jax.Array
    holders: jax.Array


def afl(
    loss: Callable[..., Any],
    *,
    mixture_rate: float,
    client_optimizer: optax.GradientTransformation,
    server_optimizer: optax.GradientTransformation | None = None,
    local: LocalTraining,
) -> Algorithm:
    r"""Agnostic federated learning: :math:`\min_w \max_{\lambda \in \Delta} \sum_k \lambda_k F_k(w)`.

    Updates of the cohort are averaged with weights :math:`\lambda_k`; then
    :math:`\lambda \leftarrow \Pi_\Delta(\lambda + \gamma F_A)`, where :math:`F_A` holds the losses of the cohort at w (one more
    pass over each client's examples) and 0 elsewhere, and :math:`\Pi_\Delta` is the Euclidean projection on the simplex of
    clients that have examples. :math:`\lambda` starts uniform. The server learns every client's loss, which no link
    of the chain touches: nothing here is private.

    Args:
        loss: as for :func:`fedjax_edu.algorithms.fedavg`.
        mixture_rate: :math:`\gamma`, 0 or more, in units of one over a loss; 0 is FedAvg with equal weights.
        client_optimizer: optax optimiser of the local steps.
        server_optimizer: optax optimiser of the server; None is ``optax.sgd(1.0)``.
        local: local work of a round.

    Returns:
        An :class:`~fedjax_edu.core.algorithm.Algorithm`; it reports ``largest_share``, the largest :math:`\lambda_k`.

    Raises:
        ArgumentError: as for FedAvg; a negative rate.

    >>> algorithm = afl(lambda params, batch, key: (params - batch) ** 2, mixture_rate=0.1, client_optimizer=optax.sgd(0.1),
    ...                 local=LocalTraining(epochs=1))

    Reference: Mohri, Sivek, Suresh (2019), "Agnostic federated learning", arXiv:1902.00146; projection: Duchi et al. (2008).
    We differ: local steps between two exchanges, and cohorts smaller than the population.
    """
    mixture_rate = check_number("mixture_rate", mixture_rate, at_least=0)
    base = fedavg(loss, client_optimizer=client_optimizer, server_optimizer=server_optimizer, local=local, weighting="uniform")

    def init_server(params: Params, meta: Meta) -> AflState:
        holders = np.asarray(meta.sizes) > 0
        mixture, rate = (jnp.asarray(value, float_dtype()) for value in (holders / holders.sum(), mixture_rate))
        return AflState(**base.init_server(params, meta)._asdict(), mixture=mixture, mixture_rate=rate, holders=jnp.asarray(holders))

    def finish(state: AflState, own: risk.Risky, info: ClientInfo) -> tuple[dict[str, Channel], Tree, jax.Array]:
        channels, personal, weight = base.stages[0].finish(state, own.training, info)
        share = state.mixture[info.position]
        update = channels["update"]._replace(weight=share)
        risks = jnp.zeros_like(state.mixture).at[info.position].set(own.risk(info).astype(state.mixture.dtype))
        return {"update": update, "risk": Channel({"risk": risks}, jnp.ones(()), private=False, entries=len(risks))}, personal, weight

    def apply(state: AflState, aggregates: Aggregates, key: jax.Array) -> tuple[AflState, dict[str, jax.Array]]:
        state, observed = base.apply(state, aggregates, key)
        mixture = project(state.mixture + state.mixture_rate * aggregates["risk"].total["risk"], state.holders)
        return state._replace(mixture=mixture), observed | {"largest_share": jnp.max(mixture)}

    stage = risk.stage(base, local)._replace(finish=finish, sent=lambda state: (state.params.shared, state.mixture[0]))
    return base._replace(init_server=init_server, stages=(stage,), apply=apply)


def project(point: jax.Array, inside: jax.Array) -> jax.Array:
    r"""The nearest point of the probability simplex over the coordinates in which `inside` holds; 0 elsewhere.

    :math:`\max(v_i - \theta, 0)`, with :math:`\theta` such that they sum to 1.

    >>> [f"{share:.2f}" for share in project(jnp.array([0.5, 0.9, 7.0]), jnp.array([True, True, False]))]
    ['0.30', '0.70', '0.00']
    """
    falling = jnp.sort(jnp.where(inside, point, -jnp.inf))[::-1]
    excess = jnp.cumsum(jnp.where(jnp.isfinite(falling), falling, 0)) - 1
    count = jnp.arange(1, len(point) + 1, dtype=point.dtype)
    kept = jnp.sum(falling * count > excess)
    threshold = excess[kept - 1] / count[kept - 1]
    return jnp.where(inside, jnp.maximum(point - threshold, 0), 0)
