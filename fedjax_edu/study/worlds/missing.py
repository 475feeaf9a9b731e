"""Students who lack a modality: FedMVP against filling with zeros and against leaving them out."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from fedjax_edu import aggregation, algorithms, models
from fedjax_edu.core.trees import Tree
from fedjax_edu.data import Population, complete_modalities, lose_modalities
from fedjax_edu.study.config import Count
from fedjax_edu.study.tables import Cell, Estimated, Table, counted
from fedjax_edu.study.worlds.setting import Setting, SettingConfig, over_seeds, shown

# modality: its numbers, and which rows have it
MODALITIES = {
    "tabular": ("contents.tabular.values.values", "contents.tabular.present"),
    "image": ("contents.image.values", "contents.image.present"),
    "audio": ("contents.audio.values.embeddings", "contents.audio.present"),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class MissingConfig(SettingConfig):
    """What goes missing, and what is done about it.

    Attributes:
        ratios: shares of the students, on either side of the split, who lose one of the modalities.
        ridge: penalty of the translators between modalities.
        public: institutions of another world, which translators learn from.
        probe: students of that world on whom clients' representations are compared.
        matching: weight of FedMVP's contrastive matching.
        margin: weight of its aligned margin.
    """

    ratios: list[float]
    ridge: float
    public: Count
    probe: Count
    matching: float
    margin: float


@dataclasses.dataclass(frozen=True)
class Method:
    """What a federation does about missing modalities.

    Attributes:
        filled: "translated" from those that are there, with "zeros", or left "absent".
        whole: whether it trains on students alone who have all of them.
        agreement: whether modalities agree with the joint representation, as FedMVP has it.
        graph: whether clients count as far as their representations are alike, as FedMVP has it.
    """

    filled: str
    whole: bool = False
    agreement: bool = False
    graph: bool = False


METHODS = {
    "FedMVP": Method("translated", agreement=True, graph=True),
    "FedMVP without its graph": Method("translated", agreement=True),
    "translated, nothing else": Method("translated"),
    "absent, by mask": Method("absent"),
    "filled with zeros": Method("zeros"),
    "complete students alone": Method("absent", whole=True),
}


def make_table(config: MissingConfig, seeds: range, say: Callable[[str], None]) -> Table:
    """Mean shares of the way over tasks, by method and ratio.

    Args:
        config: the world and the training.
        seeds: of splits, losses, models and cohorts.
        say: is told how far it is.
    """
    population = shown(config.draw(lacking=(0,), missing=0.0), config.modalities)
    elsewhere = dataclasses.replace(config, world=config.world + 1, institutions=config.public)
    public = shown(elsewhere.draw(lacking=(0,), missing=0.0), config.modalities)
    settings = [Setting(population, config, seed, joint=True) for seed in seeds]
    rows: list[list[Cell]] = []
    for name, method in METHODS.items():
        cells: list[Estimated] = []
        for ratio in config.ratios:
            predicted = [_predicted(setting, config, method, ratio, public) for setting in settings]

            def share(number: int, times: np.ndarray | None, predicted: list[np.ndarray] = predicted) -> float:
                return settings[number].mean_share(predicted[number], times)

            cells.append(over_seeds(settings, share))
            say(f"{name}, {ratio:.0%} missing: {cells[-1].value:.3f}")
        rows.append([name, *cells])
    note = (
        f"A synthetic world of {population.num_clients} institutions and {population.num_examples:,} students with records, images and "
        f"sound, of whom the share on top, at training and on the test, lacks one of the three. Shares of the way from chance to the best "
        f"that could be predicted from five modalities, none missing; means over four tasks and {counted(len(settings), 'seed')} "
        "[95 % over institutions]. Translators learned from institutions of another draw of the world, as published weights would have "
        "been, and never saw a target."
    )
    return Table("", ("method", *(f"{ratio:.0%}" for ratio in config.ratios)), rows, note)


def _predicted(setting: Setting, config: MissingConfig, method: Method, ratio: float, public: Population) -> np.ndarray:
    """What a federation predicts whose students lack modalities, [test rows, tasks]."""
    lost = functools.partial(lose_modalities, present={name: MODALITIES[name][1] for name in config.modalities}, ratio=ratio)
    train, test = (_filled(lost(side, seed=setting.seed), config, method, public) for side in (setting.train, setting.test))
    if method.whole:
        leaves, masks = train.leaves(), [MODALITIES[name][1] for name in config.modalities]
        train = train.select_examples(np.all([_rows(leaves[mask]) for mask in masks], axis=0))
    agreement = models.Agreement(matching=config.matching, margin=config.margin) if method.agreement else None
    algorithm = setting.fedadam(models.make_loss(setting.apply, setting.model.heads, agreement=agreement))
    if method.graph:
        algorithm = algorithms.with_representations(algorithm, functools.partial(_joint, setting), _probe(public, config.probe))
    engine = setting.engine(algorithm, config.cohort, train=train, aggregator=aggregation.cka_graph() if method.graph else None)
    state, _ = engine.run(engine.init(setting.params, setting.seed), config.rounds)
    return engine.predict(state, test, setting.means)


def _filled(population: Population, config: MissingConfig, method: Method, public: Population) -> Population:
    if method.filled == "absent":
        return population
    from sklearn.linear_model import Ridge

    modalities = {name: MODALITIES[name] for name in config.modalities}
    if method.filled == "zeros":
        return complete_modalities(population, modalities, 0.0)
    return complete_modalities(population, modalities, Ridge(alpha=config.ridge), source=public)


def _joint(setting: Setting, params: Tree, probe: Tree) -> jax.Array:
    views = setting.apply(params, probe).views
    return views.joint


def _probe(public: Population, count: int) -> Tree:
    return jax.tree.map(lambda leaf: np.asarray(leaf[:count]), public.arrays["contents"])


def _rows(mask: np.ndarray) -> Any:
    """Which rows have any of a modality, bool [N]."""
    return np.any(mask.reshape(len(mask), -1), axis=1)
