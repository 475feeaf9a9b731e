"""SCAFFOLD: control variates against client drift."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from fedjax_edu.algorithms import hyperparameters, local_sgd
from fedjax_edu.algorithms.fedavg import fedavg
from fedjax_edu.algorithms.hyperparameters import Hyperparameters
from fedjax_edu.core.algorithm import WEIGHTINGS, Aggregates, Algorithm, Channel, ClientInfo, Meta, Phase, Report
from fedjax_edu.core.errors import ArgumentError
from fedjax_edu.core.local import Batch, FullPass, LocalTraining
from fedjax_edu.core.modules import Params, part
from fedjax_edu.core.trees import Tree, float_dtype, global_norm


class ScaffoldState(NamedTuple):
    """FedAvg's state, the server's control variate c over shared modules, and the sum of all clients' weights."""

    params: Params
    optimizer: optax.OptState
    client_optimizer: Hyperparameters
    control: Tree
    population: jax.Array


class ScaffoldClient(NamedTuple):
    """What a client keeps: its personal modules and its control variate :math:`c_k`."""

    personal: Tree
    control: Tree


class Drifting(NamedTuple):
    """A client's training, its correction :math:`c - c_k`, and the sum of its gradients if its next variate is made of them."""

    training: local_sgd.Local
    correction: Tree
    gathered: Tree


