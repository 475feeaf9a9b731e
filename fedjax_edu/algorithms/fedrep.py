"""FedRep: a representation that all clients share, and a head that each trains for itself before it trains the representation."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import optax

from fedjax_edu.algorithms import arguments, local_sgd
from fedjax_edu.algorithms.fedavg import fedavg
from fedjax_edu.algorithms.server import State
from fedjax_edu.core.algorithm import Algorithm, Channel, ClientInfo, Meta, Phase, Report
from fedjax_edu.core.errors import ArgumentError
from fedjax_edu.core.local import Batch, LocalTraining
from fedjax_edu.core.modules import Params, join, part
from fedjax_edu.core.trees import Tree


class Halves(NamedTuple):
    """The client's personal and shared modules, each with an optimiser of its own."""

    head: local_sgd.Local
    body: local_sgd.Local


def fedrep(
    loss: Callable[..., Any],
    *,
    client_optimizer: optax.GradientTransformation,
    server_optimizer: optax.GradientTransformation | None = None,
    head: LocalTraining,
    local: LocalTraining,
    weighting: str = "examples",
) -> Algorithm:
    r"""Federated averaging of shared modules :math:`\phi`, between which each client finds its own :math:`h_k`.

    A client first steps on its personal modules, :math:`h_k \leftarrow h_k - \eta \nabla_h f_k(\phi, h_k)`, with :math:`\phi` as it came,
    then on the shared ones, with :math:`h_k` as it then is; it sends the change of :math:`\phi` alone.

    Args:
        loss: as for :func:`fedjax_edu.algorithms.fedavg`.
        client_optimizer: optax optimiser of the local steps; it starts afresh every round, and with the second half.
        server_optimizer: optax optimiser of the server; None is ``optax.sgd(1.0)``.
        head: local work on the personal modules.
        local: local work on the shared modules.
        weighting: "examples" or "uniform".

    Returns:
        An :class:`~fedjax_edu.core.algorithm.Algorithm`.

    Raises:
        ArgumentError: as for FedAvg; no personal module, when the engine begins.

    >>> algorithm = fedrep(lambda params, batch, key: (params["head"] * params["body"] - batch) ** 2, client_optimizer=optax.sgd(0.1),
    ...                    head=LocalTraining(steps=5), local=LocalTraining(epochs=1))

    Reference: Collins et al. (2021), "Exploiting shared representations for personalized federated learning", arXiv:2102.07078. We
    differ: any optimiser and any number of steps.
    """
    arguments.check_local("head", head)
    base = fedavg(loss, client_optimizer=client_optimizer, server_optimizer=server_optimizer, local=local, weighting=weighting)
    (training,) = base.stages

    def init_server(params: Params, meta: Meta) -> State:
        if not meta.modules.has("personal"):
            raise ArgumentError("modules", meta.modules.kinds, "assign personal modules, the heads for instance, or use fedavg")
        return base.init_server(params, meta)

    def start(state: State, personal: Tree, info: ClientInfo, key: jax.Array) -> Halves:
        nothing = jax.tree.map(lambda _: None, personal)
        halves = (local_sgd.start(client_optimizer, state.client_optimizer, nothing, half) for half in (personal, state.params.shared))
        return Halves(*halves)

    def slopes(state: State, own: Halves, batch: Batch, key: jax.Array) -> tuple[Tree, Report]:
        return local_sgd.gradient(base.loss, join(own.head.params, own.body.params), state.params.frozen, batch, key)

    def step_head(state: State, own: Halves, batch: Batch, key: jax.Array) -> tuple[Halves, None]:
        slope, _ = slopes(state, own, batch, key)
        return own._replace(head=local_sgd.descend(client_optimizer, own.head, part(slope, own.head.params))), None

    def step_body(state: State, own: Halves, batch: Batch, key: jax.Array) -> tuple[Halves, Report]:
        slope, report = slopes(state, own, batch, key)
        return own._replace(body=local_sgd.descend(client_optimizer, own.body, part(slope, own.body.params))), report

    def whole(own: Halves) -> local_sgd.Local:
        return own.body._replace(params=join(own.head.params, own.body.params))

    def finish(state: State, own: Halves, info: ClientInfo) -> tuple[dict[str, Channel], Tree, jax.Array]:
        return training.finish(state, whole(own), info)

    stage = training._replace(
        start=start,
        phases=(
            Phase(head, lambda state, own, info: own, step_head),
            Phase(local, lambda state, own, info: own, step_body),
        ),
        finish=finish,
        trained=lambda state, own: training.trained(state, whole(own)),
    )
    return base._replace(init_server=init_server, stages=(stage,))
