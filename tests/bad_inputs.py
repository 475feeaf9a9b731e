"""Bad inputs, what their errors must say, and inputs that look odd but are right.

``python tests/bad_inputs.py`` tries all of them in a fresh process without the session's annotation checks, which would answer first,
and prints ``{name: [class of the exception, its message, engine programs compiled meanwhile]}``; the class is null where nothing
was raised.
"""

import functools
import json
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import fedjax_edu as fe
from experiments.configs import schools
from fedjax_edu.study.choice import check_algorithm

ENGINE_PROGRAMS = ("run_chunk", "run_final", "losses", "predictions")  # what an engine compiles; eager operations compile too
OFFSETS = [0, 2, 2, 6]
PARAMS = {"layer": {"w": np.ones(2, np.float32)}, "bias": np.zeros((), np.float32)}
CONFIG = schools.get_config().to_dict()
Population = fe.data.Population
partition = fe.data.partition
inf, nan = float("inf"), float("nan")


class Bad(NamedTuple):
    """A call that must fail.

    Args:
        argument: the argument that the message starts with.
        value: what the message must show of its value.
        call: makes the mistake.
    """

    argument: str
    value: str
    call: Callable[[], Any]


def rows(**changes: Any) -> dict[str, Any]:
    return {"x": np.arange(12.0, dtype=np.float32).reshape(6, 2), "y": np.arange(6.0, dtype=np.float32)} | changes


def people(**changes: Any) -> Population:
    return Population.from_arrays(rows(), **{"offsets": OFFSETS, "attributes": {"pupils": [2, 0, 4], "name": [1, 2, 3]}} | changes)


def residuals(params: Any, batch: Any, key: Any) -> jax.Array:
    return batch["x"] @ params["layer"]["w"] + params["bias"].reshape(1) - batch["y"]


def squares(params: Any, batch: Any, key: Any) -> jax.Array:
    return residuals(params, batch, key) ** 2


def make(name: str, loss: Any = squares, **arguments: Any) -> Any:
    common = {"client_optimizer": optax.sgd(0.01), "local": fe.LocalTraining(epochs=1, batch_size=2)}
    return getattr(fe.algorithms, name)(loss, **common | arguments)


def fedavg(loss: Any = squares, **changes: Any) -> Any:
    return make("fedavg", loss, **changes)


def buffered(concurrency: int = 1, seconds: Any = "pupils") -> Any:
    return engine(algorithm=make("fedbuff"), cohort=fe.cohorts.asynchronous(1, concurrency, seconds=seconds))


def engine(loss: Any = squares, local: Any = None, **changes: Any) -> fe.Engine:
    algorithm = fedavg(loss) if local is None else fedavg(loss, local=local)
    parts = {"population": people(), "algorithm": algorithm, "cohort": fe.cohorts.everyone(), "aggregator": fe.aggregation.mean()} | changes
    return fe.Engine(parts.pop("population"), parts.pop("algorithm"), **parts)


@functools.cache
def started() -> tuple[fe.Engine, fe.State]:
    built = engine()
    return built, built.init(PARAMS)


def init(params: Any = PARAMS, **changes: Any) -> fe.State:
    return engine(**changes).init(params)


def train(params: Any = PARAMS, **changes: Any) -> None:
    built = engine(**changes)
    _, info = built.run(built.init(params), rounds=1)
    if not np.isfinite(info.loss).all() or info.rejected.any():
        raise AssertionError(f"trained badly: {info}")


def run(rounds: Any) -> Any:
    return started()[0].run(started()[1], rounds)


def predict(fn: Any, population: Any = None) -> Any:
    return started()[0].predict(started()[1], people() if population is None else population, fn)


def evaluate(population: Any) -> fe.Evaluation:
    return started()[0].evaluate(started()[1], population)


def returns(change: Callable[[jax.Array], Any], **changes: Any) -> fe.State:
    """Initialises an engine whose loss returns ``change(losses)``."""
    return init(loss=lambda params, batch, key: change(squares(params, batch, key)), **changes)


def optimise(optimizer: Any) -> Any:
    return fedavg(client_optimizer=optimizer)


def injected(**hyperparameters: Any) -> optax.GradientTransformation:
    return optax.inject_hyperparams(optax.adam)(**hyperparameters)


def configure(**changes: Any) -> fe.study.SchoolsConfig:
    return fe.study.SchoolsConfig.from_mapping(CONFIG | changes)


def mesh(*axes: str) -> jax.sharding.Mesh:
    return jax.sharding.Mesh(np.array(jax.devices()[:1]).reshape((1,) * len(axes)), axes)


def under_x64(call: Callable[[], Any]) -> Any:
    with jax.enable_x64(True):
        return call()


def wide(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), tree)


def wide_people() -> Population:
    return under_x64(lambda: Population.from_arrays(wide(rows()), OFFSETS))


