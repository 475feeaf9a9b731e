"""Mime and MimeLite: clients that imitate a centralised optimiser."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from fedjax_edu.algorithms import local_sgd, server
from fedjax_edu.algorithms.fedavg import fedavg
from fedjax_edu.algorithms.hyperparameters import Hyperparameters
from fedjax_edu.core.algorithm import WEIGHTINGS, Aggregates, Algorithm, Channel, ClientInfo, Meta, Phase, Report, Stage
from fedjax_edu.core.errors import ArgumentError
from fedjax_edu.core.local import Batch, FullPass, LocalTraining
from fedjax_edu.core.modules import Params
from fedjax_edu.core.trees import Tree


class MimeState(NamedTuple):
    """FedAvg's state and the statistics s of the optimiser that clients imitate, over shared modules."""

    params: Params
    optimizer: optax.OptState
    client_optimizer: Hyperparameters
    statistics: optax.OptState


class Controlled(NamedTuple):
    """What clients read: the server's state, and the mean gradient c at its parameters (None where it is not needed)."""

    state: MimeState
    gradient: Tree


class Passing(NamedTuple):
    """A client's parameters on their way, and the sum of its gradients at the server's parameters."""

    training: local_sgd.Local
    gathered: Tree


def mime(
    loss: Callable[..., Any],
    *,
    client_optimizer: optax.GradientTransformation,
    server_optimizer: optax.GradientTransformation | None = None,
    local: LocalTraining,
    weighting: str = "examples",
) -> Algorithm:
    r"""Mime: local steps with the statistics of a centralised optimiser, and with its variance.

    A round has two stages. First every client of the cohort sends :math:`\nabla f_k(w)` over all of its examples, whose
    weighted mean is c. Then its local steps are :math:`y \leftarrow y - \eta\, U(g; s)` with
    :math:`g = \nabla f_k(y; \xi) - \nabla f_k(w; \xi) + c` on each batch :math:`\xi`, and the statistics s of `client_optimizer`
    (its momentum, its second moments) held fixed. At the end :math:`s \leftarrow V(s, c)`. With plain SGD this is federated
    SVRG, whose fixed point on quadratics is the optimum.

    A client that the first stage rejects sits out the second; one that only diverges in the second has spoken in c.

    Args:
        loss: as for :func:`fedjax_edu.algorithms.fedavg`.
        client_optimizer: the optimiser to imitate; its state lives on the server.
        server_optimizer: optax optimiser of the server; None is ``optax.sgd(1.0)``, the paper's.
        local: local work of a round.
        weighting: "examples" or "uniform".

    Returns:
        An :class:`~fedjax_edu.core.algorithm.Algorithm`.

    Raises:
        ArgumentError: as for FedAvg; personal modules, which have no centralised optimiser to imitate.

    >>> algorithm = mime(lambda params, batch, key: (params - batch) ** 2, client_optimizer=optax.sgd(0.1, momentum=0.9),
    ...                  local=LocalTraining(epochs=1))
    >>> len(algorithm.stages)
    2

    Reference: Karimireddy et al. (2020), "Mime: mimicking centralized stochastic algorithms in federated learning",
    arXiv:2008.03606.
    """
    base, begin, look, gradient_channel = _parts(loss, client_optimizer, server_optimizer, local, weighting)

    def step(shared: Controlled, own: Passing, batch: Batch, key: jax.Array) -> tuple[Passing, Report]:
        params = shared.state.params
        slope, report = local_sgd.gradient(base.loss, own.training.params, params.frozen, batch, key)
        before, _ = local_sgd.gradient(base.loss, params.shared, params.frozen, batch, key)
        direction = jax.tree.map(lambda g, g0, c: g - g0 + c.astype(g.dtype), slope, before, shared.gradient)
        return _imitate(client_optimizer, own, direction), report

    def tell(shared: Controlled, own: Passing, info: ClientInfo) -> tuple[dict[str, Channel], tuple[()], jax.Array]:
        return {"gradient": gradient_channel(own, info)}, (), jnp.zeros(())

    def finish(shared: Controlled, own: Passing, info: ClientInfo) -> tuple[dict[str, Channel], tuple[()], jax.Array]:
        channels, _, weight = base.stages[0].finish(shared.state, own.training, info)
        return channels, (), weight

    first = Stage(
        broadcast=lambda state, aggregates: Controlled(state, None),
        start=begin,
        phases=(Phase(FullPass(batch_size=local.batch_size), lambda shared, own, info: own, look),),
        finish=tell,
        sent=lambda shared: shared.state.params.shared,
        trained=_trained,
    )
    second = Stage(
        broadcast=lambda state, aggregates: Controlled(state, aggregates["gradient"].mean()),
        start=begin,
        phases=(Phase(local, lambda shared, own, info: own, step),),
        finish=finish,
        sent=lambda shared: (shared.gradient, shared.state.statistics),
        trained=_trained,
    )
    return base._replace(stages=(first, second))


