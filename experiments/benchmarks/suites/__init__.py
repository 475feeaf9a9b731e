"""Each suite tells what it measured comparison by comparison, as soon as it is known."""

from collections.abc import Callable, Iterator
from functools import partial

from experiments.benchmarks.results import Measured, Options, Part
from experiments.benchmarks.suites import cpu, model, peers, scaling


def _in_turn(parts: tuple[Part, ...], options: Options) -> Iterator[Measured]:
    return (part(options) for part in parts)


SUITES: dict[str, Callable[[Options], Iterator[Measured]]] = {
    "cpu": partial(_in_turn, cpu.PARTS),
    "model": partial(_in_turn, model.PARTS),
    "scaling": partial(_in_turn, scaling.PARTS),
    "peers": peers.compare,
}
