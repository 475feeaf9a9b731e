"""Federated averaging, with any client and server optimiser."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from fedjax_edu.algorithms import arguments, hyperparameters, local_sgd, server
from fedjax_edu.algorithms.server import ServerState, State
from fedjax_edu.core import loss as losses
from fedjax_edu.core.algorithm import WEIGHTINGS, Aggregates, Algorithm, Channel, ClientInfo, Meta, Phase, Report, Stage
from fedjax_edu.core.errors import ArgumentError
from fedjax_edu.core.local import Batch, LocalTraining
from fedjax_edu.core.modules import Params, join
from fedjax_edu.core.trees import Tree


def fedavg(
    loss: Callable[..., Any],
    *,
    client_optimizer: optax.GradientTransformation,
    server_optimizer: optax.GradientTransformation | None = None,
    local: LocalTraining,
    weighting: str = "examples",
    fine_tuning: LocalTraining | None = None,
) -> Algorithm:
    r"""Federated averaging.

    Each client k of the cohort starts from the shared parameters w, trains locally to :math:`w_k`, and sends
    :math:`\Delta_k = w_k - w`. The server optimiser takes :math:`-\bar\Delta` as its gradient, where
    :math:`\bar\Delta = \sum_k p_k \Delta_k / \sum_k p_k`; ``optax.sgd(1.0)`` gives :math:`w \leftarrow w + \bar\Delta`.
    Personal modules are trained together with the shared ones and stay with their client (FedPer).

    Args:
        loss: ``(params, batch, key)`` to losses [B], ``(losses, metrics)`` or :class:`fedjax_edu.Loss`.
        client_optimizer: optax optimiser of the local steps; it starts afresh every round.
        server_optimizer: optax optimiser of the server; None is ``optax.sgd(1.0)``.
        local: local work of a round.
        weighting: :math:`p_k` is the number of examples ("examples") or 1 ("uniform").
        fine_tuning: local work on personal modules that ``engine.finalise`` runs on every client, shared modules fixed.

    Returns:
        An :class:`~fedjax_edu.core.algorithm.Algorithm`.

    Raises:
        ArgumentError: an unknown weighting, something that is not an optimiser, a learning rate that is not finite.

    >>> algorithm = fedavg(lambda params, batch, key: (params - batch) ** 2, client_optimizer=optax.sgd(0.1),
    ...                    local=LocalTraining(epochs=1, batch_size=20))
    >>> len(algorithm.stages)
    1

    Reference: McMahan et al. (2017), arXiv:1602.05629; server optimisers: Reddi et al. (2021), arXiv:2003.00295; personal
    modules: Arivazhagan et al. (2019), arXiv:1912.00818. We differ: sampling never replaces an unavailable client, an
    update that is not finite is dropped, and modules that nobody trained keep their optimiser moments.
    """
    server_optimizer = optax.sgd(1.0) if server_optimizer is None else server_optimizer
    arguments.check(local=local, weighting=weighting, client_optimizer=client_optimizer, server_optimizer=server_optimizer)
    if fine_tuning is not None:
        arguments.check_local("fine_tuning", fine_tuning)
    standard = losses.standardise(loss)

    def init_server(params: Params, meta: Meta) -> ServerState:
        if fine_tuning is not None and not meta.modules.has("personal"):
            raise ArgumentError("fine_tuning", fine_tuning, "assign personal modules for it to train, or leave it out")
        own = hyperparameters.of(client_optimizer, local_sgd.trainable(params))
        return ServerState(params, server.init(server_optimizer, params.shared), own)

    def begin(state: State, personal: Tree, info: ClientInfo, key: jax.Array) -> local_sgd.Local:
        return local_sgd.start(client_optimizer, state.client_optimizer, state.params.shared, personal)

    def step(state: State, local: local_sgd.Local, batch: Batch, key: jax.Array) -> tuple[local_sgd.Local, Report]:
        slope, report = local_sgd.gradient(standard, local.params, state.params.frozen, batch, key)
        return local_sgd.descend(client_optimizer, local, slope), report

    def finish(state: State, local: local_sgd.Local, info: ClientInfo) -> tuple[dict[str, Channel], Tree, jax.Array]:
        weight = WEIGHTINGS[weighting](info)
        update = Channel(local_sgd.difference(state.params.shared, local), weight, private=True)
        return {"update": update}, local_sgd.personal(state.params, local), weight

    def apply(state: State, aggregates: Aggregates, key: jax.Array) -> tuple[State, dict[str, jax.Array]]:
        return server.step(server_optimizer, state, aggregates["update"])

    training = Stage(
        broadcast=lambda state, aggregates: state,
        start=begin,
        phases=(Phase(local, lambda state, local, info: local, step),),
        finish=finish,
        sent=lambda state: state.params.shared,
        trained=lambda state, local: local_sgd.trained(state.params, local),
    )
    return Algorithm(
        init_server=init_server,
        init_client=lambda params, info: params.personal,
        stages=(training,),
        apply=apply,
        loss=standard,
        model=lambda state, personal: state.params.merge() if personal is None else state.params._replace(personal=personal).merge(),
        final=() if fine_tuning is None else (_personal_only(training, fine_tuning),),
        weighting=weighting,
    )


def _personal_only(training: Stage, work: LocalTraining) -> Stage:
    """The training stage with shared modules fixed: they are moved to the frozen part before the client starts."""

    def broadcast(state: State, aggregates: Aggregates) -> State:
        params = state.params
        nothing = jax.tree.map(lambda _: None, params.shared)
        return state._replace(params=Params(nothing, params.personal, join(params.shared, params.frozen)))

    def finish(state: State, local: local_sgd.Local, info: ClientInfo) -> tuple[dict[str, Channel], Tree, jax.Array]:
        return {}, local_sgd.personal(state.params, local), jnp.ones(())

    (phase,) = training.phases
    return training._replace(broadcast=broadcast, phases=(phase._replace(data=work),), finish=finish)
