"""TERM: a tilted mean over clients, from the best-off to the worst-off."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from fedjax_edu.algorithms import risk
from fedjax_edu.algorithms.fedavg import fedavg
from fedjax_edu.algorithms.hyperparameters import Hyperparameters
from fedjax_edu.core.algorithm import WEIGHTINGS, Aggregates, Algorithm, Channel, ClientInfo, Meta
from fedjax_edu.core.errors import check_number
from fedjax_edu.core.local import LocalTraining
from fedjax_edu.core.modules import Params
from fedjax_edu.core.trees import Tree, float_dtype

_LARGEST_EXPONENT = 60.0  # e^60: sums over a million clients stay finite in float32


class TermState(NamedTuple):
    """FedAvg's state, the tilt t, and the tilted risk of the last round, which exponents are taken from."""

    params: Params
    optimizer: optax.OptState
    client_optimizer: Hyperparameters
    tilt: jax.Array
    risk: jax.Array


def term(
    loss: Callable[..., Any],
    *,
    tilt: float,
    client_optimizer: optax.GradientTransformation,
    server_optimizer: optax.GradientTransformation | None = None,
    local: LocalTraining,
    weighting: str = "examples",
) -> Algorithm:
    r"""Tilted empirical risk minimisation over clients: :math:`\frac{1}{t} \log \sum_k p_k e^{t F_k(w)}`.

    Updates are averaged with weights :math:`\omega_k \propto p_k e^{t F_k}`, where :math:`F_k` is the client's mean loss at w (one
    more pass over its examples): t > 0 turns to clients with large losses (:math:`t \to \infty` is the maximum), t < 0
    away from them (robust to outliers), 0 is FedAvg. Weights depend on losses, so no accountant vouches for the privacy
    of their sum.

    Args:
        loss: as for :func:`fedjax_edu.algorithms.fedavg`.
        tilt: t, in units of one over a loss.
        client_optimizer: optax optimiser of the local steps.
        server_optimizer: optax optimiser of the server; None is ``optax.sgd(1.0)``.
        local: local work of a round.
        weighting: "examples" or "uniform".

    Returns:
        An :class:`~fedjax_edu.core.algorithm.Algorithm`; it reports ``tilted_risk`` (NaN for t = 0).

    Raises:
        ArgumentError: as for FedAvg; a tilt that is not finite.

    >>> algorithm = term(lambda params, batch, key: (params - batch) ** 2, tilt=1.0, client_optimizer=optax.sgd(0.1),
    ...                  local=LocalTraining(epochs=1))

    Reference: Li et al. (2021), "Tilted empirical risk minimization", arXiv:2007.01162. We differ: exponents are taken from
    the last round's tilted risk, which cancels, and cut at 60 so that weights stay finite.
    """
    tilt = check_number("tilt", tilt)
    base = fedavg(loss, client_optimizer=client_optimizer, server_optimizer=server_optimizer, local=local, weighting=weighting)

    def init_server(params: Params, meta: Meta) -> TermState:
        return TermState(
            **base.init_server(params, meta)._asdict(), tilt=jnp.asarray(tilt, float_dtype()), risk=jnp.zeros((), float_dtype())
        )

    def finish(state: TermState, own: risk.Risky, info: ClientInfo) -> tuple[dict[str, Channel], Tree, jax.Array]:
        channels, personal, weight = base.stages[0].finish(state, own.training, info)
        exponent = jnp.clip(state.tilt * (own.risk(info) - state.risk), -_LARGEST_EXPONENT, _LARGEST_EXPONENT)
        share = WEIGHTINGS[weighting](info)
        update = channels["update"]._replace(weight=share * jnp.exp(exponent))
        return {"update": update, "tilted": Channel({"tilted risk": jnp.exp(exponent)}, share, private=False)}, personal, weight

    def apply(state: TermState, aggregates: Aggregates, key: jax.Array) -> tuple[TermState, dict[str, jax.Array]]:
        moved, observed = base.apply(state, aggregates, key)
        mean = aggregates["tilted"].mean()["tilted risk"]  # of e^(t (F - risk))
        mean = jnp.where((mean > 0) & (jnp.max(aggregates["update"].weight) > 0), mean, 1)  # nobody may be trusted
        flat = state.tilt == 0
        found = state.risk + jnp.log(mean) / jnp.where(flat, 1, state.tilt)
        return moved._replace(risk=found), observed | {"tilted_risk": jnp.where(flat, jnp.nan, found)}

    return base._replace(init_server=init_server, stages=(risk.stage(base, local)._replace(finish=finish),), apply=apply)