POPULATIONS = {
    "no clients": Bad("offsets", "[0]", lambda: people(offsets=[0])),
    "no clients at all": Bad("clients", "[]", lambda: Population.from_clients([])),
    "offsets start at 1": Bad("offsets", "1", lambda: people(offsets=[1, 6])),
    "offsets end early": Bad("offsets", "5", lambda: people(offsets=[0, 2, 5])),
    "offsets end late": Bad("offsets", "7", lambda: people(offsets=[0, 2, 7])),
    "offsets fall": Bad("offsets", "2 at position 2", lambda: people(offsets=[0, 4, 2, 6])),
    "float offsets": Bad("offsets", "[0.0, 6.0]", lambda: people(offsets=[0.0, 6.0])),
    "offsets of two axes": Bad("offsets", "[[0, 6]]", lambda: people(offsets=[[0, 6]])),
    "unequal lengths": Bad("arrays.y", "5 rows", lambda: Population.from_arrays(rows(y=np.ones(5)), OFFSETS)),
    "scalar leaf": Bad("arrays.y", "3", lambda: Population.from_arrays(rows(y=3.0), OFFSETS)),
    "leaf of text": Bad("arrays.y", "<U1", lambda: Population.from_arrays(rows(y=np.array(list("abcdef"))), OFFSETS)),
    "leaf of objects": Bad("arrays.y", "object", lambda: Population.from_arrays(rows(y=np.array([None] * 6)), OFFSETS)),
    "NaN leaf": Bad("arrays.y", "nan in row 4", lambda: Population.from_arrays(rows(y=np.array([0, 0, 0, 0, nan, 0])), OFFSETS)),
    "float too large": Bad("arrays.y", "1e+300", lambda: Population.from_arrays(rows(y=np.full(6, 1e300)), OFFSETS)),
    "integer too large": Bad("arrays.y", "4294967296", lambda: Population.from_arrays(rows(y=np.full(6, 2**32)), OFFSETS)),
    "masked leaf": Bad("arrays.y", "masked", lambda: Population.from_arrays(rows(y=np.ma.masked_array(np.ones(6))), OFFSETS)),
    "no arrays": Bad("arrays", "{}", lambda: Population.from_arrays({}, OFFSETS)),
    "ids twice": Bad("ids", "7 at positions [0, 2]", lambda: people(ids=[7, 8, 7])),
    "too few ids": Bad("ids", "(2,)", lambda: people(ids=[7, 8])),
    "negative id": Bad("ids", "-1", lambda: people(ids=[0, -1, 2])),
    "reserved id": Bad("ids", "4294967295", lambda: people(ids=[0, 2**32 - 1, 2])),
    "ids in words": Bad("ids", "<U", lambda: people(ids=["north", "east", "west"])),
    "attribute too short": Bad("attributes.age", "(2,)", lambda: people(attributes={"age": [1, 2]})),
    "attribute of text": Bad("attributes.age", "<U", lambda: people(attributes={"age": ["old", "new", "old"]})),
    "unknown nonfinite leaf": Bad("allow_nonfinite", "z", lambda: people(allow_nonfinite=("z",))),
    "bare nonfinite name": Bad("allow_nonfinite", "x", lambda: people(allow_nonfinite="x")),
    "clients of other leaves": Bad("clients[1]", "'z'", lambda: Population.from_clients([{"x": np.ones(2)}, {"z": np.ones(2)}])),
    "clients of other dtypes": Bad("clients[1]", "int64", lambda: Population.from_clients([np.ones(2), np.ones(2, np.int64)])),
    "clients of other shapes": Bad("clients[1]", "(2, 3)", lambda: Population.from_clients([np.ones((2, 2)), np.ones((2, 3))])),
    "client below zero": Bad("position", "-1", lambda: people().client(-1)),
    "select nobody": Bad("clients", "[]", lambda: people().select([])),
    "select a stranger": Bad("clients", "9", lambda: people().select([0, 9])),
    "select twice": Bad("clients", "[1, 1]", lambda: people().select([1, 1])),
    "select with a short mask": Bad("clients", "(2,)", lambda: people().select([True, False])),
    "select by name": Bad("clients", "north", lambda: people().select("north")),
    "fractions above one": Bad("fractions", "(0.8, 0.3)", lambda: people().split_clients((0.8, 0.3), seed=0)),
    "side without clients": Bad("fractions", "(0.999, 0.001)", lambda: people().split_clients((0.999, 0.001), seed=0)),
    "negative split seed": Bad("seed", "-1", lambda: people().split_clients((0.5, 0.5), seed=-1)),
    "unknown unit": Bad("unit", "pupil", lambda: people().split_examples((0.5, 0.5), seed=0, unit="pupil")),
    "time of another length": Bad("time", "(3,)", lambda: people().split_examples((0.5, 0.5), seed=0, time=np.arange(3))),
    "partition over nobody": Bad("clients", "0", lambda: partition.iid(rows(), 0, seed=0)),
    "partition over half a client": Bad("clients", "1.5", lambda: partition.iid(rows(), 1.5, seed=0)),
    "partition without a seed": Bad("seed", "None", lambda: partition.iid(rows(), 2, seed=None)),
    "alpha of zero": Bad("alpha", "0", lambda: partition.dirichlet(rows(), np.arange(6), 2, alpha=0, seed=0)),
    "alpha not a number": Bad("alpha", "nan", lambda: partition.dirichlet(rows(), np.arange(6), 2, alpha=nan, seed=0)),
    "hopeless minimum size": Bad("min_size", "9", lambda: partition.dirichlet(rows(), np.arange(6), 2, alpha=1.0, seed=0, min_size=9)),
    "real labels": Bad("labels", "float32", lambda: partition.dirichlet(rows(), "y", 2, alpha=1.0, seed=0)),
    "more shards than rows": Bad("shards_per_client", "9", lambda: partition.shards(rows(), np.arange(6), 2, shards_per_client=9, seed=0)),
    "negative sigma": Bad("sigma", "-1.0", lambda: partition.lognormal_sizes(rows(), 2, sigma=-1.0, seed=0)),
    "infinite exponent": Bad("exponent", "inf", lambda: partition.zipf_sizes(rows(), 2, exponent=inf, seed=0)),
    "natural key with a gap": Bad("key", "nan in row 0", lambda: partition.natural(rows(), np.array([nan, 1, 1, 1, 2, 2]))),
    "unknown data set": Bad("name", "mnist", lambda: fe.data.load("mnist")),
    "vocabulary of nothing": Bad("name", "mnist", lambda: fe.data.vocabulary("mnist")),
    "data folder that cannot be written": Bad("data_dir", "/dev/null/data", lambda: fe.data.load("hsb82", "/dev/null/data")),
}

