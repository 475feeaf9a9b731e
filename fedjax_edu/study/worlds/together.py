"""A federation of the synthetic world's institutions, and each of them by itself, against the best that anybody could predict."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from fedjax_edu import algorithms
from fedjax_edu.data.worlds.world import TASKS, World
from fedjax_edu.study import metrics
from fedjax_edu.study.config import Count
from fedjax_edu.study.tables import Table, counted
from fedjax_edu.study.worlds.setting import PARTS, RESAMPLES, Setting, SettingConfig, over_seeds, shown

SMALL = 200  # students: institutions below that should gain most


@dataclasses.dataclass(frozen=True, kw_only=True)
class TogetherConfig(SettingConfig):
    """The federation, and training alone.

    Attributes:
        alone_learning_rate: of an institution by itself.
        alone_epochs: epochs between two looks at an institution by itself.
        alone_looks: how many; the best of them counts, chosen on the test itself, in favour of training alone.
    """

    alone_learning_rate: float
    alone_epochs: Count
    alone_looks: Count


def federated(setting: Setting) -> np.ndarray:
    """What a federation of all institutions predicts, [test rows, tasks]."""
    engine = setting.engine(setting.fedadam(setting.loss), setting.config.cohort)
    state, _ = engine.run(engine.init(setting.params, setting.seed), setting.config.rounds)
    return engine.predict(state, setting.test, setting.means)


def alone(setting: Setting, config: TogetherConfig) -> np.ndarray:
    """What institutions predict that train by themselves, each task after as many epochs as are best for it, [test rows, tasks]."""
    algorithm = algorithms.fedavg(
        setting.loss, client_optimizer=setting.optimizer(config.alone_learning_rate), local=setting.local(config.alone_epochs)
    )
    engine = setting.engine(algorithm, None, kind="personal")
    state, found = engine.init(setting.params, setting.seed), []
    for _ in range(config.alone_looks):
        state, _ = engine.run(state, 1)
        found.append(engine.predict(state, setting.test, setting.means))
    best = [int(np.argmax([setting.share(task, look[:, number]) for look in found])) for number, task in enumerate(TASKS)]
    return np.stack([found[look][:, number] for number, look in enumerate(best)], axis=1)


def make_table(config: TogetherConfig, seeds: range, say: Callable[[str], None]) -> Table:
    """Shares of the way by task, and in how many small institutions the federation is better.

    Args:
        config: the world and the training.
        seeds: of splits, models and cohorts.
        say: is told how far it is.
    """
    world = config.draw()
    say(str(world))
    settings, found = [], []
    for seed in seeds:
        setting = Setting(shown(world, config.modalities), config, seed)
        predicted: dict[str, np.ndarray] = {}
        for name in ("federated", "alone"):
            predicted[name] = federated(setting) if name == "federated" else alone(setting, config)
            told = ", ".join(f"{task} {setting.share(task, predicted[name][:, number]):.0%}" for number, task in enumerate(TASKS))
            say(f"seed {seed}, {name}: {told}")
        settings.append(setting)
        found.append(predicted)
    return tabulated(world, settings, found)


def tabulated(world: World, settings: list[Setting], found: list[dict[str, np.ndarray]]) -> Table:
    """The table of predictions, ``federated`` and ``alone``, of several settings."""
    table: list[tuple[Any, ...]] = []
    for number, task in enumerate(TASKS):

        def share(seed: int, times: np.ndarray | None, *, name: str, task: str = task, number: int = number) -> float:
            return settings[seed].share(task, found[seed][name][:, number], times)

        cells = [over_seeds(settings, functools.partial(share, name=name)) for name in ("federated", "alone")]
        table.append((task, world.scores[task], *cells))
    together, apart = (np.array([setting.gaps(one[name]) for setting, one in zip(settings, found, strict=True)]) for name in found[0])
    small = (world.population.sizes < SMALL) & np.isfinite(apart).any(axis=0)
    nearer = np.sum(together < apart, axis=0)[small] / np.isfinite(apart).sum(axis=0)[small]
    around = metrics.over_schools(np.arange(len(nearer)), lambda times: float(np.average(nearer, weights=times)), 0, RESAMPLES)
    facts = f"{world.population.num_clients} institutions, {world.population.num_examples:,} students"
    lacking = np.mean(np.sum([1 - world.population.holds[f"encoders.{name}"] for name in PARTS], axis=0) >= 2)
    note = (
        f"A synthetic world of {facts}; {lacking:.0%} of the institutions lack two modalities of five or more. Shares of the way from "
        f"chance to the best possible score (second column: AUC, or R²) on students that nobody trained on; means over "
        f"{counted(len(settings), 'seed')} [95 % over institutions]. Of {len(nearer)} institutions with fewer than {SMALL} students the "
        f"federation is closer to the best predictions than the institution by itself in {nearer.mean():.0%} "
        f"[{around.low:.0%}, {around.high:.0%}]."
    )
    return Table("", ("task", "best", "federated", "alone"), tuple(table), note)
