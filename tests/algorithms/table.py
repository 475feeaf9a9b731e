"""The table of algorithms: one row each, run through every test of test_suite.py."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

import fedjax_edu as fe
from fedjax_edu.core.algorithm import Meta
from tests.reference import fair
from tests.reference.fedavg import fedavg, fedopt
from tests.reference.fednova import fednova
from tests.reference.mime import mime
from tests.reference.scaffold import feddyn, scaffold

RATE = 0.05
SGD = optax.sgd(RATE)


class Row(NamedTuple):
    """An algorithm under test.

    Args:
        name: of the test case.
        make: ``(loss, local=...) -> Algorithm``.
        twin: ``(problem, params, cohorts, rows) -> [(params, loss)]`` a round, in NumPy.
        personal: path of the personal modules, if the algorithm is to be run with some.
    """

    name: str
    make: Callable[..., Any]
    twin: Callable[..., Any] | None
    personal: str | None = None


def _ifca(problem, params, cohorts, rows):
    """The twin starts where the algorithm does: random starting values are no part of what it checks."""
    algorithm = fe.algorithms.ifca(problem.loss, clusters=3, spread=0.5, client_optimizer=SGD, local=fe.LocalTraining(epochs=1))
    modules = fe.modules.assign(params)
    server = algorithm.init_server(modules.split(params), Meta(np.diff(problem.offsets), modules))
    starts = [jax.tree.map(lambda leaf, j=j: np.asarray(leaf[j]), server.clusters.params.shared) for j in range(3)]
    return fair.ifca(problem, starts, cohorts, rows, client_rate=RATE)


A = fe.algorithms
MOMENTUM = optax.sgd(RATE, momentum=0.9)
ADAPTIVE = {"server_learning_rate": 0.1, "b1": 0.9, "tau": 1e-3}

ALGORITHMS = (
    Row("fedavg-examples", partial(A.fedavg, client_optimizer=SGD), partial(fedavg, client_rate=RATE)),
    Row(
        "fedavg-uniform",
        partial(A.fedavg, client_optimizer=SGD, server_optimizer=optax.sgd(0.7), weighting="uniform"),
        partial(fedavg, client_rate=RATE, server_rate=0.7, weighting="uniform"),
    ),
    Row("fedavg-momentum-adam-personal", partial(A.fedavg, client_optimizer=MOMENTUM, server_optimizer=optax.adam(0.1)), None, "head"),
    Row(
        "fedavgm",
        partial(A.fedavgm, client_optimizer=SGD, server_learning_rate=0.5, momentum=0.8),
        partial(fedavg, client_rate=RATE, server_rate=0.5, momentum=0.8),
    ),
    Row("fedprox", partial(A.fedprox, mu=2.0, client_optimizer=SGD), partial(fedavg, client_rate=RATE, mu=2.0)),
    Row(
        "fedadagrad",
        partial(A.fedadagrad, client_optimizer=SGD, **ADAPTIVE),
        partial(fedopt, rule="adagrad", client_rate=RATE, server_rate=0.1, b1=0.9, b2=0.0, tau=1e-3),
    ),
    Row(
        "fedadam",
        partial(A.fedadam, client_optimizer=SGD, b2=0.99, **ADAPTIVE),
        partial(fedopt, rule="adam", client_rate=RATE, server_rate=0.1, b1=0.9, b2=0.99, tau=1e-3),
    ),
    Row(
        "fedyogi",
        partial(A.fedyogi, client_optimizer=SGD, b2=0.9, **ADAPTIVE),
        partial(fedopt, rule="yogi", client_rate=RATE, server_rate=0.1, b1=0.9, b2=0.9, tau=1e-3),
    ),
    Row(
        "scaffold-examples-II",
        partial(A.scaffold, client_optimizer=SGD),
        partial(scaffold, client_rate=RATE, server_rate=1.0, weighting="examples", option="II"),
    ),
    Row(
        "scaffold-uniform-I",
        partial(A.scaffold, client_optimizer=SGD, server_optimizer=optax.sgd(0.7), weighting="uniform", option="I"),
        partial(scaffold, client_rate=RATE, server_rate=0.7, weighting="uniform", option="I"),
    ),
    Row("scaffold-personal", partial(A.scaffold, client_optimizer=SGD), None, "head"),
    Row(
        "mime",
        partial(A.mime, client_optimizer=MOMENTUM),
        partial(mime, client_rate=RATE, momentum=0.9, lite=False),
    ),
    Row(
        "mimelite",
        partial(A.mimelite, client_optimizer=MOMENTUM),
        partial(mime, client_rate=RATE, momentum=0.9, lite=True),
    ),
    Row(
        "feddyn-uniform",
        partial(A.feddyn, alpha=0.5, client_optimizer=SGD),
        partial(feddyn, client_rate=RATE, alpha=0.5, weighting="uniform"),
    ),
    Row(
        "feddyn-examples-personal",
        partial(A.feddyn, alpha=0.5, client_optimizer=SGD, weighting="examples"),
        None,
        "head",
    ),
    Row(
        "fednova",
        partial(A.fednova, client_optimizer=SGD),
        partial(fednova, client_rate=RATE, momentum=0.0, weighting="examples"),
    ),
    Row(
        "fednova-momentum",
        partial(A.fednova, client_optimizer=MOMENTUM, weighting="uniform"),
        partial(fednova, client_rate=RATE, momentum=0.9, weighting="uniform"),
    ),
    Row("fedbuff", partial(A.fedbuff, client_optimizer=SGD), partial(fedavg, client_rate=RATE, weighting="uniform")),
    Row("ifca", partial(A.ifca, clusters=3, spread=0.5, client_optimizer=SGD), _ifca),
    Row(
        "qffl",
        partial(A.qffl, q=1.5, lipschitz=4.0, client_optimizer=SGD),
        partial(fair.qffl, client_rate=RATE, q=1.5, lipschitz=4.0),
    ),
    Row("afl", partial(A.afl, mixture_rate=0.05, client_optimizer=SGD), partial(fair.afl, client_rate=RATE, mixture_rate=0.05)),
    Row("term", partial(A.term, tilt=0.7, client_optimizer=SGD), partial(fair.term, client_rate=RATE, tilt=0.7)),
)