WORK = {
    "batch size zero": Bad("batch_size", "0", lambda: fe.LocalTraining(epochs=1, batch_size=0)),
    "batch size negative": Bad("batch_size", "-3", lambda: fe.LocalTraining(epochs=1, batch_size=-3)),
    "batch size with a fraction": Bad("batch_size", "2.5", lambda: fe.LocalTraining(epochs=1, batch_size=2.5)),
    "batch size in quotes": Bad("batch_size", "'20'", lambda: fe.LocalTraining(epochs=1, batch_size="20")),
    "batch size true": Bad("batch_size", "True", lambda: fe.LocalTraining(epochs=1, batch_size=True)),
    "epochs zero": Bad("epochs", "0", lambda: fe.LocalTraining(epochs=0)),
    "half an epoch": Bad("epochs", "0.5", lambda: fe.LocalTraining(epochs=0.5)),
    "steps negative": Bad("steps", "-1", lambda: fe.LocalTraining(steps=-1)),
    "steps not a number": Bad("steps", "nan", lambda: fe.LocalTraining(steps=nan)),
    "steps and epochs": Bad("epochs, steps", "(2, 5)", lambda: fe.LocalTraining(epochs=2, steps=5)),
    "neither steps nor epochs": Bad("epochs, steps", "(None, None)", lambda: fe.LocalTraining(batch_size=20)),
    "shuffle in words": Bad("shuffle", "yes", lambda: fe.LocalTraining(epochs=1, shuffle="yes")),
    "lanes zero": Bad("lanes", "0", lambda: fe.ExecutionPlan(lanes=0)),
    "lanes in words": Bad("lanes", "many", lambda: fe.ExecutionPlan(lanes="many")),
    "lanes with a fraction": Bad("lanes", "1.5", lambda: fe.ExecutionPlan(lanes=1.5)),
    "lanes none": Bad("lanes", "None", lambda: fe.ExecutionPlan(lanes=None)),
    "chunk negative": Bad("chunk", "-1", lambda: fe.ExecutionPlan(chunk=-1)),
    "chunk automatic": Bad("chunk", "auto", lambda: fe.ExecutionPlan(chunk="auto")),
    "mesh without clients": Bad("mesh", "('data',)", lambda: fe.ExecutionPlan(mesh=mesh("data"))),
    "mesh with an unknown axis": Bad("mesh", "('clients', 'data')", lambda: fe.ExecutionPlan(mesh=mesh("clients", "data"))),
    "mesh with the model first": Bad("mesh", "('model', 'clients')", lambda: fe.ExecutionPlan(mesh=mesh("model", "clients"))),
    "partition in words": Bad("partition", "rows", lambda: fe.ExecutionPlan(mesh=mesh("clients", "model"), partition="rows")),
    "partition without a mesh": Bad("mesh", "None", lambda: fe.ExecutionPlan(partition=lambda name, leaf: None)),
    "partition without an axis": Bad(
        "mesh", "('clients',)", lambda: fe.ExecutionPlan(mesh=mesh("clients"), partition=lambda name, leaf: None)
    ),
    "mesh as a number": Bad("mesh", "8", lambda: fe.ExecutionPlan(mesh=8)),
    "zero devices": Bad("cpu_devices", "0", lambda: fe.configure(0)),
    "negative devices": Bad("cpu_devices", "-2", lambda: fe.configure(-2)),
    "devices true": Bad("cpu_devices", "True", lambda: fe.configure(True)),
    "devices false": Bad("cpu_devices", "False", lambda: fe.configure(False)),
    "devices in words": Bad("cpu_devices", "all", lambda: fe.configure("all")),
    "devices after the start": Bad("cpu_devices", "3", lambda: (jax.devices(), fe.configure(3))),
}

COHORTS = {
    "cohort of zero": Bad("size", "0", lambda: fe.cohorts.uniform(0)),
    "cohort negative": Bad("size", "-4", lambda: fe.cohorts.uniform(-4)),
    "cohort with a fraction": Bad("size", "0.1", lambda: fe.cohorts.uniform(0.1)),
    "cohort true": Bad("size", "True", lambda: fe.cohorts.uniform(True)),
    "cohort in quotes": Bad("size", "'32'", lambda: fe.cohorts.uniform("32")),
    "cohort above the population": Bad("cohort", "4", lambda: engine(cohort=fe.cohorts.uniform(4))),
    "rate zero": Bad("rate", "0", lambda: fe.cohorts.poisson(0)),
    "rate above one": Bad("rate", "1.5", lambda: fe.cohorts.poisson(1.5)),
    "rate negative": Bad("rate", "-0.1", lambda: fe.cohorts.poisson(-0.1)),
    "rate not a number": Bad("rate", "nan", lambda: fe.cohorts.poisson(nan)),
    "rate true": Bad("rate", "True", lambda: fe.cohorts.poisson(True)),
    "rate in quotes": Bad("rate", "'0.5'", lambda: fe.cohorts.poisson("0.5")),
    "rate none": Bad("rate", "None", lambda: fe.cohorts.poisson(None)),
    "weighted cohort of zero": Bad("size", "0", lambda: fe.cohorts.weighted(0, by="pupils")),
    "weighted cohort above the population": Bad("cohort", "9", lambda: engine(cohort=fe.cohorts.weighted(9, by="pupils"))),
    "weights of an unknown name": Bad("by", "wealth", lambda: engine(cohort=fe.cohorts.weighted(1, by="wealth"))),
    "too few weights": Bad("by", "[2]", lambda: engine(cohort=fe.cohorts.weighted(1, by=np.ones(2)))),
    "weights of two axes": Bad("by", "[2, 3]", lambda: engine(cohort=fe.cohorts.weighted(1, by=np.ones((2, 3))))),
    "no weights": Bad("by", "None", lambda: engine(cohort=fe.cohorts.weighted(1, by=None))),
    "weights in words": Bad("by", "<U", lambda: engine(cohort=fe.cohorts.weighted(1, by=["a", "b", "c"]))),
    "negative weight": Bad("by", "-1.0", lambda: engine(cohort=fe.cohorts.weighted(1, by=[1.0, -1.0, 1.0]))),
    "weight not a number": Bad("by", "nan", lambda: engine(cohort=fe.cohorts.weighted(1, by=[1.0, nan, 1.0]))),
    "too few positive weights": Bad("by", "1 positive", lambda: engine(cohort=fe.cohorts.weighted(2, by=[0, 1, 0]))),
    "available of a number": Bad("cohort", "32", lambda: fe.cohorts.available(32, np.ones(3, bool))),
    "mask of another length": Bad("mask", "[2]", lambda: engine(cohort=fe.cohorts.available(fe.cohorts.everyone(), np.ones(2, bool)))),
    "mask of numbers": Bad("mask", "float64[3]", lambda: engine(cohort=fe.cohorts.available(fe.cohorts.everyone(), np.ones(3)))),
    "mask of three axes": Bad(
        "mask", "bool[1, 1, 3]", lambda: engine(cohort=fe.cohorts.available(fe.cohorts.everyone(), np.ones((1, 1, 3), bool)))
    ),
    "mask without rounds": Bad(
        "mask", "bool[0, 3]", lambda: engine(cohort=fe.cohorts.available(fe.cohorts.everyone(), np.ones((0, 3), bool)))
    ),
    "mask of an unknown name": Bad("mask", "open", lambda: engine(cohort=fe.cohorts.available(fe.cohorts.everyone(), "open"))),
    "mask ragged": Bad(
        "mask", "[[True], [True, False]]", lambda: engine(cohort=fe.cohorts.available(fe.cohorts.everyone(), [[True], [True, False]]))
    ),
}

