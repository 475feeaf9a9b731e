"""Settings of the school federation, searched on an inner split of training schools."""

import dataclasses
import inspect
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console

from fedjax_edu.core.errors import ConfigError, check_integer, require
from fedjax_edu.engine import Engine, State
from fedjax_edu.study.config import Config, Count, SchoolsConfig
from fedjax_edu.study.console import Printer
from fedjax_edu.study.provenance import versions
from fedjax_edu.study.results import collect
from fedjax_edu.study.run_folder import RunFolder, to_json
from fedjax_edu.study.schools import SchoolData, population_of, prepare
from fedjax_edu.study.searching import search
from fedjax_edu.study.tables import Table, counted, number
from fedjax_edu.study.training import Trained, Trainer
from fedjax_edu.study.trials import SQLITE, open_study

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import FloatDistribution
    from optuna.trial import FrozenTrial

STUDY = "schools"
BEST = 10  # rows of the table


@dataclasses.dataclass(frozen=True, kw_only=True)
class RangeConfig:
    """Where to look for a number.

    Attributes:
        name: of what is searched, as :func:`fedjax_edu.study.sweep` calls it.
        low: the smallest value.
        high: the largest.
        log: whether its logarithm is uniform, rather than itself.
    """

    name: str
    low: float
    high: float
    log: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class SearchConfig(Config):
    """What is searched and how.

    Attributes:
        schools: everything that is the same in all trials; its inner split is used, whatever `validation` says.
        space: what differs.
        members: trials at a time.
        segment: rounds between two scores of a trial.
        sampler: a class of :mod:`optuna.samplers` that takes a seed.
        sampler_arguments: of the sampler, its seed left out.
        pruner: a class of :mod:`optuna.pruners`.
        pruner_arguments: of the pruner.
    """

    schools: SchoolsConfig
    space: list[RangeConfig]
    members: Count
    segment: Count
    sampler: str
    sampler_arguments: dict[str, int | float | bool]
    pruner: str
    pruner_arguments: dict[str, int | float | bool | str]


def run_search(
    config: SearchConfig, workdir: str | os.PathLike[str], *, trials: int, storage: str = "", console: Printer | None = None
) -> dict[str, Any]:
    """Searches, or goes on with a search, until a number of trials is finished; then ranks them.

    A trial's value is the mean score over tasks on the held-out schools of an inner split of the fold's training schools; the fold's
    test rows are left out.

    Args:
        config: what to search.
        workdir: receives ``search.json``, ``search.md``, ``config.json`` and ``versions.json``.
        trials: how many are to be finished in the end, those of earlier calls with the same storage included.
        storage: as for :func:`fedjax_edu.study.open_study`; none is ``study.sqlite3`` in the folder.
        console: where progress and the table go; None is standard output.

    Returns:
        What ``search.json`` holds: every trial, the best first, and how much each number mattered.

    Raises:
        ArgumentError: a storage or a folder that cannot be used, or was used for another search.
        ConfigError: a space, a sampler or a pruner that cannot work.
        MissingDependencyError: a package of the extra `study` is missing.
    """
    require("a search", "study", "optuna", "pandas", "sklearn")
    trials = check_integer("trials", trials)
    sampler, pruner = _optuna_class("sampler", config), _optuna_class("pruner", config)
    space = _space(config)
    folder, console = RunFolder(workdir), console or Console()
    data = prepare(population_of(config.schools), config.schools.fold, config.schools.seed, validation=True)
    trainer = Trainer(data, config.schools)
    engine, _ = trainer.federation(searched=True)
    score = _scorer(data, trainer, engine)
    with open_study(
        storage or f"{SQLITE}{folder.path / 'study.sqlite3'}", STUDY, direction="maximize", pruner=pruner(), settings=to_json(config)
    ) as study:
        folder.write_json("config.json", config)
        folder.write_json("versions.json", versions())
        search(
            engine,
            study,
            space,
            score,
            params=trainer.network.params,
            trials=trials,
            rounds=config.schools.rounds,
            segment=config.segment,
            members=config.members,
            sampler=sampler,
            seed=config.schools.seed,
        )
        found = _found(study)
    folder.write_json("search.json", found)
    text = _markdown(found, config)
    Path(workdir, "search.md").write_text(text)
    console.print(text, highlight=False)
    return found


