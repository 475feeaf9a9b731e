"""How a rival's process takes orders, in the standard library and NumPy: it runs in every environment.

A worker prepares, says so, and then answers one line of JSON with one line of JSON:

    {"rounds": 3}            trains three rounds               {"seconds": [0.11, 0.1, 0.1]}
    {"save": "params.npz"}   writes the present parameters     {"saved": "params.npz"}
    {"quit": true}           ends

A worker lives through all repeats of a comparison, so that rivals take turns without starting anew.
"""

import argparse
import dataclasses
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from experiments.benchmarks.workload import Arrays, Workload, start


@dataclasses.dataclass(frozen=True)
class Job:
    """What a worker is to train.

    Args:
        variant: which form of the rival.
        data: file of the workload.
        cohorts: int [rounds, cohort], who takes part in each round.
    """

    variant: str
    data: str
    cohorts: np.ndarray

    @classmethod
    def from_command_line(cls) -> "Job":
        """Reads ``--variant --data --cohorts``, the last a file."""
        parser = argparse.ArgumentParser()
        for name in ("variant", "data", "cohorts"):
            parser.add_argument(f"--{name}", required=True)
        options = parser.parse_args()
        return cls(options.variant, options.data, np.load(options.cohorts))

    def load(self) -> tuple[Workload, Arrays]:
        """The workload, and the weights to start from."""
        workload = Workload.load(self.data)
        return workload, start(workload.model)


class Orders:
    """The worker's end of the line.

    Frameworks print: the answers go to a copy of standard output, and everything that is printed to standard error.
    """

    def __init__(self) -> None:
        self._answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def answer(self, **values: Any) -> None:
        """Sends one line."""
        self._answers.write(json.dumps(values) + "\n")
        self._answers.flush()

    def turns(self, arrays: Callable[[], Arrays], *, together: bool = False) -> Iterator[int]:
        """Rounds to train, as orders come in; whoever iterates trains between two turns, and that is what the clock measures.

        A framework that owns the loop calls ``next`` in its callback, which blocks until there is more to do.

        Args:
            arrays: the present parameters.
            together: yield all rounds of an order at once, for programs that run many rounds in one call.

        Yields:
            How many rounds to train.
        """
        self.answer(ready=True)
        for line in sys.stdin:
            order = json.loads(line)
            if "rounds" in order:
                seconds: list[float] = []
                for count in [order["rounds"]] if together else [1] * order["rounds"]:
                    begin = time.perf_counter()
                    yield count
                    seconds += [(time.perf_counter() - begin) / count] * count
                self.answer(seconds=seconds)
            elif "save" in order:
                present: dict[str, Any] = arrays()
                np.savez(order["save"], **present)
                self.answer(saved=order["save"])
            else:
                return