ALGORITHMS = {
    "loss missing": Bad("loss", "None", lambda: fedavg(None)),
    "loss by name": Bad("loss", "mse", lambda: fedavg("mse")),
    "loss without a key": Bad("loss", "(params, batch)", lambda: fedavg(lambda params, batch: batch["y"])),
    "loss that wants more": Bad("loss", "(params, batch, key, rate)", lambda: fedavg(lambda params, batch, key, rate: batch["y"])),
    "optimiser missing": Bad("client_optimizer", "None", lambda: optimise(None)),
    "optimiser by name": Bad("client_optimizer", "sgd", lambda: optimise("sgd")),
    "optimiser not called": Bad("client_optimizer", "<function sgd", lambda: optimise(optax.sgd)),
    "server optimiser as a number": Bad("server_optimizer", "1.0", lambda: fedavg(server_optimizer=1.0)),
    "rate of sgd not a number": Bad("client_optimizer", "nan", lambda: optimise(optax.sgd(nan))),
    "rate of sgd infinite": Bad("client_optimizer", "inf", lambda: optimise(optax.sgd(inf))),
    "rate of adam not a number": Bad("client_optimizer", "nan", lambda: optimise(optax.adam(nan))),
    "rate of adam infinite": Bad("client_optimizer", "inf", lambda: optimise(optax.adam(-inf))),
    "decay of adam not a number": Bad("client_optimizer", "nan", lambda: optimise(optax.adam(0.1, b1=nan))),
    "server rate not a number": Bad("server_optimizer", "nan", lambda: fedavg(server_optimizer=optax.adam(nan))),
    "injected rate": Bad("client_optimizer.learning_rate", "nan", lambda: optimise(injected(learning_rate=nan))),
    "injected decay": Bad("client_optimizer.b2", "inf", lambda: optimise(injected(learning_rate=0.1, b2=inf))),
    "injected rate in a chain": Bad(
        "client_optimizer.learning_rate", "inf", lambda: optimise(optax.chain(optax.clip(1.0), injected(learning_rate=inf)))
    ),
    "schedule not a number": Bad("client_optimizer", "nan", lambda: optimise(optax.sgd(optax.cosine_decay_schedule(nan, 10)))),
    "warmup to infinity": Bad("client_optimizer", "nan", lambda: optimise(optax.sgd(optax.linear_schedule(0.0, inf, 10)))),
    "rate in a chain": Bad("client_optimizer", "nan", lambda: optimise(optax.chain(optax.clip(1.0), optax.sgd(nan)))),
    "optimiser that needs the loss": Bad("client_optimizer", "value", lambda: optimise(optax.polyak_sgd())),
    "weighting misspelt": Bad("weighting", "exampels", lambda: fedavg(weighting="exampels")),
    "weighting in a list": Bad("weighting", "['examples']", lambda: fedavg(weighting=["examples"])),
    "no local work": Bad("local", "None", lambda: fedavg(local=None)),
    "local work as a number": Bad("local", "5", lambda: fedavg(local=5)),
    "fine-tuning as a number": Bad("fine_tuning", "1", lambda: fedavg(fine_tuning=1)),
    "fine-tuning of nothing": Bad("fine_tuning", "epochs=1", lambda: init(algorithm=fedavg(fine_tuning=fe.LocalTraining(epochs=1)))),
    "clip at zero": Bad("norm", "0", lambda: fe.aggregation.clip(0)),
    "clip negative": Bad("norm", "-1.0", lambda: fe.aggregation.clip(-1.0)),
    "clip not a number": Bad("norm", "nan", lambda: fe.aggregation.clip(nan)),
    "clip infinite": Bad("norm", "inf", lambda: fe.aggregation.clip(inf)),
    "clip true": Bad("norm", "True", lambda: fe.aggregation.clip(True)),
    "clip in quotes": Bad("norm", "'1.0'", lambda: fe.aggregation.clip("1.0")),
    "clip none": Bad("norm", "None", lambda: fe.aggregation.clip(None)),
    "clip per module in words": Bad("per_module", "yes", lambda: fe.aggregation.clip(1.0, per_module="yes")),
    "largest coordinates in percent": Bad("fraction", "10", lambda: fe.aggregation.topk(10)),
    "random coordinates in quotes": Bad("fraction", "'0.1'", lambda: fe.aggregation.randk("0.1")),
    "random coordinates without a seed": Bad("seed", "None", lambda: fe.aggregation.randk(0.1, seed=None)),
    "half a level": Bad("levels", "0.5", lambda: fe.aggregation.quantise(0.5)),
    "more levels than numbers": Bad("levels", "4294967296", lambda: fe.aggregation.quantise(2**32)),
    "compression after a clip": Bad(
        "aggregator",
        "['clip', 'topk', 'mean']",
        lambda: fe.aggregation.chain(fe.aggregation.clip(1.0), fe.aggregation.topk(0.1), fe.aggregation.mean()),
    ),
    "chain of nothing": Bad("aggregator", "[]", lambda: fe.aggregation.chain()),
    "chain without a reduction": Bad("aggregator", "['clip']", lambda: fe.aggregation.chain(fe.aggregation.clip(1.0))),
    "two reductions": Bad("aggregator", "['mean', 'mean']", lambda: fe.aggregation.chain(fe.aggregation.mean(), fe.aggregation.mean())),
    "clip after the sum": Bad(
        "aggregator", "['mean', 'clip']", lambda: fe.aggregation.chain(fe.aggregation.mean(), fe.aggregation.clip(1.0))
    ),
    "link by name": Bad("aggregator", "mean", lambda: fe.aggregation.chain("mean")),
    "link not called": Bad("aggregator", "<function mean", lambda: fe.aggregation.chain(fe.aggregation.mean)),
}

SAMPLERS = {
    "fewer candidates than seats": Bad("candidates", "2", lambda: fe.cohorts.power_of_choice(3, candidates=2)),
    "candidates above the population": Bad(
        "candidates", "4", lambda: engine(algorithm=fedavg(weighting="uniform"), cohort=fe.cohorts.power_of_choice(1, candidates=4))
    ),
    "losses choose and sizes weigh": Bad("weighting", "examples", lambda: engine(cohort=fe.cohorts.power_of_choice(1, candidates=2))),
    "oort explores in percent": Bad("exploration", "90", lambda: fe.cohorts.oort(1, exploration=90)),
    "oort never decays to more": Bad("decay", "1.1", lambda: fe.cohorts.oort(1, decay=1.1)),
    "oort with a deadline and no seconds": Bad("seconds", "None", lambda: fe.cohorts.oort(1, deadline=1.0)),
    "round robin of nobody": Bad("size", "0", lambda: fe.cohorts.round_robin(0)),
    "round robin above the population": Bad("cohort", "4", lambda: engine(cohort=fe.cohorts.round_robin(4))),
    "include an id twice": Bad("ids", "[0, 0]", lambda: fe.cohorts.including(fe.cohorts.uniform(1), [0, 0])),
    "include ids in rows of two lengths": Bad("ids", "[[1], [2, 3]]", lambda: fe.cohorts.including(fe.cohorts.uniform(1), [[1], [2, 3]])),
    "include a stranger": Bad("ids", "[7]", lambda: engine(cohort=fe.cohorts.including(fe.cohorts.uniform(1), [7]))),
    "buffer of zero": Bad("buffer", "0", lambda: fe.cohorts.asynchronous(0, 2, seconds="pupils")),
    "nobody trains": Bad("concurrency", "0", lambda: fe.cohorts.asynchronous(1, 0, seconds="pupils")),
    "seconds of an unknown name": Bad("seconds", "speed", lambda: buffered(seconds="speed")),
    "seconds of zero": Bad("seconds", "[0.0]", lambda: buffered(seconds=np.array([0.0, 1.0, 1.0]))),
    "more train than there are": Bad("buffer + concurrency", "3", lambda: buffered(concurrency=2)),
    "stale clients of FedAvg": Bad(
        "cohort", "asynchronous(1, 1)", lambda: engine(cohort=fe.cohorts.asynchronous(1, 1, seconds=np.ones(3)))
    ),
    "links with bytes and no speed": Bad(
        "bytes_per_second",
        "None",
        lambda: fe.cohorts.durations(people(), fe.LocalTraining(epochs=1), steps_per_second=1.0, bytes_up=8),
    ),
}

