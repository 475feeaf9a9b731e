"""A virtual clock: clients train all the time, each at its own speed, and the server takes the next few that arrive."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_edu.core import trees
from fedjax_edu.core.errors import ArgumentError, check_integer
from fedjax_edu.core.keys import permute
from fedjax_edu.core.local import LocalTraining
from fedjax_edu.data.population import Population
from fedjax_edu.engine.cohorts.sampler import Bound, Cohort, Draw, Feedback, positive_per_client

NOBODY = 2**32 - 1


class Clock(NamedTuple):
    """Who trains at the beginning of a round.

    Args:
        clients: int32 [concurrency], positions in the population.
        remaining: [concurrency], seconds from now until the client arrives; relative, so that no precision is lost with time.
        started: int32 [concurrency], version of the parameters that it started from.
        version: int32 scalar, steps that the server has taken.
    """

    clients: jax.Array
    remaining: jax.Array
    started: jax.Array
    version: jax.Array


def asynchronous(buffer: int, concurrency: int, seconds: str | np.ndarray) -> Cohort:
    r"""The next arrivals among clients that train all the time; for :func:`fedjax_edu.algorithms.fedbuff` alone.

    `concurrency` clients train at any moment. A round is the next `buffer` arrivals in the order of their finishing times, ties by
    id. Whoever arrives is replaced at once by a client drawn uniformly among those that neither train nor sit in the buffer. The
    newcomer starts from the newest parameters; the one after the round's last arrival starts from the parameters that the round
    makes. An arrival's staleness is the number of server steps since it started.

    Weights: clients start uniformly among the idle ones, so slow clients, which are idle less often, take part somewhat less
    than fast ones; means are biased by that alone. Either weighting may be used.

    Privacy: who arrives depends on speeds, not on a coin, so nothing is amplified: an accountant assumes every client in every
    round. Where seconds grow with the number of examples, the order of arrivals tells about sizes.

    Args:
        buffer: arrivals a round.
        concurrency: clients that train at the same time.
        seconds: how long a client's round takes, its computing and its link, float [clients] or the name of an attribute;
            :func:`durations` works it out.

    Returns:
        A sampler; ``info.cohort["seconds"]`` is how long a round took on the virtual clock, ``info.cohort["staleness"]`` the mean
        over the arrivals. An arrival that :func:`available` drops is lost on its way, and its client free again.

    Raises:
        ArgumentError: a number below 1, or (when the engine is built) seconds that are not positive, or fewer clients with
            examples than train and wait in the buffer together.

    >>> asynchronous(10, 100, seconds="seconds").stale
    True

    Reference: Nguyen et al. (2022), "Federated learning with buffered asynchronous aggregation", arXiv:2106.06639. We differ:
    time is simulated, and a client whose update waits in the buffer does not start again before the server's step.
    """
    buffer, concurrency = check_integer("buffer", buffer), check_integer("concurrency", concurrency)

    def bind(ids: np.ndarray, attributes: dict[str, np.ndarray], sizes: np.ndarray) -> Bound:
        able = np.flatnonzero(sizes > 0)
        if buffer + concurrency > len(able):
            remedy = f"use at most {len(able)} together, the clients that have examples: buffered clients do not train"
            raise ArgumentError("buffer + concurrency", buffer + concurrency, remedy)
        lasting = positive_per_client("seconds", seconds, sizes > 0, attributes)
        duration = jnp.asarray(np.where(sizes > 0, lasting, 1.0), trees.float_dtype())
        eligible, identity = jnp.asarray(able, jnp.int32), jnp.asarray(ids)

        def init(key: jax.Array) -> Clock:
            clients = eligible[permute(key, jnp.arange(concurrency, dtype=jnp.int32), jnp.int32(len(able)))]
            return Clock(clients, duration[clients], jnp.zeros_like(clients), jnp.int32(0))

        def arrive(clock: Clock, newcomer: tuple[jax.Array, jax.Array]) -> tuple[Clock, tuple[jax.Array, jax.Array, jax.Array]]:
            client, version = newcomer
            first = clock.remaining == jnp.min(clock.remaining)
            slot = jnp.argmin(jnp.where(first, identity[clock.clients], jnp.uint32(NOBODY)))
            now = clock.remaining[slot]
            arrival = clock.clients[slot], clock.version - clock.started[slot], now
            return clock._replace(
                clients=clock.clients.at[slot].set(client),
                remaining=clock.remaining.at[slot].set(now + duration[client]),
                started=clock.started.at[slot].set(version),
            ), arrival

        def draw(clock: Clock, key: jax.Array, round_: jax.Array, losses: Callable[[jax.Array], jax.Array]) -> tuple[Draw, Clock]:
            versions = jnp.full(buffer, clock.version).at[-1].add(1)  # whoever follows the last arrival waits for the server's step
            clock, arrivals = jax.lax.scan(arrive, clock, (newcomers(key, clock.clients, eligible, buffer), versions))
            clients, staleness, times = arrivals
            observed = {"seconds": times[-1], "staleness": jnp.mean(staleness.astype(times.dtype))}
            drawn = Draw(clients, jnp.ones(buffer, bool), jnp.array(False), staleness, observed)
            return drawn, clock._replace(remaining=clock.remaining - times[-1])

        def learn(clock: Clock, feedback: Feedback) -> Clock:
            version = clock.version + feedback.applied.astype(jnp.int32)
            return clock._replace(version=version, started=jnp.minimum(clock.started, version))  # no step, no newer parameters

        return Bound(buffer, init, draw, learn)

    name = f"asynchronous({buffer}, {concurrency})"
    return Cohort(name, bind, independent=False, amplification="none", stale=True)


def newcomers(key: jax.Array, training: jax.Array, eligible: jax.Array, number: int) -> jax.Array:
    """Clients that start in a round, one after each arrival, uniformly without replacement.

    Whoever trains when the round begins still trains or waits in the buffer when it ends, and so does whoever starts in it. So
    the newcomers are the first of one random order that do not train yet, however often a slot is emptied.

    Args:
        key: of this round.
        training: int32 [concurrency], who trains when the round begins.
        eligible: int32 [at least concurrency + number], all clients that may.
        number: how many start.

    Returns:
        int32 [number], distinct, none of them in `training`.
    """
    places = jnp.arange(len(training) + number, dtype=jnp.int32)
    candidates = eligible[permute(key, places, jnp.int32(len(eligible)))]
    busy = jnp.any(candidates[:, None] == training[None, :], axis=1)
    return candidates[jnp.argsort(busy, stable=True)[:number]]


def durations(
    population: Population,
    local: LocalTraining,
    *,
    steps_per_second: float | str | np.ndarray,
    bytes_per_second: float | str | np.ndarray | None = None,
    bytes_up: int = 0,
    bytes_down: int = 0,
) -> np.ndarray:
    """How long each client's round takes: its local steps, and both directions of its link.

    Args:
        population: the clients.
        local: local work of a round.
        steps_per_second: local steps that a client computes in a second: one number, float [clients], or the name of an attribute.
        bytes_per_second: the same of its link; None is a link that takes no time.
        bytes_up: what a client sends in a round, ``info.bytes_up / info.participants`` of a trial run.
        bytes_down: what it receives.

    Returns:
        Seconds, float64 [clients].

    Raises:
        ArgumentError: a rate that is not positive, or bytes without a rate.

    >>> population = Population.from_arrays({"y": np.arange(6.0)}, offsets=[0, 2, 6])
    >>> durations(population, LocalTraining(epochs=1, batch_size=1), steps_per_second=2.0).tolist()
    [1.0, 2.0]
    """

    def rate(argument: str, value: float | str | np.ndarray) -> np.ndarray:
        each = value if isinstance(value, (str, np.ndarray)) else np.full(population.num_clients, value)
        return positive_per_client(argument, each, np.ones(population.num_clients, bool), population.attributes)

    if not isinstance(local, LocalTraining):
        raise ArgumentError("local", local, "use fe.LocalTraining(epochs=1, batch_size=20)")
    computing = local.steps_of(population.sizes) / rate("steps_per_second", steps_per_second)
    travelling = check_integer("bytes_up", bytes_up, at_least=0) + check_integer("bytes_down", bytes_down, at_least=0)
    if bytes_per_second is None:
        if travelling:
            raise ArgumentError("bytes_per_second", bytes_per_second, "say how fast the links are, or leave out bytes_up and bytes_down")
        return computing
    return computing + travelling / rate("bytes_per_second", bytes_per_second)
