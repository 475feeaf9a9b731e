"""What an algorithm is: a handful of pure functions, in the spirit of optax."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_edu.core.local import FullPass, LocalTraining
from fedjax_edu.core.loss import Loss, LossFunction
from fedjax_edu.core.modules import NO_MODULE, Modules
from fedjax_edu.core.trees import Tree, float_dtype

REPRESENTATIONS = "representations"  # the channel of clients that say how their models see a probe


class Meta(NamedTuple):
    """What is known about a federation before it starts.

    Args:
        sizes: int [clients], examples of each client of the population; those without any never take part.
        modules: the model's modules.
        holds: by module, what clients' parts in it are multiplied by, [clients]; 1 for modules that are not named.
        attributes: static client attributes by name, [clients, ...].
    """

    sizes: np.ndarray
    modules: Modules
    holds: Mapping[str, np.ndarray] = MappingProxyType({})
    attributes: Mapping[str, np.ndarray] = MappingProxyType({})

    def total(self, weighting: str) -> np.ndarray:
        """[modules], sum of the clients' weights: how many have examples, or their examples, times their parts in each module.

        >>> from fedjax_edu.core.modules import assign
        >>> meta = Meta(np.array([3, 0, 7]), assign({"body": 0.0, "head": 0.0}), {"head": np.array([1.0, 1.0, 0.0])})
        >>> meta.total("uniform"), meta.total("examples")
        (array([2., 1.]), array([10.,  3.]))
        """
        weights = (self.sizes > 0 if weighting == "uniform" else self.sizes).astype(np.float64)
        return np.array([np.sum(weights * self.holds.get(name, 1.0)) for name in self.modules.names])


class ClientInfo(NamedTuple):
    """What is known about a client without looking at its examples.

    Args:
        id: uint32, the identity that survives selection.
        examples: int32, size of its data set.
        steps: int32 [phases], local steps in each phase of the stage.
        share: float [modules], what its part in each module is multiplied by; 0 for one that it does not hold.
        attributes: static client attributes by name.
        position: int32, its row in stacked client states.
        staleness: int32, how many server steps old the parameters are that it starts from; 0 in synchronous rounds.
    """

    id: jax.Array
    examples: jax.Array
    steps: jax.Array
    share: jax.Array
    attributes: dict[str, jax.Array]
    position: jax.Array
    staleness: jax.Array

    @property
    def held(self) -> jax.Array:
        """The modules it holds, bool [modules]."""
        return self.share > 0


class Channel(NamedTuple):
    """One thing that a client sends.

    Args:
        value: pytree of arrays, over (a part of) the shared parameters. Leaves of other names are statistics; a channel with
            any has a scalar weight. An empty value sends its weight alone, whose sum is a denominator.
        weight: scalar, or [modules] for a value whose modules are weighted one by one.
        private: whether clipping, noise and robust rules apply to the value. They do to what is computed from examples, unless the
            server has to know it client by client.
        entries: into how many equal parts each leaf falls, of which one travels: the number of clients for a leaf [clients, ...] of which
            each fills its own entry. 1 is the whole leaf; 0: nothing travels, since the server knows it.
    """

    value: Tree
    weight: jax.Array
    private: bool
    entries: int = 1

    def shared(self, modules: Modules, share: jax.Array) -> "Channel":
        """What a client with these shares ([modules]) sends: of modules that it does not hold no value, with a weight of 0.

        The weight of statistics stays as it is.
        """
        owners = modules.owners(self.value)
        statistics = NO_MODULE in jax.tree.leaves(owners)

        def keep(leaf: jax.Array, owner: int) -> jax.Array:
            return leaf if owner == NO_MODULE else jnp.where(share[owner] > 0, leaf, jnp.zeros_like(leaf))

        weight = self.weight
        if not statistics:
            weight = jnp.where(share > 0, weight * share.astype(weight.dtype), jnp.zeros_like(weight))
        return self._replace(value=jax.tree.map(keep, self.value, owners), weight=weight)


class Report(NamedTuple):
    """What a local step observes, as sums: it is reported, it never feeds back.

    Args:
        loss: sum of losses over the valid rows of the batch.
        squares: sum of their squares.
        examples: number of valid rows.
        metrics: ``{name: (weighted sum, sum of weights)}``.
    """

    loss: jax.Array
    squares: jax.Array
    examples: jax.Array
    metrics: dict[str, tuple[jax.Array, jax.Array]]


def observe(loss: Loss, valid: jax.Array) -> Report:
    """Sums of a batch's losses and metrics over its valid rows (bool [B])."""
    dtype = float_dtype()

    def total(values: jax.Array, weights: jax.Array) -> jax.Array:
        weights = jnp.where(valid, weights, jnp.zeros_like(weights)).astype(dtype)
        return jnp.sum(jnp.where(weights != 0, values.astype(dtype) * weights, 0))

    metrics = {name: (total(value, weight), total(jnp.ones_like(weight), weight)) for name, (value, weight) in loss.metrics.items()}
    squares = total(jnp.square(loss.per_example.astype(dtype)), valid)
    return Report(total(loss.per_example, valid), squares, jnp.sum(valid).astype(dtype), metrics)