def scaffold(
    loss: Callable[..., Any],
    *,
    client_optimizer: optax.GradientTransformation,
    server_optimizer: optax.GradientTransformation | None = None,
    local: LocalTraining,
    weighting: str = "examples",
    option: str = "II",
) -> Algorithm:
    r"""Stochastic controlled averaging.

    Local steps follow :math:`\nabla f_k(y) - c_k + c`. Then :math:`c_k^+` is the gradient :math:`\nabla f_k(w)` over all of
    the client's examples (option I), or the mean of the gradients that it met on its way (option II). For plain SGD with the
    client's own number of steps :math:`K_k` that is :math:`c_k - c + (w - y) / (K_k \eta)`, which costs a step nothing but is
    known only to :math:`\epsilon |w| / (K_k \eta)` in floats; for any other optimiser gradients are summed. The server adds
    :math:`\sum_{k \in A} p_k (c_k^+ - c_k)` to c, with :math:`\sum_k p_k = 1` over the whole population: at full
    participation :math:`c = \sum_k p_k c_k` after every round.

    Momentum, schedules and decay in `client_optimizer` leave that invariant and the fixed point alone, since :math:`c_k^+` is then
    made of gradients, not of displacements. A clip in the aggregator bounds what reaches c but not the client's own
    :math:`c_k`: c is then no longer their mean, and drift is corrected in part. A rejected client leaves both as they were.

    Args:
        loss: as for :func:`fedjax_edu.algorithms.fedavg`.
        client_optimizer: optax optimiser of the local steps.
        server_optimizer: optax optimiser of the server; None is ``optax.sgd(1.0)``.
        local: local work of a round.
        weighting: :math:`p_k` is proportional to the number of examples ("examples") or equal ("uniform", the paper's).
        option: "I" (one more pass over the client's examples) or "II".

    Returns:
        An :class:`~fedjax_edu.core.algorithm.Algorithm`; it reports ``control_norm``, the norm of c.

    Raises:
        ArgumentError: as for FedAvg; an unknown option.

    >>> algorithm = scaffold(lambda params, batch, key: (params - batch) ** 2, client_optimizer=optax.sgd(0.1),
    ...                      local=LocalTraining(epochs=1))

    Reference: Karimireddy et al. (2020), "SCAFFOLD: stochastic controlled averaging for federated learning",
    arXiv:1910.06378. We differ: weights by examples, steps that differ between clients, any optimiser.
    """
    if option not in ("I", "II"):
        raise ArgumentError("option", option, 'use "I" or "II"')
    base = fedavg(loss, client_optimizer=client_optimizer, server_optimizer=server_optimizer, local=local, weighting=weighting)
    (training,) = base.stages
    gathers = option == "I" or not hyperparameters.is_plain_sgd(client_optimizer)

    def init_server(params: Params, meta: Meta) -> ScaffoldState:
        zero = jax.tree.map(jnp.zeros_like, params.shared)
        return ScaffoldState(
            **base.init_server(params, meta)._asdict(), control=zero, population=jnp.asarray(meta.total(weighting), float_dtype())
        )

    def start(state: ScaffoldState, client: ScaffoldClient, info: ClientInfo, key: jax.Array) -> Drifting:
        correction = jax.tree.map(jnp.subtract, state.control, client.control)
        gathered = jax.tree.map(jnp.zeros_like, state.params.shared) if gathers else None
        return Drifting(training.start(state, client.personal, info, key), correction, gathered)

    def look(state: ScaffoldState, own: Drifting, batch: Batch, key: jax.Array) -> tuple[Drifting, None]:
        """Option I: the gradient of a batch at w, times its rows."""
        slope, report = local_sgd.gradient(base.loss, own.training.params, state.params.frozen, batch, key)
        return own._replace(gathered=local_sgd.gather(own.gathered, slope, report.examples)), None

    def step(state: ScaffoldState, own: Drifting, batch: Batch, key: jax.Array) -> tuple[Drifting, Report]:
        slope, report = local_sgd.gradient(base.loss, own.training.params, state.params.frozen, batch, key)
        own = own._replace(training=local_sgd.descend(client_optimizer, own.training, local_sgd.add(slope, own.correction)))
        if gathers and option == "II":
            own = own._replace(gathered=jax.tree.map(jnp.add, own.gathered, part(slope, own.gathered)))
        return own, report

    def next_control(state: ScaffoldState, own: Drifting, info: ClientInfo) -> Tree:
        """The mean of the client's gradients."""
        count = jnp.maximum(info.steps[-1] if option == "II" else info.examples, 1)
        if gathers:
            return jax.tree.map(lambda total: total / count.astype(total.dtype), own.gathered)
        walked = count.astype(float_dtype()) * hyperparameters.rate(client_optimizer, state.client_optimizer)
        moved = local_sgd.difference(state.params.shared, own.training)
        return jax.tree.map(lambda moved, correction: -moved / walked.astype(moved.dtype) - correction, moved, own.correction)

    def finish(state: ScaffoldState, own: Drifting, info: ClientInfo) -> tuple[dict[str, Channel], ScaffoldClient, jax.Array]:
        channels, personal, weight = training.finish(state, own.training, info)
        control = next_control(state, own, info)
        change = jax.tree.map(lambda new, c, correction: new - (c - correction), control, state.control, own.correction)
        return channels | {"control": Channel(change, WEIGHTINGS[weighting](info), private=True)}, ScaffoldClient(personal, control), weight

    def apply(state: ScaffoldState, aggregates: Aggregates, key: jax.Array) -> tuple[ScaffoldState, dict[str, jax.Array]]:
        state, observed = base.apply(state, aggregates, key)
        change = aggregates["control"].scaled(1 / state.population).total
        control = jax.tree.map(lambda c, delta: c + delta.astype(c.dtype), state.control, change)
        return state._replace(control=control), observed | {"control_norm": global_norm(control)}

    def model(state: ScaffoldState, client: ScaffoldClient | None) -> Tree:
        return base.model(state, None if client is None else client.personal)

    steps = Phase(local, lambda state, own, info: own, step)
    pass_ = Phase(FullPass(batch_size=local.batch_size), lambda state, own, info: own, look)
    stage = training._replace(
        start=start,
        phases=(steps,) if option == "II" else (pass_, steps),
        finish=finish,
        sent=lambda state: (state.params.shared, state.control),
        trained=lambda state, own: training.trained(state, own.training),
    )
    return base._replace(
        init_server=init_server,
        init_client=lambda params, info: ScaffoldClient(params.personal, jax.tree.map(jnp.zeros_like, params.shared)),
        stages=(stage,),
        apply=apply,
        model=model,
    )
