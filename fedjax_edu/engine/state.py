"""What a run carries from round to round, and what it reports."""

from typing import Any, NamedTuple

import jax
import numpy as np

from fedjax_edu.core.errors import require
from fedjax_edu.core.trees import Tree


class State(NamedTuple):
    """Everything that the next round depends on; a pytree.

    Args:
        round: int32 scalar, rounds done.
        key: the root key; it never changes.
        server: the algorithm's server state.
        clients: the algorithm's client states, leaves [clients, ...].
        links_server: server state of the aggregation chain.
        links_clients: client states of the aggregation chain, leaves [clients, ...].
        cohort: state of the sampler.
    """

    round: jax.Array
    key: jax.Array
    server: Any
    clients: Tree
    links_server: Tree
    links_clients: Tree
    cohort: Any

    @property
    def members(self) -> int | None:
        """How many runs are stacked in it, one behind the other in each leaf; None for a single one."""
        return None if self.round.ndim == 0 else len(self.round)

    def member(self, number: int) -> "State":
        """The state of one of several stacked runs."""
        return jax.tree.map(lambda leaf: leaf[number], self)

    @property
    def params(self) -> Tree:
        """The federation's parameters: shared and frozen modules, and the starting value of personal ones."""
        return self.server.params.merge()


class Info(NamedTuple):
    """What each round reports, as NumPy arrays [rounds]; nothing here feeds back into the state.

    Args:
        loss: weighted mean over clients of the mean loss of their training batches, each before its step; NaN in a
            round without participants.
        participants: clients whose update was accepted.
        rejected: clients whose update was not finite.
        examples: rows that the participants' local steps read (a row counts once an epoch).
        steps: local steps of the participants.
        utilisation: share of the lanes' steps that did work, padding to the slowest lane being the rest.
        update_norm: Euclidean norm of the aggregated update.
        bytes_up: bytes that the participants sent.
        bytes_down: bytes that were sent to the participants.
        overflow: whether a Poisson cohort outgrew its capacity and the round was a no-op.
        metrics: ``{name: [rounds]}``, weighted like the loss.
        links: ``{"link.statistic": [rounds]}``, means over participants.
        algorithm: ``{name: [rounds]}``, what the algorithm's server step tells beside ``update_norm``.
        cohort: ``{name: [rounds]}``, what the sampler tells.
        loss_after: losses after local training, with ``Engine(measure_after=True)``; else None.
        rejected_ids: uint32 [rounds, capacity], ids of rejected clients first, then 2**32 - 1, with
            ``Engine(report_rejected=True)``; else None.
    """

    loss: np.ndarray
    participants: np.ndarray
    rejected: np.ndarray
    examples: np.ndarray
    steps: np.ndarray
    utilisation: np.ndarray
    update_norm: np.ndarray
    bytes_up: np.ndarray
    bytes_down: np.ndarray
    overflow: np.ndarray
    metrics: dict[str, np.ndarray]
    links: dict[str, np.ndarray]
    algorithm: dict[str, np.ndarray]
    cohort: dict[str, np.ndarray]
    loss_after: np.ndarray | None
    rejected_ids: np.ndarray | None

    def to_pandas(self, first: int = 1) -> Any:
        """The rounds as a ``pandas.DataFrame``: one row a round, or of a sweep one a round and member.

        Entries of ``metrics``, ``links``, ``algorithm`` and ``cohort`` become columns with a dot in their name, vectors one column for each
        of their numbers; ``rejected_ids`` holds arrays of the ids alone. What was not reported has no column.

        Args:
            first: number of the first round: ``state.round + 1`` of the state from which the run went on.

        Returns:
            Rows indexed by ``round``, or by ``round`` and ``member``.

        Raises:
            MissingDependencyError: pandas is missing.
        """
        require("Info.to_pandas", "study", "pandas")
        import pandas as pd

        rounds = np.arange(first, first + len(self.loss))
        index = pd.Index(rounds, name="round")
        if self.loss.ndim == 2:
            index = pd.MultiIndex.from_product([rounds, range(self.loss.shape[1])], names=["round", "member"])
        columns: dict[str, Any] = {}
        for name, value in self._asdict().items():
            entries = {f"{name}.{key}": entry for key, entry in value.items()} if isinstance(value, dict) else {name: value}
            for column, entry in entries.items():
                columns |= {} if entry is None else _columns(column, entry.reshape(len(index), -1))
        return pd.DataFrame(columns, index)


def _columns(name: str, values: np.ndarray) -> dict[str, Any]:
    """Columns of values [rows, numbers]."""
    if name == "rejected_ids":
        return {name: [row[row < np.uint32(2**32 - 1)] for row in values]}
    return {name: values[:, 0]} if values.shape[1] == 1 else {f"{name}.{number}": column for number, column in enumerate(values.T)}


class Evaluation(NamedTuple):
    """Weighted means of losses and metrics; what `Engine.evaluate` returns.

    Args:
        loss: mean over examples.
        metrics: ``{name: mean}``, weighted by the metric's own weights; NaN where they sum to 0.
        examples: number of examples.
        per_client: the same for each client, arrays [clients] in the population's order; None inside itself.
    """

    loss: np.ndarray
    metrics: dict[str, np.ndarray]
    examples: np.ndarray
    per_client: "Evaluation | None"