HYPERPARAMETERS = {
    "server rate zero": Bad("server_learning_rate", "0", lambda: make("fedavgm", server_learning_rate=0.0)),
    "server rate of FedAdam not a number": Bad("server_learning_rate", "nan", lambda: make("fedadam", server_learning_rate=nan)),
    "server schedule that starts below zero": Bad(
        "server_learning_rate", "-0.5", lambda: make("fedyogi", server_learning_rate=optax.linear_schedule(-0.5, 1.0, 5))
    ),
    "momentum of one": Bad("momentum", "1", lambda: make("fedavgm", momentum=1.0)),
    "first moment of one": Bad("b1", "1", lambda: make("fedadagrad", b1=1.0)),
    "second moment negative": Bad("b2", "-0.5", lambda: make("fedadam", b2=-0.5)),
    "adaptivity of zero": Bad("tau", "0", lambda: make("fedyogi", tau=0.0)),
    "proximal pull negative": Bad("mu", "-1", lambda: make("fedprox", mu=-1.0)),
    "third option": Bad("option", "III", lambda: make("scaffold", option="III")),
    "dynamic regulariser of zero": Bad("alpha", "0", lambda: make("feddyn", alpha=0.0)),
    "cluster seed of 70 bits": Bad("seed", str(2**70), lambda: make("ifca", clusters=2, seed=2**70)),
    "no cluster": Bad("clusters", "0", lambda: make("ifca", clusters=0)),
    "clusters closer than close": Bad("spread", "-0.1", lambda: make("ifca", clusters=2, spread=-0.1)),
    "fairness negative": Bad("q", "-1", lambda: make("qffl", q=-1.0, lipschitz=1.0)),
    "smoothness of zero": Bad("lipschitz", "0", lambda: make("qffl", q=1.0, lipschitz=0.0)),
    "mixture rate negative": Bad("mixture_rate", "-1", lambda: make("afl", mixture_rate=-1.0)),
    "tilt infinite": Bad("tilt", "inf", lambda: make("term", tilt=inf)),
    "staleness negative": Bad("max_staleness", "-1", lambda: make("fedbuff", max_staleness=-1)),
    "staleness weights in a row": Bad("staleness_weight", "(3,)", lambda: make("fedbuff", staleness_weight=lambda late: jnp.ones(3))),
    "server schedule without steps": Bad("server_learning_rate", "<lambda>", lambda: make("fedavgm", server_learning_rate=lambda: 1.0)),
    "staleness weight as a number": Bad("staleness_weight", "0.5", lambda: make("fedbuff", staleness_weight=0.5)),
    "Mime with personal modules": Bad(
        "modules", "personal modules", lambda: init(algorithm=make("mime"), modules=fe.modules.assign(PARAMS, personal="bias"))
    ),
}

RULES = {
    "nobody trimmed negatively": Bad("fraction", "-0.1", lambda: fe.aggregation.trimmed_mean(-0.1)),
    "half of all trimmed": Bad("fraction", "0.5", lambda: fe.aggregation.trimmed_mean(0.5)),
    "liars in a fraction": Bad("f", "0.2", lambda: fe.aggregation.krum(0.2)),
    "too few clients for Krum": Bad("aggregator", "of 3 clients", lambda: engine(aggregator=fe.aggregation.krum(1))),
    "nobody kept": Bad("keep", "0", lambda: fe.aggregation.multi_krum(1, keep=0)),
    "no iteration": Bad("iterations", "0", lambda: fe.aggregation.geometric_median(iterations=0)),
    "smoothing of zero": Bad("smoothing", "0", lambda: fe.aggregation.geometric_median(smoothing=0.0)),
    "radius of zero": Bad("radius", "0", lambda: fe.aggregation.centered_clip(0.0)),
    "empty buckets": Bad("bucket_size", "0", lambda: fe.aggregation.centered_clip(1.0, bucket_size=0)),
    "root by name": Bad("root", "school", lambda: fe.aggregation.fltrust("school")),
    "root that nobody knows": Bad("aggregator", "fltrust", lambda: engine(aggregator=fe.aggregation.fltrust(9))),
    "root without examples": Bad("aggregator", "fltrust of clients [1]", lambda: engine(aggregator=fe.aggregation.fltrust(1))),
    "liars in rows of two lengths": Bad("clients", "[[1], [2, 3]]", lambda: fe.aggregation.attacks.sign_flip([[1], [2, 3]])),
    "no liar": Bad("clients", "[]", lambda: fe.aggregation.attacks.sign_flip([])),
    "liar twice": Bad("clients", "[1, 1]", lambda: fe.aggregation.attacks.alie([1, 1])),
    "liar negative": Bad("clients", "[-1]", lambda: fe.aggregation.attacks.ipm([-1], scale=1.0)),
    "lie of no scale": Bad("scale", "0", lambda: fe.aggregation.attacks.sign_flip([1], scale=0.0)),
    "noise of no deviation": Bad("std", "0", lambda: fe.aggregation.attacks.gaussian([1], std=0.0)),
    "flip of a stranger's labels": Bad("clients", "9", lambda: fe.data.flip_labels(people(), [9], "y", lambda labels: -labels)),
    "flip of no leaf": Bad("leaf", "z", lambda: fe.data.flip_labels(people(), [0], "z", lambda labels: -labels)),
}

