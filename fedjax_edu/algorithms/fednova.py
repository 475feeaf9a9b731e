"""FedNova: updates normalised by the length of the clients' local paths."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from fedjax_edu.algorithms import local_sgd
from fedjax_edu.algorithms.fedavg import fedavg
from fedjax_edu.algorithms.server import ServerState
from fedjax_edu.core.algorithm import WEIGHTINGS, Aggregates, Algorithm, Channel, ClientInfo, Phase, Report
from fedjax_edu.core.local import Batch, LocalTraining
from fedjax_edu.core.modules import part
from fedjax_edu.core.trees import Tree, float_dtype


class Normalised(NamedTuple):
    """A client's training, and the same optimiser run on one number whose gradient is always 1."""

    training: local_sgd.Local
    ruler: local_sgd.Local


def fednova(
    loss: Callable[..., Any],
    *,
    client_optimizer: optax.GradientTransformation,
    server_optimizer: optax.GradientTransformation | None = None,
    local: LocalTraining,
    weighting: str = "examples",
) -> Algorithm:
    r"""FedAvg without objective inconsistency: clients that take more steps do not pull harder.

    :math:`w \leftarrow w + \Big(\sum_k p_k a_k\Big) \sum_k p_k \frac{\Delta_k}{a_k}` with :math:`\sum_k p_k = 1`, where
    :math:`a_k` is how far the client's optimiser moves when every gradient is 1: :math:`\eta \tau_k` for plain SGD,
    :math:`\eta \left[\tau_k - \rho (1 - \rho^{\tau_k}) / (1 - \rho)\right] / (1 - \rho)` with momentum :math:`\rho`. It is
    measured by running the optimiser on such numbers, one beside each leaf, so schedules, decay and any other optimiser
    that is linear in its gradients are right too. Equal :math:`a_k` give FedAvg. Clients send :math:`\Delta_k / a_k`: a clip and a
    robust rule see that, in units of parameters over :math:`a_k`.

    Args:
        loss: as for :func:`fedjax_edu.algorithms.fedavg`.
        client_optimizer: optax optimiser of the local steps, of the kind that treats all shared parameters alike.
        server_optimizer: optax optimiser of the server; None is ``optax.sgd(1.0)``.
        local: local work of a round.
        weighting: "examples" or "uniform".

    Returns:
        An :class:`~fedjax_edu.core.algorithm.Algorithm`; it reports ``path``, the mean :math:`a_k`.

    Raises:
        ArgumentError: as for FedAvg.

    >>> algorithm = fednova(lambda params, batch, key: (params - batch) ** 2, client_optimizer=optax.sgd(0.1),
    ...                     local=LocalTraining(epochs=1))

    Reference: Wang et al. (2020), "Tackling the objective inconsistency problem in heterogeneous federated optimization",
    arXiv:2007.07481. We differ: :math:`a_k` is measured, with the learning rate inside, which cancels.
    """
    base = fedavg(loss, client_optimizer=client_optimizer, server_optimizer=server_optimizer, local=local, weighting=weighting)
    (training,) = base.stages

    def start(state: ServerState, personal: Tree, info: ClientInfo, key: jax.Array) -> Normalised:
        begun = training.start(state, personal, info, key)
        zeros = jax.tree.map(lambda leaf: jnp.zeros((), float_dtype()), begun.params)
        return Normalised(begun, local_sgd.start(client_optimizer, state.client_optimizer, zeros, zeros))

    def step(state: ServerState, own: Normalised, batch: Batch, key: jax.Array) -> tuple[Normalised, Report]:
        trained, report = training.phases[0].step(state, own.training, batch, key)
        ones = jax.tree.map(jnp.ones_like, own.ruler.params)
        return Normalised(trained, local_sgd.descend(client_optimizer, own.ruler, ones)), report

    def finish(state: ServerState, own: Normalised, info: ClientInfo) -> tuple[dict[str, Channel], Tree, jax.Array]:
        channels, personal, weight = training.finish(state, own.training, info)
        path = -jax.tree.leaves(part(own.ruler.params, state.params.shared))[0]
        update = channels["update"]
        direction = jax.tree.map(lambda leaf: leaf / path.astype(leaf.dtype), update.value)
        lengths = Channel({}, WEIGHTINGS[weighting](info) * path, private=False)
        return {"update": update._replace(value=direction), "path": lengths}, personal, weight

    def apply(state: ServerState, aggregates: Aggregates, key: jax.Array) -> tuple[ServerState, dict[str, jax.Array]]:
        update = aggregates["update"]
        path = aggregates["path"].weight / jnp.where(update.weight > 0, update.weight, 1)
        state, observed = base.apply(state, {"update": update.scaled(path)}, key)
        return state, observed | {"path": jnp.max(path)}

    stage = training._replace(
        start=start,
        phases=(Phase(local, lambda state, own, info: own, step),),
        finish=finish,
        trained=lambda state, own: training.trained(state, own.training),
    )
    return base._replace(stages=(stage,), apply=apply)
