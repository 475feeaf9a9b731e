"""Search: the trials of an Optuna study run side by side, as members of one compiled run."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fedjax_edu.core.errors import ArgumentError, check_integer, require
from fedjax_edu.core.keys import check_seed
from fedjax_edu.core.trees import Tree
from fedjax_edu.engine import Engine, State
from fedjax_edu.study.sweeping import diverged, put, stack, sweepable

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler


class Member(NamedTuple):
    """A trial that is running, and how far its run has come."""

    trial: "Trial"
    state: State


def search(
    engine: Engine,
    study: "Study",
    space: Mapping[str, "BaseDistribution"],
    objective: Callable[[State], float],
    *,
    params: Tree,
    trials: int,
    rounds: int,
    segment: int,
    members: int,
    sampler: "Callable[..., BaseSampler] | None" = None,
    seed: int = 0,
) -> None:
    r"""Asks an Optuna study for settings, trains each, and tells the study what came of it, until enough trials are finished.

    Trials are members of one run and differ in what :func:`fedjax_edu.study.sweep` can set. After every segment of rounds each is
    scored and reported; a trial that is through, or that the study's pruner gives up, makes room for the next one, which starts at
    its own round 0. So the number of members stays what the program was compiled for, and no member trains in vain but at the very
    end, when fewer trials are left than members. A trial that diverges, in its loss, its score or by having clients rejected, is
    pruned.

    Optuna's samplers keep their random numbers in memory. Here the sampler is made anew for each trial, with a seed that depends on
    `seed` and on how many trials were asked for before: a search that was stopped goes on as it would have gone on. Trials that failed
    do not count, neither there nor among the finished ones.

    Args:
        engine: what to run.
        study: says by its direction what is better, and by its pruner what is given up. One of :func:`fedjax_edu.study.open_study` is
            kept in a file, and may have finished trials already.
        space: where to look: a distribution of numbers for each name that can be swept.
        objective: the score of a state.
        params: the starting parameters, as for ``engine.init``.
        trials: how many the study is to have in the end, complete or pruned.
        rounds: of a trial; a multiple of `segment`.
        segment: rounds between two scores.
        members: trials at a time.
        sampler: called with ``seed=``, such as a class of ``optuna.samplers``; None is ``TPESampler``.
        seed: of the trainings, the same for every trial, and of the sampler.

    Raises:
        ArgumentError: a space that is empty, has a name that cannot be swept or values that are no numbers; numbers that do not fit.
        MissingDependencyError: Optuna is not installed.

    >>> import optax, optuna, fedjax_edu as fe
    >>> population = fe.data.Population.from_arrays({"y": np.arange(6.0)}, offsets=[0, 2, 6])
    >>> algorithm = fe.algorithms.fedavg(
    ...     lambda params, batch, key: 0.5 * (params["mean"] - batch["y"]) ** 2,
    ...     client_optimizer=optax.inject_hyperparams(optax.sgd)(learning_rate=1.0), local=fe.LocalTraining(steps=1))
    >>> engine = fe.Engine(population, algorithm, cohort=fe.cohorts.everyone(), aggregator=fe.aggregation.mean())
    >>> study = optuna.create_study()
    >>> space = {"client_optimizer.learning_rate": optuna.distributions.FloatDistribution(0.1, 1.9)}
    >>> search(engine, study, space, lambda state: abs(float(state.params["mean"]) - 2.5), params={"mean": np.float32(0.0)},
    ...        trials=20, rounds=1, segment=1, members=4)
    >>> 0.9 < study.best_params["client_optimizer.learning_rate"] < 1.1
    True
    """
    require("a search", "study", "optuna")
    from optuna.samplers import TPESampler

    trials, members = check_integer("trials", trials), check_integer("members", members)
    rounds, segment, seed = check_integer("rounds", rounds), check_integer("segment", segment), check_seed(seed)
    if rounds % segment:
        raise ArgumentError("segment", segment, f"use a divisor of the {rounds} rounds of a trial")
    first = engine.init(params, seed)
    _check_space(space, sweepable(first))
    running: list[Member] = []
    while True:
        while len(running) < members and len(_finished(study)) + len(running) < trials:
            trial = _ask(study, space, sampler or TPESampler, seed)
            running.append(Member(trial, put(first, trial.params)))
        if not running:
            return
        advanced = _advance(engine, running, members, segment)
        running = [member for member, healthy in advanced if _goes_on(study, member, healthy, objective, rounds)]


def _check_space(space: Mapping[str, "BaseDistribution"], known: Sequence[str]) -> None:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if not space:
        raise ArgumentError("space", space, f"name at least one of {known}")
    for name, values in space.items():
        if name not in known:
            raise ArgumentError("space", name, f"use names of {known}; optax.inject_hyperparams adds those of an optimiser")
        numbers = isinstance(values, CategoricalDistribution) and all(type(value) in (int, float) for value in values.choices)
        if not numbers and not isinstance(values, (FloatDistribution, IntDistribution)):
            raise ArgumentError(f"space[{name!r}]", values, "use a distribution of optuna.distributions over numbers")


def _finished(study: "Study") -> list:
    from optuna.trial import TrialState

    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))


def _ask(study: "Study", space: Mapping[str, "BaseDistribution"], sampler: "Callable[..., BaseSampler]", seed: int) -> "Trial":
    """The next trial, or one that waits: its number among those that did not fail gives the seed of its sampler."""
    from optuna.trial import TrialState

    asked = study.get_trials(deepcopy=False, states=(TrialState.RUNNING, TrialState.COMPLETE, TrialState.PRUNED))
    study.sampler = sampler(seed=sampler_seed(seed, len(asked)))
    return study.ask(dict(space))


def sampler_seed(seed: int, asked: int) -> int:
    """The seed of the sampler of a trial before which `asked` others were asked for, failed ones left out."""
    return int(np.random.SeedSequence([seed, asked]).generate_state(1)[0])


def _advance(engine: Engine, running: list[Member], members: int, rounds: int) -> list[tuple[Member, bool]]:
    """Every member some rounds further, and whether it stayed healthy; empty places repeat the first member's work."""
    states = [member.state for member in running]
    after, info = engine.run(stack(states + states[:1] * (members - len(states))), rounds)
    healthy = ~diverged(info)
    return [(member._replace(state=after.member(number)), bool(healthy[number])) for number, member in enumerate(running)]


def _goes_on(study: "Study", member: Member, healthy: bool, objective: Callable[[State], float], rounds: int) -> bool:
    """Reports a member's score; ends its trial if it is through or given up."""
    from optuna.trial import TrialState

    trial, done = member.trial, int(member.state.round)
    value = float(objective(member.state)) if healthy else np.nan
    trial.report(value, done)
    if np.isfinite(value) and done == rounds:
        study.tell(trial, value)
    elif not np.isfinite(value) or trial.should_prune():
        study.tell(trial, state=TrialState.PRUNED)
    else:
        return True
    return False
