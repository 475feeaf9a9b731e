"""Running a federation in chunks: records of every round, progress for people, a clean end on Ctrl-C."""

import contextlib
import dataclasses
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from rich.console import Console

from fedjax_edu.engine import Engine, Info, State
from fedjax_edu.study.processes import any_of_all
from fedjax_edu.study.run_folder import RunFolder

RECORDED = ("loss", "participants", "rejected", "examples", "steps", "utilisation", "update_norm", "bytes_up", "bytes_down")


@dataclasses.dataclass
class Interruption:
    """Whether the user has asked to stop.

    Attributes:
        here: whether this process was asked.
    """

    here: bool = False

    @property
    def requested(self) -> bool:
        """Whether any process was asked: they stop together."""
        return any_of_all(self.here)


@contextlib.contextmanager
def stoppable(console: Console) -> Iterator[Interruption]:
    """Turns the first Ctrl-C into a request to stop; the second one interrupts at once, as usual."""
    interruption = Interruption()

    def stop(signum: int, frame: Any) -> None:
        interruption.here = True
        signal.signal(signal.SIGINT, before)
        console.print("stopping after the running chunk, or baseline; press Ctrl-C again to stop at once")

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield interruption
    finally:
        signal.signal(signal.SIGINT, before)


@dataclasses.dataclass(frozen=True)
class History:
    """What a federation reported.

    Attributes:
        rounds: one record a round.
        curve: ``(round, {task: held-out score})`` after each chunk.
    """

    rounds: list[dict[str, Any]]
    curve: list[tuple[int, dict[str, float]]]

    def total(self, name: str) -> int:
        """The sum of a count over all rounds."""
        return int(sum(record[name] for record in self.rounds))


def run_federation(
    engine: Engine,
    state: State,
    *,
    rounds: int,
    chunk: int,
    folder: RunFolder,
    console: Console,
    interruption: Interruption,
    score: Callable[[State], dict[str, float]],
) -> tuple[State, History]:
    """Runs `rounds` rounds, `chunk` at a time, and writes ``metrics.jsonl`` and ``timing.jsonl`` as it goes.

    Args:
        engine: what to run.
        state: where to start.
        rounds: how many.
        chunk: rounds between two reports and scores.
        folder: where records go.
        console: where progress goes, one line a chunk.
        interruption: looked at after each chunk.
        score: held-out scores of a state, for the learning curve; nothing is selected by them.

    Returns:
        The last state and what happened.
    """
    started = time.perf_counter()
    engine.run(state, rounds=0)  # compiles, so that the speeds below are those of training
    folder.append("timing.jsonl", [{"round": 0, "seconds": time.perf_counter() - started}])
    history = History([], [])
    for done in range(0, rounds, chunk):
        started = time.perf_counter()
        state, info = engine.run(state, rounds=min(chunk, rounds - done))
        seconds = time.perf_counter() - started
        records = _records(info, first=done + 1)
        last, speed = records[-1]["round"], int(info.participants.sum()) / seconds
        history.curve.append((last, score(state)))
        records[-1]["held_out"] = history.curve[-1][1]
        history.rounds.extend(records)
        folder.append("metrics.jsonl", records)
        folder.append("timing.jsonl", [{"round": last, "seconds": seconds, "clients_per_second": speed}])
        eta = _minutes((rounds - last) * seconds / len(records))
        loss = np.average(info.loss, weights=info.examples)
        console.print(f"round {last:>4} of {rounds}   loss {loss:.4f}   {speed:>7,.0f} clients/s   ETA {eta}", highlight=False)
        if interruption.requested:
            break
    return state, history


def _records(info: Info, first: int) -> list[dict[str, Any]]:
    fields = {name: getattr(info, name) for name in RECORDED}
    return [
        {"round": first + number}
        | {name: values[number].item() for name, values in fields.items()}
        | {"losses": {name: values[number].item() for name, values in info.metrics.items()}}
        for number in range(len(info.loss))
    ]


def _minutes(seconds: float) -> str:
    return f"{round(seconds) // 60}:{round(seconds) % 60:02d}"