class Aggregate(NamedTuple):
    """The sum of one channel over a cohort, with its weights; division comes last and once.

    Args:
        total: sum of weight times value.
        weight: [modules], sum of the weights.
        contributors: int32 [modules], clients with a positive weight.
        modules: the registry that says which leaf belongs to which module.
    """

    total: Tree
    weight: jax.Array
    contributors: jax.Array
    modules: Modules

    def scaled(self, factor: jax.Array) -> "Aggregate":
        """The sum with each module multiplied by its factor ([modules]); 0 for a module that nobody contributed to."""

        def times(leaf: jax.Array, owner: int) -> jax.Array:
            return jnp.where(self.weight[owner] > 0, leaf * factor[owner].astype(leaf.dtype), jnp.zeros_like(leaf))

        return self._replace(total=jax.tree.map(times, self.total, self.modules.owners(self.total)))

    def mean(self) -> Tree:
        """Weighted mean; 0 for a module that nobody contributed to."""

        def divide(total: jax.Array, owner: int) -> jax.Array:
            weight = self.weight[owner]
            return jnp.where(weight > 0, total / jnp.where(weight > 0, weight, 1).astype(total.dtype), jnp.zeros_like(total))

        return jax.tree.map(divide, self.total, self.modules.owners(self.total))


Aggregates = dict[str, Aggregate]


class Phase(NamedTuple):
    """A run of like local steps.

    Args:
        data: which batches the steps see.
        enter: ``(shared, local, client_info) -> local``, once before the first step.
        step: ``(shared, local, batch, key) -> (local, Report | None)``.
    """

    data: LocalTraining | FullPass
    enter: Callable[..., Any]
    step: Callable[..., Any]


class Stage(NamedTuple):
    """One pass over the cohort and one reduction.

    Args:
        broadcast: ``(server, aggregates of the stages before) -> shared``; what every client reads, no lane axis.
        start: ``(shared, client_state, client_info, key) -> local``.
        phases: run one after another for a client.
        finish: ``(shared, local, client_info) -> ({name: Channel}, client_state, weight)``; a state of None leaves it as it was, and
            the scalar weight is the client's share in reported means.
        sent: ``shared -> pytree`` that travels to each client every round.
        trained: ``(shared, local) -> params``, the full model as the client has it now.
    """

    broadcast: Callable[..., Any]
    start: Callable[..., Any]
    phases: tuple[Phase, ...]
    finish: Callable[..., Any]
    sent: Callable[..., Any]
    trained: Callable[..., Any]


class Algorithm(NamedTuple):
    """A federated algorithm.

    Args:
        init_server: ``(Params, Meta) -> server state``, a NamedTuple with the field ``params: Params``.
        init_client: ``(Params, ClientInfo) -> client state``; stacked over the population, may be empty.
        stages: passes over the cohort, in order.
        apply: ``(server, {name: Aggregate} of all stages, key) -> (server, {name: scalar})``; must name ``update_norm``.
        loss: what is minimised, standardised; `evaluate` reports it.
        model: ``(server, client_state | None) -> params`` that a client predicts with; None is a client never seen.
        final: stages run over everyone after the federation; they change client states only.
        weighting: how a client's weight grows: "examples", or "uniform" where it does not grow with its size.
        stale: whether it understands clients that start from older parameters than the newest (``ClientInfo.staleness``).
    """

    init_server: Callable[..., Any]
    init_client: Callable[..., Any]
    stages: tuple[Stage, ...]
    apply: Callable[..., Any]
    loss: LossFunction
    model: Callable[..., Any]
    final: tuple[Stage, ...] = ()
    weighting: str = "uniform"
    stale: bool = False


WEIGHTINGS: dict[str, Callable[[ClientInfo], jax.Array]] = {
    "examples": lambda info: info.examples.astype(float_dtype()),
    "uniform": lambda info: jnp.ones((), float_dtype()),
}
