"""What an engine makes sure of before anything is compiled."""

import inspect
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_edu.core import loss as losses
from fedjax_edu.core import trees
from fedjax_edu.core.algorithm import Algorithm
from fedjax_edu.core.chain import Chain, chain
from fedjax_edu.core.errors import ArgumentError, check_integer
from fedjax_edu.core.link import Link
from fedjax_edu.core.modules import Modules
from fedjax_edu.core.trees import Tree
from fedjax_edu.data import Population
from fedjax_edu.engine.cohorts import Cohort
from fedjax_edu.engine.drawing import batch_size
from fedjax_edu.engine.plan import ExecutionPlan, Layout
from fedjax_edu.engine.state import State


def check_parts(population: Any, algorithm: Any, cohort: Any, aggregator: Any, modules: Any, plan: Any) -> Chain:
    """Checks the types of an engine's arguments; returns the aggregator as a chain."""
    for name, value, kind, remedy in (
        ("population", population, Population, "use fe.data.Population.from_arrays(...)"),
        ("algorithm", algorithm, Algorithm, "use for instance fe.algorithms.fedavg(...)"),
        ("cohort", cohort, Cohort, "use for instance fe.cohorts.uniform(32)"),
        ("modules", modules, Modules | None, "use fe.modules.assign(params, ...)"),
        ("plan", plan, ExecutionPlan, "use fe.ExecutionPlan(...)"),
        ("aggregator", aggregator, Link | Chain, "use for instance fe.aggregation.mean()"),
    ):
        if not isinstance(value, kind):
            raise ArgumentError(name, value, remedy)
    if population.num_examples == 0:
        raise ArgumentError(
            "population", f"{population.num_clients} clients without examples", "use a population with at least one example"
        )
    links = chain(aggregator)
    if cohort.stale and not algorithm.stale:
        remedy = "use fe.algorithms.fedbuff(...): clients start from older parameters, which this algorithm would take for the newest"
        raise ArgumentError("cohort", cohort.name, remedy)
    if cohort.stale and links.stacked:
        names = [link.name for link in links.links if link.needs != "sum"]
        raise ArgumentError("aggregator", names, f"use links that need only sums: {cohort.name} mixes updates of models of different age")
    if cohort.by_size and algorithm.weighting == "examples":
        remedy = f"use weighting='uniform': {cohort.name} draws larger clients more often, so sizes would count twice"
        raise ArgumentError("weighting", algorithm.weighting, remedy)
    return links


def check_stream(cohort: Cohort, layout: Layout) -> None:
    """Checks that the rows of a round can be told before it begins, where they have to be read."""
    if layout.budget is not None and cohort.measures:
        remedy = "use arrays that stay on the devices (over several processes, with plan.resident_bytes for all), or another sampler"
        raise ArgumentError("cohort", f"{cohort.name}, which measures losses before it draws", remedy)


def check_channels(links: Chain, sent: set[str]) -> None:
    """Checks that every link finds the channel that it acts on in some stage of the algorithm."""
    for link in links.links:
        if link.channel is not None and link.channel not in sent:
            raise ArgumentError(link.name, f"channels {sorted(sent)}", f"use it with an algorithm that sends a channel {link.channel!r}")


def check_links(links: Chain, population: Population, cohort: Cohort, capacity: int) -> None:
    """Checks that the population has the clients that links name, and that a cohort has as many seats as they need."""
    for link in links.links:
        missing = sorted(set(link.clients) - set(population.ids.tolist()))
        if missing:
            raise ArgumentError("aggregator", f"{link.name} of clients {missing[:3]}", "name clients by their ids in population.ids")
        empty = sorted(set(link.clients) & set(population.ids[population.sizes == 0].tolist()))
        if empty and link.place == "reduce":
            raise ArgumentError("aggregator", f"{link.name} of clients {empty[:3]}", "name clients that have examples")
        if capacity < link.min_clients:
            got = f"{link.name} with {cohort.name}, of {capacity} clients at most"
            raise ArgumentError(
                "aggregator", got, f"use a cohort of at least {link.min_clients} clients, or a rule that expects fewer liars"
            )


def check_holders(population: Population, modules: Modules) -> None:
    """Checks that the modules that a population says it holds are those of the model."""
    unknown = sorted(set(population.holds) - set(modules.names))
    if unknown:
        own = f"fe.modules.assign(params, shared=[{unknown[0]!r}, ...])"
        remedy = f"name modules of the model, {', '.join(modules.names)}, or make it one: {own}"
        raise ArgumentError("population.holds", unknown, remedy)


def check_params(params: Tree, population: Population) -> None:
    """Checks that parameters are floating-point arrays without a NaN, of the precision of the data."""
    leaves = trees.named_leaves(params)
    if not leaves:
        raise ArgumentError("params", params, "pass a pytree with at least one array")
    for name, leaf in leaves:
        _check_leaf(f"params.{name}".rstrip("."), leaf)
    wide = {name: str(leaf.dtype) for name, leaf in leaves if leaf.dtype == jnp.float64}
    narrow = {name: str(leaf.dtype) for name, leaf in leaves if leaf.dtype != jnp.float64}
    if wide and narrow:
        some = dict([*wide.items()][:2] + [*narrow.items()][:2])
        raise ArgumentError("params", some, "use one precision for all parameters")
    for name, data in trees.named_leaves({"arrays": population.spec, "attributes": population.attributes}):
        name = f"population.{name}".rstrip(".")
        _check_representable(name, data)
        if name.startswith("population.arrays") and data.dtype.kind == "f" and (data.dtype == np.float64) != bool(wide):
            found = f"{data.dtype} beside params of {leaves[0][1].dtype!s}"
            raise ArgumentError(name, found, "use one precision for data and parameters")


