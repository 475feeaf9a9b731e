"""From the sums of compiled rounds to what users read."""

from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from fedjax_edu.core import trees
from fedjax_edu.core.algorithm import Channel
from fedjax_edu.core.link import Wire
from fedjax_edu.core.modules import NO_MODULE
from fedjax_edu.core.trees import Tree
from fedjax_edu.engine.resident import Resident
from fedjax_edu.engine.rounds import Program, exchanged
from fedjax_edu.engine.state import Info, State


class Traffic(NamedTuple):
    """Bytes that travel: int64 [modules] `up` for each stage and channel from a contributor, `down` to a holder, `rest` to everybody."""

    up: tuple[dict[str, np.ndarray], ...]
    down: np.ndarray
    rest: int


def traffic(program: Program, state: State, resident: Resident) -> Traffic:
    """Sizes of what one client sends and receives, found by tracing a round; nothing runs, `state` may be shapes."""
    kinds: dict[str, Channel] = {}
    sent, values = jax.eval_shape(partial(exchanged, program, kinds), state, resident)

    def sizes(name: str, value: Tree) -> np.ndarray:
        """int64 [modules]: bytes of each module's leaves after every link."""
        total, entries = np.zeros(len(program.modules.names), np.int64), kinds[name].entries
        for owner, leaf in zip(jax.tree.leaves(program.modules.owners(value)), jax.tree.leaves(value), strict=True):
            wire = Wire(leaf.size, leaf.size // entries if entries else 0, 8 * leaf.dtype.itemsize)
            total[owner] += program.chain.wire(name, kinds[name].private, wire).bytes
        return total

    up = tuple({name: sizes(name, value) for name, value in channels.items()} for channels in values)
    down = np.zeros(len(program.modules.names), np.int64)
    for owner, leaf in zip(jax.tree.leaves(program.modules.owners_of_like(sent)), jax.tree.leaves(sent), strict=True):
        if owner != NO_MODULE:
            down[owner] += trees.byte_size(leaf)
    return Traffic(up, down, trees.byte_size(sent) - int(down.sum()))


def to_info(records: Any, program: Program, bytes_: Traffic) -> Info:
    """Means, ratios and bytes of records whose leaves are NumPy arrays [rounds, ...]."""
    bytes_up = np.zeros(records.participants.shape, np.int64)
    steps_run = records.steps_run if records.steps_run.ndim == 1 else records.steps_run.sum(1, keepdims=True)  # members share the lanes
    for contributors, sizes in zip(records.contributors, bytes_.up, strict=True):
        for name, count in contributors.items():
            bytes_up += count.astype(np.int64) @ sizes[name]
    counted = np.maximum(records.participants, 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return Info(
            loss=_mean(records.report),
            participants=records.participants,
            rejected=records.rejected,
            examples=records.examples,
            steps=records.steps,
            utilisation=np.where(records.ticks > 0, steps_run / (np.maximum(records.ticks, 1) * program.slots), 1.0),
            update_norm=records.server["update_norm"],
            algorithm={name: value for name, value in records.server.items() if name != "update_norm"},
            cohort=records.cohort,
            bytes_up=bytes_up,
            bytes_down=records.holders.astype(np.int64) @ bytes_.down + records.participants.astype(np.int64) * bytes_.rest,
            overflow=records.overflow,
            metrics={name: value / weight for name, (value, weight) in records.report.metrics.items()},
            links={name: value / counted for name, value in records.links.items()},
            loss_after=None if records.after is None else _mean(records.after),
            rejected_ids=records.rejected_ids,
        )


def _mean(report: Any) -> np.ndarray:
    return report.loss / report.examples
