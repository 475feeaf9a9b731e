"""One federation for any number of processes: ``python federation_of_processes.py COORDINATOR PROCESSES ID FILE`` writes what it finds."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.experimental import multihost_utils

import fedjax_edu as fe
from fedjax_edu.engine import tuning

DEVICES = 4
SIZES = np.random.default_rng(0).integers(0, 30, 64)
OFFSETS = np.concatenate([[0], np.cumsum(SIZES)])
PARAMS = {"w": np.zeros(4, np.float32), "head": {"b": np.zeros((), np.float32)}}
X = np.random.default_rng(1).normal(size=(int(OFFSETS[-1]), 4)).astype(np.float32)
ARRAYS = {"x": X, "y": X @ np.arange(4, dtype=np.float32)}


class CountedLoader:
    """Reads rows of clients and remembers whose."""

    def __init__(self):
        self.asked = set()

    def __call__(self, clients):
        self.asked |= set(clients.tolist())
        rows = np.concatenate([np.arange(OFFSETS[client], OFFSETS[client + 1]) for client in clients])
        return {name: leaf[rows] for name, leaf in ARRAYS.items()}

    def told(self):
        """Bool [clients], who was asked for since the last time."""
        asked, self.asked = self.asked, set()
        return np.isin(np.arange(len(SIZES)), list(asked))


def loss(params, batch, key):
    return (batch["x"] @ params["w"] + params["head"]["b"] - batch["y"]) ** 2


def predict(params, batch):
    return batch["x"] @ params["w"] + params["head"]["b"]


def engine(population, make, **plan):
    chain = fe.aggregation.chain(fe.aggregation.topk(0.5), fe.aggregation.mean())
    mesh = jax.make_mesh((DEVICES,), ("clients",), axis_types=(jax.sharding.AxisType.Auto,), devices=jax.devices()[:DEVICES])
    return fe.Engine(
        population,
        make(loss, client_optimizer=optax.sgd(0.05), local=fe.LocalTraining(epochs=1, batch_size=8)),
        cohort=fe.cohorts.uniform(9),
        aggregator=chain,
        modules=fe.modules.assign(PARAMS, personal="head"),
        plan=fe.ExecutionPlan(mesh=mesh, **plan),
    )


def whole(tree):
    """NumPy arrays of leaves that may be split over processes."""
    return jax.tree.map(lambda leaf: multihost_utils.process_allgather(leaf, tiled=True) if isinstance(leaf, jax.Array) else leaf, tree)


def train(population, loader, make, **plan):
    """All that an engine is asked for."""
    one = engine(population, make, **plan)
    start = one.init(PARAMS, seed=3)
    cohorts, rows = one.schedule(start, 2)
    loader.told()
    middle, first = one.run(start, 5)
    state, second = one.run(middle, 2)
    read = loader.told()
    evaluation, alone = one.evaluate(state, population), one.evaluate(state, population.select([5]))
    found = {
        "params": state.params,
        "info": (first, second),
        "clients": (state.clients, state.links_clients),
        "evaluation": evaluation,
        "a client alone": alone,
        "predictions": one.predict(state, population, predict),
        "schedule": (cohorts, rows),
    }
    return whole(found), {"read": read, "read to evaluate": loader.told(), "lanes": np.array(one.layout.lanes)}


def everything():
    """``(what has to be the same in any number of processes, what each does for itself)``."""
    loader = CountedLoader()
    loaded = fe.data.Population.from_loader(loader, SIZES)
    arrays = fe.data.Population.from_arrays(ARRAYS, offsets=OFFSETS)
    works = {
        "loader": (loaded, fe.algorithms.scaffold, {"lanes": 2}),
        "arrays": (arrays, fe.algorithms.fedavg, {"lanes": "auto", "client_states": "host", "chunk": 3}),
    }
    found, own = {}, {}
    for name, (population, make, plan) in works.items():
        found[name], own[name] = train(population, loader, make, **plan)
    return found, own


def mistakes():
    """What an engine says to processes that differ; training on devices of one process alone; and whether arrays stream over several."""
    number = jax.process_index()
    said = []
    for population, params in ((SIZES[: 40 + number], PARAMS), (SIZES, jax.tree.map(lambda leaf: leaf + np.float32(number), PARAMS))):
        try:
            engine(fe.data.Population.from_loader(CountedLoader(), population), fe.algorithms.fedavg, lanes=1).init(params)
        except fe.errors.ArgumentError as error:
            said.append(str(error))
    local = jax.make_mesh((1,), ("clients",), devices=jax.local_devices()[:1])
    alone = fe.Engine(
        fe.data.Population.from_arrays({"y": jnp.arange(4.0) * (1 + number)}, offsets=[0, 4]),
        fe.algorithms.fedavg(
            lambda params, batch, key: (params["m"] - batch["y"]) ** 2 / 2,
            client_optimizer=optax.sgd(1.0),
            local=fe.LocalTraining(steps=1, batch_size=None),
        ),
        cohort=fe.cohorts.everyone(),
        aggregator=fe.aggregation.mean(),
        plan=fe.ExecutionPlan(mesh=local),
    )
    state, _ = alone.run(alone.init({"m": jnp.zeros(())}), 1)
    streams = engine(fe.data.Population.from_arrays(ARRAYS, offsets=OFFSETS), fe.algorithms.fedavg).layout.budget is not None
    return {"said": said, "mean": state.params["m"], "arrays stream": streams}


def main(coordinator, processes, number, path):
    fe.configure(DEVICES // int(processes))
    jax.distributed.initialize(coordinator, int(processes), int(number))
    tuning.SMALL_STEP = 0
    found, own = everything()
    leaves = {f"found/{place}": leaf for place, leaf in enumerate(jax.tree.leaves(found))}
    own = {f"{work}/{name}": value for work, values in own.items() for name, value in values.items()}
    np.savez(path, **leaves, **own, **mistakes())


if __name__ == "__main__":
    main(*sys.argv[1:])
