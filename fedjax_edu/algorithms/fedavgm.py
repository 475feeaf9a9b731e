"""FedAvg with momentum on the server."""

from collections.abc import Callable
from typing import Any

import optax

from fedjax_edu.algorithms.arguments import check_rate
from fedjax_edu.algorithms.fedavg import fedavg
from fedjax_edu.core.algorithm import Algorithm
from fedjax_edu.core.errors import check_number
from fedjax_edu.core.local import LocalTraining


def fedavgm(
    loss: Callable[..., Any],
    *,
    client_optimizer: optax.GradientTransformation,
    server_learning_rate: optax.ScalarOrSchedule = 1.0,
    momentum: float = 0.9,
    local: LocalTraining,
    weighting: str = "examples",
) -> Algorithm:
    r"""FedAvg whose server keeps a running sum of updates.

    :math:`v \leftarrow \beta v + \bar\Delta`, :math:`w \leftarrow w + \eta v`. A module that nobody trained keeps its v.

    Args:
        loss: as for :func:`fedjax_edu.algorithms.fedavg`.
        client_optimizer: optax optimiser of the local steps.
        server_learning_rate: :math:`\eta`, or an optax schedule over rounds.
        momentum: :math:`\beta`, in [0, 1); 0 is FedAvg.
        local: local work of a round.
        weighting: "examples" or "uniform".

    Returns:
        An :class:`~fedjax_edu.core.algorithm.Algorithm`.

    Raises:
        ArgumentError: as for FedAvg; a momentum outside [0, 1).

    >>> algorithm = fedavgm(lambda params, batch, key: (params - batch) ** 2, client_optimizer=optax.sgd(0.1),
    ...                     local=LocalTraining(epochs=1))
    >>> algorithm.weighting
    'examples'

    Reference: Hsu, Qi, Brown (2019), arXiv:1909.06335. They fix :math:`\eta = 1`.
    """
    rate = check_rate("server_learning_rate", server_learning_rate)
    server_optimizer = optax.sgd(rate, momentum=check_number("momentum", momentum, at_least=0, below=1))
    return fedavg(loss, client_optimizer=client_optimizer, server_optimizer=server_optimizer, local=local, weighting=weighting)
