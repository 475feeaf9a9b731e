"""APFL: each client mixes the federation's model with one of its own, and learns how much of which."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from fedjax_edu.algorithms import arguments, local_sgd
from fedjax_edu.algorithms.fedavg import fedavg
from fedjax_edu.algorithms.hyperparameters import Hyperparameters
from fedjax_edu.core.algorithm import Algorithm, Channel, ClientInfo, Meta, Phase, Report
from fedjax_edu.core.errors import check_flag, check_number, check_share
from fedjax_edu.core.local import Batch, LocalTraining
from fedjax_edu.core.modules import Modules, Params
from fedjax_edu.core.trees import Tree, float_dtype


class ApflState(NamedTuple):
    """FedAvg's state, the rate of the mixing, and the modules that are mixed."""

    params: Params
    optimizer: optax.OptState
    client_optimizer: Hyperparameters
    mixing_rate: jax.Array
    modules: Modules


class ApflClient(NamedTuple):
    """What a client keeps: its own model v, and how much of it there is in its predictions, [modules]."""

    own: Tree
    mixing: jax.Array


class Mixed(NamedTuple):
    """The client's training of the federation's model, that of its own, and how they are mixed."""

    training: local_sgd.Local
    own: local_sgd.Local
    mixing: jax.Array


def apfl(
    loss: Callable[..., Any],
    *,
    mixing: float = 0.5,
    mixing_rate: float = 0.0,
    by_module: bool = False,
    client_optimizer: optax.GradientTransformation,
    server_optimizer: optax.GradientTransformation | None = None,
    local: LocalTraining,
    weighting: str = "examples",
) -> Algorithm:
    r"""FedAvg for w, and for each client a model :math:`v_k` that does best in the mixture :math:`\alpha_k v_k + (1 - \alpha_k) w`.

    On every batch a client steps on w; on :math:`v_k` along :math:`\alpha_k \nabla f_k(\bar v_k)`, where
    :math:`\bar v_k = \alpha_k v_k + (1 - \alpha_k) w_k`; and on :math:`\alpha_k` along
    :math:`\langle v_k - w_k, \nabla f_k(\bar v_k) \rangle`. The federation's w is that of FedAvg. Clients predict with the mixture
    of :math:`v_k`, which begins as the first w, and the federation's w.

    Args:
        loss: as for :func:`fedjax_edu.algorithms.fedavg`.
        mixing: :math:`\alpha_k` at first, from 0 (FedAvg) to 1 (each client alone).
        mixing_rate: step size of :math:`\alpha_k`, which stays within [0, 1]; 0 keeps it.
        by_module: whether each module has an :math:`\alpha_k` of its own, which follows its own part of the inner product.
        client_optimizer: optax optimiser of the local steps on w and on :math:`v_k`; it starts afresh every round.
        server_optimizer: optax optimiser of the server; None is ``optax.sgd(1.0)``.
        local: local work of a round.
        weighting: "examples" or "uniform".

    Returns:
        An :class:`~fedjax_edu.core.algorithm.Algorithm`; losses that it reports are those of w.

    Raises:
        ArgumentError: as for FedAvg; a mixing outside of [0, 1]; a negative rate; personal modules, when the engine begins.

    >>> algorithm = apfl(lambda params, batch, key: (params - batch) ** 2, mixing_rate=0.01, client_optimizer=optax.sgd(0.1),
    ...                  local=LocalTraining(epochs=1))

    Reference: Deng et al. (2020), "Adaptive personalized federated learning", arXiv:2003.13461. We differ: :math:`\alpha_k` moves with
    every batch, and may be one for each module.
    """
    mixing = check_share("mixing", mixing)
    mixing_rate = check_number("mixing_rate", mixing_rate, at_least=0)
    check_flag("by_module", by_module)
    base = fedavg(loss, client_optimizer=client_optimizer, server_optimizer=server_optimizer, local=local, weighting=weighting)
    (training,) = base.stages

    def init_server(params: Params, meta: Meta) -> ApflState:
        arguments.check_all_shared(meta.modules)
        begun = base.init_server(params, meta)._asdict()
        return ApflState(**begun, mixing_rate=jnp.asarray(mixing_rate, float_dtype()), modules=meta.modules)

    def init_client(params: Params, info: ClientInfo) -> ApflClient:
        return ApflClient(params.shared, jnp.full(info.share.shape, mixing, float_dtype()))

    def mixture(state: ApflState, mixing: jax.Array, own: Tree, shared: Tree) -> Tree:
        def mix(v: jax.Array, w: jax.Array, owner: int) -> jax.Array:
            return w + mixing[owner].astype(w.dtype) * (v - w)

        return jax.tree.map(mix, own, shared, state.modules.owners(shared))

    def start(state: ApflState, client: ApflClient, info: ClientInfo, key: jax.Array) -> Mixed:
        nothing = state.params.personal
        own = local_sgd.start(client_optimizer, state.client_optimizer, client.own, nothing)
        return Mixed(training.start(state, nothing, info, key), own, client.mixing)

    def step(state: ApflState, now: Mixed, batch: Batch, key: jax.Array) -> tuple[Mixed, Report]:
        mixed = mixture(state, now.mixing, now.own.params, now.training.params)
        slope, _ = local_sgd.gradient(base.loss, mixed, state.params.frozen, batch, key)
        trained, report = training.phases[0].step(state, now.training, batch, key)
        owners = state.modules.owners(slope)
        scaled = jax.tree.map(lambda g, owner: now.mixing[owner].astype(g.dtype) * g, slope, owners)
        gains = jax.tree.map(lambda g, v, w: jnp.sum(g * (v - w)).astype(float_dtype()), slope, now.own.params, now.training.params)
        each = jnp.zeros_like(now.mixing).at[jnp.array(jax.tree.leaves(owners))].add(jnp.stack(jax.tree.leaves(gains)))
        moved = jnp.clip(now.mixing - state.mixing_rate * (each if by_module else jnp.sum(each)), 0, 1)
        return Mixed(trained, local_sgd.descend(client_optimizer, now.own, scaled), moved), report

    def finish(state: ApflState, now: Mixed, info: ClientInfo) -> tuple[dict[str, Channel], ApflClient, jax.Array]:
        channels, _, weight = training.finish(state, now.training, info)
        return channels, ApflClient(now.own.params, now.mixing), weight

    def model(state: ApflState, client: ApflClient | None) -> Tree:
        if client is None:
            return state.params.merge()
        return state.params._replace(shared=mixture(state, client.mixing, client.own, state.params.shared)).merge()

    stage = training._replace(
        start=start,
        phases=(Phase(local, lambda state, now, info: now, step),),
        finish=finish,
        trained=lambda state, now: training.trained(state, now.training),
    )
    return base._replace(init_server=init_server, init_client=init_client, stages=(stage,), model=model)