def _space(config: SearchConfig) -> "dict[str, FloatDistribution]":
    from optuna.distributions import FloatDistribution

    space = {}
    for one in config.space:
        if not one.low < one.high or (one.log and one.low == 0):
            raise ConfigError(f"config.space, {one.name}", (one.low, one.high), "use low < high, and above 0 where log is set")
        if one.name in space:
            raise ConfigError("config.space", one.name, "name it once")
        space[one.name] = FloatDistribution(one.low, one.high, log=one.log)
    return space


def _optuna_class(kind: str, config: SearchConfig) -> Callable[..., Any]:
    """The sampler or the pruner that a configuration names, with its arguments."""
    import optuna

    name, arguments = getattr(config, kind), getattr(config, f"{kind}_arguments")
    seed = {"seed": 0} if kind == "sampler" else {}
    classes = {
        one.__name__: one for one in vars(getattr(optuna, f"{kind}s")).values() if inspect.isclass(one) and not inspect.isabstract(one)
    }
    known = sorted(one for one, made in classes.items() if seed.keys() <= inspect.signature(made).parameters.keys())
    if name not in known:
        raise ConfigError(f"config.{kind}", name, f"use one of {', '.join(known)}")
    try:
        classes[name](**seed, **arguments)
    except (ImportError, TypeError, ValueError) as error:
        takes = ", ".join(inspect.signature(classes[name]).parameters)
        raise ConfigError(f"config.{kind}_arguments", f"for {name}: {error}", f"it takes {takes}") from error
    return partial(classes[name], **arguments)


def _scorer(data: SchoolData, trainer: Trainer, engine: Engine) -> Callable[[State], float]:
    def score(state: State) -> float:
        outputs = data.encoding.decode(Trained(engine, state, trainer).outputs(data.held_out))
        return float(np.mean([one.score("it") for one in collect(data, data.held_out, {"it": outputs})]))

    return score


def _found(study: "Study") -> dict[str, Any]:
    from optuna.importance import get_param_importances
    from optuna.trial import TrialState

    complete = [trial for trial in study.trials if trial.state == TrialState.COMPLETE]
    pruned = [trial for trial in study.trials if trial.state == TrialState.PRUNED]
    ranked = sorted(complete, key=lambda trial: (-(trial.value or 0.0), trial.number)) + pruned
    importances = get_param_importances(study) if len(complete) > 1 else {}
    return {"complete": len(complete), "pruned": len(pruned), "importances": importances, "trials": [_trial(trial) for trial in ranked]}


def _trial(trial: "FrozenTrial") -> dict[str, Any]:
    return {
        "number": trial.number,
        "state": trial.state.name.lower(),
        "value": trial.value,
        "params": trial.params,
        "rounds": trial.last_step,
        "scores": trial.intermediate_values,
    }


def _markdown(found: dict[str, Any], config: SearchConfig) -> str:
    names = [one.name for one in config.space]
    rows = [
        [str(trial["number"]), number(trial["value"]), *(f"{trial['params'][name]:.3g}" for name in names)]
        for trial in found["trials"][:BEST]
        if trial["state"] == "complete"
    ]
    mattered = ", ".join(f"{name} {share:.0%}" for name, share in found["importances"].items())
    return (
        f"{counted(found['complete'], 'trial')} complete and {found['pruned']} pruned, {config.schools.rounds} rounds each. Value: mean "
        f"score over tasks on an inner split of fold {config.schools.fold}'s training schools. What the values of the complete trials "
        f"vary with: {mattered or 'too few to say'}.\n\n{Table('', ['trial', 'value', *names], rows).markdown()}"
    )
