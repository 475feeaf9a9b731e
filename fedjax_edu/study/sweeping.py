"""Sweeps: every setting and seed of a grid as members of one compiled run."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_edu.core.errors import ArgumentError, check_number
from fedjax_edu.core.keys import check_seed
from fedjax_edu.core.trees import Tree, path_name
from fedjax_edu.engine import Engine, Info, State

Point = dict[str, float]


class Sweep(NamedTuple):
    """What a sweep leaves behind; member m has setting ``points[m]`` and seed ``seeds[m]``.

    Args:
        points: the hyper-parameters of each member.
        seeds: of each member.
        state: the members' states, stacked; ``state.member(m)`` is what a run of its own would have returned.
        info: what each round reported, leaves [rounds, members, ...].
    """

    points: tuple[Point, ...]
    seeds: tuple[int, ...]
    state: State
    info: Info

    @property
    def finite(self) -> np.ndarray:
        """Bool [members], whether every loss was finite and no client was rejected: a member that diverges has its clients rejected."""
        return ~diverged(self.info)


def sweep(
    engine: Engine, grid: Mapping[str, Sequence[float]] | Sequence[Mapping[str, float]], seeds: Sequence[int], *, params: Tree, rounds: int
) -> Sweep:
    """Runs every setting of a grid with every seed, side by side.

    All members' clients wait in one queue, so lanes stay busy and nothing is compiled twice; a member that diverges has its clients
    rejected and disturbs nobody. What can be swept are numbers of the server's state: those of the algorithm (``"mu"`` of FedProx),
    and what ``optax.inject_hyperparams`` made visible in the optimisers (``"client_optimizer.learning_rate"``,
    ``"server_optimizer.learning_rate"``).

    Args:
        engine: what to run.
        grid: values by name, of which every combination is a setting; or the settings themselves.
        seeds: of each setting.
        params: the starting parameters, as for ``engine.init``.
        rounds: how many.

    Returns:
        A :class:`Sweep`; members are ordered by setting, then by seed.

    Raises:
        ArgumentError: a name that cannot be swept, with those that can; a value that is not finite; no setting or no seed.

    >>> import optax, fedjax_edu as fe
    >>> population = fe.data.Population.from_arrays({"y": np.arange(6.0)}, offsets=[0, 2, 6])
    >>> algorithm = fe.algorithms.fedavg(
    ...     lambda params, batch, key: 0.5 * (params["mean"] - batch["y"]) ** 2,
    ...     client_optimizer=optax.inject_hyperparams(optax.sgd)(learning_rate=1.0), local=fe.LocalTraining(steps=1))
    >>> engine = fe.Engine(population, algorithm, cohort=fe.cohorts.everyone(), aggregator=fe.aggregation.mean())
    >>> found = sweep(engine, {"client_optimizer.learning_rate": [0.5, 1.0]}, seeds=[0], params={"mean": jnp.zeros(())}, rounds=1)
    >>> found.state.params["mean"].tolist()
    [1.25, 2.5]
    """
    points, seeds = _points(grid), _seeds(seeds)
    starts = {seed: engine.init(params, seed) for seed in seeds}
    members = [(point, seed) for point in points for seed in seeds]
    state, info = engine.run(stack([put(starts[seed], point) for point, seed in members]), rounds)
    return Sweep(tuple(point for point, _ in members), tuple(seed for _, seed in members), state, info)


def diverged(info: Info) -> np.ndarray:
    """Bool [members], whether a client was rejected, or the loss of those who took part was not finite, in any round."""
    return ((info.rejected > 0) | (info.participants > 0) & ~np.isfinite(info.loss)).any(0)


def stack(states: Sequence[State]) -> State:
    """Several runs' states as one, for ``engine.run``."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)


def _points(grid: Any) -> list[Point]:
    if isinstance(grid, Mapping):
        values = [np.atleast_1d(np.asarray(value)).tolist() for value in grid.values()]
        settings = [dict(zip(grid, combination, strict=True)) for combination in itertools.product(*values)]
    else:
        settings = [dict(point) for point in grid]
    if not settings:
        raise ArgumentError("grid", grid, "give every name at least one value")
    return [{name: check_number(f"grid[{name!r}]", value) for name, value in point.items()} for point in settings]


def _seeds(seeds: Any) -> list[int]:
    checked = [check_seed(seed) for seed in seeds]
    if not checked or len(set(checked)) < len(checked):
        raise ArgumentError("seeds", checked, "pass at least one seed, each once")
    return checked


def put(state: State, point: Mapping[str, float]) -> State:
    """A first state with other hyper-parameters."""
    known = set(sweepable(state))
    for name in point:
        if name not in known:
            raise ArgumentError("grid", name, f"use names of {sorted(known)}; optax.inject_hyperparams adds those of an optimiser")

    def replaced(path: tuple[Any, ...], leaf: jax.Array) -> jax.Array:
        name = _name(path)
        return jnp.full_like(leaf, point[name]) if name in point else leaf

    return state._replace(server=jax.tree_util.tree_map_with_path(replaced, state.server))


def sweepable(state: State) -> list[str]:
    """Names of the numbers of a state that a sweep can set: scalars of the server's state that are no parameters."""
    leaves = jax.tree_util.tree_leaves_with_path(state.server._replace(params=None))
    return [_name(path) for path, leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.floating) and _is_setting(path, leaf)]


def _is_setting(path: tuple[Any, ...], leaf: jax.Array) -> bool:
    return leaf.ndim == 0 or "hyperparams" in path_name(path) or "client_optimizer" in path_name(path)


def _name(path: tuple[Any, ...]) -> str:
    """``optimizer.hyperparams.learning_rate`` as users know it: ``server_optimizer.learning_rate``."""
    parts = [part for part in path_name(path).split(".") if part not in ("hyperparams", "clusters") and not part.isdigit()]
    return ".".join(["server_optimizer" if part == "optimizer" else part for part in parts])