LOSSES = {
    "loss averaged": Bad("loss", "float32[]", lambda: returns(jnp.mean)),
    "loss in a column": Bad("loss", "float32[2, 1]", lambda: returns(lambda losses: losses[:, None])),
    "loss over features": Bad(
        "loss", "float32[2]", lambda: init(loss=lambda params, batch, key: batch["x"].mean(0) * params["bias"][None])
    ),
    "loss of integers": Bad("loss", "int32[2]", lambda: returns(lambda losses: losses.astype(jnp.int32))),
    "loss of truths": Bad("loss", "bool[2]", lambda: returns(lambda losses: losses > 0)),
    "complex loss": Bad("loss", "complex64[2]", lambda: returns(lambda losses: losses.astype(jnp.complex64))),
    "loss in a dictionary": Bad("loss", "dict", lambda: returns(lambda losses: {"loss": losses})),
    "loss in a list": Bad("loss", "list", lambda: returns(lambda losses: [losses])),
    "loss in a triple": Bad("loss", "tuple", lambda: returns(lambda losses: (losses, {}, 0.0))),
    "loss of nothing": Bad("loss", "None", lambda: returns(lambda losses: None)),
    "loss as a constant": Bad("loss", "0.0", lambda: returns(lambda losses: 0.0)),
    "loss in words": Bad("loss", "low", lambda: returns(lambda losses: "low")),
    "loss of the last batch size": Bad("loss", "float32[]", lambda: returns(jnp.sum, local=fe.LocalTraining(steps=1))),
    "metrics missing": Bad("loss.metrics", "None", lambda: returns(lambda losses: (losses, None))),
    "metrics in a list": Bad("loss.metrics", "list", lambda: returns(lambda losses: (losses, [losses]))),
    "metric averaged": Bad("loss.metrics.error", "float32[]", lambda: returns(lambda losses: (losses, {"error": losses.mean()}))),
    "metric in a column": Bad("loss.metrics.error", "float32[2, 1]", lambda: returns(lambda losses: (losses, {"error": losses[:, None]}))),
    "metric missing": Bad("loss.metrics.error", "None", lambda: returns(lambda losses: (losses, {"error": None}))),
    "metric in words": Bad("loss.metrics.error", "low", lambda: returns(lambda losses: (losses, {"error": "low"}))),
    "metric in a list": Bad("loss.metrics.error", "list", lambda: returns(lambda losses: (losses, {"error": [losses]}))),
    "metric in a triple": Bad("loss.metrics.error", "tuple", lambda: returns(lambda losses: (losses, {"error": (losses, losses, losses)}))),
    "complex metric": Bad("loss.metrics.error", "complex64[2]", lambda: returns(lambda losses: (losses, {"error": losses * 1j}))),
    "one metric weight": Bad(
        "loss.metrics.error weights", "float32[]", lambda: returns(lambda losses: (losses, {"error": (losses, losses.sum())}))
    ),
    "metric without a name": Bad("loss.metrics", "dict", lambda: returns(lambda losses: (losses, {0: losses}))),
    "regulariser an example": Bad("loss.regulariser", "float32[2]", lambda: returns(lambda losses: fe.Loss(losses, regulariser=losses))),
    "regulariser of integers": Bad(
        "loss.regulariser", "int32[]", lambda: returns(lambda losses: fe.Loss(losses, regulariser=jnp.int32(1)))
    ),
    "regulariser missing": Bad("loss.regulariser", "None", lambda: returns(lambda losses: fe.Loss(losses, regulariser=None))),
    "regulariser in words": Bad("loss.regulariser", "l2", lambda: returns(lambda losses: fe.Loss(losses, regulariser="l2"))),
}

PARAMETERS = {
    "no params": Bad("params", "None", lambda: init(None)),
    "empty params": Bad("params", "{}", lambda: init({})),
    "params without arrays": Bad("params", "{'w': None}", lambda: init({"w": None})),
    "integer params": Bad("params.layer.w", "int32[2]", lambda: init(PARAMS | {"layer": {"w": np.ones(2, np.int32)}})),
    "truth params": Bad("params.bias", "bool[]", lambda: init(PARAMS | {"bias": jnp.array(True)})),
    "complex params": Bad("params.bias", "complex64[]", lambda: init(PARAMS | {"bias": jnp.complex64(1)})),
    "params of Python numbers": Bad("params.bias", "0.5", lambda: init(PARAMS | {"bias": 0.5})),
    "params in words": Bad("params.bias", "zero", lambda: init(PARAMS | {"bias": "zero"})),
    "params by shape": Bad("params.bias", "ShapeDtypeStruct", lambda: init(jax.eval_shape(lambda: jax.tree.map(jnp.asarray, PARAMS)))),
    "params not a number": Bad("params.bias", "nan", lambda: init(PARAMS | {"bias": np.float32(nan)})),
    "params with one name twice": Bad("params", "a.b", lambda: init({"a": {"b": np.ones(1, np.float32)}, "a.b": np.ones(1, np.float32)})),
    "float64 params without x64": Bad("params.bias", "float64", lambda: init(PARAMS | {"bias": np.zeros(())})),
    "params of two precisions": Bad(
        "params", "float32", lambda: under_x64(lambda: init(PARAMS | {"bias": np.zeros(())}, population=wide_people()))
    ),
    "float64 data, float32 params": Bad("population.arrays.x", "float64", lambda: under_x64(lambda: init(population=wide_people()))),
    "float32 data, float64 params": Bad("population.arrays.x", "float32", lambda: under_x64(lambda: init(wide(PARAMS)))),
    "float64 params outside x64": Bad("params.bias", "float64", lambda: init(under_x64(lambda: jax.tree.map(jnp.asarray, wide(PARAMS))))),
    "float64 data outside x64": Bad("population.arrays.x", "float64", lambda: init(population=wide_people())),
    "int64 data outside x64": Bad(
        "population.arrays.y", "int64", lambda: init(population=under_x64(lambda: Population.from_arrays(rows(y=np.arange(6)), OFFSETS)))
    ),
    "engine of x64 used outside": Bad(
        "jax_enable_x64", "False", lambda: under_x64(lambda: engine(population=wide_people())).init(wide(PARAMS))
    ),
    "engine of x32 used under x64": Bad("jax_enable_x64", "True", lambda: under_x64(lambda: run(1))),
    "seed in words": Bad("seed", "a", lambda: engine().init(PARAMS, seed="a")),
    "seed with a fraction": Bad("seed", "1.5", lambda: engine().init(PARAMS, seed=1.5)),
    "seed none": Bad("seed", "None", lambda: engine().init(PARAMS, seed=None)),
    "unknown path": Bad("personal", "head", lambda: fe.modules.assign(PARAMS, personal="head")),
    "path of nothing": Bad("frozen", "''", lambda: fe.modules.assign(PARAMS, frozen="")),
    "path under two kinds": Bad("shared, frozen", "layer", lambda: fe.modules.assign(PARAMS, shared="layer", frozen="layer")),
    "path twice": Bad("shared", "bias", lambda: fe.modules.assign(PARAMS, shared=["bias", "bias"], frozen=...)),
    "two ellipses": Bad("shared, frozen", "...", lambda: fe.modules.assign(PARAMS, shared=..., frozen=...)),
    "leaf that nothing takes": Bad("shared, personal, frozen", "bias", lambda: fe.modules.assign(PARAMS, shared="layer")),
    "selector as a truth": Bad("frozen", "True", lambda: fe.modules.assign(PARAMS, frozen=True)),
    "selector of numbers": Bad("frozen", "[0]", lambda: fe.modules.assign(PARAMS, frozen=[0])),
    "modules of nothing": Bad("params", "{}", lambda: fe.modules.assign({}, shared=...)),
    "nothing to train": Bad("modules", "frozen", lambda: init(modules=fe.modules.assign(PARAMS, frozen=...))),
    "modules of other params": Bad("modules", "head", lambda: init(modules=fe.modules.assign({"head": np.ones(1)}))),
    "modules as a dictionary": Bad("modules", "{'frozen': 'layer'}", lambda: engine(modules={"frozen": "layer"})),
}

