"""What the models' parts cost: ways to bring tokens to experts, low-rank matrices, modalities that clients lack, a transformer's round."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import fedjax_edu as fe
from experiments.benchmarks import dispatch
from experiments.benchmarks.measure import Spread, clock, interleave, matmul_peak, spread
from experiments.benchmarks.results import Measured, Options, Panel, Part, Table, megabytes, seconds, with_spread
from experiments.benchmarks.suites.cpu import peak_table, rounds, speed_table

CAPACITY = 1.25
CLIENTS = 8  # that hold experts of their own
SIZES = dispatch.Sizes()
ONE_HOT = "one-hot products, capacity 1.25"
COHORT = 32  # of the transformer


def experts(options: Options) -> Measured:
    """A layer of experts with its gradients, of one client and of several with parameters of their own."""
    layers = {
        "blocks (ours)": dispatch.ours(SIZES, None),
        "slots, capacity 1.25 (ours)": dispatch.ours(SIZES, CAPACITY),
        ONE_HOT: dispatch.one_hot(SIZES, CAPACITY),
        "jax.lax.ragged_dot": dispatch.ragged(SIZES),
        "every expert reads every token": dispatch.everybody(SIZES),
    }
    found = {}
    for clients in (1, CLIENTS):
        options.say(f"experts, {clients} client{'s' * (clients > 1)}")
        works = {name: _gradients(layer, clients) for name, layer in layers.items()}
        found[clients] = {name: spread(repeats) for name, repeats in interleave(works, options.repeats).items()}
    figures = {
        f"experts/{clients}/one-hot over {name}": of_all[ONE_HOT].median / one.median
        for clients, of_all in found.items()
        for name, one in of_all.items()
        if name.endswith("(ours)")
    }
    rows = tuple(
        (name, *(cell for of_all in found.values() for cell in (with_spread(of_all[name]), f"{_over(of_all, name):.2f}")))
        for name in layers
    )
    columns = ("how", "1 client", "speed", f"{CLIENTS} clients", "speed")
    title = f"Experts with gradients: {SIZES.experts}, top {SIZES.chosen}, {SIZES.tokens:,} tokens of {SIZES.width}, hidden {SIZES.hidden}"
    note = "Speed is relative to one-hot products. Blocks, ragged_dot and the last refuse nothing; the others may."
    return Measured(
        measurements={"experts": {str(count): {name: one._asdict() for name, one in of_all.items()} for count, of_all in found.items()}},
        figures=figures,
        tables=(Table(title, columns, rows, note),),
        panels=tuple(Panel(f"Experts, {count} clients", "seconds", of_all) for count, of_all in found.items()),
    )


def _over(found: dict[str, Spread], name: str) -> float:
    return found[ONE_HOT].median / found[name].median


def _gradients(layer: dispatch.Layer, clients: int) -> Callable[[], list[float]]:
    """Seconds of a layer's gradients with respect to parameters and tokens; compiled already."""

    def loss(params: dispatch.Params, rows: jax.Array) -> jax.Array:
        return jnp.mean(layer(params, rows) ** 2)

    of_one = jax.grad(loss, argnums=(0, 1))
    gradients = jax.jit(of_one if clients == 1 else jax.vmap(of_one))
    lead = () if clients == 1 else (clients,)
    params = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (*lead, *leaf.shape)), dispatch.start(SIZES))
    rows = jax.random.normal(jax.random.key(0), (*lead, SIZES.tokens, SIZES.width))
    jax.block_until_ready(gradients(params, rows))
    return lambda: [clock(lambda: jax.block_until_ready(gradients(params, rows))) for _ in range(3)]


LAYERS = fe.models.TransformerConfig(layers=4, heads=4)
BACKBONE = fe.models.Size(width=256, encoders=LAYERS, fusion=dataclasses.replace(LAYERS, layers=1))
VOCABULARY = 2000
RANK = 8
PIECES = 32  # of a text
TEXTS = 64  # of a client
FEW = 8  # clients a round


def adapting(options: Options) -> Measured:
    """A round of a text model that trains whole, or low-rank matrices beside weights that stay."""
    options.say("low-rank matrices and full fine-tuning")
    runs = {"full": adapted(rank=0), "low-rank": adapted(rank=RANK)}
    times = {name: spread(found) for name, found in interleave(runs, options.repeats).items()}
    rows = tuple(
        (name, f"{run.trained:,}", with_spread(times[name]), megabytes(run.bytes_up), seconds(run.compile_seconds))
        for name, run in runs.items()
    )
    title = f"A text encoder of {runs['full'].trained / 1e6:.1f} M parameters, {FEW} clients of {TEXTS} texts"
    return Measured(
        measurements={"adapting": {name: one._asdict() for name, one in times.items()}},
        figures={
            "adapting/low-rank over full, seconds": times["low-rank"].median / times["full"].median,
            "adapting/full over low-rank, bytes": runs["full"].bytes_up / runs["low-rank"].bytes_up,
        },
        tables=(Table(title, ("trained", "parameters", "round, median [quartiles]", "bytes up", "compile"), rows),),
        panels=(Panel("Fine-tuning", "seconds", times),),
    )


