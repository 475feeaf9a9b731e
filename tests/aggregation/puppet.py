"""An algorithm without training: a client sends the update that is written in its data, so that aggregation is tested alone."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import fedjax_edu as fe
from fedjax_edu.core import trees
from fedjax_edu.core.algorithm import Algorithm, Channel, Phase, Stage
from fedjax_edu.core.link import Link
from fedjax_edu.core.local import FullPass
from fedjax_edu.core.loss import standardise
from fedjax_edu.core.modules import Params

PARAMS = {
    "encoder": {"b": np.zeros(2, np.float32), "w": np.zeros((3, 2), np.float32)},
    "head": np.zeros(4, np.float32),
    "scale": np.float32(0),
}
MODULES = fe.modules.assign(PARAMS)


class Server(NamedTuple):
    """The last means: of the private channel (as the parameters) and of the public one."""

    params: Params
    public: Any


def algorithm() -> Algorithm:
    """Sends ``update`` twice, as a private channel weighted by module and as a public one with weight 1; the means become the state."""

    def finish(shared, local, info):
        value, weight = local
        private, public = Channel(value, weight, private=True), Channel(value, jnp.ones(()), private=False)
        return {"update": private, "public": public}, (), jnp.ones(())

    def apply(server, aggregates, key):
        mean = aggregates["update"].mean()
        params = server.params._replace(shared=mean)
        return Server(params, aggregates["public"].mean()), {"update_norm": trees.global_norm(mean)}

    def read(shared, local, batch, key):
        row = trees.index(batch.examples, 0)
        return (row["update"], row["weight"]), None

    stage = Stage(
        broadcast=lambda server, aggregates: server.params,
        start=lambda shared, state, info, key: (jax.tree.map(jnp.zeros_like, shared.shared), jnp.zeros(len(MODULES.names))),
        phases=(Phase(FullPass(), lambda shared, local, info: local, read),),
        finish=finish,
        sent=lambda shared: shared.shared,
        trained=lambda shared, local: shared.merge(),
    )
    return Algorithm(
        init_server=lambda params, meta: Server(params, params.shared),
        init_client=lambda params, info: (),
        stages=(stage,),
        apply=apply,
        loss=standardise(lambda params, batch, key: batch["weight"][:, 0]),
        model=lambda server, state: server.params.merge(),
    )


def population(updates: Any, weights: np.ndarray) -> fe.data.Population:
    """One client for each row of `updates`, whose ids do not grow with their position."""
    count = len(weights)
    ids = np.random.default_rng(5).permutation(10 * count)[:count].astype(np.uint32)
    arrays = {"update": updates, "weight": weights}
    return fe.data.Population.from_arrays(arrays, offsets=np.arange(count + 1), ids=ids, allow_nonfinite=("update.head",))


def counter() -> Link:
    """Counts how often each client passed it, and the rounds that were summed; changes nothing."""
    return Link(
        name="counter",
        place="policy",
        init_server=lambda params, meta: jnp.int32(0),
        init_client=lambda params, info: jnp.int32(0),
        client=lambda server, state, channels, context: (channels, state + 1, {"passed": jnp.ones(())}),
        server=lambda state, aggregates, key: (state + 1, aggregates),
        sensitivity=lambda bound: bound,
        needs="sum",
    )
