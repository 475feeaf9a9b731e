"""q-FFL: fair resource allocation between clients."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from fedjax_edu.algorithms import risk
from fedjax_edu.algorithms.fedavg import fedavg
from fedjax_edu.algorithms.hyperparameters import Hyperparameters
from fedjax_edu.core.algorithm import WEIGHTINGS, Aggregates, Algorithm, Channel, ClientInfo, Meta
from fedjax_edu.core.errors import check_number, check_positive
from fedjax_edu.core.local import LocalTraining
from fedjax_edu.core.modules import Params
from fedjax_edu.core.trees import Tree, float_dtype, global_norm

_SMALLEST_RISK = 1e-10  # a power below 0 of it stays finite


class QfflState(NamedTuple):
    """FedAvg's state, q and L."""

    params: Params
    optimizer: optax.OptState
    client_optimizer: Hyperparameters
    q: jax.Array
    lipschitz: jax.Array


def qffl(
    loss: Callable[..., Any],
    *,
    q: float,
    lipschitz: float,
    client_optimizer: optax.GradientTransformation,
    server_optimizer: optax.GradientTransformation | None = None,
    local: LocalTraining,
    weighting: str = "uniform",
) -> Algorithm:
    r"""q-FedAvg on the objective :math:`\sum_k \frac{p_k}{q + 1} F_k^{q + 1}`: the larger q, the more equal the clients' losses.

    With :math:`F_k` the client's mean loss at w (one more pass over its examples) and :math:`\Delta_k` its update,
    :math:`w \leftarrow w + \sum_k p_k F_k^q L \Delta_k \,/\, \sum_k p_k \left(q F_k^{q-1} \lVert L \Delta_k \rVert^2 + L F_k^q\right)`.
    Clients send :math:`\Delta_k`; the rest is weights.
    Weights depend on losses, so no accountant vouches for the privacy of the sums in the denominator.

    Args:
        loss: as for :func:`fedjax_edu.algorithms.fedavg`; not negative.
        q: 0 or more; 0 is FedAvg.
        lipschitz: L, the inverse of the learning rate of one local step, in the units of a curvature of the loss.
        client_optimizer: optax optimiser of the local steps.
        server_optimizer: optax optimiser of the server; None is ``optax.sgd(1.0)``.
        local: local work of a round.
        weighting: :math:`p_k` is 1 ("uniform", the paper's) or the number of examples ("examples").

    Returns:
        An :class:`~fedjax_edu.core.algorithm.Algorithm`.

    Raises:
        ArgumentError: as for FedAvg; a negative `q`, `lipschitz` not positive.

    >>> algorithm = qffl(lambda params, batch, key: (params - batch) ** 2, q=1.0, lipschitz=10.0,
    ...                  client_optimizer=optax.sgd(0.1), local=LocalTraining(epochs=1))

    Reference: Li et al. (2020), "Fair resource allocation in federated learning", arXiv:1905.10497. We differ: weights by
    examples; a risk below 1e-10 counts as that.
    """
    q, lipschitz = check_number("q", q, at_least=0), check_positive("lipschitz", lipschitz)
    base = fedavg(loss, client_optimizer=client_optimizer, server_optimizer=server_optimizer, local=local, weighting=weighting)

    def init_server(params: Params, meta: Meta) -> QfflState:
        return QfflState(
            **base.init_server(params, meta)._asdict(), q=jnp.asarray(q, float_dtype()), lipschitz=jnp.asarray(lipschitz, float_dtype())
        )

    def finish(state: QfflState, own: risk.Risky, info: ClientInfo) -> tuple[dict[str, Channel], Tree, jax.Array]:
        channels, personal, weight = base.stages[0].finish(state, own.training, info)
        update, loss_at_start = channels["update"], jnp.maximum(own.risk(info), _SMALLEST_RISK)
        power = loss_at_start**state.q
        curvature = state.q * power / loss_at_start * state.lipschitz * global_norm(update.value) ** 2 + power  # over L
        share = WEIGHTINGS[weighting](info)
        return (
            {
                "update": update._replace(weight=share * power),
                "curvature": Channel({}, share * curvature, private=False),
            },
            personal,
            weight,
        )

    def apply(state: QfflState, aggregates: Aggregates, key: jax.Array) -> tuple[QfflState, dict[str, jax.Array]]:
        update = aggregates["update"]._replace(weight=aggregates["curvature"].weight)
        return base.apply(state, {"update": update}, key)

    return base._replace(init_server=init_server, stages=(risk.stage(base, local)._replace(finish=finish),), apply=apply)