def adapted(rank: int, size: fe.models.Size = BACKBONE) -> "Federation":
    """Text classifiers.

    Args:
        rank: of low-rank matrices beside every linear layer of encoder and fusion, which then stay; 0: all is trained.
        size: of the model.
    """
    model = fe.models.m3t({"text": fe.models.Text(VOCABULARY, PIECES)}, {"level": fe.models.Binary()}, size)
    if rank:
        fe.models.add_low_rank(model, lambda path: not path.startswith("heads"), rank=rank)
    apply, params = fe.models.functional(model)
    random = np.random.default_rng(0)
    arrays = {"pieces": random.integers(0, VOCABULARY, (FEW * TEXTS, PIECES), np.int32)}
    arrays["y"] = random.integers(0, 2, FEW * TEXTS).astype(np.float32)

    def loss(params: Any, batch: Any, key: jax.Array) -> jax.Array:
        contents = {"text": fe.models.Content(batch["pieces"], jnp.ones(len(batch["y"]), bool))}
        return optax.sigmoid_binary_cross_entropy(apply(params, contents).outputs["level"], batch["y"])

    modules = fe.modules.assign(params, frozen=("encoders", "fusion") if rank else None)
    return Federation(fe.data.Population.from_arrays(arrays, np.arange(FEW + 1) * TEXTS), loss, params, modules)


class Federation:
    """One that continues its run each time it is called.

    Args:
        population: the clients, all of them in every round.
        loss: of the model.
        params: its starting values.
        modules: which of them are trained.
    """

    def __init__(self, population: fe.data.Population, loss: Callable[..., Any], params: Any, modules: fe.modules.Modules):
        algorithm = fe.algorithms.fedavg(loss, client_optimizer=optax.sgd(0.01), local=fe.LocalTraining(epochs=1, batch_size=16))
        parts: dict[str, Any] = {"cohort": fe.cohorts.everyone(), "aggregator": fe.aggregation.mean(), "modules": modules}
        self.engine = fe.Engine(population, algorithm, **parts)
        self.state = self.engine.init(params, seed=0)
        self.trained = sum(leaf.size for leaf in jax.tree.leaves(modules.split(params).shared))
        self.compile_seconds = clock(lambda: self.engine.run(self.state, rounds=0))
        self.bytes_up = 0
        self()

    def __call__(self) -> list[float]:
        """Runs a round; its seconds."""
        return [clock(self._advance)]

    def _advance(self) -> None:
        self.state, info = self.engine.run(self.state, rounds=1)
        self.bytes_up = int(info.bytes_up[0])


SEEING = fe.models.Size(width=64, encoders=dataclasses.replace(LAYERS, layers=2), fusion=dataclasses.replace(LAYERS, layers=2))
SIDE, NUMBERS = 28, 10  # of an image in pixels, of a record
MANY = 32  # clients, all of them in every round


def lacking(options: Options) -> Measured:
    """A round in which half of the clients have no images, against one in which all have some."""
    options.say("half of the clients without images")
    runs = {"all have images": seeing(1.0), "half have images": seeing(0.5), "nobody has images": seeing(0.0)}
    times = {name: spread(found) for name, found in interleave(runs, options.repeats).items()}
    whole = times["all have images"].median
    rows = tuple(
        (name, with_spread(times[name]), f"{times[name].median / whole:.2f}", megabytes(run.bytes_up)) for name, run in runs.items()
    )
    title = f"{MANY} clients of {TEXTS} records of {NUMBERS} numbers and images of {SIDE} x {SIDE} pixels"
    return Measured(
        measurements={"lacking": {name: one._asdict() for name, one in times.items()}},
        figures={"lacking/half over all": times["half have images"].median / whole},
        tables=(Table(title, ("who", "round, median [quartiles]", "over all", "bytes up"), rows),),
        panels=(Panel("Clients without images", "seconds", times),),
    )


def seeing(share: float, size: fe.models.Size = SEEING) -> Federation:
    """Readers of records and images.

    Args:
        share: of clients that have images, and the modules that read them.
        size: of the model.
    """
    modalities: dict[str, Any] = {"record": fe.models.Tabular((0,) * NUMBERS), "image": fe.models.Image(SIDE, SIDE, 1, 4)}
    model = fe.models.m3t(modalities, {"level": fe.models.Binary()}, size)
    apply, params = fe.models.functional(model)
    random, count = np.random.default_rng(0), MANY * TEXTS
    present = np.repeat(random.permutation(np.arange(MANY) < MANY * share), TEXTS)
    arrays = {
        "numbers": random.normal(size=(count, NUMBERS)).astype(np.float32),
        "pixels": random.normal(size=(count, SIDE, SIDE, 1)).astype(np.float32),
        "present": present,
        "y": random.integers(0, 2, count).astype(np.float32),
    }

    def loss(params: Any, batch: Any, key: jax.Array) -> jax.Array:
        everywhere = jnp.ones(batch["numbers"].shape, bool)
        contents = {
            "record": fe.models.Content(fe.models.Record(batch["numbers"]), everywhere),
            "image": fe.models.Content(batch["pixels"], batch["present"]),
        }
        return optax.sigmoid_binary_cross_entropy(apply(params, contents).outputs["level"], batch["y"])

    population = fe.data.Population.from_arrays(arrays, np.arange(MANY + 1) * TEXTS).holding({"encoders.image": present[::TEXTS]})
    return Federation(population, loss, params, fe.modules.assign(params, shared=["encoders.image", ...]))


def transformer(options: Options) -> Measured:
    """A round of the benchmark's transformer, as share of the machine's peak."""
    options.say("matmul peak")
    peaks = matmul_peak()
    found = rounds(options, "transformer", COHORT)
    named = {f"transformer, {COHORT}, {name}": timing for name, timing in found.items()}
    peak = max(peaks.values())
    return Measured(
        measurements={"transformer": {name: dataclasses.asdict(timing) for name, timing in named.items()}, "matmul peak": peaks},
        figures={"transformer/share of peak": found["fedavg"].flops_per_second / peak},
        tables=(peak_table(peaks), speed_table(named, peak)),
        panels=(Panel("A transformer's round", "seconds", {name: timing.round for name, timing in named.items()}),),
    )


PARTS: tuple[Part, ...] = (experts, adapting, lacking, transformer)
