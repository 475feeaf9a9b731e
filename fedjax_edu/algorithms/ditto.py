"""Ditto: beside the federation's model, a model of each client's own that is held near it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from fedjax_edu.algorithms import arguments, local_sgd
from fedjax_edu.algorithms.fedavg import fedavg
from fedjax_edu.algorithms.hyperparameters import Hyperparameters
from fedjax_edu.core.algorithm import Algorithm, Channel, ClientInfo, Meta, Phase
from fedjax_edu.core.errors import check_number
from fedjax_edu.core.local import Batch, LocalTraining
from fedjax_edu.core.modules import Params
from fedjax_edu.core.trees import Tree, float_dtype


class DittoState(NamedTuple):
    """FedAvg's state and the strength of the pull."""

    params: Params
    optimizer: optax.OptState
    client_optimizer: Hyperparameters
    pull: jax.Array


class Both(NamedTuple):
    """The client's training of the federation's model, and that of its own."""

    training: local_sgd.Local
    own: local_sgd.Local


def ditto(
    loss: Callable[..., Any],
    *,
    pull: float,
    client_optimizer: optax.GradientTransformation,
    server_optimizer: optax.GradientTransformation | None = None,
    local: LocalTraining,
    personal: LocalTraining | None = None,
    weighting: str = "examples",
) -> Algorithm:
    r"""FedAvg for w, and for each client k a model :math:`v_k` on :math:`f_k(v) + \frac{\lambda}{2} \lVert v - w \rVert^2`.

    A client first trains w and sends the change, then steps on :math:`v_k` towards the w that it received. The federation's w is that of
    FedAvg; clients that took part predict with :math:`v_k`, which begins as the first w. With quadratics
    :math:`v_k = (a_k b_k + \lambda w) / (a_k + \lambda)`: local training without a pull, w with an infinite one.

    Args:
        loss: as for :func:`fedjax_edu.algorithms.fedavg`.
        pull: :math:`\lambda`, 0 or more.
        client_optimizer: optax optimiser of the local steps on w and on :math:`v_k`; it starts afresh every round.
        server_optimizer: optax optimiser of the server; None is ``optax.sgd(1.0)``.
        local: local work on w.
        personal: local work on :math:`v_k`; None is `local`.
        weighting: "examples" or "uniform".

    Returns:
        An :class:`~fedjax_edu.core.algorithm.Algorithm`; losses that it reports are those of w.

    Raises:
        ArgumentError: as for FedAvg; a negative pull; personal modules, when the engine begins: all modules are doubled.

    >>> algorithm = ditto(lambda params, batch, key: (params - batch) ** 2, pull=1.0, client_optimizer=optax.sgd(0.1),
    ...                   local=LocalTraining(epochs=1))

    Reference: Li et al. (2021), "Ditto: fair and robust federated learning through personalization", arXiv:2012.04221.
    """
    pull = check_number("pull", pull, at_least=0)
    if personal is not None:
        arguments.check_local("personal", personal)
    base = fedavg(loss, client_optimizer=client_optimizer, server_optimizer=server_optimizer, local=local, weighting=weighting)
    (training,) = base.stages

    def init_server(params: Params, meta: Meta) -> DittoState:
        arguments.check_all_shared(meta.modules)
        return DittoState(**base.init_server(params, meta)._asdict(), pull=jnp.asarray(pull, float_dtype()))

    def start(state: DittoState, own: Tree, info: ClientInfo, key: jax.Array) -> Both:
        nothing = state.params.personal
        return Both(training.start(state, nothing, info, key), local_sgd.start(client_optimizer, state.client_optimizer, own, nothing))

    def step(state: DittoState, both: Both, batch: Batch, key: jax.Array) -> tuple[Both, Any]:
        trained, report = training.phases[0].step(state, both.training, batch, key)
        return both._replace(training=trained), report

    def step_own(state: DittoState, both: Both, batch: Batch, key: jax.Array) -> tuple[Both, None]:
        slope, _ = local_sgd.gradient(base.loss, both.own.params, state.params.frozen, batch, key)
        pulled = jax.tree.map(lambda g, v, w: g + state.pull.astype(w.dtype) * (v - w), slope, both.own.params, state.params.shared)
        return both._replace(own=local_sgd.descend(client_optimizer, both.own, pulled)), None

    def finish(state: DittoState, both: Both, info: ClientInfo) -> tuple[dict[str, Channel], Tree, jax.Array]:
        channels, _, weight = training.finish(state, both.training, info)
        return channels, both.own.params, weight

    def model(state: DittoState, own: Tree | None) -> Tree:
        return state.params.merge() if own is None else state.params._replace(shared=own).merge()

    stage = training._replace(
        start=start,
        phases=(
            Phase(local, lambda state, both, info: both, step),
            Phase(local if personal is None else personal, lambda state, both, info: both, step_own),
        ),
        finish=finish,
        trained=lambda state, both: training.trained(state, both.training),
    )
    return base._replace(init_server=init_server, init_client=lambda params, info: params.shared, stages=(stage,), model=model)
