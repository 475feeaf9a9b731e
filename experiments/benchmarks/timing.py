"""Engines that take turns on the clock."""

import dataclasses
from typing import Any

import fedjax_edu as fe
from experiments.benchmarks import ours
from experiments.benchmarks.measure import Spread, clock, interleave, spread
from experiments.benchmarks.workload import Workload, flops, start

CLIENTS_A_REPEAT = {"mlp": 512, "cnn": 32, "transformer": 32}


def rounds_a_repeat(model: str, cohort: int) -> int:
    """Rounds that make a repeat about a second long.

    >>> rounds_a_repeat("mlp", 32), rounds_a_repeat("cnn", 512)
    (16, 1)
    """
    return max(1, CLIENTS_A_REPEAT[model] // cohort)


class Runner:
    """An engine that continues its run each time it is called.

    Args:
        workload: the clients.
        cohort: clients a round.
        rounds: of one call.
        settings: of :func:`ours.build`.
    """

    def __init__(self, workload: Workload, cohort: int, rounds: int, **settings: Any):
        self._model, self._rounds = workload.model, rounds
        self.engine, self.state = ours.build(workload, cohort, donate=True, **settings)
        self._infos: list[fe.Info] = []
        self.compile_seconds = clock(lambda: self._advance(0))
        self()  # the first rounds touch memory that later ones find in place
        self._infos.clear()

    def __call__(self) -> list[float]:
        """Runs the rounds; seconds of one, as many times."""
        seconds = clock(lambda: self._advance(self._rounds)) / self._rounds
        return [seconds] * self._rounds

    def _advance(self, rounds: int) -> None:
        self.state, info = self.engine.run(self.state, rounds=rounds)
        self._infos.append(info)

    @property
    def examples(self) -> float:
        """Real examples of a round, on average; padding does not count."""
        return sum(float(info.examples.mean()) for info in self._infos) / len(self._infos)

    @property
    def utilisation(self) -> float:
        """Share of the lanes' steps that did work, on average."""
        return sum(float(info.utilisation.mean()) for info in self._infos) / len(self._infos)

    def memory(self) -> dict[str, int]:
        """Bytes of the compiled program, by its compiler's account."""
        return self.engine.memory({"network": start(self._model)})

    def collectives(self) -> dict[str, int]:
        """Bytes that a device contributes to the collectives of a round, by kind."""
        return self.engine.collectives({"network": start(self._model)})


@dataclasses.dataclass(frozen=True)
class Timing:
    """What repeats of a runner say.

    Args:
        round: seconds of a round.
        compile_seconds: before the first.
        lanes: of each device.
        reason: for so many lanes.
        utilisation: share of the lanes' steps that did work.
        examples: real ones of a round.
        flops_per_second: useful ones.
        memory: bytes, by the compiler's account; empty where nobody asked.
    """

    round: Spread
    compile_seconds: float
    lanes: int | None
    reason: str
    utilisation: float
    examples: float
    flops_per_second: float
    memory: dict[str, int]


def time_all(runners: dict[str, Runner], model: str, repeats: int, *, memory: bool = False) -> dict[str, Timing]:
    """Lets runners of one model take turns.

    Args:
        runners: by name.
        model: whose floating-point operations count.
        repeats: turns of each.
        memory: whether to ask the compiler for it, which compiles once more.

    Returns:
        Name to timing.
    """
    repeated = interleave(runners, repeats)
    return {name: _timing(runner, spread(repeated[name]), model, memory) for name, runner in runners.items()}


def _timing(runner: Runner, found: Spread, model: str, memory: bool) -> Timing:
    return Timing(
        round=found,
        compile_seconds=runner.compile_seconds,
        lanes=runner.engine.layout.lanes,
        reason=runner.engine.layout.reason,
        utilisation=runner.utilisation,
        examples=runner.examples,
        flops_per_second=runner.examples * flops(model) / found.median,
        memory=runner.memory() if memory else {},
    )
