"""TAP: a personal model beside the federation's, which takes over a task's modules when the federation does better at it."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from fedjax_edu.algorithms import arguments, local_sgd
from fedjax_edu.algorithms.fedavg import fedavg
from fedjax_edu.algorithms.hyperparameters import Hyperparameters
from fedjax_edu.core.algorithm import Algorithm, Channel, ClientInfo, Meta, Phase, Report, Stage
from fedjax_edu.core.errors import ArgumentError, check_flag, check_number, check_positive
from fedjax_edu.core.local import Batch, LocalTraining
from fedjax_edu.core.modules import Modules, Params, join
from fedjax_edu.core.trees import Tree, float_dtype

SOURCES = ("local_trained", "global")


class Distillation(NamedTuple):
    r"""What happens after the federation: the final model is tuned to each client and teaches the client's personal model.

    Args:
        outputs: ``(params, batch)`` to a tree of logits, [B, classes] or [B] for binary tasks.
        local: local work of the teacher, and then of the personal model.
        weight: :math:`\lambda` of the divergence.
        temperature: :math:`\tau` of both models' logits.
    """

    outputs: Callable[..., Any]
    local: LocalTraining
    weight: float = 2e-3
    temperature: float = 1.0


class TapState(NamedTuple):
    """FedAvg's state, the margin of each task, and the modules among which they choose."""

    params: Params
    optimizer: optax.OptState
    client_optimizer: Hyperparameters
    margin: jax.Array
    modules: Modules


class TapClient(NamedTuple):
    """What a client keeps.

    Args:
        own: its personal model.
        loss: [tasks], of that model when it was last trained, and whether it ever was: what is not finite would be no client state.
        known: bool [tasks].
        replaced: int32 [modules], how often each was replaced.
    """

    own: Tree
    loss: jax.Array
    known: jax.Array
    replaced: jax.Array


class Sums(NamedTuple):
    """Sum of the losses of each task that a training has seen, and of their weights, [tasks]."""

    loss: jax.Array
    weight: jax.Array

    @property
    def seen(self) -> jax.Array:
        """The tasks that had an example, bool [tasks]."""
        return self.weight > 0

    def mean(self, otherwise: jax.Array) -> jax.Array:
        """Mean loss of the tasks that were seen."""
        return jnp.where(self.seen, self.loss / jnp.where(self.seen, self.weight, 1), otherwise)


class Two(NamedTuple):
    """The client's copy of the federation's model, its personal one, and what is known of each."""

    follower: local_sgd.Local
    own: local_sgd.Local
    followed: Sums
    owned: Sums
    kept: TapClient


