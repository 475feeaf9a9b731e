"""How the study trains: the federation, its schools' own effects, and the two alternatives to a federation."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import optax

from fedjax_edu import aggregation, algorithms
from fedjax_edu.core import modules
from fedjax_edu.core.algorithm import Algorithm
from fedjax_edu.core.chain import Chain
from fedjax_edu.core.link import Link
from fedjax_edu.core.local import LocalTraining
from fedjax_edu.core.trees import Tree
from fedjax_edu.data import Population
from fedjax_edu.engine import Engine, ExecutionPlan, State, cohorts
from fedjax_edu.engine.resident import rounded_up
from fedjax_edu.study.choice import make_algorithm, make_cohort, make_local, sgd
from fedjax_edu.study.config import SchoolsConfig
from fedjax_edu.study.effects import Effects
from fedjax_edu.study.networks import make_network
from fedjax_edu.study.schools import SchoolData, Side

Aggregator = Link | Chain


@dataclasses.dataclass(frozen=True)
class Trained:
    """An engine with the state it ended in, and who trained it."""

    engine: Engine
    state: State
    trainer: "Trainer"

    def outputs(self, side: Side) -> np.ndarray:
        """Outputs for every row of a side, float32 [rows, tasks]."""
        return self.engine.predict(self.state, self.trainer.rows(side), self.trainer.network.predict)


@dataclasses.dataclass(frozen=True)
class Personalised:
    """A trained model with what each school adds to it."""

    shared: Trained
    effects: Effects

    def outputs(self, side: Side) -> np.ndarray:
        """Outputs for every row of a side, float64 [rows, tasks]; a school that was not fitted has those of the shared model."""
        return self.shared.outputs(side) + self.effects.of(side)


class Trainer:
    """Builds the model once and trains it in every way that the study compares.

    Args:
        data: what to train on.
        config: the run's configuration.

    Attributes:
        network: what is trained.
        loss: of it, with the tasks' weights.
    """

    def __init__(self, data: SchoolData, config: SchoolsConfig):
        self.data, self.config = data, config
        self.network = make_network(data.encoding, config.model, config.seed)
        weights = np.array([one.weight for one in config.of_tasks(data.tasks)], np.float32)
        self.loss, self._loss_alone = (self.network.loss(shares) for shares in (weights, np.ones_like(weights)))
        self._leaves = self.network.rows(data.population).arrays
        self._rows: dict[Side, Population] = {}  # a run is scored on them again and again

    def rows(self, side: Side) -> Population:
        """The rows of a side as the network reads them."""
        if side not in self._rows:
            leaves, of_side = jax.tree.map(lambda leaf: leaf[side.rows], self._leaves), side.population
            self._rows[side] = Population.from_arrays(leaves, of_side.offsets, ids=of_side.ids)
        return self._rows[side]

    def federation(
        self,
        population: Population | None = None,
        aggregator: Aggregator | None = None,
        *,
        personal: Sequence[str] = (),
        searched: bool = False,
    ) -> tuple[Engine, State]:
        """An engine that trains one model for all schools.

        Args:
            population: who trains; None is the training side.
            aggregator: None is the plain mean.
            personal: paths of modules that stay with schools; ``...`` for all.
            searched: make rates leaves of the state, where a search can set them.
        """
        config, train = self.config.federated, self.rows(self.data.train) if population is None else population
        return self._engine(
            train,
            make_algorithm(self.loss, config, self.config.rounds, searched=searched),
            cohort=make_cohort(config, self.config.cohort, train),
            aggregator=aggregator,
            personal=... if list(personal) == ["..."] else list(personal) or None,
        )

    def tuned(self, shared: Trained, epochs: int) -> Trained:
        """The model of a federation that every training school goes on training by itself, for so many epochs."""
        config = self.config.federated
        algorithm = algorithms.fedavg(
            self.loss,
            client_optimizer=sgd(config.client_learning_rate, config.weight_decay, config.clip, config.client_momentum),
            local=make_local(config),
            fine_tuning=LocalTraining(epochs=epochs, batch_size=config.batch_size),
        )
        train = self.rows(self.data.train)
        engine, state = self._engine(train, algorithm, params=shared.state.params, cohort=cohorts.everyone(), personal=...)
        return Trained(engine, engine.finalise(state), self)

    def pooled(self) -> Trained:
        """The same model on all training rows in one place, as a population of one client."""
        config, train = self.config.pooled, self.rows(self.data.train)
        together = Population.from_arrays(train.arrays, [0, train.num_examples])
        steps = config.epochs * -(-train.num_examples // config.batch_size)
        # Splits of about the same size run the same compiled program.
        schedule = optax.cosine_decay_schedule(config.learning_rate, rounded_up(steps))
        engine, state = self._engine(
            together,
            algorithms.fedavg(
                self.loss,
                client_optimizer=sgd(schedule, config.weight_decay, config.clip),
                local=LocalTraining(epochs=config.epochs, batch_size=config.batch_size),
            ),
            cohort=cohorts.everyone(),
        )
        return Trained(engine, engine.run(state, rounds=1)[0], self)

    def local_only(self) -> Trained:
        """Every school for itself: all modules are personal.

        A school has the tasks of one study, and no reason to weigh them against those of others: all count alike.
        """
        config = self.config.local_only
        engine, state = self._engine(
            self.rows(self.data.train),
            algorithms.fedavg(
                self._loss_alone,
                client_optimizer=sgd(config.learning_rate, config.weight_decay, config.clip),
                local=LocalTraining(epochs=config.epochs, batch_size=config.batch_size),
            ),
            cohort=cohorts.everyone(),
            personal=...,
        )
        return Trained(engine, engine.run(state, rounds=1)[0], self)

    def personalised(self, shared: Trained) -> Personalised:
        """Every training school fits its own effects to what a shared model leaves over, and keeps them."""
        train, tasks = self.data.train, self.data.tasks
        effects = Effects.fit(train, shared.outputs(train), tasks, self.config.of_tasks(tasks), self.data.classrooms)
        return Personalised(shared, effects)

    def _engine(
        self,
        population: Population,
        algorithm: Algorithm,
        *,
        params: Tree = None,
        cohort: cohorts.Cohort,
        aggregator: Aggregator | None = None,
        **kinds: Any,
    ) -> tuple[Engine, State]:
        engine = Engine(
            population,
            algorithm,
            cohort=cohort,
            aggregator=aggregation.mean() if aggregator is None else aggregator,
            modules=modules.assign(self.network.params, frozen=self.network.frozen, **kinds),
            plan=ExecutionPlan(lanes=self.config.lanes, chunk=self.config.chunk),
        )
        return engine, engine.init(self.network.params if params is None else params, seed=self.config.seed)