ENGINES = {
    "no offsets": Bad("offsets", "None", lambda: people(offsets=None)),
    "offsets in words": Bad("offsets", "0, 6", lambda: people(offsets="0, 6")),
    "data set in a list": Bad("name", "['star']", lambda: fe.data.load(["star"])),
    "seed too large": Bad("seed", "4294967296", lambda: engine().init(PARAMS, seed=2**32)),
    "seed negative": Bad("seed", "-1", lambda: engine().init(PARAMS, seed=-1)),
    "measure after in words": Bad("measure_after", "no", lambda: engine(measure_after="no")),
    "report rejected in words": Bad("report_rejected", "no", lambda: engine(report_rejected="no")),
    "state of another population": Bad("state", "clients.bias", lambda: started()[0].run(personal(population=people().select([0, 2])), 1)),
    "state of another optimiser": Bad(
        "state", "server.optimizer", lambda: started()[0].run(init(algorithm=fedavg(server_optimizer=optax.adam(0.1))), 1)
    ),
    "state of other modules": Bad("state", "clients.bias", lambda: started()[0].run(personal(), 1)),
    "predict with a key": Bad("fn", "(params, batch, key)", lambda: predict(lambda params, batch, key: batch["y"])),
    "predict nothing": Bad("fn output", "None", lambda: predict(lambda params, batch: None)),
    "predict words": Bad("fn output", "high", lambda: predict(lambda params, batch: "high")),
    "population as a dictionary": Bad("population", "float32", lambda: engine(population=rows())),
    "population without rows": Bad("population", "1 clients", lambda: engine(population=Population.from_arrays(np.zeros((0, 2)), [0, 0]))),
    "algorithm not called": Bad("algorithm", "<function fedavg", lambda: engine(algorithm=fe.algorithms.fedavg)),
    "cohort as a number": Bad("cohort", "32", lambda: engine(cohort=32)),
    "cohort not called": Bad("cohort", "<function everyone", lambda: engine(cohort=fe.cohorts.everyone)),
    "cohort by name": Bad("cohort", "uniform", lambda: engine(cohort="uniform")),
    "aggregator missing": Bad("aggregator", "None", lambda: engine(aggregator=None)),
    "aggregator not called": Bad("aggregator", "<function mean", lambda: engine(aggregator=fe.aggregation.mean)),
    "aggregator of a clip": Bad("aggregator", "['clip']", lambda: engine(aggregator=fe.aggregation.clip(1.0))),
    "aggregators in a list": Bad("aggregator", "[Link", lambda: engine(aggregator=[fe.aggregation.clip(1.0), fe.aggregation.mean()])),
    "plan as a dictionary": Bad("plan", "{'lanes': 2}", lambda: engine(plan={"lanes": 2})),
    "rounds negative": Bad("rounds", "-1", lambda: run(-1)),
    "rounds with a fraction": Bad("rounds", "1.5", lambda: run(1.5)),
    "rounds true": Bad("rounds", "True", lambda: run(True)),
    "rounds in quotes": Bad("rounds", "'3'", lambda: run("3")),
    "rounds none": Bad("rounds", "None", lambda: run(None)),
    "schedule of no whole rounds": Bad("rounds", "0.5", lambda: started()[0].schedule(started()[1], 0.5)),
    "no state": Bad("state", "None", lambda: started()[0].run(None, 1)),
    "params as a state": Bad("state", "float32", lambda: started()[0].run(PARAMS, 1)),
    "result of run as a state": Bad("state", "State", lambda: started()[0].run((started()[1], None), 1)),
    "finalise nothing": Bad("state", "None", lambda: started()[0].finalise(None)),
    "evaluate nothing": Bad("population", "None", lambda: evaluate(None)),
    "evaluate arrays": Bad("population", "float32", lambda: evaluate(rows())),
    "evaluate other leaves": Bad("population", "'z': 'float32[]'", lambda: evaluate(Population.from_arrays({"z": np.ones(6)}, OFFSETS))),
    "evaluate other shapes": Bad(
        "population", "'x': 'float32[3]'", lambda: evaluate(Population.from_arrays(rows(x=np.ones((6, 3))), OFFSETS))
    ),
    "evaluate other dtypes": Bad("population", "'y': 'int32[]'", lambda: evaluate(Population.from_arrays(rows(y=np.arange(6)), OFFSETS))),
    "evaluate wide data": Bad("population", "'y': 'float64[]'", lambda: evaluate(wide_people())),
    "evaluate no rows": Bad(
        "population", "1 clients", lambda: evaluate(Population.from_arrays(jax.tree.map(lambda leaf: leaf[:0], rows()), [0, 0]))
    ),
    "evaluate without a state": Bad("state", "None", lambda: started()[0].evaluate(None, people())),
    "predict without a state": Bad("state", "None", lambda: started()[0].predict(None, people(), lambda params, batch: batch["y"])),
    "predict by name": Bad("fn", "y", lambda: predict("y")),
    "predict a mean": Bad("fn output", "[]", lambda: predict(lambda params, batch: batch["y"].mean())),
    "predict features": Bad("fn output x", "[2]", lambda: predict(lambda params, batch: {"x": batch["x"][0]})),
    "predict for other leaves": Bad(
        "population", "'z'", lambda: predict(lambda params, batch: batch["z"], Population.from_arrays({"z": np.ones(6)}, OFFSETS))
    ),
}

