"""pFedMe: each client's model solves its own problem near the federation's, which moves towards those solutions."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from fedjax_edu.algorithms import arguments, local_sgd
from fedjax_edu.algorithms.fedavg import fedavg
from fedjax_edu.algorithms.hyperparameters import Hyperparameters
from fedjax_edu.core.algorithm import Algorithm, Channel, ClientInfo, Meta, Phase, Report
from fedjax_edu.core.errors import check_integer, check_positive
from fedjax_edu.core.keys import fold
from fedjax_edu.core.local import Batch, LocalTraining
from fedjax_edu.core.modules import Params
from fedjax_edu.core.trees import Tree, float_dtype


class PFedMeState(NamedTuple):
    """FedAvg's state, the strength of the pull and the local rate."""

    params: Params
    optimizer: optax.OptState
    client_optimizer: Hyperparameters
    pull: jax.Array
    rate: jax.Array


class Envelope(NamedTuple):
    """The client's copy of the federation's model, and its own model near it."""

    near: Tree
    own: local_sgd.Local


def pfedme(
    loss: Callable[..., Any],
    *,
    pull: float,
    rate: float,
    solver_steps: int = 5,
    client_optimizer: optax.GradientTransformation,
    server_optimizer: optax.GradientTransformation | None = None,
    local: LocalTraining,
    weighting: str = "examples",
) -> Algorithm:
    r"""Federated descent on Moreau envelopes :math:`F_k(w) = \min_\theta f_k(\theta) + \frac{\lambda}{2} \lVert \theta - w \rVert^2`.

    On every batch a client takes some steps of :math:`\theta_k` towards the minimum, :math:`w_k` fixed, and then one of :math:`w_k` along
    the envelope's gradient, :math:`w_k \leftarrow w_k - \eta \lambda (w_k - \theta_k)`. It sends the change of :math:`w_k` and predicts
    with :math:`\theta_k`, which begins every round as the w that it receives. The fixed point of exact solutions is that of
    :func:`fedjax_edu.algorithms.fedprox` with :math:`\mu = \lambda`.

    Args:
        loss: as for :func:`fedjax_edu.algorithms.fedavg`.
        pull: :math:`\lambda`, positive.
        rate: :math:`\eta`, positive; with 1 / pull :math:`w_k` becomes :math:`\theta_k`.
        solver_steps: steps of :math:`\theta_k` on each batch.
        client_optimizer: optax optimiser of :math:`\theta_k`; it starts afresh every round.
        server_optimizer: optax optimiser of the server; None is ``optax.sgd(1.0)``, and ``optax.sgd(beta)`` is the paper's.
        local: batches of a round.
        weighting: "examples" or "uniform".

    Returns:
        An :class:`~fedjax_edu.core.algorithm.Algorithm`; losses that it reports are those of :math:`\theta_k` before its steps.

    Raises:
        ArgumentError: as for FedAvg; a pull or rate that is not positive; fewer than one step; personal modules, when the engine begins.

    >>> algorithm = pfedme(lambda params, batch, key: (params - batch) ** 2, pull=15.0, rate=0.05, client_optimizer=optax.sgd(0.1),
    ...                    local=LocalTraining(steps=20, batch_size=20))

    Reference: Dinh et al. (2020), "Personalized federated learning with Moreau envelopes", arXiv:2006.08848. We differ: a fixed number
    of steps in place of an accuracy of the inner solution.
    """
    pull, rate = check_positive("pull", pull), check_positive("rate", rate)
    solver_steps = check_integer("solver_steps", solver_steps)
    base = fedavg(loss, client_optimizer=client_optimizer, server_optimizer=server_optimizer, local=local, weighting=weighting)
    (training,) = base.stages

    def init_server(params: Params, meta: Meta) -> PFedMeState:
        arguments.check_all_shared(meta.modules)
        begun = base.init_server(params, meta)._asdict()
        return PFedMeState(**begun, pull=jnp.asarray(pull, float_dtype()), rate=jnp.asarray(rate, float_dtype()))

    def start(state: PFedMeState, client: Tree, info: ClientInfo, key: jax.Array) -> Envelope:
        return Envelope(state.params.shared, training.start(state, state.params.personal, info, key))

    def solve(state: PFedMeState, own: local_sgd.Local, near: Tree, batch: Batch, key: jax.Array) -> tuple[local_sgd.Local, Report]:
        slope, report = local_sgd.gradient(base.loss, own.params, state.params.frozen, batch, key)
        pulled = jax.tree.map(lambda g, theta, w: g + state.pull.astype(w.dtype) * (theta - w), slope, own.params, near)
        return local_sgd.descend(client_optimizer, own, pulled), report

    def step(state: PFedMeState, both: Envelope, batch: Batch, key: jax.Array) -> tuple[Envelope, Report]:
        own, report = solve(state, both.own, both.near, batch, fold(key, 0))

        def again(number: int | jax.Array, own: local_sgd.Local) -> local_sgd.Local:
            return solve(state, own, both.near, batch, fold(key, number))[0]

        own = jax.lax.fori_loop(1, solver_steps, again, own)
        stride = state.rate * state.pull
        return Envelope(jax.tree.map(lambda w, theta: w - stride.astype(w.dtype) * (w - theta), both.near, own.params), own), report

    def finish(state: PFedMeState, both: Envelope, info: ClientInfo) -> tuple[dict[str, Channel], Tree, jax.Array]:
        channels, _, weight = training.finish(state, both.own._replace(params=both.near), info)
        return channels, both.own.params, weight

    def model(state: PFedMeState, own: Tree | None) -> Tree:
        return state.params.merge() if own is None else state.params._replace(shared=own).merge()

    stage = training._replace(
        start=start,
        phases=(Phase(local, lambda state, both, info: both, step),),
        finish=finish,
        trained=lambda state, both: training.trained(state, both.own),
    )
    return base._replace(init_server=init_server, init_client=lambda params, info: params.shared, stages=(stage,), model=model)