def tap(
    loss: Callable[..., Any],
    *,
    tasks: Mapping[str, Sequence[str]],
    margin: float | Mapping[str, float] = 0.01,
    source: str = "local_trained",
    replace_shared: bool = True,
    distillation: Distillation | None = None,
    client_optimizer: optax.GradientTransformation,
    server_optimizer: optax.GradientTransformation | None = None,
    local: LocalTraining,
    weighting: str = "examples",
) -> Algorithm:
    r"""Two-stage adaptive personalisation.

    Each round a client trains its copy of the federation's model and sends the change, as in FedAvg. For every task o whose mean loss it
    saw there, :math:`h^l_o`, stays a margin below that of its personal model when it last trained it, :math:`h^l_o + m_o < h^p_o`, the
    personal model takes over the modules that o uses. Then it trains the personal model. A client that never took part has
    :math:`h^p = \infty`. After the federation, ``engine.finalise`` tunes the final model to each client and trains the personal one on
    its loss plus :math:`\lambda \tau^2 \mathrm{KL}(\mathrm{softmax}(z / \tau) \,\|\, \mathrm{softmax}(z^p / \tau))`.

    Args:
        loss: as for :func:`fedjax_edu.algorithms.fedavg`, with each task's loss among its metrics.
        tasks: the modules that each task uses, by the name of its metric.
        margin: m, of all tasks or by task, infinities included: :math:`\infty` replaces nothing (each client alone), :math:`-\infty`
            everything that is used, each round.
        source: what replaces: ``"local_trained"``, the client's copy after its training, or ``"global"``, the model as it was received.
        replace_shared: whether modules that several tasks use are replaced when one of them asks for it.
        distillation: the second stage; None leaves it out.
        client_optimizer: optax optimiser of all local steps; it starts afresh with each training.
        server_optimizer: optax optimiser of the server; None is ``optax.sgd(1.0)``.
        local: local work on the copy, and again on the personal model.
        weighting: "examples" or "uniform".

    Returns:
        An :class:`~fedjax_edu.core.algorithm.Algorithm`; losses that it reports are those of the copy. ``state.clients.replaced`` counts
        replacements by client and module.

    Raises:
        ArgumentError: as for FedAvg; no task; a margin of an unknown task; another source; when the engine begins: modules or metrics
            that there are not, personal modules.

    >>> algorithm = tap(lambda params, batch, key: (batch, {"math": (batch, batch)}), tasks={"math": ["body", "heads.math"]},
    ...                 client_optimizer=optax.sgd(0.1), local=LocalTraining(epochs=1))

    Reference: Lee et al. (2025), "TAP: two-stage adaptive personalization of multi-task and multi-modal foundation models in federated
    learning", arXiv:2509.26524. We differ: a task's loss is the mean over its examples; models without a task's rows keep its loss.
    """
    margins = _margins(tasks, margin)
    if source not in SOURCES:
        raise ArgumentError("source", source, f"use one of {', '.join(SOURCES)}")
    check_flag("replace_shared", replace_shared)
    if distillation is not None:
        _check(distillation)
    base = fedavg(loss, client_optimizer=client_optimizer, server_optimizer=server_optimizer, local=local, weighting=weighting)
    (training,) = base.stages

    def init_server(params: Params, meta: Meta) -> TapState:
        arguments.check_all_shared(meta.modules)
        _uses(tasks, meta.modules, replace_shared)
        begun = base.init_server(params, meta)._asdict()
        return TapState(**begun, margin=jnp.asarray(margins, float_dtype()), modules=meta.modules)

    def init_client(params: Params, info: ClientInfo) -> TapClient:
        none = jnp.zeros(len(tasks), float_dtype())
        return TapClient(params.shared, none, none > 0, jnp.zeros(info.share.shape, jnp.int32))

    def begin(state: TapState, params: Tree) -> local_sgd.Local:
        return local_sgd.start(client_optimizer, state.client_optimizer, params, state.params.personal)

    def start(state: TapState, client: TapClient, info: ClientInfo, key: jax.Array) -> Two:
        nothing = Sums(*(jnp.zeros(len(tasks), float_dtype()) for _ in Sums._fields))
        return Two(training.start(state, state.params.personal, info, key), begin(state, client.own), nothing, nothing, client)

    def seen(sums: Sums, report: Report) -> Sums:
        try:
            found = [report.metrics[task] for task in tasks]
        except KeyError as error:
            there = ", ".join(sorted(report.metrics)) or "there are none"
            raise ArgumentError("tasks", error.args[0], f"name metrics of the loss: {there}") from None
        return Sums(*(total + jnp.stack(each) for total, each in zip(sums, zip(*found, strict=True), strict=True)))

    def follow(state: TapState, two: Two, batch: Batch, key: jax.Array) -> tuple[Two, Report]:
        trained, report = training.phases[0].step(state, two.follower, batch, key)
        return two._replace(follower=trained, followed=seen(two.followed, report)), report

    def replace(state: TapState, two: Two, info: ClientInfo) -> Two:
        behind = two.followed.mean(two.kept.loss) + state.margin < jnp.where(two.kept.known, two.kept.loss, jnp.inf)
        wanted = jnp.any((two.followed.seen & behind)[:, None] & _uses(tasks, state.modules, replace_shared), axis=0)
        new = two.follower.params if source == "local_trained" else state.params.shared
        owners = state.modules.owners(new)
        own = jax.tree.map(lambda new, old, owner: jnp.where(wanted[owner], new, old), new, two.own.params, owners)
        return two._replace(own=begin(state, own), kept=two.kept._replace(replaced=two.kept.replaced + wanted.astype(jnp.int32)))

    def train_own(state: TapState, two: Two, batch: Batch, key: jax.Array) -> tuple[Two, None]:
        trained, report = training.phases[0].step(state, two.own, batch, key)
        return two._replace(own=trained, owned=seen(two.owned, report)), None

    def finish(state: TapState, two: Two, info: ClientInfo) -> tuple[dict[str, Channel], TapClient, jax.Array]:
        channels, _, weight = training.finish(state, two.follower, info)
        known = two.kept.known | two.owned.seen
        return channels, TapClient(two.own.params, two.owned.mean(two.kept.loss), known, two.kept.replaced), weight

    def model(state: TapState, client: TapClient | None) -> Tree:
        return state.params.merge() if client is None else state.params._replace(shared=client.own).merge()

    stage = training._replace(
        start=start,
        phases=(Phase(local, lambda state, two, info: two, follow), Phase(local, replace, train_own)),
        finish=finish,
        trained=lambda state, two: training.trained(state, two.follower),
    )

    def second(distillation: Distillation) -> Stage:
        def teach(state: TapState, two: Two, batch: Batch, key: jax.Array) -> tuple[Two, None]:
            frozen = state.params.frozen
            teacher = distillation.outputs(join(two.follower.params, frozen), batch.examples)

            def objective(own: Tree) -> jax.Array:
                mean, _ = local_sgd.objective(base.loss, own, frozen, batch, key)
                student = distillation.outputs(join(own, frozen), batch.examples)
                return mean + _divergence(distillation, teacher, student, batch.valid)

            return two._replace(own=local_sgd.descend(client_optimizer, two.own, jax.grad(objective)(two.own.params))), None

        def settle(state: TapState, two: Two, info: ClientInfo) -> tuple[dict[str, Channel], TapClient, jax.Array]:
            return {}, two.kept._replace(own=two.own.params), jnp.ones(())

        tuning = Phase(distillation.local, lambda state, two, info: two, follow)
        return stage._replace(phases=(tuning, Phase(distillation.local, lambda state, two, info: two, teach)), finish=settle)

    final = () if distillation is None else (second(distillation),)
    return base._replace(init_server=init_server, init_client=init_client, stages=(stage,), model=model, final=final)


