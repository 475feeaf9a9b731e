"""What the tables of the synthetic world share: how its students are split, shown and learned, and how predictions are scored."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from fedjax_edu import aggregation, algorithms, models
from fedjax_edu.core.algorithm import Algorithm
from fedjax_edu.core.link import Link
from fedjax_edu.core.local import LocalTraining
from fedjax_edu.core.modules import assign
from fedjax_edu.core.trees import Tree
from fedjax_edu.data import Population
from fedjax_edu.data.worlds import contents
from fedjax_edu.data.worlds.world import TASKS, World, m3t_world, score
from fedjax_edu.engine import Engine, ExecutionPlan, cohorts
from fedjax_edu.study import metrics
from fedjax_edu.study.config import Config, Count
from fedjax_edu.study.tables import Estimated

RESAMPLES = 200
SIDE = 8  # pixels of a digit
HEADS: dict[str, Any] = {"binary": models.Binary(), "regression": models.Regression(), "ordinal": models.Ordinal(5)}
PARTS: dict[str, Any] = {
    "tabular": models.Tabular((0,) * (2 * contents.FEATURES + 2)),
    "sequence": models.Sequence(contents.ITEMS, contents.STEPS),
    "text": models.Text(contents.VOCABULARY, contents.WORDS),
    "image": models.Image(SIDE, SIDE, 1, SIDE // 2),
    "audio": models.Features(contents.BANDS),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class SettingConfig(Config):
    """How a federation of the world's institutions learns.

    Attributes:
        institutions: in the world.
        students: of the median institution.
        world: seed of the world.
        seed: of the split, the model and the cohorts; others count up from it.
        modalities: that are shown.
        test: share of each institution's students that nobody trains on.
        width: of tokens.
        heads: of the attention.
        layers: of the encoders and of the fusion.
        batch_size: rows of a local step.
        clip: of each step's gradient.
        lanes: institutions that train side by side on a device.
        rounds: of the federation.
        cohort: institutions a round.
        client_learning_rate: of local steps.
        server_learning_rate: of the server's Adam, constant for half of the rounds and falling to 0 then.
    """

    institutions: Count
    students: Count
    world: int
    seed: int
    modalities: list[str]
    test: float
    width: Count
    heads: Count
    layers: Count
    batch_size: Count
    clip: float
    lanes: Count
    rounds: Count
    cohort: Count
    client_learning_rate: float
    server_learning_rate: float

    def draw(self, **knobs: Any) -> World:
        """The world, with some of its knobs turned."""
        return m3t_world(jax.random.key(self.world), self.institutions, self.students, **knobs)


class Setting:
    """A split of the world's students, and a model that reads them.

    Args:
        population: students as :func:`shown` shows them.
        config: how they are split and read.
        seed: of split and model.
        joint: whether modalities meet in FedMVP's joint encoder instead of a transformer over all tokens.
    """

    def __init__(self, population: Population, config: SettingConfig, seed: int, *, joint: bool = False):
        self.config, self.seed = config, seed
        self.train, self.test = population.split_examples((1 - config.test, config.test), seed=seed)
        layers = models.TransformerConfig(layers=config.layers, heads=config.heads, hidden=2.0)
        size = models.Size(width=config.width, encoders=layers, fusion=layers)
        heads = {task: HEADS[goal.kind] for task, goal in TASKS.items()}
        self.model = models.m3t({name: PARTS[name] for name in config.modalities}, heads, size, seed)
        if joint:
            self.model.fusion = models.JointFusion(config.modalities, config.width, layers, rngs=nnx.Rngs(seed))
        self.apply, self.params = models.functional(self.model)
        self.loss = models.make_loss(self.apply, self.model.heads)

    def engine(
        self,
        algorithm: Algorithm,
        cohort: int | None,
        *,
        train: Population | None = None,
        aggregator: Link | None = None,
        kind: str = "shared",
    ) -> Engine:
        """A federation; each encoder and each head is a module, so that institutions hold those that they have a use for.

        Args:
            algorithm: of it.
            cohort: institutions a round; None: all.
            train: who trains; None: the training side.
            aggregator: None: a mean.
            kind: of all modules, ``"shared"`` or ``"personal"``.
        """
        held: Any = [f"{part}.{name}" for part in ("encoders", "heads") for name in self.params[part]]
        return Engine(
            self.train if train is None else train,
            algorithm,
            cohort=cohorts.everyone() if cohort is None else cohorts.uniform(cohort),
            aggregator=aggregation.mean() if aggregator is None else aggregator,
            modules=assign(self.params, **{kind: [*held, ...]}),
            plan=ExecutionPlan(lanes=self.config.lanes),
        )

    def fedadam(self, loss: Callable[..., Any]) -> Algorithm:
        """How federations train."""
        config = self.config
        return algorithms.fedadam(
            loss,
            client_optimizer=self.optimizer(config.client_learning_rate),
            server_learning_rate=self.server_learning_rate,
            local=self.local(1),
        )

    @property
    def server_learning_rate(self) -> optax.Schedule:
        """By round."""
        half = self.config.rounds // 2
        return optax.linear_schedule(self.config.server_learning_rate, 0, self.config.rounds - half, half)

    def optimizer(self, rate: float) -> optax.GradientTransformation:
        """Of local steps."""
        return optax.chain(optax.clip_by_global_norm(self.config.clip), optax.sgd(rate))

    def local(self, epochs: int) -> LocalTraining:
        """Local work."""
        return LocalTraining(epochs=epochs, batch_size=self.config.batch_size)

    def means(self, params: Tree, batch: Mapping[str, Any]) -> jax.Array:
        """Means of all tasks' targets, [B, tasks]."""
        outputs = self.apply(params, batch["contents"]).outputs
        of = {"binary": jax.nn.sigmoid, "regression": lambda x: x, "ordinal": lambda x: jax.nn.sigmoid(x).sum(axis=-1)}
        return jnp.stack([of[goal.kind](outputs[task]) for task, goal in TASKS.items()], axis=1)

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

    def mean_share(self, predicted: np.ndarray, times: np.ndarray | None = None) -> float:
        """:meth:`share`, mean over tasks; predictions [test rows, tasks]."""
        return float(np.mean([self.share(task, predicted[:, number], times) for number, task in enumerate(TASKS)]))

    def gaps(self, predicted: np.ndarray) -> np.ndarray:
        """Mean squared gap to the best predictions of each institution, in units of their variance, over its tasks; [institutions]."""
        gaps, counts = np.zeros(self.test.num_clients), np.zeros(self.test.num_clients)
        for number, task in enumerate(TASKS):
            there, best = self.test.arrays["wanted"][task].present, self.test.arrays["best"][task]
            owners = self.test.row_clients[there]
            np.add.at(gaps, owners, (predicted[there, number] - best[there]) ** 2 / np.var(best[there]))
            np.add.at(counts, owners, 1)
        return gaps / np.where(counts > 0, counts, np.nan)


