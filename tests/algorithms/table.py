"""The table of algorithms: one row each, run through every test of test_suite.py."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import fedjax_edu as fe
from fedjax_edu.core.algorithm import Meta
from tests.reference import fair
from tests.reference.fedavg import fedavg, fedopt
from tests.reference.fednova import fednova
from tests.reference.levels import heterofl, hierarchy, routed
from tests.reference.mime import mime
from tests.reference.personal import apfl, ditto, fedmsplit, fedrep, pfedme, tap
from tests.reference.scaffold import feddyn, scaffold
from tests.reference.trees import minus, plus

RATE = 0.05
SGD = optax.sgd(RATE)


def _with_head(server, own):
    """The federation's parameters, but for a personal head."""
    params, personal = server.params, getattr(own, "personal", own)
    return {"layer": params.shared["layer"], "head": params.shared["head"] if params.personal["head"]["b"] is None else personal["head"]}


def _own_model(server, own):
    return getattr(own, "own", own)


def _mixture(server, own):
    mixing = dict(zip(server.modules.names, own.mixing, strict=True))
    shared = server.params.shared
    return {name: plus(shared[name], minus(own.own[name], shared[name]), mixing[name]) for name in shared}


def _narrow(server, own):
    shared = server.params.shared
    return shared | {"layer": {"w": np.where(np.arange(3) < np.round(3 * own.width), shared["layer"]["w"], 0)}}


def _of_group(server, own):
    return jax.tree.map(lambda leaf: leaf[own.group], server.groups)


def _of_client(server, own):
    return jax.tree.map(lambda leaf: leaf[own.position], server.mixed)


def _of_cluster(server, own):
    return server.params.shared if own.cluster < 0 else jax.tree.map(lambda leaf: leaf[own.cluster], server.clusters.params.shared)


class Row(NamedTuple):
    """An algorithm under test.

    Args:
        name: of the test case.
        make: ``(loss, local=...) -> Algorithm``.
        twin: ``(problem, params, cohorts, rows) -> [(params, loss)]`` a round, in NumPy.
        personal: path of the personal modules, if the algorithm is to be run with some.
        predicts: ``(server state, client state) -> params`` that the client predicts with.
    """

    name: str
    make: Callable[..., Any]
    twin: Callable[..., Any] | None
    personal: str | None = None
    predicts: Callable[..., Any] = _with_head


def _ifca(problem, params, cohorts, rows):
    """The twin starts where the algorithm does: random starting values are no part of what it checks."""
    algorithm = fe.algorithms.ifca(problem.loss, clusters=3, spread=0.5, client_optimizer=SGD, local=fe.LocalTraining(epochs=1))
    modules = fe.modules.assign(params)
    server = algorithm.init_server(modules.split(params), Meta(np.diff(problem.offsets), modules))
    starts = [jax.tree.map(lambda leaf, j=j: np.asarray(leaf[j]), server.clusters.params.shared) for j in range(3)]
    return fair.ifca(problem, starts, cohorts, rows, client_rate=RATE)


def _choosing(loss):
    """A loss that says for each row which of its three numbers is the largest, as a router would."""

    def chosen(params, batch, key):
        losses, metrics = loss(params, batch, key)
        choice = jax.nn.one_hot(jnp.argmax(jnp.abs(batch["x"]), axis=1), 3)
        return losses, metrics | {f"layer.load.{expert}": choice[:, expert] for expert in range(3)}

    return chosen


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
    Row(
        "fedrep",
        partial(A.fedrep, client_optimizer=SGD, head=fe.LocalTraining(steps=2, batch_size=3)),
        partial(fedrep, client_rate=RATE, head_steps=2),
        "head",
    ),
    Row("ditto", partial(A.ditto, pull=0.7, client_optimizer=SGD), partial(ditto, client_rate=RATE, pull=0.7), predicts=_own_model),
    Row(
        "pfedme",
        partial(A.pfedme, pull=0.7, rate=0.3, solver_steps=3, client_optimizer=SGD),
        partial(pfedme, client_rate=RATE, pull=0.7, rate=0.3, solver_steps=3),
        predicts=_own_model,
    ),
    Row(
        "apfl",
        partial(A.apfl, mixing=0.4, mixing_rate=0.05, by_module=True, client_optimizer=SGD),
        partial(apfl, client_rate=RATE, mixing=0.4, mixing_rate=0.05, by_module=True),
        predicts=_mixture,
    ),
    Row(
        "tap",
        partial(A.tap, tasks={"absolute": ["layer"]}, margin=-0.05, client_optimizer=SGD),
        partial(tap, client_rate=RATE, margin=-0.05, uses=("layer",)),
        predicts=_own_model,
    ),
    Row(
        "hierarchy",
        partial(A.hierarchy, groups="group", every=2, client_optimizer=SGD),
        partial(hierarchy, client_rate=RATE, every=2, groups=3),
        predicts=_of_group,
    ),
    Row(
        "fedmsplit",
        partial(A.fedmsplit, sharpness=3.0, client_optimizer=SGD),
        partial(fedmsplit, client_rate=RATE, sharpness=3.0),
        predicts=_of_client,
    ),
    Row(
        "heterofl",
        partial(A.heterofl, widths="width", axes={"layer.w": [0]}, client_optimizer=SGD),
        partial(heterofl, client_rate=RATE),
        predicts=_narrow,
    ),
    Row(
        "routed",
        lambda loss, local: A.with_routed_tokens(A.fedavg(_choosing(loss), client_optimizer=SGD, local=local), {"layer.w": "layer"}),
        partial(routed, client_rate=RATE),
    ),
    Row("fedbuff", partial(A.fedbuff, client_optimizer=SGD), partial(fedavg, client_rate=RATE, weighting="uniform")),
    Row("ifca", partial(A.ifca, clusters=3, spread=0.5, client_optimizer=SGD), _ifca, predicts=_of_cluster),
    Row(
        "qffl",
        partial(A.qffl, q=1.5, lipschitz=4.0, client_optimizer=SGD),
        partial(fair.qffl, client_rate=RATE, q=1.5, lipschitz=4.0),
    ),
    Row("afl", partial(A.afl, mixture_rate=0.05, client_optimizer=SGD), partial(fair.afl, client_rate=RATE, mixture_rate=0.05)),
    Row("term", partial(A.term, tilt=0.7, client_optimizer=SGD), partial(fair.term, client_rate=RATE, tilt=0.7)),
)
