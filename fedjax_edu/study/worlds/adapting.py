"""Models of institutions' own: TAP, what is left of it without its parts, and what it has to be better than."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import optax

from fedjax_edu import algorithms
from fedjax_edu.core.trees import Tree
from fedjax_edu.data.worlds.world import TASKS
from fedjax_edu.engine import Engine, State
from fedjax_edu.study.config import Count
from fedjax_edu.study.tables import Cell, Table, counted
from fedjax_edu.study.worlds.setting import Setting, SettingConfig, over_seeds, shown


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdaptingConfig(SettingConfig):
    """The world, and how models become institutions' own.

    Attributes:
        overlap: of tasks.
        school_effect: share of the variance between institutions.
        margin: by which the federation's model has to do better before it replaces.
        tuning_epochs: after the federation, of the teacher and of its pupil.
        distillation: weight of the divergence between them.
    """

    overlap: float
    school_effect: float
    margin: float
    tuning_epochs: Count
    distillation: float


# method: what is not as in TAP
VARIANTS: dict[str, dict[str, Any]] = {
    "TAP": {},
    "TAP without distillation": {"distillation": None},
    "TAP, shared modules stay": {"replace_shared": False},
    "TAP from the model as it was received": {"source": "global"},
    "TAP, always replaced": {"margin": -math.inf},
    "never replaced": {"margin": math.inf, "distillation": None},
}


def make_table(config: AdaptingConfig, seeds: range, say: Callable[[str], None]) -> Table:
    """Shares of the way, gaps to the best predictions institution by institution, and how often modules were replaced.

    Args:
        config: the world and the training.
        seeds: of splits, models and cohorts.
        say: is told how far it is.
    """
    population = shown(config.draw(overlap=config.overlap, school_effect=config.school_effect), config.modalities)
    settings = [Setting(population, config, seed) for seed in seeds]
    predicted: dict[str, list[np.ndarray]] = {name: [] for name in ("FedAvg", "FedAvg, then each alone", *VARIANTS)}
    replaced: dict[str, list[float]] = {name: [] for name in VARIANTS}
    for setting in settings:
        for name, changed in VARIANTS.items():
            engine, state = _adapted(setting, config, changed)
            predicted[name].append(engine.predict(state, setting.test, setting.means))
            replaced[name].append(float(np.mean(np.asarray(state.clients.replaced))) / _times(config))
            if name == "TAP":
                predicted["FedAvg"].append(engine.predict(state, setting.test, setting.means, which="global"))
                predicted["FedAvg, then each alone"].append(_tuned(setting, config, state))
            say(f"seed {setting.seed}, {name}: {setting.mean_share(predicted[name][-1]):.3f}")
    rows = [(name, *_cells(settings, found), float(np.mean(replaced.get(name, math.nan)))) for name, found in predicted.items()]
    note = (
        f"A synthetic world of {population.num_clients} institutions and {population.num_examples:,} students. Shares of the way from "
        f"chance to the best possible score on students that nobody trained on, means over four tasks and {counted(len(settings), 'seed')} "
        "[95 % over institutions]. Gaps: mean squared difference of an institution's predictions from the best, in units of the best "
        "ones' variance, median institution and worst tenth. Replacements: of a module, each time that a client takes part. FedAvg is the "
        "federation beside which TAP's models grow; never replaced, each institution trains alone."
    )
    return Table("", ("method", "share of the way", "median gap", "gap of the worst tenth", "replacements"), tuple(rows), note)


def _times(config: AdaptingConfig) -> float:
    """How often an institution takes part, on average."""
    return config.rounds * config.cohort / config.institutions


def _adapted(setting: Setting, config: AdaptingConfig, changed: dict[str, Any]) -> tuple[Engine, State]:
    """The federation's engine and its state after the last round and what follows it."""
    binary = [task for task, goal in TASKS.items() if goal.kind == "binary"]

    def logits(params: Tree, batch: Mapping[str, Any]) -> dict[str, Any]:
        outputs = setting.apply(params, batch["contents"]).outputs
        return {task: outputs[task] for task in binary}

    arguments: dict[str, Any] = {
        "tasks": {task: ["fusion", f"heads.{task}", *(f"encoders.{modality}" for modality in config.modalities)] for task in TASKS},
        "margin": config.margin,
        "distillation": algorithms.Distillation(logits, setting.local(config.tuning_epochs), config.distillation),
    }
    algorithm = algorithms.tap(
        setting.loss,
        **arguments | changed,
        client_optimizer=setting.optimizer(config.client_learning_rate),
        server_optimizer=optax.adam(setting.server_learning_rate),
        local=setting.local(1),
    )
    engine = setting.engine(algorithm, config.cohort)
    state, _ = engine.run(engine.init(setting.params, setting.seed), config.rounds)
    return engine, engine.finalise(state)


def _tuned(setting: Setting, config: AdaptingConfig, state: State) -> np.ndarray:
    """What institutions predict that went on training the federation's model by themselves."""
    algorithm = algorithms.fedavg(
        setting.loss,
        client_optimizer=setting.optimizer(config.client_learning_rate),
        local=setting.local(1),
        fine_tuning=setting.local(config.tuning_epochs),
    )
    engine = setting.engine(algorithm, None, kind="personal")
    return engine.predict(engine.finalise(engine.init(state.params, setting.seed)), setting.test, setting.means)


def _cells(settings: list[Setting], predicted: list[np.ndarray]) -> list[Cell]:
    def share(number: int, times: np.ndarray | None) -> float:
        return settings[number].mean_share(predicted[number], times)

    each = np.array([setting.gaps(one) for setting, one in zip(settings, predicted, strict=True)])
    gaps = np.nansum(each, axis=0)[(known := np.isfinite(each).sum(axis=0)) > 0] / known[known > 0]
    return [over_seeds(settings, share), *(float(np.quantile(gaps, level)) for level in (0.5, 0.9))]