STUDIES = {
    "unknown field": Bad("config.round", "3", lambda: configure(round=3)),
    "unknown field of a group": Bad("config.model.widht", "64", lambda: configure(model={"widht": 64})),
    "field missing": Bad("config.model.width", "nothing", lambda: configure(model={})),
    "field of another type": Bad("config.rounds", "1.5", lambda: configure(rounds=1.5)),
    "field in quotes": Bad("config.seed", "'0'", lambda: configure(seed="0")),
    "truth for a number": Bad("config.cohort", "True", lambda: configure(cohort=True)),
    "study of no rounds": Bad("config.rounds", "0", lambda: configure(rounds=0)),
    "model without features": Bad("config.model.tokens", "0", lambda: configure(model=dict(CONFIG["model"], tokens=0))),
    "optimiser among the arguments": Bad(
        "federated.arguments",
        "'local'",
        lambda: check_algorithm(configure(federated=dict(CONFIG["federated"], arguments={"local": 3})).federated),
    ),
    "negative field": Bad("config.lanes", "-1", lambda: configure(lanes=-1)),
    "field not a number": Bad("config.pooled.learning_rate", "nan", lambda: configure(pooled=dict(CONFIG["pooled"], learning_rate=nan))),
    "group as a number": Bad("config.pooled", "20", lambda: configure(pooled=20)),
    "configuration as text": Bad("config", "rounds=3", lambda: fe.study.SchoolsConfig.from_mapping("rounds=3")),
    "run folder that cannot be written": Bad("workdir", "/dev/null/run", lambda: fe.study.run_schools(configure(), "/dev/null/run")),
    "sixth fold": Bad("folds", "6", lambda: fe.study.run_folds(configure(), "/dev/null/run", folds=6)),
    "no seeds": Bad("seeds", "0", lambda: fe.study.run_folds(configure(), "/dev/null/run", seeds=0)),
}

GROUPS = (POPULATIONS, WORK, COHORTS, ALGORITHMS, SAMPLERS, HYPERPARAMETERS, RULES, LOSSES, PARAMETERS, ENGINES, STUDIES)
BAD = {name: bad for group in GROUPS for name, bad in group.items()}


def personal(population: Population | None = None) -> fe.State:
    """A state with one personal bias a client."""
    return init(population=population or people(), modules=fe.modules.assign(PARAMS, personal="bias"))


class CallableLoss:
    """A loss with a state of its own."""

    def __call__(self, params: Any, batch: Any, key: Any, valid: Any) -> jax.Array:
        return jnp.where(valid, squares(params, batch, key), 0.0)


GOOD: dict[str, Callable[[], Any]] = {
    "a plain round": train,
    "NumPy integers in local work": lambda: train(local=fe.LocalTraining(steps=np.int64(2), batch_size=np.int32(2))),
    "NumPy epochs": lambda: train(local=fe.LocalTraining(epochs=np.uint8(1))),
    "NumPy cohort size": lambda: train(cohort=fe.cohorts.uniform(np.int64(2))),
    "NumPy rates": lambda: [train(cohort=fe.cohorts.poisson(rate)) for rate in (np.float64(1.0), np.float32(1.0), np.int64(1))],
    "NumPy clip norms": lambda: [
        train(aggregator=fe.aggregation.chain(fe.aggregation.clip(norm), fe.aggregation.mean())) for norm in (np.float32(0.5), np.int64(2))
    ],
    "NumPy plan": lambda: train(plan=fe.ExecutionPlan(lanes=np.int64(2), chunk=np.int64(3))),
    "NumPy rounds": lambda: run(np.int64(2)),
    "no rounds": lambda: run(0),
    "odd seeds": lambda: [engine().init(PARAMS, seed=seed) for seed in (np.int64(5), np.uint32(2**32 - 1), 2**31, 0)],
    "bfloat16 params": lambda: train(jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.bfloat16), PARAMS)),
    "params under x64": lambda: under_x64(lambda: train(wide(PARAMS), population=wide_people())),
    "x32 params under x64": lambda: under_x64(train),
    "a callable object": lambda: train(loss=CallableLoss()),
    "a partial loss": lambda: train(
        loss=functools.partial(lambda params, batch, key, scale: scale * squares(params, batch, key), scale=2.0)
    ),
    "a compiled loss": lambda: train(loss=jax.jit(squares)),
    "a loss of any keyword": lambda: train(loss=lambda *args, **kwargs: squares(*args)),
    "a loss of half precision": lambda: train(loss=lambda *args: squares(*args).astype(jnp.bfloat16)),
    "metrics of any number": lambda: train(
        loss=lambda *args: (squares(*args), {"a/b c": squares(*args) > 1, "": (jnp.int32(1) + batch_count(args), squares(*args))})
    ),
    "a regulariser of zero": lambda: train(loss=lambda *args: fe.Loss(squares(*args), regulariser=0)),
    "weights by list": lambda: train(cohort=fe.cohorts.weighted(2, by=[1, 0, 2])),
    "weights by name": lambda: train(cohort=fe.cohorts.weighted(2, by="pupils")),
}


def batch_count(args: tuple[Any, ...]) -> jax.Array:
    return jnp.zeros(args[1]["y"].shape, jnp.int32)


def attempt(call: Callable[[], Any], compiled: list[str]) -> tuple[str | None, str, list[str]]:
    """Calls and tells what came of it."""
    compiled.clear()
    try:
        call()
    except Exception as error:
        return f"{type(error).__module__}.{type(error).__qualname__}", str(error), list(compiled)
    return None, "", list(compiled)


def programs() -> list[str]:
    """A list that grows by the name of each engine program that JAX compiles from now on."""
    compiled: list[str] = []

    def listen(event: str, seconds: float, *, fun_name: str = "", **_: Any) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.extend(name for name in ENGINE_PROGRAMS if name in fun_name)

    jax.monitoring.register_event_duration_secs_listener(listen)
    return compiled


def attempts() -> Iterator[tuple[str, tuple[str | None, str, list[str]]]]:
    """Every bad input, then every good one."""
    started()
    compiled = programs()
    for name, bad in BAD.items():
        yield name, attempt(bad.call, compiled)
    for name, call in GOOD.items():
        yield name, attempt(call, compiled)


if __name__ == "__main__":
    print(json.dumps(dict(attempts())))
