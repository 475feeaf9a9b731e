"""The main job's federation under several seeds: members of one compiled run, or one run each."""

import jax
import numpy as np

import fedjax_edu as fe
from experiments.configs import schools


def federation() -> tuple[fe.Engine, fe.State]:
    """The main job's engine, and its state before the first round."""
    config = fe.study.SchoolsConfig.from_mapping(schools.get_config().to_dict())
    population = fe.data.load_studies(config.studies)
    return fe.study.Trainer(fe.study.prepare(population, config.fold, config.seed), config).federation()


def together(engine: fe.Engine, start: fe.State, count: int, rounds: int) -> fe.State:
    """Runs with the seeds from 0 on as members of one; their states, stacked."""
    return fe.study.sweep(engine, {}, range(count), params=start.params, rounds=rounds).state


def alone(engine: fe.Engine, start: fe.State, count: int, rounds: int) -> list[fe.State]:
    """The same runs, one after another."""
    return [jax.block_until_ready(engine.run(engine.init(start.params, seed), rounds)[0]) for seed in range(count)]


def gap(stacked: fe.State, lone: list[fe.State]) -> float:
    """The largest distance between a member's parameters and those of its lone run, relative to the norm of the latter."""
    return max(_distance(stacked.member(number).params, state.params) for number, state in enumerate(lone))


def _distance(found: object, expected: object) -> float:
    one, other = (np.concatenate([np.ravel(leaf).astype(np.float64) for leaf in jax.tree.leaves(tree)]) for tree in (found, expected))
    return float(np.linalg.norm(one - other) / np.linalg.norm(other))


def train(count: int, rounds: int) -> dict[str, float]:
    """What a process of a sweep does: all seeds as members, or a single one.

    Args:
        count: of seeds.
        rounds: of each.

    Returns:
        The ``norm`` of the parameters in the end.
    """
    engine, start = federation()
    state = together(engine, start, count, rounds) if count > 1 else alone(engine, start, 1, rounds)[0]
    return {"norm": float(np.sqrt(sum(np.sum(np.square(leaf, dtype=np.float64)) for leaf in jax.tree.leaves(state.params))))}