def _check_leaf(name: str, leaf: Any) -> None:
    if not isinstance(leaf, (np.ndarray, np.generic, jax.Array)):
        raise ArgumentError(name, leaf, "use arrays as leaves")
    if not jnp.issubdtype(leaf.dtype, jnp.floating):
        raise ArgumentError(name, f"{leaf.dtype}{list(leaf.shape)}", "use floating-point parameters")
    _check_representable(name, leaf)
    if not isinstance(leaf, jax.core.Tracer) and jnp.isnan(jnp.asarray(leaf)).any():
        raise ArgumentError(name, f"nan in {leaf.dtype}{list(leaf.shape)}", "start from finite parameters")


def _check_representable(name: str, leaf: Any) -> None:
    if jax.dtypes.canonicalize_dtype(leaf.dtype) != leaf.dtype:
        remedy = "make it outside `jax.enable_x64()`, or build and call the engine inside"
        raise ArgumentError(name, f"{leaf.dtype}{list(leaf.shape)} while x64 is off", remedy)


def check_losses(algorithm: Algorithm, params: Tree, population: Population, longest: int) -> tuple[str, ...]:
    """Traces the loss at the batch size of every phase; returns the names of its metrics.

    And at twice the largest, or a mean over rows that leaves as many features as there are rows would pass.
    """
    sizes = {batch_size(phase.data, longest) for stage in (*algorithm.stages, *algorithm.final) for phase in stage.phases}
    names: tuple[str, ...] = ()
    for size in sorted(sizes | {2 * max(sizes)}):
        batch = jax.tree.map(lambda leaf, size=size: jax.ShapeDtypeStruct((size, *leaf.shape), leaf.dtype), population.spec)
        names = tuple(sorted(losses.check(algorithm.loss, params, batch, size).metrics))
    return names


def check_form(state: State, form: State) -> None:
    """Checks that a state has the leaves, shapes and dtypes of this engine's states."""

    def leaves(each: State) -> dict[str, str]:
        return {name: f"{leaf.dtype}{list(leaf.shape)}" for name, leaf in trees.named_leaves(each)}

    found, wanted = leaves(state), leaves(form)
    structures: list[Any] = [jax.tree.structure(each) for each in (state, form)]
    if found != wanted or structures[0] != structures[1]:
        differing = [name for name in {**found, **wanted} if found.get(name) != wanted.get(name)][:3]
        got = {name: found.get(name, "missing") for name in differing} or str(structures[0])
        remedy = f"use a state of this engine: { ({name: wanted.get(name, 'absent') for name in differing}) }"
        raise ArgumentError("state", got, remedy)


def check_function(fn: Any) -> None:
    """Checks that a function takes (params, batch)."""
    if not callable(fn):
        raise ArgumentError("fn", fn, "pass a function (params, batch) -> outputs [B, ...]")
    try:
        signature = inspect.signature(fn)
    except ValueError:  # a function written in C that tells nothing
        return
    try:
        signature.bind(None, None)
    except TypeError as error:
        name = getattr(fn, "__name__", type(fn).__name__)
        raise ArgumentError("fn", f"{name}{signature}", "take (params, batch)") from error


def check_state(state: Any, x64: bool, stacked: bool) -> None:
    """Checks that a state is one, stacked only where that can be, and that the precision is the one the engine was built for."""
    if not isinstance(state, State):
        raise ArgumentError("state", state, "pass the state that engine.init or engine.run returned")
    if state.members is not None and not stacked:
        remedy = "pass one of them, state.member(0); runs of a population that streams are not stacked"
        raise ArgumentError("state", f"{state.members} stacked states", remedy)
    if any(isinstance(leaf, jax.Array) and leaf.is_deleted() for leaf in jax.tree.leaves(state)):
        remedy = "use the state that came back, or a plan without donate=True"
        raise ArgumentError("state", "one that rounds have written over", remedy)
    check_precision(x64)


def check_precision(x64: bool) -> None:
    """Checks that x64 is as it was when the engine was built."""
    found = trees.float_dtype() == jnp.float64
    if found != x64:
        raise ArgumentError("jax_enable_x64", found, f"call the engine with {x64}, as it was built")


def check_rounds(rounds: Any) -> None:
    """Checks a number of rounds."""
    check_integer("rounds", rounds, at_least=0)


def check_like(population: Any, trained: Population) -> None:
    """Checks that a population has the leaves, row shapes and dtypes of the one that was trained on."""
    if not isinstance(population, Population):
        raise ArgumentError("population", population, "use fe.data.Population.from_arrays(...)")
    if population.num_examples == 0:
        raise ArgumentError("population", f"{population.num_clients} clients without examples", "use clients with at least one example")

    def rows(each: Population) -> dict[str, str]:
        return {name: f"{leaf.dtype}{list(leaf.shape)}" for name, leaf in trees.named_leaves(each.spec)}

    found, wanted = rows(population), rows(trained)
    if found != wanted:
        raise ArgumentError("population", found, f"use the leaves of the training population: {wanted}")
