"""The synthetic world as a study: a federation of all institutions, each of them by itself, and the best that anybody could predict."""

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from fedjax_edu import aggregation, algorithms, models
from fedjax_edu.core.errors import ArgumentError, require
from fedjax_edu.core.local import LocalTraining
from fedjax_edu.core.modules import assign
from fedjax_edu.core.trees import Tree
from fedjax_edu.data import Population
from fedjax_edu.data.worlds import contents
from fedjax_edu.data.worlds.world import TASKS, World, m3t_world, score
from fedjax_edu.engine import Engine, cohorts
from fedjax_edu.study import metrics
from fedjax_edu.study.config import Config, Count
from fedjax_edu.study.console import Printer, standard_output
from fedjax_edu.study.provenance import versions
from fedjax_edu.study.run_folder import RunFolder
from fedjax_edu.study.tables import Estimated, Table, counted

SMALL = 200  # students: institutions below that should gain most
RESAMPLES = 200
HEADS: dict[str, Any] = {"binary": models.Binary(), "regression": models.Regression(), "ordinal": models.Ordinal(5)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class WorldConfig(Config):
    """What is drawn and how it is learned.

    Attributes:
        institutions: in the world.
        students: of the median institution.
        world: seed of the world.
        seed: of the split, the model and the cohorts; others count up from it.
        test: share of each institution's students that nobody trains on.
        width: of tokens.
        heads: of the attention.
        layers: of the encoders and of the fusion.
        batch_size: rows of a local step.
        clip: of each step's gradient.
        rounds: of the federation.
        cohort: institutions a round.
        client_learning_rate: of the federation's local steps.
        server_learning_rate: of its server, constant for half of the rounds and falling to 0 then.
        alone_learning_rate: of an institution by itself.
        alone_epochs: epochs between two looks at an institution by itself.
        alone_looks: how many; the best of them counts, chosen on the test itself, in favour of training alone.
    """

    institutions: Count
    students: Count
    world: int
    seed: int
    test: float
    width: Count
    heads: Count
    layers: Count
    batch_size: Count
    clip: float
    rounds: Count
    cohort: Count
    client_learning_rate: float
    server_learning_rate: float
    alone_learning_rate: float
    alone_epochs: Count
    alone_looks: Count


class Setting:
    """A split of the world's students, and a model that reads them.

    Args:
        world: where they live.
        config: how they are split and read.
        seed: of split and model.
    """

    def __init__(self, world: World, config: WorldConfig, seed: int):
        self.world, self.config, self.seed = world, config, seed
        self.train, self.test = rows(world).split_examples((1 - config.test, config.test), seed=seed)
        self.model = models.m3t(_modalities(), {task: HEADS[goal.kind] for task, goal in TASKS.items()}, _size(config), seed)
        self.apply, self.params = models.functional(self.model)
        self.loss = models.make_loss(self.apply, self.model.heads)

    def federated(self) -> np.ndarray:
        """What a federation of all institutions predicts, [test rows, tasks]."""
        config = self.config
        rate = optax.linear_schedule(config.server_learning_rate, 0, config.rounds // 2, config.rounds // 2)
        algorithm = algorithms.fedadam(
            self.loss, client_optimizer=self._optimizer(config.client_learning_rate), server_learning_rate=rate, local=self._local(1)
        )
        engine = Engine(self.train, algorithm, cohort=cohorts.uniform(config.cohort), aggregator=aggregation.mean())
        state, _ = engine.run(engine.init(self.params, self.seed), config.rounds)
        return engine.predict(state, self.test, self._means)

    def alone(self) -> np.ndarray:
        """What institutions predict that train by themselves, each task after as many epochs as are best for it, [test rows, tasks]."""
        config = self.config
        algorithm = algorithms.fedavg(
            self.loss, client_optimizer=self._optimizer(config.alone_learning_rate), local=self._local(config.alone_epochs)
        )
        engine = Engine(
            self.train,
            algorithm,
            cohort=cohorts.everyone(),
            aggregator=aggregation.mean(),
            modules=assign(self.params, personal=...),
        )
        state, found = engine.init(self.params, self.seed), []
        for _ in range(config.alone_looks):
            state, _ = engine.run(state, 1)
            found.append(engine.predict(state, self.test, self._means))
        best = [int(np.argmax([self.share(task, look[:, number]) for look in found])) for number, task in enumerate(TASKS)]
        return np.stack([found[look][:, number] for number, look in enumerate(best)], axis=1)

    def share(self, task: str, predicted: np.ndarray, times: np.ndarray | None = None) -> float:
        """How much of the way from chance to the best possible score predictions have come: 1 is all of it.

        Args:
            task: which.
            predicted: [test rows].
            times: [test rows], how often each counts; None: once.
        """
        wanted = self.test.arrays["wanted"][task]
        there = wanted.present if times is None else wanted.present & (times > 0)
        weights = None if times is None else times[there]
        kind, best_predictions = TASKS[task].kind, self.test.arrays["best"][task]
        found, best = (score(kind, wanted.values[there], values[there], weights) for values in (predicted, best_predictions))
        chance = 0.5 if kind == "binary" else 0.0
        return (found - chance) / (best - chance)

    def gaps(self, predicted: np.ndarray) -> np.ndarray:
        """Mean squared gap to the best predictions of each institution, in units of their variance, over its tasks; [institutions]."""
        gaps, counts = np.zeros(self.test.num_clients), np.zeros(self.test.num_clients)
        for number, task in enumerate(TASKS):
            there, best = self.test.arrays["wanted"][task].present, self.test.arrays["best"][task]
            owners = self.test.row_clients[there]
            np.add.at(gaps, owners, (predicted[there, number] - best[there]) ** 2 / np.var(best[there]))
            np.add.at(counts, owners, 1)
        return gaps / np.where(counts > 0, counts, np.nan)

    def _optimizer(self, rate: float) -> optax.GradientTransformation:
        return optax.chain(optax.clip_by_global_norm(self.config.clip), optax.sgd(rate))

    def _local(self, epochs: int) -> LocalTraining:
        return LocalTraining(epochs=epochs, batch_size=self.config.batch_size)

    def _means(self, params: Tree, batch: Mapping[str, Any]) -> jax.Array:
        """Means of all tasks' targets, [B, tasks]."""
        outputs = self.apply(params, batch["contents"]).outputs
        of = {"binary": jax.nn.sigmoid, "regression": lambda x: x, "ordinal": lambda x: jax.nn.sigmoid(x).sum(axis=-1)}
        return jnp.stack([of[goal.kind](outputs[task]) for task, goal in TASKS.items()], axis=1)


def rows(world: World) -> Population:
    """The world's students as a multi-modal model reads them: ``contents``, ``wanted`` and, for scores only, ``best``."""
    arrays = world.population.arrays
    shown, present = arrays["contents"], arrays["present"]
    records = shown["tabular"]["values"]
    values = {
        "tabular": models.Record(records),
        "sequence": models.Interactions(**shown["sequence"] | {"responses": shown["sequence"]["responses"].astype(np.float32)}),
        "text": shown["text"]["tokens"],
        "image": shown["image"]["pixels"],
        "audio": models.Stamped(shown["audio"]["values"], shown["audio"]["times"]),
    }
    there = present | {"tabular": np.repeat(present["tabular"][:, None], records.shape[1], axis=1)}
    labelled = arrays["labelled"]
    held = {
        "contents": {name: models.Content(value, there[name]) for name, value in values.items()},
        "wanted": {task: models.Wanted(target.astype(np.float32), labelled[task]) for task, target in arrays["targets"].items()},
        "best": world.bayes,
    }
    return Population.from_arrays(held, world.population.offsets, ids=world.population.ids)


def run_world(config: WorldConfig, workdir: str | os.PathLike[str], *, seeds: int = 3, console: Printer | None = None) -> Table:
    """A federation against training alone, in shares of the way from chance to the best possible.

    Args:
        config: the world and the training.
        workdir: receives ``world.json``, ``world.md``, ``config.json`` and ``versions.json``.
        seeds: how many, from the configuration's own upwards.
        console: where progress and the table go; None is standard output.

    Returns:
        The table.

    Raises:
        ArgumentError: seeds out of range, or a folder that cannot be written.
    """
    require("the world study", "study", "sklearn")
    if seeds < 1:
        raise ArgumentError("seeds", seeds, "use a positive integer")
    folder, console = RunFolder(workdir), console or standard_output()
    folder.write_json("config.json", config)
    folder.write_json("versions.json", versions())
    world = m3t_world(jax.random.key(config.world), config.institutions, config.students)
    console.print(str(world), highlight=False)
    settings, found = [], []
    for seed in range(config.seed, config.seed + seeds):
        setting = Setting(world, config, seed)
        predicted = {}
        for name, predict in {"federated": setting.federated, "alone": setting.alone}.items():
            predicted[name] = predict()
            told = ", ".join(f"{task} {setting.share(task, predicted[name][:, number]):.0%}" for number, task in enumerate(TASKS))
            console.print(f"seed {seed}, {name}: {told}", highlight=False)
        settings.append(setting)
        found.append(predicted)
    table = _table(world, settings, found)
    folder.write_json("world.json", {"rows": [list(row) for row in table.rows], "best": world.scores})
    folder.write_text("world.md", table.markdown())
    console.print(table.markdown(), highlight=False)
    return table


def _table(world: World, settings: list[Setting], found: list[dict[str, np.ndarray]]) -> Table:
    """Shares of the way by task, means over seeds; and in how many small institutions the federation is better."""
    table: list[tuple[Any, ...]] = []
    for number, task in enumerate(TASKS):
        cells = [_over_seeds(settings, [one[name][:, number] for one in found], task) for name in ("federated", "alone")]
        table.append((task, world.scores[task], *cells))
    together, apart = (np.array([setting.gaps(one[name]) for setting, one in zip(settings, found, strict=True)]) for name in found[0])
    small = (world.population.sizes < SMALL) & np.isfinite(apart).any(axis=0)
    share = np.sum(together < apart, axis=0)[small] / np.isfinite(apart).sum(axis=0)[small]
    around = metrics.over_schools(np.arange(len(share)), lambda times: float(np.average(share, weights=times)), 0, RESAMPLES)
    facts = f"{world.population.num_clients} institutions, {world.population.num_examples:,} students"
    lacking = np.mean(np.sum([1 - world.population.holds[f"encoders.{name}"] for name in contents.MODALITIES], axis=0) >= 2)
    note = (
        f"A synthetic world of {facts}; {lacking:.0%} of the institutions lack two modalities of five or more. Shares of the way from "
        f"chance to the best possible score (second column: AUC, or R²) on students that nobody trained on; means over "
        f"{counted(len(settings), 'seed')} [95 % over institutions]. Of {len(share)} institutions with fewer than {SMALL} students the "
        f"federation is closer to the best predictions than the institution by itself in {share.mean():.0%} "
        f"[{around.low:.0%}, {around.high:.0%}]."
    )
    return Table("", ("task", "best", "federated", "alone"), tuple(table), note)


def _over_seeds(settings: list[Setting], predicted: list[np.ndarray], task: str) -> Estimated:
    pairs = list(zip(settings, predicted, strict=True))
    school = np.concatenate([setting.test.row_clients for setting in settings])
    cuts = np.cumsum([len(one) for one in predicted])[:-1]

    def mean(times: np.ndarray) -> float:
        parts = np.split(times, cuts)
        return float(np.mean([setting.share(task, one, part) for (setting, one), part in zip(pairs, parts, strict=True)]))

    around = metrics.over_schools(school, mean, 0, RESAMPLES)
    return Estimated(float(np.mean([setting.share(task, one) for setting, one in pairs])), around.low, around.high)


def _modalities() -> dict[str, Any]:
    side = 8  # of a digit
    return {
        "tabular": models.Tabular((0,) * (2 * contents.FEATURES + 2)),
        "sequence": models.Sequence(contents.ITEMS, contents.STEPS),
        "text": models.Text(contents.VOCABULARY, contents.WORDS),
        "image": models.Image(side, side, 1, side // 2),
        "audio": models.Features(contents.BANDS),
    }


def _size(config: WorldConfig) -> models.Size:
    layers = models.TransformerConfig(layers=config.layers, heads=config.heads, hidden=2.0)
    return models.Size(width=config.width, encoders=layers, fusion=layers)
