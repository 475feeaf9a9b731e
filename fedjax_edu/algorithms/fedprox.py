"""FedProx: local training that is held near the server's parameters."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from fedjax_edu.algorithms import local_sgd
from fedjax_edu.algorithms.fedavg import fedavg
from fedjax_edu.algorithms.hyperparameters import Hyperparameters
from fedjax_edu.core.algorithm import Algorithm, Meta, Phase, Report
from fedjax_edu.core.errors import check_number
from fedjax_edu.core.local import Batch, LocalTraining
from fedjax_edu.core.modules import Params, part
from fedjax_edu.core.trees import float_dtype


class FedProxState(NamedTuple):
    """FedAvg's state and the strength of the pull."""

    params: Params
    optimizer: optax.OptState
    client_optimizer: Hyperparameters
    mu: jax.Array


def fedprox(
    loss: Callable[..., Any],
    *,
    mu: float,
    client_optimizer: optax.GradientTransformation,
    server_optimizer: optax.GradientTransformation | None = None,
    local: LocalTraining,
    weighting: str = "examples",
) -> Algorithm:
    r"""FedAvg on local objectives :math:`f_k(y) + \frac{\mu}{2} \lVert y - w \rVert^2`.

    The pull acts on shared modules; personal ones are free. On quadratics the fixed point of exact local solutions is
    :math:`\sum p_k H_k b_k / (H_k + \mu)` over :math:`\sum p_k H_k / (H_k + \mu)`: the optimum only as :math:`\mu \to \infty`.

    Args:
        loss: as for :func:`fedjax_edu.algorithms.fedavg`.
        mu: :math:`\mu`, 0 or more; 0 is FedAvg.
        client_optimizer: optax optimiser of the local steps.
        server_optimizer: optax optimiser of the server; None is ``optax.sgd(1.0)``.
        local: local work of a round.
        weighting: "examples" or "uniform".

    Returns:
        An :class:`~fedjax_edu.core.algorithm.Algorithm`.

    Raises:
        ArgumentError: as for FedAvg; a negative `mu`.

    >>> algorithm = fedprox(lambda params, batch, key: (params - batch) ** 2, mu=0.1, client_optimizer=optax.sgd(0.1),
    ...                     local=LocalTraining(epochs=1))

    Reference: Li et al. (2020), "Federated optimization in heterogeneous networks", arXiv:1812.06127. We differ: clients
    never send unfinished work; give slow ones fewer steps instead.
    """
    mu = check_number("mu", mu, at_least=0)
    base = fedavg(loss, client_optimizer=client_optimizer, server_optimizer=server_optimizer, local=local, weighting=weighting)

    def init_server(params: Params, meta: Meta) -> FedProxState:
        return FedProxState(**base.init_server(params, meta)._asdict(), mu=jnp.asarray(mu, float_dtype()))

    def step(state: FedProxState, own: local_sgd.Local, batch: Batch, key: jax.Array) -> tuple[local_sgd.Local, Report]:
        slope, report = local_sgd.gradient(base.loss, own.params, state.params.frozen, batch, key)
        start, now = state.params.shared, part(own.params, state.params.shared)
        pull = jax.tree.map(lambda y, w: state.mu.astype(w.dtype) * (y - w), now, start)
        return local_sgd.descend(client_optimizer, own, local_sgd.add(slope, pull)), report

    (training,) = base.stages
    phase = Phase(local, training.phases[0].enter, step)
    return base._replace(init_server=init_server, stages=(training._replace(phases=(phase,)),))