def mimelite(
    loss: Callable[..., Any],
    *,
    client_optimizer: optax.GradientTransformation,
    server_optimizer: optax.GradientTransformation | None = None,
    local: LocalTraining,
    weighting: str = "examples",
) -> Algorithm:
    r"""MimeLite: :func:`mime` without the correction of its variance, in one stage.

    Local steps are :math:`y \leftarrow y - \eta\, U(\nabla f_k(y; \xi); s)` with fixed statistics s; clients send
    :math:`\nabla f_k(w)` along with their update, and :math:`s \leftarrow V(s, c)` with its mean c. With plain SGD this is FedAvg.

    Args:
        loss: as for :func:`fedjax_edu.algorithms.fedavg`.
        client_optimizer: the optimiser to imitate; its state lives on the server.
        server_optimizer: optax optimiser of the server; None is ``optax.sgd(1.0)``, the paper's.
        local: local work of a round.
        weighting: "examples" or "uniform".

    Returns:
        An :class:`~fedjax_edu.core.algorithm.Algorithm`.

    Raises:
        ArgumentError: as for :func:`mime`.

    >>> algorithm = mimelite(lambda params, batch, key: (params - batch) ** 2, client_optimizer=optax.sgd(0.1, momentum=0.9),
    ...                      local=LocalTraining(epochs=1))
    >>> len(algorithm.stages)
    1

    Reference: Karimireddy et al. (2020), arXiv:2008.03606, algorithm 3.
    """
    base, begin, look, gradient_channel = _parts(loss, client_optimizer, server_optimizer, local, weighting)

    def step(shared: Controlled, own: Passing, batch: Batch, key: jax.Array) -> tuple[Passing, Report]:
        slope, report = local_sgd.gradient(base.loss, own.training.params, shared.state.params.frozen, batch, key)
        return _imitate(client_optimizer, own, slope), report

    def finish(shared: Controlled, own: Passing, info: ClientInfo) -> tuple[dict[str, Channel], tuple[()], jax.Array]:
        channels, _, weight = base.stages[0].finish(shared.state, own.training, info)
        return channels | {"gradient": gradient_channel(own, info)}, (), weight

    stage = Stage(
        broadcast=lambda state, aggregates: Controlled(state, None),
        start=begin,
        phases=(
            Phase(FullPass(batch_size=local.batch_size), lambda shared, own, info: own, look),
            Phase(local, lambda shared, own, info: own, step),
        ),
        finish=finish,
        sent=lambda shared: (shared.state.params.shared, shared.state.statistics),
        trained=_trained,
    )
    return base._replace(stages=(stage,))


def _parts(
    loss: Callable[..., Any],
    client_optimizer: optax.GradientTransformation,
    server_optimizer: optax.GradientTransformation | None,
    local: LocalTraining,
    weighting: str,
) -> tuple[Algorithm, Callable[..., Any], Callable[..., Any], Callable[..., Any]]:
    """What both share: the algorithm but for its stages, a client's start, a pass that gathers gradients, their channel."""
    base = fedavg(loss, client_optimizer=client_optimizer, server_optimizer=server_optimizer, local=local, weighting=weighting)

    def init_server(params: Params, meta: Meta) -> MimeState:
        if meta.modules.has("personal"):
            raise ArgumentError("modules", "personal modules", "share or freeze them: there is no centralised optimiser to imitate")
        begun = base.init_server(params, meta)._replace(client_optimizer={})  # they are part of the statistics
        return MimeState(**begun._asdict(), statistics=server.init(client_optimizer, params.shared))

    def begin(shared: Controlled, client: tuple[()], info: ClientInfo, key: jax.Array) -> Passing:
        params = shared.state.params.shared
        return Passing(local_sgd.Local(params, shared.state.statistics), jax.tree.map(jnp.zeros_like, params))

    def look(shared: Controlled, own: Passing, batch: Batch, key: jax.Array) -> tuple[Passing, None]:
        params = shared.state.params
        slope, report = local_sgd.gradient(base.loss, params.shared, params.frozen, batch, key)
        return own._replace(gathered=local_sgd.gather(own.gathered, slope, report.examples)), None

    def gradient_channel(own: Passing, info: ClientInfo) -> Channel:
        mean = jax.tree.map(lambda total: total / info.examples.astype(total.dtype), own.gathered)
        return Channel(mean, WEIGHTINGS[weighting](info), private=True)

    def apply(state: MimeState, aggregates: Aggregates, key: jax.Array) -> tuple[MimeState, dict[str, jax.Array]]:
        gradient, old = aggregates["gradient"], state.params.shared
        mean = jax.tree.map(lambda mean, leaf: mean.astype(leaf.dtype), gradient.mean(), old)
        _, statistics = server.move(client_optimizer, old, state.statistics, mean, gradient)
        state, observed = base.apply(state, aggregates, key)
        return state._replace(statistics=statistics), observed

    shared = base._replace(
        init_server=init_server,
        init_client=lambda params, info: (),
        apply=apply,
        model=lambda state, client: state.params.merge(),
    )
    return shared, begin, look, gradient_channel


def _imitate(optimizer: optax.GradientTransformation, own: Passing, direction: Tree) -> Passing:
    """One step with the optimiser's statistics held fixed."""
    moved = local_sgd.descend(optimizer, own.training, direction)
    return own._replace(training=own.training._replace(params=moved.params))


def _trained(shared: Controlled, own: Passing) -> Tree:
    return local_sgd.trained(shared.state.params, own.training)
