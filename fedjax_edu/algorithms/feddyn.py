"""FedDyn: local objectives that are regularised anew each round, so that their minima agree."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from fedjax_edu.algorithms import hyperparameters, local_sgd, server
from fedjax_edu.algorithms.fedavg import fedavg
from fedjax_edu.algorithms.hyperparameters import Hyperparameters
from fedjax_edu.core.algorithm import Aggregates, Algorithm, Channel, ClientInfo, Meta, Phase, Report
from fedjax_edu.core.errors import check_positive
from fedjax_edu.core.local import Batch, LocalTraining
from fedjax_edu.core.modules import Params, part
from fedjax_edu.core.trees import Tree, float_dtype, global_norm


class FedDynState(NamedTuple):
    r"""Parameters, the client optimiser's hyper-parameters, the memory h over shared modules, :math:`\alpha`, all clients' weight."""

    params: Params
    client_optimizer: Hyperparameters
    memory: Tree
    alpha: jax.Array
    population: jax.Array


class FedDynClient(NamedTuple):
    """What a client keeps: its personal modules and the gradient :math:`g_k` of its last solution."""

    personal: Tree
    gradient: Tree


class Regularised(NamedTuple):
    """A client's training and its :math:`g_k`."""

    training: local_sgd.Local
    gradient: Tree


def feddyn(
    loss: Callable[..., Any],
    *,
    alpha: float,
    client_optimizer: optax.GradientTransformation,
    local: LocalTraining,
    weighting: str = "uniform",
) -> Algorithm:
    r"""Dynamic regularisation.

    A client looks for :math:`\theta_k \approx \arg\min_\theta f_k(\theta) - \langle g_k, \theta \rangle + \frac{\alpha}{2}
    \lVert \theta - w \rVert^2` and keeps :math:`g_k \leftarrow g_k - \alpha (\theta_k - w)`. The server keeps
    :math:`h \leftarrow h - \alpha \sum_{k \in A} p_k (\theta_k - w)` with :math:`\sum_k p_k = 1` over the whole population, and
    moves to :math:`w \leftarrow \bar\theta - h / \alpha`, the mean being over the cohort. The fixed point is the optimum of
    :math:`\sum_k p_k f_k`, where :math:`g_k = \nabla f_k` and :math:`\sum_k p_k g_k = 0`, if the local solutions are exact.

    Args:
        loss: as for :func:`fedjax_edu.algorithms.fedavg`.
        alpha: :math:`\alpha`, positive, in the units of a curvature of the loss.
        client_optimizer: optax optimiser of the local steps.
        local: local work of a round: enough to come near the minimum.
        weighting: :math:`p_k` is equal ("uniform", the paper's) or proportional to the number of examples ("examples").

    Returns:
        An :class:`~fedjax_edu.core.algorithm.Algorithm`; it reports ``memory_norm``, the norm of h.

    Raises:
        ArgumentError: as for FedAvg; `alpha` not positive.

    >>> algorithm = feddyn(lambda params, batch, key: (params - batch) ** 2, alpha=0.1, client_optimizer=optax.sgd(0.1),
    ...                    local=LocalTraining(epochs=5))

    Reference: Acar et al. (2021), "Federated learning based on dynamic regularization", arXiv:2111.04263. We differ: weights by
    examples; a module that nobody trained keeps its value.
    """
    alpha = check_positive("alpha", alpha)
    base = fedavg(loss, client_optimizer=client_optimizer, local=local, weighting=weighting)
    (training,) = base.stages

    def init_server(params: Params, meta: Meta) -> FedDynState:
        zero = jax.tree.map(jnp.zeros_like, params.shared)
        strength, population = (jnp.asarray(value, float_dtype()) for value in (alpha, meta.total(weighting)))
        return FedDynState(params, hyperparameters.of(client_optimizer, local_sgd.trainable(params)), zero, strength, population)

    def start(state: FedDynState, client: FedDynClient, info: ClientInfo, key: jax.Array) -> Regularised:
        return Regularised(training.start(state, client.personal, info, key), client.gradient)

    def step(state: FedDynState, own: Regularised, batch: Batch, key: jax.Array) -> tuple[Regularised, Report]:
        slope, report = local_sgd.gradient(base.loss, own.training.params, state.params.frozen, batch, key)
        now = part(own.training.params, state.params.shared)
        pull = jax.tree.map(lambda y, w, g: state.alpha.astype(w.dtype) * (y - w) - g, now, state.params.shared, own.gradient)
        return own._replace(training=local_sgd.descend(client_optimizer, own.training, local_sgd.add(slope, pull))), report

    def finish(state: FedDynState, own: Regularised, info: ClientInfo) -> tuple[dict[str, Channel], FedDynClient, jax.Array]:
        channels, personal, weight = training.finish(state, own.training, info)
        gradient = jax.tree.map(lambda g, delta: g - state.alpha.astype(g.dtype) * delta, own.gradient, channels["update"].value)
        return channels, FedDynClient(personal, gradient), weight

    def apply(state: FedDynState, aggregates: Aggregates, key: jax.Array) -> tuple[FedDynState, dict[str, jax.Array]]:
        update, old = aggregates["update"], state.params.shared
        pulled = update.scaled(state.alpha / state.population).total
        memory = jax.tree.map(lambda h, total: h - total.astype(h.dtype), state.memory, pulled)
        moved = jax.tree.map(lambda w, mean, h: w + (mean - h / state.alpha).astype(w.dtype), old, update.mean(), memory)
        shared = server.keep_untrained(update, update.modules.owners(old), moved, old)
        norm = global_norm(jax.tree.map(jnp.subtract, shared, old))
        params = state.params._replace(shared=shared)
        return state._replace(params=params, memory=memory), {"update_norm": norm, "memory_norm": global_norm(memory)}

    stage = training._replace(
        start=start,
        phases=(Phase(local, lambda state, own, info: own, step),),
        finish=finish,
        trained=lambda state, own: training.trained(state, own.training),
    )
    return base._replace(
        init_server=init_server,
        init_client=lambda params, info: FedDynClient(params.personal, jax.tree.map(jnp.zeros_like, params.shared)),
        stages=(stage,),
        apply=apply,
        model=lambda state, client: base.model(state, None if client is None else client.personal),
    )
