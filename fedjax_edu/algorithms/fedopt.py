"""Adaptive server optimisers: FedAdagrad, FedAdam, FedYogi."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from fedjax_edu.algorithms.arguments import check_rate
from fedjax_edu.algorithms.fedavg import fedavg
from fedjax_edu.core.algorithm import Algorithm
from fedjax_edu.core.errors import check_number, check_positive
from fedjax_edu.core.local import LocalTraining
from fedjax_edu.core.trees import Tree

Second = Callable[[jax.Array, jax.Array], jax.Array]  # (second moment, squared update) -> second moment


def fedadagrad(
    loss: Callable[..., Any],
    *,
    client_optimizer: optax.GradientTransformation,
    server_learning_rate: optax.ScalarOrSchedule = 0.1,
    b1: float = 0.0,
    tau: float = 1e-3,
    local: LocalTraining,
    weighting: str = "examples",
) -> Algorithm:
    r"""FedAvg whose server divides each coordinate by the root of the sum of its squared updates.

    :math:`m \leftarrow \beta_1 m + (1 - \beta_1) \bar\Delta`, :math:`v \leftarrow v + \bar\Delta^2`,
    :math:`w \leftarrow w + \eta\, m / (\sqrt v + \tau)`, with :math:`m = 0`, :math:`v = \tau^2` before the first round and
    no bias correction. A module that nobody trained keeps w, m and v.

    Args:
        loss: as for :func:`fedjax_edu.algorithms.fedavg`.
        client_optimizer: optax optimiser of the local steps.
        server_learning_rate: :math:`\eta`, or an optax schedule over rounds.
        b1: :math:`\beta_1`, in [0, 1).
        tau: :math:`\tau`, how little adaptive the step is; in the units of an update.
        local: local work of a round.
        weighting: "examples" or "uniform".

    Returns:
        An :class:`~fedjax_edu.core.algorithm.Algorithm`.

    Raises:
        ArgumentError: as for FedAvg; a hyper-parameter out of range.

    >>> algorithm = fedadagrad(lambda params, batch, key: (params - batch) ** 2, client_optimizer=optax.sgd(0.1),
    ...                        local=LocalTraining(epochs=1))

    Reference: Reddi et al. (2021), "Adaptive federated optimization", arXiv:2003.00295, algorithm 2.
    """
    optimizer = _adaptive(lambda v, square: v + square, server_learning_rate, b1, tau)
    return fedavg(loss, client_optimizer=client_optimizer, server_optimizer=optimizer, local=local, weighting=weighting)


def fedadam(
    loss: Callable[..., Any],
    *,
    client_optimizer: optax.GradientTransformation,
    server_learning_rate: optax.ScalarOrSchedule = 0.1,
    b1: float = 0.9,
    b2: float = 0.99,
    tau: float = 1e-3,
    local: LocalTraining,
    weighting: str = "examples",
) -> Algorithm:
    r""":func:`fedadagrad` with :math:`v \leftarrow \beta_2 v + (1 - \beta_2) \bar\Delta^2`.

    Args:
        loss: as for :func:`fedjax_edu.algorithms.fedavg`.
        client_optimizer: optax optimiser of the local steps.
        server_learning_rate: :math:`\eta`, or an optax schedule over rounds.
        b1: :math:`\beta_1`, in [0, 1).
        b2: :math:`\beta_2`, in [0, 1).
        tau: :math:`\tau`, how little adaptive the step is; in the units of an update.
        local: local work of a round.
        weighting: "examples" or "uniform".

    Returns:
        An :class:`~fedjax_edu.core.algorithm.Algorithm`.

    Raises:
        ArgumentError: as for FedAvg; a hyper-parameter out of range.

    >>> algorithm = fedadam(lambda params, batch, key: (params - batch) ** 2, client_optimizer=optax.sgd(0.1),
    ...                     local=LocalTraining(epochs=1))

    Reference: Reddi et al. (2021), arXiv:2003.00295, algorithm 2. ``optax.adam`` differs: it corrects biases and starts at v = 0.
    """
    b2 = check_number("b2", b2, at_least=0, below=1)
    optimizer = _adaptive(lambda v, square: b2 * v + (1 - b2) * square, server_learning_rate, b1, tau)
    return fedavg(loss, client_optimizer=client_optimizer, server_optimizer=optimizer, local=local, weighting=weighting)


def fedyogi(
    loss: Callable[..., Any],
    *,
    client_optimizer: optax.GradientTransformation,
    server_learning_rate: optax.ScalarOrSchedule = 0.1,
    b1: float = 0.9,
    b2: float = 0.99,
    tau: float = 1e-3,
    local: LocalTraining,
    weighting: str = "examples",
) -> Algorithm:
    r""":func:`fedadagrad` with :math:`v \leftarrow v - (1 - \beta_2)\, \bar\Delta^2\, \mathrm{sign}(v - \bar\Delta^2)`.

    Args:
        loss: as for :func:`fedjax_edu.algorithms.fedavg`.
        client_optimizer: optax optimiser of the local steps.
        server_learning_rate: :math:`\eta`, or an optax schedule over rounds.
        b1: :math:`\beta_1`, in [0, 1).
        b2: :math:`\beta_2`, in [0, 1).
        tau: :math:`\tau`, how little adaptive the step is; in the units of an update.
        local: local work of a round.
        weighting: "examples" or "uniform".

    Returns:
        An :class:`~fedjax_edu.core.algorithm.Algorithm`.

    Raises:
        ArgumentError: as for FedAvg; a hyper-parameter out of range.

    >>> algorithm = fedyogi(lambda params, batch, key: (params - batch) ** 2, client_optimizer=optax.sgd(0.1),
    ...                     local=LocalTraining(epochs=1))

    Reference: Reddi et al. (2021), arXiv:2003.00295, algorithm 2; Zaheer et al. (2018), "Adaptive methods for nonconvex
    optimization".
    """
    b2 = check_number("b2", b2, at_least=0, below=1)
    optimizer = _adaptive(lambda v, square: v - (1 - b2) * square * jnp.sign(v - square), server_learning_rate, b1, tau)
    return fedavg(loss, client_optimizer=client_optimizer, server_optimizer=optimizer, local=local, weighting=weighting)


class _Moments(NamedTuple):
    first: Tree
    second: Tree


def _adaptive(second: Second, learning_rate: optax.ScalarOrSchedule, b1: float, tau: float) -> optax.GradientTransformation:
    r"""The step that the three share, as an optax transformation of gradients :math:`-\bar\Delta`."""
    rate, tau = check_rate("server_learning_rate", learning_rate), check_positive("tau", tau)
    b1 = check_number("b1", b1, at_least=0, below=1)

    def init(params: Tree) -> _Moments:
        return _Moments(jax.tree.map(jnp.zeros_like, params), jax.tree.map(lambda leaf: jnp.full_like(leaf, tau**2), params))

    def update(gradient: Tree, state: _Moments, params: Tree | None = None) -> tuple[Tree, _Moments]:
        first = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, state.first, gradient)
        moments = _Moments(first, jax.tree.map(lambda v, g: second(v, jnp.square(g)), state.second, gradient))
        return jax.tree.map(lambda m, v: m / (jnp.sqrt(v) + tau), *moments), moments

    return optax.chain(optax.GradientTransformation(init, update), optax.scale_by_learning_rate(rate))
