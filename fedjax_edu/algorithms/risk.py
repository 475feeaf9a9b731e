r"""Training that begins with a look at the client's own risk :math:`F_k(w)`, for algorithms that weigh clients by it."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from fedjax_edu.algorithms import local_sgd
from fedjax_edu.algorithms.server import State
from fedjax_edu.core.algorithm import Algorithm, ClientInfo, Phase, Report, Stage
from fedjax_edu.core.local import Batch, FullPass, LocalTraining
from fedjax_edu.core.trees import Tree, float_dtype


class Risky(NamedTuple):
    """A client's training, and the sum of its examples' losses at the server's parameters."""

    training: local_sgd.Local
    total: jax.Array

    def risk(self, info: ClientInfo) -> jax.Array:
        r""":math:`F_k(w)`, the client's mean loss, regulariser included."""
        return self.total / jnp.maximum(info.examples, 1).astype(self.total.dtype)


def stage(base: Algorithm, local: LocalTraining) -> Stage:
    """FedAvg's stage with a pass over the client's examples before its local steps; `finish` is left to the algorithm."""
    (training,) = base.stages

    def start(state: State, personal: Tree, info: ClientInfo, key: jax.Array) -> Risky:
        return Risky(training.start(state, personal, info, key), jnp.zeros((), float_dtype()))

    def look(state: State, own: Risky, batch: Batch, key: jax.Array) -> tuple[Risky, None]:
        mean, _ = local_sgd.objective(base.loss, own.training.params, state.params.frozen, batch, key)
        return own._replace(total=own.total + mean.astype(float_dtype()) * jnp.sum(batch.valid, dtype=float_dtype())), None

    def step(state: State, own: Risky, batch: Batch, key: jax.Array) -> tuple[Risky, Report]:
        trained, report = training.phases[0].step(state, own.training, batch, key)
        return own._replace(training=trained), report

    return training._replace(
        start=start,
        phases=(
            Phase(FullPass(batch_size=local.batch_size), lambda state, own, info: own, look),
            Phase(local, lambda state, own, info: own, step),
        ),
        trained=lambda state, own: training.trained(state, own.training),
    )