def shown(world: World, modalities: Sequence[str]) -> Population:
    """The world's students as a multi-modal model reads them: ``contents``, ``wanted`` and, for scores only, ``best``."""
    arrays = world.population.arrays
    drawn, present = arrays["contents"], arrays["present"]
    records = drawn["tabular"]["values"]
    values = {
        "tabular": models.Record(records),
        "sequence": models.Interactions(**drawn["sequence"] | {"responses": drawn["sequence"]["responses"].astype(np.float32)}),
        "text": drawn["text"]["tokens"],
        "image": drawn["image"]["pixels"],
        "audio": models.Stamped(drawn["audio"]["values"], drawn["audio"]["times"]),
    }
    there = present | {"tabular": np.repeat(present["tabular"][:, None], records.shape[1], axis=1)}
    labelled = arrays["labelled"]
    held = {
        "contents": {name: models.Content(values[name], there[name]) for name in modalities},
        "wanted": {task: models.Wanted(target.astype(np.float32), labelled[task]) for task, target in arrays["targets"].items()},
        "best": world.bayes,
    }
    unread = [f"encoders.{name}" for name in PARTS if name not in modalities]
    holds = {module: held for module, held in world.population.holds.items() if module not in unread}
    return Population.from_arrays(held, world.population.offsets, ids=world.population.ids).holding(holds)


def over_seeds(settings: Sequence[Setting], statistic: Callable[[int, np.ndarray | None], float]) -> Estimated:
    """A statistic's mean over settings, and its 95 % interval by bootstrap over institutions, the same ones of all settings.

    Args:
        settings: of the same institutions.
        statistic: ``(number of the setting, how often each row of its test counts, or None for once) -> number``.
    """
    school = np.concatenate([setting.test.row_clients for setting in settings])
    cuts = np.cumsum([setting.test.num_examples for setting in settings])[:-1]

    def mean(times: np.ndarray) -> float:
        return float(np.mean([statistic(number, part) for number, part in enumerate(np.split(times, cuts))]))

    around = metrics.over_schools(school, mean, 0, RESAMPLES)
    return Estimated(float(np.mean([statistic(number, None) for number in range(len(settings))])), around.low, around.high)