def _margins(tasks: Mapping[str, Sequence[str]], margin: float | Mapping[str, float]) -> list[float]:
    if not tasks:
        raise ArgumentError("tasks", tasks, "name at least one metric of the loss, and the modules that it uses")
    by_task = margin if isinstance(margin, Mapping) else dict.fromkeys(tasks, margin)
    if set(by_task) != set(tasks):
        raise ArgumentError("margin", sorted(by_task), f"give one number, or one for each of {', '.join(tasks)}")
    return [one if one in (math.inf, -math.inf) else check_number("margin", one) for one in (by_task[task] for task in tasks)]


def _uses(tasks: Mapping[str, Sequence[str]], modules: Modules, replace_shared: bool) -> np.ndarray:
    """Which modules each task replaces, bool [tasks, modules]."""
    unknown = {name for names in tasks.values() for name in names} - set(modules.names)
    if unknown:
        raise ArgumentError("tasks", sorted(unknown), f"name modules: {', '.join(modules.names)}")
    uses = np.array([[name in names for name in modules.names] for names in tasks.values()])
    return uses if replace_shared else uses & (uses.sum(axis=0) == 1)


def _check(distillation: Distillation) -> None:
    arguments.check_local("distillation.local", distillation.local)
    check_number("distillation.weight", distillation.weight, at_least=0)
    check_positive("distillation.temperature", distillation.temperature)


def _divergence(distillation: Distillation, teacher: Tree, student: Tree, valid: jax.Array) -> jax.Array:
    """The weighted divergence of a batch's predictions, mean over its valid rows, sum over tasks."""

    def of(teacher: jax.Array, student: jax.Array) -> jax.Array:
        logs = [jax.nn.log_softmax(_classes(logits) / distillation.temperature) for logits in (teacher, student)]
        rows = jnp.sum(jnp.exp(logs[0]) * (logs[0] - logs[1]), axis=-1)
        return jnp.sum(jnp.where(valid, rows, jnp.zeros_like(rows))) / jnp.maximum(jnp.sum(valid), 1).astype(rows.dtype)

    total = jnp.sum(jnp.stack(jax.tree.leaves(jax.tree.map(of, teacher, student))))
    return distillation.weight * distillation.temperature**2 * total


def _classes(logits: jax.Array) -> jax.Array:
    """Logits [B, classes]; of a binary task [B] those of no and yes."""
    return logits if logits.ndim > 1 else jnp.stack([jnp.zeros_like(logits), logits], axis=-1)
