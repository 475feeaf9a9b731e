"""Averages of low-rank matrices that are averages of their products: FedEx-LoRA, FLoRA, FlexLoRA."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from fedjax_edu.algorithms import arguments, local_sgd
from fedjax_edu.algorithms.fedavg import fedavg
from fedjax_edu.algorithms.server import State
from fedjax_edu.core import trees
from fedjax_edu.core.algorithm import Aggregates, Algorithm, Channel, ClientInfo, Meta
from fedjax_edu.core.errors import ArgumentError, check_positive
from fedjax_edu.core.keys import fold
from fedjax_edu.core.local import LocalTraining
from fedjax_edu.core.low_rank import LOW_RANK, cut_ranks
from fedjax_edu.core.modules import Params
from fedjax_edu.core.trees import Tree


class Factored(NamedTuple):
    """A low-rank matrix A B, [inputs, rank] times [rank, outputs], and the kernel W that it is added to, or their places in a tree."""

    a: Any
    b: Any
    kernel: Any


Settle = Callable[[Factored, jax.Array, jax.Array], Factored]


def fedex_lora(
    loss: Callable[..., Any],
    *,
    client_optimizer: optax.GradientTransformation,
    local: LocalTraining,
    scale: float = 1.0,
    weighting: str = "examples",
) -> Algorithm:
    r"""FedAvg of low-rank factors, whose error goes into the frozen kernels.

    .. math:: A \leftarrow \bar A, \quad B \leftarrow \bar B, \quad W \leftarrow W + s (\overline{A_k B_k} - \bar A \bar B)

    so that every round :math:`W + s A B` becomes the mean of the clients' :math:`W + s A_k B_k`. FedAvg alone (FedIT) leaves out the last
    term, the covariance of the factors.

    Args:
        loss: as for :func:`fedjax_edu.algorithms.fedavg`.
        client_optimizer: optax optimiser of the local steps; it starts afresh every round.
        local: local work of a round.
        scale: s, :math:`\alpha / r` of :func:`fedjax_edu.models.add_low_rank`.
        weighting: "examples" or "uniform".

    Returns:
        An :class:`~fedjax_edu.core.algorithm.Algorithm`; a client receives the kernels too, and sends factors: the server multiplies.

    Raises:
        ArgumentError: as for FedAvg; no low-rank matrices that are shared, or kernels under them that are not frozen, when the engine
            begins.

    >>> algorithm = fedex_lora(lambda params, batch, key: batch, client_optimizer=optax.sgd(0.1), local=LocalTraining(epochs=1))

    Reference: Singhal et al. (2024), "FedEx-LoRA: exact aggregation for federated and efficient fine-tuning", arXiv:2410.09432.
    """
    scale = check_positive("scale", scale)

    def settle(now: Factored, product: jax.Array, key: jax.Array) -> Factored:
        return now._replace(kernel=now.kernel + scale * (product - now.a @ now.b))

    return _averaging_products(loss, client_optimizer, local, weighting, settle, kernels_travel=True)


def flora(
    loss: Callable[..., Any],
    *,
    client_optimizer: optax.GradientTransformation,
    local: LocalTraining,
    scale: float = 1.0,
    ranks: str | None = None,
    weighting: str = "examples",
) -> Algorithm:
    r"""Low-rank matrices that are merged into the frozen kernels each round, and begun anew.

    .. math:: W \leftarrow W + s \overline{A_k B_k}, \quad A \sim \mathcal N(0, 1 / \text{inputs}), \quad B \leftarrow 0

    Args:
        loss: as for :func:`fedjax_edu.algorithms.fedavg`.
        client_optimizer: optax optimiser of the local steps; it starts afresh every round.
        local: local work of a round.
        scale: s, :math:`\alpha / r` of :func:`fedjax_edu.models.add_low_rank`.
        ranks: the client attribute that says how much rank a client has, integers; None: all of it.
        weighting: "examples" or "uniform".

    Returns:
        An :class:`~fedjax_edu.core.algorithm.Algorithm`; a client receives the kernels too, and sends factors: the server multiplies.
        Bytes are those of the whole rank.

    Raises:
        ArgumentError: as for :func:`fedex_lora`.

    >>> algorithm = flora(lambda params, batch, key: batch, client_optimizer=optax.sgd(0.1), local=LocalTraining(epochs=1))

    Reference: Wang et al. (2024), "FLoRA: federated fine-tuning large language models with heterogeneous low-rank adaptations",
    arXiv:2409.05976. We differ: the server sends merged kernels in place of the clients' factors side by side.
    """
    scale = check_positive("scale", scale)

    def settle(now: Factored, product: jax.Array, key: jax.Array) -> Factored:
        fresh = jax.random.normal(key, now.a.shape, now.a.dtype) / now.a.shape[-2] ** 0.5
        return Factored(fresh, jnp.zeros_like(now.b), now.kernel + scale * product)

    return _averaging_products(loss, client_optimizer, local, weighting, settle, kernels_travel=True, ranks=ranks)


def flexlora(
    loss: Callable[..., Any],
    *,
    client_optimizer: optax.GradientTransformation,
    local: LocalTraining,
    ranks: str | None = None,
    weighting: str = "examples",
) -> Algorithm:
    r"""Low-rank factors from the singular value decomposition of the mean of the clients' products.

    .. math:: U S V = \overline{A_k B_k}, \quad A \leftarrow U_r S_r^{1/2}, \quad B \leftarrow S_r^{1/2} V_r

    A client of a lower rank takes the leading columns and rows, which is its best approximation; the error of rank r is
    :math:`(\sum_{j > r} S_j^2)^{1/2}`.

    Args:
        loss: as for :func:`fedjax_edu.algorithms.fedavg`.
        client_optimizer: optax optimiser of the local steps; it starts afresh every round.
        local: local work of a round.
        ranks: the client attribute that says how much rank a client has, integers; None: all of it.
        weighting: "examples" or "uniform".

    Returns:
        An :class:`~fedjax_edu.core.algorithm.Algorithm`; clients send factors: the server multiplies. Bytes are those of the whole rank.

    Raises:
        ArgumentError: as for :func:`fedex_lora`; a rank above the smaller width of a kernel.

    >>> algorithm = flexlora(lambda params, batch, key: batch, client_optimizer=optax.sgd(0.1), local=LocalTraining(epochs=1))

    Reference: Bai et al. (2024), "Federated fine-tuning of large language models under heterogeneous tasks and client resources",
    arXiv:2402.11505.
    """

    def settle(now: Factored, product: jax.Array, key: jax.Array) -> Factored:
        rank = now.a.shape[-1]
        if rank > min(product.shape[-2:]):
            raise ArgumentError("rank", rank, f"use {min(product.shape[-2:])} at most: a kernel has no more")
        left, size, right = jnp.linalg.svd(product, full_matrices=False)
        root = jnp.sqrt(size[..., :rank])
        return now._replace(a=left[..., :rank] * root[..., None, :], b=root[..., None] * right[..., :rank, :])

    return _averaging_products(loss, client_optimizer, local, weighting, settle, kernels_travel=False, ranks=ranks)


def _averaging_products(
    loss: Callable[..., Any],
    client_optimizer: optax.GradientTransformation,
    local: LocalTraining,
    weighting: str,
    settle: Settle,
    *,
    kernels_travel: bool,
    ranks: str | None = None,
) -> Algorithm:
    """FedAvg that also averages the products of low-rank factors, and settles what becomes of each matrix and its kernel."""
    base = fedavg(loss, client_optimizer=client_optimizer, local=local, weighting=weighting)
    (training,) = base.stages

    def init_server(params: Params, meta: Meta) -> State:
        _places(params)
        if ranks is not None:
            arguments.check_attribute("ranks", ranks, meta)
        return base.init_server(params, meta)

    def start(state: State, personal: Tree, info: ClientInfo, key: jax.Array) -> local_sgd.Local:
        if ranks is not None:
            shared = cut_ranks(state.params.shared, info.attributes[ranks])
            state = state._replace(params=state.params._replace(shared=shared))
        return training.start(state, personal, info, key)

    def finish(state: State, own: local_sgd.Local, info: ClientInfo) -> tuple[dict[str, Channel], Tree, jax.Array]:
        channels, personal, weight = training.finish(state, own, info)
        leaves = dict(trees.named_leaves(own.params))
        products = {place.a: leaves[place.a] @ leaves[place.b] for place in _places(state.params)}
        nowhere: dict[str, Any] = dict.fromkeys(name for name, _ in trees.named_leaves(state.params.shared))
        value = trees.replaced(state.params.shared, nowhere | products)
        product = Channel(value, weight, private=True, entries=0)  # factors travel, not products
        return channels | {"product": product}, personal, weight

    def apply(state: State, aggregates: Aggregates, key: jax.Array) -> tuple[State, dict[str, jax.Array]]:
        after, observed = base.apply(state, {"update": aggregates["update"]}, key)
        products, mean = aggregates["product"], aggregates["product"].mean()
        means, owners, shared, frozen = (
            dict(trees.named_leaves(tree)) for tree in (mean, products.modules.owners(mean), after.params.shared, after.params.frozen)
        )
        for number, place in enumerate(_places(after.params)):
            old = Factored(shared[place.a], shared[place.b], frozen[place.kernel])
            new = settle(old, means[place.a].astype(old.kernel.dtype), fold(key, number))
            some = products.weight[owners[place.a]] > 0
            shared[place.a], shared[place.b], frozen[place.kernel] = trees.select(some, new, old)
        params = after.params
        params = params._replace(shared=trees.replaced(params.shared, shared), frozen=trees.replaced(params.frozen, frozen))
        return after._replace(params=params), observed

    def sent(state: State) -> Tree:
        frozen = dict(trees.named_leaves(state.params.frozen))
        kernels = [frozen[place.kernel] for place in _places(state.params)] if kernels_travel else []
        return state.params.shared, kernels

    return base._replace(init_server=init_server, stages=(training._replace(start=start, finish=finish, sent=sent),), apply=apply)


def _places(params: Params) -> list[Factored]:
    """Where the low-rank matrices are, and the kernels that they are added to.

    Raises:
        ArgumentError: there are none among the shared leaves, or a kernel is not among the frozen ones.
    """
    shared, frozen = (dict(trees.named_leaves(tree)) for tree in (params.shared, params.frozen))
    found = [name.removesuffix(".a") for name in shared if name.startswith(f"{LOW_RANK}.") and name.endswith(".a")]
    if not found:
        raise ArgumentError("params", sorted({name.split(".")[0] for name in shared}), "share low-rank matrices: fe.models.add_low_rank")
    layers = [name.removeprefix(f"{LOW_RANK}.").split("corrections.")[0] for name in found]
    places = [Factored(f"{name}.a", f"{name}.b", f"{layer}kernel") for name, layer in zip(found, layers, strict=True)]
    for place in places:
        if place.kernel not in frozen:
            raise ArgumentError("modules", place.kernel, "freeze the kernels under low-rank matrices")
    return places
