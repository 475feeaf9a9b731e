"""The algorithm and the sampler that a configuration names."""

import inspect
from collections.abc import Callable
from typing import Any

import optax

from fedjax_edu import algorithms
from fedjax_edu.core.algorithm import Algorithm
from fedjax_edu.core.errors import ConfigError
from fedjax_edu.core.local import LocalTraining
from fedjax_edu.data import Population
from fedjax_edu.engine import cohorts
from fedjax_edu.study.config import FederatedConfig

_ELSEWHERE = {  # arguments of algorithms that have fields of their own
    "client_optimizer": "client_learning_rate and client_momentum",
    "server_optimizer": "server_learning_rate",
    "server_learning_rate": "server_learning_rate",
    "local": "local_epochs and batch_size",
}


ALGORITHMS = tuple(name for name in algorithms.__all__ if "loss" in inspect.signature(getattr(algorithms, name)).parameters)

_visible = optax.inject_hyperparams(optax.sgd)


def sgd(
    learning_rate: optax.ScalarOrSchedule,
    weight_decay: float,
    clip: float,
    momentum: float = 0.0,
    descend: Callable[..., Any] = optax.sgd,
) -> optax.GradientTransformation:
    """Gradient descent with weight decay; with a clip of the gradient's norm and with momentum if these are not 0."""
    clipped = [optax.clip_by_global_norm(clip)] if clip else []
    return optax.chain(*clipped, optax.add_decayed_weights(weight_decay), descend(learning_rate, momentum or None))


def make_local(config: FederatedConfig) -> LocalTraining:
    """Local work of a round."""
    return LocalTraining(epochs=config.local_epochs, batch_size=config.batch_size)


def make_algorithm(loss: Callable[..., Any], config: FederatedConfig, rounds: int, *, searched: bool = False) -> Algorithm:
    """The algorithm of a run.

    The server's rate is constant over the first half of the rounds and falls to zero, linearly, over the second. It goes to
    ``server_learning_rate`` where the algorithm has one, and else to a plain ``server_optimizer``.

    Args:
        loss: ``(params, batch, key) -> fe.Loss``.
        config: names the algorithm.
        rounds: of the run.
        searched: make rates leaves of the state, where a search can set them, and the momentum of a plain ``server_optimizer`` too.

    Raises:
        ConfigError: an unknown algorithm, or arguments that are not those of the algorithm.
    """
    if config.algorithm not in ALGORITHMS:
        raise ConfigError("federated.algorithm", config.algorithm, f"use one of {', '.join(ALGORITHMS)}")
    factory: Callable[..., Algorithm] = getattr(algorithms, config.algorithm)
    arguments: dict[str, Any] = dict(config.arguments)
    for name in set(arguments) & set(_ELSEWHERE):
        raise ConfigError("federated.arguments", {name: arguments[name]}, f"set {_ELSEWHERE[name]} of the same group")
    if config.server_learning_rate:
        rate = optax.linear_schedule(config.server_learning_rate, 0.0, rounds - rounds // 2, rounds // 2)
        plain = "server_learning_rate" not in inspect.signature(factory).parameters
        arguments |= {"server_optimizer": _server_optimizer(rate, searched)} if plain else {"server_learning_rate": rate}
    arguments |= {
        "client_optimizer": sgd(
            config.client_learning_rate, config.weight_decay, config.clip, config.client_momentum, _visible if searched else optax.sgd
        ),
        "local": make_local(config),
    }
    if "head" in inspect.signature(factory).parameters:  # FedRep trains personal modules as long as shared ones
        arguments["head"] = make_local(config)
    try:
        inspect.signature(factory).bind(loss, **arguments)
    except TypeError as error:
        takes = ", ".join(list(inspect.signature(factory).parameters)[1:])
        raise ConfigError("federated.arguments", f"for {config.algorithm}: {error}", f"it takes {takes}") from error
    return factory(loss, **arguments)


def check_algorithm(config: FederatedConfig) -> None:
    """Raises what :func:`make_algorithm` would, before anything is trained."""
    make_algorithm(lambda params, batch, key: None, config, rounds=2)


def _server_optimizer(rate: optax.Schedule, searched: bool) -> optax.GradientTransformation:
    """SGD at a rate that follows a schedule, or at one that a search sets and the schedule's shape scales."""
    if not searched:
        return optax.sgd(rate)
    first = rate(0)
    return optax.chain(_visible(first, momentum=0.0), optax.scale_by_schedule(lambda done: rate(done) / first))


def make_cohort(config: FederatedConfig, cohort: int, population: Population) -> cohorts.Cohort:
    """A uniform cohort; with a concurrency, the next arrivals on a virtual clock where a local step takes a second.

    Args:
        config: says how many clients train at any moment.
        cohort: clients, or arrivals, a round; all clients where there are fewer.
        population: the clients, whose steps give the seconds.
    """
    if not config.concurrency:
        return cohorts.uniform(min(cohort, population.num_clients))
    return cohorts.asynchronous(cohort, config.concurrency, cohorts.durations(population, make_local(config), steps_per_second=1.0))
