"""The table of algorithms: one row each, run through every test of test_suite.py."""

from collections.abc import Callable
from typing import Any, NamedTuple

import optax

import fedjax_edu as fe
from tests.reference.fedavg import fedavg


class Row(NamedTuple):
    """An algorithm under test.

    Args:
        name: of the test case.
        make: ``(loss, local) -> Algorithm``.
        twin: ``(problem, params, cohorts, rows) -> [(params, loss)]`` a round, in NumPy.
        personal: path of the personal modules, if the algorithm is to be run with some.
    """

    name: str
    make: Callable[..., Any]
    twin: Callable[..., Any] | None
    personal: str | None = None


def _fedavg(weighting: str, server_rate: float) -> Row:
    def make(loss, local):
        return fe.algorithms.fedavg(
            loss, client_optimizer=optax.sgd(0.05), server_optimizer=optax.sgd(server_rate), local=local, weighting=weighting
        )

    def twin(problem, params, cohorts, rows):
        return fedavg(problem, params, cohorts, rows, client_rate=0.05, server_rate=server_rate, weighting=weighting)

    return Row(f"fedavg-{weighting}", make, twin)


def _fedavg_adam(loss, local):
    return fe.algorithms.fedavg(loss, client_optimizer=optax.sgd(0.05, momentum=0.9), server_optimizer=optax.adam(0.1), local=local)


ALGORITHMS = (
    _fedavg("examples", 1.0),
    _fedavg("uniform", 0.7),
    Row("fedavg-momentum-adam-personal", _fedavg_adam, None, personal="head"),
)
